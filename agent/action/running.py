# SPDX-License-Identifier: MulanPSL-2.0
"""What an engine was started with, kept for as long as this boot: an agent that comes later, or a
configuration that has changed since, then still knows where it listens and what its unit file was.
"""

from dataclasses import dataclass
from pathlib import PurePosixPath

import msgspec

from agent.config.values import Profile
from agent.decoding import decode_json
from agent.errors import AgentError
from agent.ports import UnitFiles
from agent.supplies import Supply

# Gone with the boot, like what it tells of. Root's alone: a profile may hold secrets (environment).
FOLDER = PurePosixPath("/run/deepseek-agent/running")


@dataclass(frozen=True, slots=True)
class Running:
    """Written before the start, so it is also there when the agent dies in the middle of it."""

    profile: Profile
    npus: tuple[int, ...]
    path: str  # of the unit file
    text: str  # its content
    degraded: str = ""  # why it has fewer NPUs than its profile says
    weights_mib: int = 0  # of its model; 0: unknown
    image_reference: str = ""
    image_id: str = ""  # empty: unknown, an older agent has started it
    model_revision: str = ""

    @property
    def supply(self) -> Supply | None:
        """What it runs on; None when that is unknown."""
        if not self.image_id:
            return None
        directory, revision = self.profile.model, self.model_revision
        return Supply(self.image_reference, self.image_id, "", directory, revision, 0.0)


def save_running(files: UnitFiles, running: Running) -> None:
    """Raises what `files` raises."""
    text = msgspec.json.encode(running).decode()
    files.write(_place(running.profile.name), text, private=True)


def load_running(files: UnitFiles, instance: str) -> Running | None:
    """None when there is none, or when it cannot be understood (another version wrote it)."""
    try:
        text = files.read(_place(instance))
        return None if text is None else decode_json(text, Running)
    except (AgentError, msgspec.MsgspecError):
        return None


def forget_running(files: UnitFiles, instance: str) -> None:
    """Nothing of it runs any more. Raises what `files` raises."""
    files.remove(_place(instance))


def no_drain_mark(instance: str) -> PurePosixPath:
    """While it exists nobody waits for the requests of that engine (agent/drain.py)."""
    return PurePosixPath("/run/deepseek-agent/nodrain") / instance


def _place(instance: str) -> PurePosixPath:
    return FOLDER / f"{instance}.json"
