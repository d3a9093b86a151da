# SPDX-License-Identifier: MulanPSL-2.0
"""What may be removed: in comes what lies on the disks and what is to be kept, out come removals in
the order in which they are done. Pure.

What is not listed here as ours is not chosen, and neither is what somebody uses.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from agent.disks import EVIDENCE_KEPT, EVIDENCE_LIMIT_BYTES, Keep, Kind, Removal, evidence_order
from agent.references import carried_name, parse_reference

STAGING_LASTS_S = 86_400.0
# A revision that was placed just now is linked in a moment, an image is started from.
SETTLED_S = 3600.0
OURS = "localhost/deepseek-agent/"


@dataclass(frozen=True, slots=True)
class Staging:
    """What a fetch or an import has begun and not finished."""

    path: str
    model: str  # the directory that it is for
    size_bytes: int
    changed_at: float  # seconds since the epoch, the latest change in it
    used_by: str = ""  # who has it open, or mounted; empty: nobody


@dataclass(frozen=True, slots=True)
class StoredRevision:
    """A whole revision of a model."""

    directory: str  # where the model is seen
    name: str  # of its folder
    path: str
    size_bytes: int  # that its removal would bring
    placed_at: float  # seconds since the epoch
    is_linked: bool
    used_by: str = ""


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image in Podman's storage."""

    image_id: str
    names: tuple[str, ...]  # complete references
    digests: tuple[str, ...]  # "name@sha256:..."
    size_bytes: int
    since: float  # seconds since the epoch: brought, or made
    brought_as: tuple[str, ...] = ()  # references; empty: it was not us
    used_by: str = ""  # a container, or an image that was made from it


@dataclass(frozen=True, slots=True)
class EvidenceFile:
    """Of one engine, at one moment."""

    path: str
    instance: str
    size_bytes: int
    at: str  # as its name says it


@dataclass(frozen=True, slots=True)
class Found:
    """All that could be looked at."""

    stagings: tuple[Staging, ...] = ()
    revisions: tuple[StoredRevision, ...] = ()
    images: tuple[StoredImage, ...] = ()
    evidence: tuple[EvidenceFile, ...] = ()


def choose(found: Found, keep: Keep, now: float) -> tuple[Removal, ...]:
    """Leftovers first, then models and images, the oldest of them first. `now`: seconds since the
    epoch."""
    stored: list[tuple[float, Removal]] = []
    if keep.is_complete:
        stored += [(one.placed_at, _model(one)) for one in _revisions(found.revisions, keep, now)]
        stored += [(one.since, _image(one)) for one in _images(found.images, keep, now)]
    stored.sort(key=lambda one: (one[0], one[1].what))
    return (
        *_stagings(found.stagings, keep, now),
        *_evidence(found.evidence, now),
        *(removal for _, removal in stored),
    )


def choose_at_last(found: Found, keep: Keep) -> tuple[Removal, ...]:
    """When all of the others have gone, and a disk is as good as full: what waits for room on it,
    the smallest first. It cannot go on before others have gone, whether it stays or not; who serves
    could not be started again."""
    why = "it waits for room, and next to none is left"
    return tuple(
        Removal(Kind.STAGING, one.path, one.path, why, one.size_bytes)
        for one in sorted(found.stagings, key=lambda one: (one.size_bytes, one.path))
        if one.model in keep.without_room and not one.used_by
    )


def _stagings(stagings: Iterable[Staging], keep: Keep, now: float) -> Iterator[Removal]:
    for one in sorted(stagings, key=lambda one: (one.changed_at, one.path)):
        if one.used_by or one.model in keep.fetching or now - one.changed_at < STAGING_LASTS_S:
            continue
        why = "nothing has been done about it for a day"
        yield Removal(Kind.STAGING, one.path, one.path, why, one.size_bytes)


def _evidence(files: Iterable[EvidenceFile], now: float) -> Iterator[Removal]:
    count: dict[str, int] = {}
    sum_bytes = 0
    dropped = []
    by_age = sorted(files, key=lambda one: (evidence_order(one.at, now), one.path))
    for one in reversed(by_age):
        count[one.instance] = count.get(one.instance, 0) + 1
        sum_bytes += one.size_bytes
        if count[one.instance] > EVIDENCE_KEPT:
            dropped.append((one, f"{EVIDENCE_KEPT} newer ones of {one.instance} are kept"))
            sum_bytes -= one.size_bytes
        elif sum_bytes > max(EVIDENCE_LIMIT_BYTES, one.size_bytes):  # the newest stays
            dropped.append((one, f"newer ones have {EVIDENCE_LIMIT_BYTES // 2**20} MiB"))
    for one, why in reversed(dropped):
        yield Removal(Kind.EVIDENCE, one.path, one.path, why, one.size_bytes)


def _revisions(
    revisions: Iterable[StoredRevision], keep: Keep, now: float
) -> Iterator[StoredRevision]:
    kept = {(model.directory, name) for model in keep.models for name in model.revisions}
    for one in revisions:
        needed = one.is_linked or one.used_by or (one.directory, one.name) in kept
        # What is being fetched takes over files of the revisions that are there.
        if not needed and one.directory not in keep.fetching and now - one.placed_at >= SETTLED_S:
            yield one


def _model(one: StoredRevision) -> Removal:
    why = "no link, no instance and no process needs it"
    return Removal(Kind.MODEL, one.path, f"{one.directory} {one.name}", why, one.size_bytes)


def _images(images: Iterable[StoredImage], keep: Keep, now: float) -> Iterator[StoredImage]:
    wanted = {complete for text in keep.image_references for complete in _spellings(text)}
    wanted |= set(keep.image_ids)
    # A name of ours ends with the instance and a tag.
    prefixes = tuple(f"{OURS}{instance}:" for instance in keep.instances)
    for one in images:
        spellings = {one.image_id, *one.names, *one.digests}
        named = any(name.startswith(prefixes) for name in one.names)
        needed = one.used_by or named or not wanted.isdisjoint(spellings)
        if _is_ours(one) and not needed and now - one.since >= SETTLED_S:
            yield one


def _is_ours(one: StoredImage) -> bool:
    """A name that somebody else gave it is a reason to keep it."""
    names = {name for name in one.names if not name.startswith(OURS)}
    brought = {complete for text in one.brought_as for complete in _spellings(text)}
    return names <= brought and (bool(brought) or bool(one.names))


def _spellings(text: str) -> tuple[str, ...]:
    """As Podman lists it: an id, a name with a tag (those of ours for a digest), with a digest."""
    reference, carried = parse_reference(text), carried_name(text)
    names = (carried,) if carried else (text.removeprefix("sha256:"),)
    if reference is None:
        return names
    if not reference.digest:
        return (*names, str(reference))
    pinned = f"{reference.name}@{reference.digest}"
    return (*names, pinned, f"{reference.name}:{reference.given_tag}")


def _image(one: StoredImage) -> Removal:
    name = next(iter(one.names), "") or next(iter(one.brought_as), "") or one.image_id[:12]
    why = "no container and no instance needs it"
    return Removal(Kind.IMAGE, one.image_id, name, why, one.size_bytes)
