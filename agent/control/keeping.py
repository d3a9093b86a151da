# SPDX-License-Identifier: MulanPSL-2.0
"""What must not be pruned: in come the configuration and what is known of instances, out comes a
`Keep`."""

from collections.abc import Iterable, Iterator, Sequence

from agent.config.values import Config, Profile
from agent.control.record import Record
from agent.disks import Keep, KeptModel
from agent.errors import Code, Failure
from agent.model import Phase
from agent.supplies import Supply

UNPLANNED = (Phase.IDLE, Phase.WAITING, Phase.STARTING)


def build_keep(
    config: Config,
    config_problem: Failure | None,
    records: Iterable[Record],
    without_profile: Sequence[str],
) -> Keep:
    """A profile that cannot be read, or is missing, may need anything: then models and images
    stay."""
    known = tuple(records)
    profiles = [*config.profiles, *_in_force(known)]
    images = (image for one in profiles for image in _images(one))
    supplies = [one for record in known for one in _supplies(record)]
    directories = _once([*(one.model for one in profiles), *(s.model_directory for s in supplies)])
    return Keep(
        is_complete=config_problem is None and not config.broken and not without_profile,
        instances=_once([one.name for one in profiles] + [one.name for one in config.broken]),
        image_ids=_once(one.image_id for one in supplies),
        image_references=_once(images),
        models=tuple(KeptModel(one, _revisions(one, supplies)) for one in directories),
        fetching=_once(_fetching(known)),
        without_room=_without_room(known),
    )


def _in_force(records: Iterable[Record]) -> Iterator[Profile]:
    """Also those that are gone from the configuration, and what engines were started with."""
    for record in records:
        yield record.profile
        if record.running is not None:
            yield record.running.profile


def _supplies(record: Record) -> Iterator[Supply]:
    """What it runs on, has run on, or is to be tried with."""
    update = record.update.state
    supplies = (update.current, update.previous, update.trial)
    yield from (one for one in supplies if one is not None)


def _revisions(directory: str, supplies: Iterable[Supply]) -> tuple[str, ...]:
    found = (one.model_revision for one in supplies if one.model_directory == directory)
    return _once(one for one in found if one)


def _images(profile: Profile) -> tuple[str, ...]:
    return tuple(one for one in (profile.images.a2, profile.images.a3, profile.images.duo) if one)


def _fetching(records: Iterable[Record]) -> Iterator[str]:
    """What is wanted and lacks will be tried again, from where it stopped. Before its plan nobody
    knows what an instance lacks."""
    for record in records:
        if record.state.wished and record.state.phase in UNPLANNED:
            yield record.profile.model
        lacks = record.fetch.lacks if record.state.wished else None
        for order in (record.fetch.order, lacks, record.update.state.order):
            if order is not None and order.model is not None:
                yield order.model.directory


def _without_room(records: Iterable[Record]) -> tuple[str, ...]:
    """What is held for that by all that want it."""
    held, others = list[Record](), list[Record]()
    for record in records:
        (held if _is_held_for_room(record) else others).append(record)
    wanted = set(_fetching(others))
    return _once(one for one in _fetching(held) if one not in wanted)


def _is_held_for_room(record: Record) -> bool:
    state = record.state
    if state.phase is not Phase.HELD or state.failure is None or record.fetch.order is not None:
        return False
    return state.failure.code is Code.DISK_TOO_FULL


def _once(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))
