# SPDX-License-Identifier: MulanPSL-2.0
"""How fast it goes: in byte counts over time, out a `Progress`, told at most twice a second."""

import time
from collections import deque
from collections.abc import Callable

from agent.supplies import Item, Progress, Stage

Tell = Callable[[Progress], None]
EVERY_S = 0.5
WINDOW_S = 5.0


class Meter:
    """Of one thread."""

    def __init__(self, tell: Tell, item: Item = Item.MODEL) -> None:
        self._tell = tell
        self._item = item
        self._told_at = -EVERY_S
        self._stage: Stage | None = None
        self._samples: deque[tuple[float, int]] = deque()

    def show(
        self,
        stage: Stage,
        source: str,
        done: int = 0,
        total: int = 0,
        trouble: str = "",
        *,
        skipped: int = 0,
        at_once: bool = False,
    ) -> None:
        """Another stage is told at once, the rest when it is time. `skipped`: of `done`, bytes that
        were there already; they say nothing about the speed."""
        now = time.monotonic()
        if stage is not self._stage:
            self._samples.clear()
        elif now - self._told_at < EVERY_S and not at_once:
            return
        self._stage, self._told_at = stage, now
        self._tell(
            Progress(
                item=self._item,
                stage=stage,
                source=source,
                done_bytes=done,
                total_bytes=total,
                bytes_per_s=self._speed(now, done - skipped),
                trouble=trouble,
                at=time.time(),
            )
        )

    def _speed(self, now: float, done: int) -> float:
        if self._samples and done < self._samples[-1][1]:
            self._samples.clear()  # a file that was wrong is fetched anew
        self._samples.append((now, done))
        while now - self._samples[0][0] > WINDOW_S and len(self._samples) > 2:
            self._samples.popleft()
        then, before = self._samples[0]
        return (done - before) / (now - then) if now > then else 0.0


class Count:
    """Bytes of one stage, as they pass. `wrote` is told of each piece, too."""

    def __init__(
        self,
        meter: Meter,
        stage: Stage,
        source: str,
        total: int,
        wrote: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._meter, self._stage, self._source, self._total = meter, stage, source, total
        self._wrote = wrote
        self._done = self._skipped = 0

    def skip(self, size: int) -> None:
        """Bytes that were there already."""
        self._done += size
        self._skipped += size

    def add(self, size: int) -> None:
        self._done += size
        self._wrote(size)
        self._show()

    def finish(self) -> None:
        self._show(at_once=True)

    def _show(self, *, at_once: bool = False) -> None:
        # The size of an image is an estimate until its archive has been written.
        total = self._total and max(self._total, self._done)
        self._meter.show(
            self._stage, self._source, self._done, total, skipped=self._skipped, at_once=at_once
        )
