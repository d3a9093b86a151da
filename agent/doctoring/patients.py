# SPDX-License-Identifier: MulanPSL-2.0
"""Looks at what each model needs: its files, its keys, room and sources for what is missing."""

import asyncio
import errno
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from agent.config.values import Config, Profile, find_profile
from agent.disks import DiskFacts, Role
from agent.doctor.checkup import Patient
from agent.doctor.looks import ModelFiles, Reached, Seen, Unseen, Why
from agent.errors import AgentError
from agent.facts import FileFacts, ModelFacts, PodmanStore, PodmanSurvey
from agent.host.disks import find_storage, look_at_room
from agent.host.look import look
from agent.host.machine import LocalMachine
from agent.host.proxies import (
    KNOWN_TO_PODMAN,
    PODMAN_UNIT,
    lacks_proxy,
    only_proxies,
    read_engine_proxies,
    read_podman_proxies,
)
from agent.host.reach import DEADLINE_S as REACH_S
from agent.host.reach import START_S, Address, reach_all
from agent.host.units import read_proxies
from agent.model import Inventory, UnitStatus, front_unit, supply_unit
from agent.plan.supply import order_image, order_model
from agent.ports import FileKind
from agent.references import DOCKER_HUB, parse_reference
from agent.supply.manifest import read_manifest
from agent.supply.verify import look_at
from agent.threads import in_thread

MODEL_S, ROOM_S, SYSTEMD_S = 15.0, 5.0, 10.0
DISK_HINT = "is a network file system hung? see: dmesg, findmnt"
TEMPORARY = "/var/tmp"  # noqa: S108 - Podman's image_copy_tmp_dir


@dataclass(frozen=True, slots=True)
class Asked:
    """Which models, and what is known of the host already."""

    names: tuple[str, ...]
    config: Seen[Config]
    inventory: Inventory
    survey: Seen[PodmanSurvey]
    store: Seen[PodmanStore]
    units: Seen[tuple[UnitStatus, ...]]


async def look_at_patients(asked: Asked) -> tuple[Patient, ...]:
    return tuple(await asyncio.gather(*(_look_at(name, asked) for name in asked.names)))


async def _look_at(name: str, asked: Asked) -> Patient:
    if isinstance(asked.config, Unseen):
        nothing = Unseen(Why.NOT_ASKED, "cannot be told: see config")
        return _unseen(name, nothing, nothing)
    try:
        profile = find_profile(asked.config, name)
    except AgentError as error:
        failure = Unseen(Why.FAILED, error.failure.message, error.failure.hint)
        return _unseen(name, failure, Unseen(Why.NOT_ASKED, "cannot be told: see profile"))
    model, files, keys = await asyncio.gather(
        look(profile.model, MODEL_S, in_thread(partial(_read_model, profile)), DISK_HINT),
        look(profile.model, MODEL_S, in_thread(partial(_read_files, profile)), DISK_HINT),
        look("its keys", MODEL_S, in_thread(partial(_read_keys, profile)), DISK_HINT),
    )
    lacks_model = isinstance(model, ModelFacts) and not model.present
    lacks_image = _lacks_image(profile, asked)
    room, sources = await asyncio.gather(
        _look_at_room(profile, asked, lacks_model=lacks_model, lacks_image=lacks_image),
        _look_at_sources(profile, asked, lacks_model=lacks_model, lacks_image=lacks_image),
    )
    return Patient(name, profile, model, files, keys, room, sources)


def _unseen(name: str, profile: Unseen, others: Unseen) -> Patient:
    return Patient(name, profile, others, others, others, (), others)


def _read_model(profile: Profile) -> ModelFacts:
    """Raises PermissionError for what this user may not see, instead of calling it missing."""
    with suppress(FileNotFoundError, NotADirectoryError):
        config = f"{profile.model}/config.json"
        os.stat(config)
        if not os.access(config, os.R_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), config)
    return LocalMachine().model(profile.model)


def _read_files(profile: Profile) -> ModelFiles:
    """Names and sizes; the content is read by `deepseekctl verify`."""
    folder = Path(profile.model)
    manifest = read_manifest(folder)
    files = manifest.files if manifest is not None else ()
    problems = tuple(str(one) for file in files if (one := look_at(folder, file)) is not None)
    return ModelFiles(profile.model, manifest is not None, problems)


def _read_keys(profile: Profile) -> tuple[FileFacts, ...]:
    machine = LocalMachine()
    kinds = (
        (profile.api_key_file, FileKind.API_KEY),
        (profile.tls_key, FileKind.PRIVATE),
        (profile.tls_certificate, FileKind.PUBLIC),
    )
    return tuple(machine.file(path, kind) for path, kind in kinds if path)


def _lacks_image(profile: Profile, asked: Asked) -> bool:
    """Where nobody could ask Podman it counts as missing, unless the model is up."""
    if isinstance(asked.survey, PodmanSurvey):
        reference = profile.image_for(asked.inventory)
        return not any(one.image_id for one in asked.survey.images if one.reference == reference)
    units = asked.units if isinstance(asked.units, tuple) else ()
    front = front_unit(profile.name)
    return not any(unit.name == front and unit.active.is_up() for unit in units)


async def _look_at_room(
    profile: Profile, asked: Asked, *, lacks_model: bool, lacks_image: bool
) -> tuple[Seen[DiskFacts], ...]:
    places = [(Role.MODELS, str(Path(profile.model).parent))] if lacks_model else []
    if lacks_image and isinstance(asked.store, PodmanStore):
        places += [(Role.IMAGES, asked.store.storage), (Role.IMAGES, asked.store.temporary)]
    elif lacks_image:
        places += [(Role.IMAGES, await _storage()), (Role.IMAGES, TEMPORARY)]
    looks = (
        look(place, ROOM_S, in_thread(partial(look_at_room, role, place)), DISK_HINT)
        for role, place in dict.fromkeys(places)
    )
    return tuple(await asyncio.gather(*looks))


async def _storage() -> str:
    found = await look("storage.conf", ROOM_S, in_thread(find_storage))
    return found if isinstance(found, str) else "/"


async def _look_at_sources(
    profile: Profile, asked: Asked, *, lacks_model: bool, lacks_image: bool
) -> Seen[tuple[Reached, ...]]:
    if isinstance(asked.config, Unseen):
        return asked.config
    if not lacks_model and not lacks_image:
        return Unseen(Why.NOT_ASKED, "nothing has to be fetched")
    if not asked.config.supply.fetch:
        return Unseen(Why.NOT_ASKED, "nothing is fetched by itself: [supply] fetch = false")
    hubs = _hubs(profile, asked.config) if lacks_model else ()
    registries = _registries(profile, asked.config, asked.inventory) if lacks_image else ()
    if not hubs and not registries:
        return Unseen(Why.NOT_ASKED, "no source is configured for what is missing")
    asking = _reach(profile, hubs, registries)
    return await look("sources", SYSTEMD_S + REACH_S + START_S, asking)


async def _reach(
    profile: Profile, hubs: Sequence[Address], registries: Sequence[Address]
) -> tuple[Reached, ...]:
    """Each with the proxies of who fetches from it: supply, and Podman's service."""
    ours, podman = await asyncio.gather(
        look("systemd", SYSTEMD_S, read_proxies(supply_unit(profile.name), SYSTEMD_S)),
        look("podman.service", SYSTEMD_S, _read_podman_proxies()),
    )
    # Where systemd cannot be asked, whoever asks may have the same ones.
    ours = only_proxies(os.environ) if isinstance(ours, Unseen) else ours
    podman = ours if isinstance(podman, Unseen) else podman
    models, images = await asyncio.gather(reach_all(hubs, ours), reach_all(registries, podman))
    return (*models, *(_by_podman(one, ours, podman) for one in images))


async def _read_podman_proxies() -> dict[str, str]:
    """It ends when nobody asks it, and only root may look at it; then what its unit says."""
    running = await in_thread(read_podman_proxies)
    if running is not None:
        return running
    given = await read_proxies(PODMAN_UNIT, SYSTEMD_S)
    return {**read_engine_proxies(), **only_proxies(given, KNOWN_TO_PODMAN)}


def _by_podman(one: Reached, ours: Mapping[str, str], podman: Mapping[str, str]) -> Reached:
    return replace(one, by_podman=True, lacks_proxy=lacks_proxy(one.host, ours, podman))


def _hubs(profile: Profile, config: Config) -> tuple[Address, ...]:
    """Of the model, each once."""
    sources = order_model(profile, config.supply).sources
    found = (Address(one.endpoint, one.tls_verify, one.ca_file) for one in sources)
    return tuple({one.url: one for one in found}.values())


def _registries(profile: Profile, config: Config, inventory: Inventory) -> tuple[Address, ...]:
    """Of the image, each once."""
    found: list[Address] = []
    for one in order_image(profile.image_for(inventory), config.supply).sources:
        if (reference := parse_reference(one.reference)) is not None:
            host = reference.registry
            host = "registry-1.docker.io" if host == DOCKER_HUB else host
            found.append(Address(f"https://{host}/v2/", one.tls_verify, one.ca_file))
    return tuple({one.url: one for one in found}.values())
