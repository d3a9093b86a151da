# SPDX-License-Identifier: MulanPSL-2.0
"""What engines print: `ports.EngineLog` from the journal, by a short-lived journalctl.

Podman's log driver is journald, for both renderers: conmon writes each line with CONTAINER_NAME,
and as a process of the unit, so that journald adds _SYSTEMD_INVOCATION_ID, which another start does
not have (seen with systemd 252 on cgroup v1 and 257 on cgroup v2, and Podman 4.3 and 5.4).
"""

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from agent.host.process import run, stream
from agent.model import container_name

# Enough for the beginning of a start that an agent finds under way.
FIRST_LINES = 500
TAIL_LINES = 400
TAIL_DEADLINE_S = 5.0
# What is longer says nothing at its end that is looked for.
LINE_LIMIT = 2000
# A bar that is drawn anew begins with a carriage return; conmon passes it on.
_ENDS = re.compile(rb"[\r\n]+")


class JournalLog:
    """`program`: journalctl."""

    def __init__(self, program: str = "journalctl") -> None:
        self._program = program

    async def follow(self, instance: str, invocation: str) -> AsyncGenerator[Sequence[str], None]:
        """Raises HostError where there is no journalctl. It prints no faster than it is read."""
        argv = (
            *(self._program, "--follow", f"--lines={FIRST_LINES}"),
            *("--output=cat", "--quiet", "--no-pager"),
            f"_SYSTEMD_INVOCATION_ID={invocation}",
            f"CONTAINER_NAME={container_name(instance)}",
        )
        rest = b""
        async with aclosing(stream(argv)) as pieces:
            async for piece in pieces:
                *whole, rest = _ENDS.split(rest + piece)
                rest = rest[:LINE_LIMIT]
                lines = tuple(_text(line) for line in whole if line)
                if lines:
                    yield lines

    async def tail(self, invocation: str) -> Sequence[str]:
        """Raises HostError. Empty when journalctl fails."""
        argv = (
            *(self._program, f"--lines={TAIL_LINES}"),
            *("--output=cat", "--quiet", "--no-pager"),
            f"_SYSTEMD_INVOCATION_ID={invocation}",
        )
        done = await run(argv, deadline_s=TAIL_DEADLINE_S)
        lines = re.split(r"[\r\n]+", done.output) if done.status == 0 else []
        return [line[:LINE_LIMIT] for line in lines if line]


def _text(line: bytes) -> str:
    return line[:LINE_LIMIT].decode(errors="replace")
