# SPDX-License-Identifier: MulanPSL-2.0
"""`python -m agent.status.api > etc/openapi.json` describes the API anew."""

import sys
from typing import cast

from agent.status.api.app import SHARE, operations
from agent.status.api.control import Control
from agent.status.api.metrics import MetricsText
from agent.status.api.openapi import describe
from agent.status.changes import Changes
from agent.status.snapshot import Board


def document() -> str:
    """Of all operations; none of them is asked for."""
    board, control = cast("Board", None), cast("Control", None)
    metrics = MetricsText(board, lambda: None)
    return describe(operations(board, control, metrics, SHARE, Changes()))


if __name__ == "__main__":
    sys.stdout.write(document())
