# SPDX-License-Identifier: MulanPSL-2.0
"""`ports.ProcessEnds` by pidfds: they become readable when a process ends (pidfd_open(2)), so a
container that nothing happens to costs nothing.

Not in `payloads`, which processes without asyncio use.
"""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress

from agent.ports import Payloads

FOLLOWED_MAX = 128  # an engine on 8 NPUs has some 20 processes


class PidfdEnds:
    """Of the processes that `payloads` finds."""

    def __init__(self, payloads: Payloads) -> None:
        self._payloads = payloads

    def follow(self, container_id: str, ended: Callable[[], None]) -> Callable[[], None]:
        loop = asyncio.get_running_loop()
        handles: set[int] = set()

        def forget(handle: int) -> None:
            if handle in handles:
                handles.discard(handle)
                loop.remove_reader(handle)
                os.close(handle)

        def gone(handle: int) -> None:
            forget(handle)
            ended()

        def stop() -> None:
            for handle in list(handles):
                forget(handle)

        own = [one for one in self._payloads.find() if one.container_id == container_id]
        for payload in own[:FOLLOWED_MAX]:
            with suppress(OSError):  # ended meanwhile
                handle = os.pidfd_open(payload.pid)
                handles.add(handle)
                loop.add_reader(handle, gone, handle)
        return stop
