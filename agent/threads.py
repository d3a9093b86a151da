# SPDX-License-Identifier: MulanPSL-2.0
"""Work that may hang for good (a dead NFS server), in threads that nobody waits for when it does.

Not asyncio's own pool: that has a few threads for everything, each that hangs is lost to all others
until the process ends, and the loop waits for them at its end.
"""

import asyncio
from collections.abc import Callable, Hashable
from contextlib import suppress
from threading import Thread
from typing import TypeVar

Kind = TypeVar("Kind")

LOOK_EVERY_S = 0.05
_under_way: dict[Hashable, Thread] = {}


async def in_thread(function: Callable[[], Kind], key: Hashable = None) -> Kind:
    """What `function` returns or raises; the deadline is the caller's.

    With a `key`, it begins when the thread of an earlier call with the same one has ended: no more
    than one hangs. Raises RuntimeError when no thread can be started.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Kind] = loop.create_future()

    def tell(give: Callable[[], None]) -> None:
        if not answer.done():
            give()

    def work() -> None:
        try:
            found = function()
        except Exception as error:
            failure = error
            give = lambda: answer.set_exception(failure)  # noqa: E731
        else:
            give = lambda: answer.set_result(found)  # noqa: E731
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(tell, give)

    while key is not None and _is_busy(key):  # noqa: ASYNC110 - it may be of another loop's
        await asyncio.sleep(LOOK_EVERY_S)
    thread = Thread(target=work, name="work", daemon=True)
    thread.start()
    if key is not None:
        _under_way[key] = thread
    return await answer


def _is_busy(key: Hashable) -> bool:
    """Forgets one that has ended."""
    before = _under_way.get(key)
    if before is not None and not before.is_alive():
        del _under_way[key]
    return key in _under_way
