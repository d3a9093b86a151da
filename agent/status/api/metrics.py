# SPDX-License-Identifier: MulanPSL-2.0
"""What Prometheus asks (docs/monitoring.md)."""

from collections.abc import Callable
from dataclasses import dataclass

from agent.facts import OwnProcess
from agent.status.api.access import Access
from agent.status.api.asgi import Request, Response
from agent.status.api.encoded import Encoded
from agent.status.api.operation import Operation
from agent.status.metrics.page import MEDIA_TYPE, render_process, render_snapshot
from agent.status.snapshot import Board

ReadOwn = Callable[[], OwnProcess | None]


class MetricsText:
    """A snapshot as Prometheus' text, made once for all who ask; and the agent's own process, as
    it is now."""

    def __init__(self, board: Board, read_own: ReadOwn) -> None:
        self._shown = Encoded(board, lambda snapshot: _encode(render_snapshot(snapshot)))
        self._read_own = read_own

    def newest(self) -> bytes:
        own = self._read_own()
        shown = self._shown.newest()
        return shown if own is None else shown + _encode(render_process(own))


def _encode(text: str) -> bytes:
    """Names come from files, which may hold anything."""
    return text.encode(errors="replace")


@dataclass(frozen=True, slots=True)
class Metrics:
    """Handlers of `/v1/metrics`, and of `/metrics` where Prometheus looks unless it is told."""

    text: MetricsText

    def operations(self) -> tuple[Operation, ...]:
        return (self._operation("metrics", "/v1/metrics"), self.scrape())

    def scrape(self) -> Operation:
        return self._operation("scrape", "/metrics")

    def _operation(self, name: str, path: str) -> Operation:
        summary = "numbers for Prometheus, in its text format"
        anyone = Access.ANYONE
        return Operation(
            name, "GET", path, anyone, summary, self.show, answer=str, media_type=MEDIA_TYPE
        )

    async def show(self, request: Request) -> Response:
        return Response(self.text.newest(), media_type=MEDIA_TYPE)
