# SPDX-License-Identifier: MulanPSL-2.0
"""Whether this host takes only what somebody has signed. Then a bundle is checked
(`bundle.signing`), and what nothing vouches for is left in the import folder."""

import os
from pathlib import Path

from agent.errors import AgentError, Code

SIGNERS_FILE = Path("/etc/deepseek-agent/bundle-signers")


def are_named(signers: Path) -> bool:
    """A link that leads nowhere is a mistake, no permission."""
    return os.path.lexists(signers)


def require_none(path: str | Path, signers: Path) -> None:
    """For a model or an image as it is: only a bundle can be signed. Raises AgentError."""
    if are_named(signers):
        raise AgentError(
            Code.BUNDLE_UNTRUSTED,
            f"cannot trust {path}: it is not signed",
            "bring it as a bundle (deepseekctl bundle create INSTANCE --sign KEY); "
            f"{signers} says who may sign",
        )
