# SPDX-License-Identifier: MulanPSL-2.0
"""A file of ours in /var/lib: read once, set aside when it is damaged, written behind the loop.

A disk may be full, slow or hung; none of that may stop the agent, so writing happens in a thread,
the newest content wins, and what could not be written is said and tried again.
"""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from agent.errors import Code, Failure
from agent.host.atomic import remove_unfinished, write_atomically
from agent.host.reading import read_regular
from agent.threads import in_thread

AGAIN_S = 60.0
WRITE_DEADLINE_S = 30.0
CLOSE_DEADLINE_S = 2.0
DAMAGED = ".damaged"

Content = TypeVar("Content")


class KeptFile:
    """`offer` what it shall hold, from the loop; `run` writes it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written: str | None = None
        self._wanted: str | None = None
        self._wake = asyncio.Event()
        self._failed = False

    def load(self, decode: Callable[[str], Content]) -> Content | Failure | None:
        """What it holds; None when there is no such file. `decode` raises ValueError for what is
        damaged: that is set aside for a person to look at, and an older such file goes."""
        remove_unfinished(self._path)
        try:
            text = read_regular(self._path).decode()
            content = decode(text)
        except FileNotFoundError:
            return None
        except ValueError as error:
            return self._set_aside(str(error))
        except OSError as error:
            return self._failure(Code.STATE_DAMAGED, "read", error)
        self._written = text
        return content

    def offer(self, text: str) -> None:
        """The newest content; the same again costs nothing."""
        if text != self._wanted:
            self._wanted = text
            self._wake.set()

    async def run(self, tell: Callable[[Failure | None], None]) -> None:
        """Ends only by cancellation. `tell` hears of a failure to write, and None when that is
        over."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(AGAIN_S if self._failed else None):
                    await self._wake.wait()
            self._wake.clear()
            wanted = self._wanted
            if wanted is None or wanted == self._written:
                continue
            failure = await self._write(wanted, WRITE_DEADLINE_S)
            if (failure is not None) is not self._failed:
                tell(failure)
            self._failed = failure is not None

    async def close(self) -> None:
        """When `run` has ended: a last try with what it did not come to write."""
        if self._wanted is not None and self._wanted != self._written:
            await self._write(self._wanted, CLOSE_DEADLINE_S)

    async def _write(self, text: str, deadline_s: float) -> Failure | None:
        # A try that fails may have replaced the file all the same: at its last step, or after its
        # deadline. Nobody knows what the disk holds until one has gone well.
        self._written = None
        limit = asyncio.timeout(deadline_s)
        try:
            async with limit:
                write = partial(write_atomically, self._path, text, 0o600)
                await in_thread(write, key=self._path)  # one at a time: the newest wins
        except OSError as error:
            # A disk may say ETIMEDOUT itself, which is a TimeoutError too.
            silent = OSError(0, f"no answer within {deadline_s:g} s")
            why = silent if limit.expired() else error
            return self._failure(Code.FILE_NOT_WRITTEN, "write", why)
        except RuntimeError as error:  # no thread can be started now
            return self._failure(Code.FILE_NOT_WRITTEN, "write", OSError(0, str(error)))
        self._written = text
        return None

    def _set_aside(self, why: str) -> Failure:
        aside = self._path.with_name(self._path.name + DAMAGED)
        with suppress(OSError):
            os.replace(self._path, aside)
        return Failure(
            Code.STATE_DAMAGED,
            f"cannot use {self._path}: {why}; it begins anew with what systemd and Podman show",
            f"it was set aside as {aside}, which may be removed",
        )

    def _failure(self, code: Code, verb: str, error: OSError) -> Failure:
        return Failure(
            code,
            f"cannot {verb} {self._path}: {error.strerror}",
            f"see: ls -l {self._path}; df -h {self._path.parent}",
        )
