# SPDX-License-Identifier: MulanPSL-2.0
"""Room on disks: how much there is, and what may be removed to make more.

The agent writes a `PruneOrder`; the process that prunes writes a `PruneReport`. Each is a JSON file
below /run/deepseek-agent/prune, replaced as a whole. Frozen values. Standard library only.
"""

import time
from dataclasses import dataclass
from enum import StrEnum

from agent.errors import Failure

SCHEMA = 1  # of these files
GIB = 2**30
AS_GOOD_AS_FULL = 0.05  # of what is to be free: a GiB of 20
# An order says what is to be kept by what was known when it was written.
ORDER_LASTS_S = 300.0

EVIDENCE_KEPT = 10  # files of each instance
EVIDENCE_LIMIT_BYTES = 100 * 2**20  # of all of them together


def evidence_order(stamp: str, now: float) -> tuple[bool, str]:
    """Sorts by age, the oldest first. `stamp`: as in the name of a file; `now`: seconds since the
    epoch. What comes from the future is the oldest: a clock was wrong, and as the newest it would
    push out all that is written until that time."""
    return stamp <= time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now)), stamp


class Role(StrEnum):
    """What lies there."""

    MODELS = "models"
    IMAGES = "images"  # Podman's storage
    STATE = "state"  # what the agent keeps, and evidence
    JOURNAL = "journal"


@dataclass(frozen=True, slots=True)
class DiskFacts:
    """A file system, as it was found where `place` lies, or would."""

    role: Role
    place: str
    device: int  # two places with the same number share one file system
    free_bytes: int  # for others than root
    size_bytes: int


class Kind(StrEnum):
    """What is removed."""

    STAGING = "staging"  # half a model, half a bundle
    EVIDENCE = "evidence"
    MODEL = "model"  # a revision of it
    IMAGE = "image"


@dataclass(frozen=True, slots=True)
class KeptModel:
    """A model, and revisions of it that are wanted though no link leads to them."""

    directory: str  # as the profile says it
    revisions: tuple[str, ...] = ()  # names of folders below .store


@dataclass(frozen=True, slots=True)
class Keep:
    """What is not removed, whether anybody uses it now or not."""

    # False: it is not known what all instances need, so neither models nor images are removed.
    is_complete: bool = False
    instances: tuple[str, ...] = ()
    image_ids: tuple[str, ...] = ()  # 64 hex digits
    image_references: tuple[str, ...] = ()  # as profiles name them
    models: tuple[KeptModel, ...] = ()
    fetching: tuple[str, ...] = ()  # directories of models that are being brought, or tried again
    without_room: tuple[str, ...] = ()  # those of them that are held, as there is no room for them


@dataclass(frozen=True, slots=True)
class Wanted:
    """So much is to be free where `place` lies."""

    place: str
    free_bytes: int


@dataclass(frozen=True, slots=True)
class PruneOrder:
    """`until`: models and images are removed only while one of these has less than it wants, on its
    file system; empty: all that nobody uses."""

    number: str  # the report has the same
    at: float  # seconds since the epoch
    keep: Keep
    models_dirs: tuple[str, ...]
    until: tuple[Wanted, ...] = ()
    dry_run: bool = False
    schema: int = SCHEMA


@dataclass(frozen=True, slots=True)
class Removal:
    """Something that is removed, or would be."""

    kind: Kind
    what: str  # its path; of an image the id
    name: str  # as people call it
    why: str
    size_bytes: int  # of a file that something else has as well: nothing


@dataclass(frozen=True, slots=True)
class PruneReport:
    """How it went. `removed`: in a dry run what would be."""

    number: str
    removed: tuple[Removal, ...]
    left_bytes: int = 0  # of what could be removed as well
    failures: tuple[Failure, ...] = ()  # what could not be looked at, or not be removed
    dry_run: bool = False
    at: float = 0.0  # seconds since the epoch
    schema: int = SCHEMA
