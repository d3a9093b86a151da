# SPDX-License-Identifier: MulanPSL-2.0
"""What all who ask Podman through podman-py have in common."""

from collections.abc import Mapping

from requests.exceptions import Timeout

from agent.errors import Code

# Answered from Podman's own storage; more means that it hangs on its lock.
CALL_TIMEOUT_S = 10
SOCKET = "unix:///run/podman/podman.sock"


def explain(error: Exception) -> Mapping[str, object]:
    """As a failure. podman-py has two roots, and tells a missing socket from a timeout only in
    `__cause__`."""
    cause = error.__cause__ or error
    silent = isinstance(cause, Timeout | TimeoutError)
    why = "it does not answer" if silent else f"{type(cause).__name__}: {cause}"
    return {
        "code": (Code.PODMAN_SILENT if silent else Code.PODMAN_UNAVAILABLE).value,
        "message": f"cannot ask Podman: {why}",
        "hint": "see: systemctl status podman.socket podman.service",
    }
