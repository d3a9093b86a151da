# SPDX-License-Identifier: MulanPSL-2.0
"""An event loop whose clock can be moved on, for deadlines that are longer than a test may be."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

Kind = TypeVar("Kind")


class Clock(asyncio.SelectorEventLoop):
    """`skip` moves every asyncio deadline of this loop nearer; time.monotonic() stays as it is."""

    skipped_s = 0.0

    def time(self) -> float:
        return super().time() + self.skipped_s

    def skip(self, seconds: float) -> None:
        self.skipped_s += seconds


def run(work: Coroutine[Any, Any, Kind]) -> Kind:
    """asyncio.run() on a `Clock`."""
    with asyncio.Runner(loop_factory=Clock) as runner:
        return runner.run(work)


def skip(seconds: float) -> None:
    """Inside `run`."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Clock)
    loop.skip(seconds)
