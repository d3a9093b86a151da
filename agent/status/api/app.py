# SPDX-License-Identifier: MulanPSL-2.0
"""The socket API under /v1/: reads the board, hands requests to the writer.

Every operation says who may ask for it; the caller is known by the kernel's word (`peer`).
"""

from pathlib import Path

import msgspec

from agent.errors import Code, Failure
from agent.status.api.asgi import Response, build
from agent.status.api.bounded import App
from agent.status.api.changes import ChangeDesk
from agent.status.api.control import Control
from agent.status.api.encoded import Encoded
from agent.status.api.events import Events
from agent.status.api.frames import status_frame
from agent.status.api.host import Host
from agent.status.api.instances import Instances
from agent.status.api.metrics import Metrics, MetricsText
from agent.status.api.npus import Npus
from agent.status.api.operation import Operation, Refusal, answer, route
from agent.status.changes import Changes
from agent.status.snapshot import Board

SHARE = Path("/usr/share/deepseek-agent")
OPENAPI = "openapi.json"


def operations(
    board: Board, control: Control, metrics: MetricsText, share: Path, changes: Changes
) -> tuple[Operation, ...]:
    """All that may be asked."""
    shown, desk = Encoded(board, msgspec.json.encode), ChangeDesk(board, control, changes)
    parts = (
        Host(board, control, shown, desk, share / OPENAPI),
        Events(board, control, Encoded(board, lambda _: status_frame(shown.newest()))),
        Instances(board, control, desk),
        Npus(board, control, desk),
        Metrics(metrics),
        desk,
    )
    return tuple(operation for part in parts for operation in part.operations())


def build_app(
    board: Board,
    control: Control,
    metrics: MetricsText,
    share: Path = SHARE,
    changes: Changes | None = None,
) -> App:
    """The ASGI application. `share`: where the package keeps what never changes; `changes`: who
    is told of each new snapshot."""
    table = operations(board, control, metrics, share, changes or Changes())
    return build([route(operation) for operation in table], _refuse)


def build_scrape_app(metrics: MetricsText) -> App:
    """What is at the port for Prometheus: `/metrics`, and nothing else."""
    return build([route(Metrics(metrics).scrape())], _refuse)


def _refuse(status: int, why: str) -> Response:
    if status == 500:
        code, hint = Code.INTERNAL, "see: journalctl -u deepseek-agent"
    else:
        code, hint = Code.REQUEST_INVALID, "see /v1/openapi.json"
    return answer(Refusal(Failure(code, f"cannot answer: {why}", hint)), status)
