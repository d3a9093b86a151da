# SPDX-License-Identifier: MulanPSL-2.0
"""Podman's version, for those who may not ask its service. Not for the resident agent: tempfile."""

import tempfile

from agent.errors import AgentError
from agent.facts import parse_version
from agent.host.process import run

NO_PODMAN = (0, 0, 0)
VERSION_DEADLINE_S = 10.0


async def read_podman_version() -> tuple[int, int, int]:
    """As the program says it, which any user may ask; NO_PODMAN when there is none.

    Podman 5.4 makes folders in the caller's HOME even for --version, and fails where it cannot;
    so it gets one that is thrown away."""
    with tempfile.TemporaryDirectory(prefix="deepseekctl-") as home:
        try:
            done = await run(
                ("podman", "--version"),
                deadline_s=VERSION_DEADLINE_S,
                environment={"HOME": home, "XDG_RUNTIME_DIR": home},
            )
        except AgentError:
            return NO_PODMAN
    return parse_version(done.output.strip().rpartition(" ")[2]) or NO_PODMAN
