# SPDX-License-Identifier: MulanPSL-2.0
"""Looks at the host from all sides at a time, each look with a deadline of its own.

Out: a `Checkup`. What others wait for comes first: the configuration, and what the units are; the
agent's socket is asked only when the agent runs, since a connection would start it.
"""

import asyncio
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import agent
from agent.action.facts import images_of
from agent.config.values import Config, Profile
from agent.disks import DiskFacts
from agent.doctor.agent import SERVICE, UNITS, is_wished
from agent.doctor.checkup import Checkup, find_unit
from agent.doctor.looks import Seen, Unseen, Why
from agent.doctoring.npus import look_at_firmware, look_at_inventory, look_at_open_nodes
from agent.doctoring.patients import Asked, look_at_patients
from agent.facts import Facts, HostFacts, Listener, PodmanStore, PodmanSurvey, ProcessFacts
from agent.host.config import read_config
from agent.host.containers import Podman
from agent.host.disks import LocalDisks
from agent.host.driver_files import read_driver_files
from agent.host.files import GENERATORS
from agent.host.kernel import read_clock, read_kernel, read_selinux
from agent.host.look import look
from agent.host.machine import LocalMachine
from agent.host.podman_version import NO_PODMAN, read_podman_version
from agent.host.systemd import Systemd
from agent.host.units import read_systemd_version, read_units
from agent.model import DriverState, Inventory, Unfit, UnitStatus, front_unit
from agent.plan.plan import DRIVER_PATHS
from agent.preview import neighbors_in
from agent.status.client import AgentClient
from agent.status.snapshot import Snapshot
from agent.threads import in_thread

FILES_S, SYSTEMD_S, AGENT_S, CONFIG_S, DISKS_S = 5.0, 10.0, 10.0, 25.0, 7.0
# Less than what the children themselves wait, so that it is told how long nothing was heard.
VERSION_S, PODMAN_S = 8.0, 10.0
PODMAN_SOCKET, PODMAN_SERVICE = "podman.socket", "podman.service"
PODMAN_HINT = "see: systemctl status podman.socket podman.service"
AGENT_HINT = "journalctl -b -u deepseek-agent; systemctl restart deepseek-agent"


@dataclass(frozen=True, slots=True)
class Places:
    """Where things are; a test has its own."""

    etc: str
    share: str
    agent_socket: Path
    npu_socket: str


async def look_at_host(names: Sequence[str], places: Places) -> Checkup:
    """`names`: the models that are asked about; none: those that are enabled or run."""
    is_root = os.geteuid() == 0
    config, systemd, podman, quadlet = await asyncio.gather(
        look("the configuration", CONFIG_S, _read_config(places)),
        look("systemd", SYSTEMD_S, read_systemd_version(SYSTEMD_S)),
        look("Podman", VERSION_S, read_podman_version(), "see: podman --version"),
        look("Podman's generator", FILES_S, in_thread(_has_generator)),
    )
    kernel, selinux, clock, driver = await asyncio.gather(
        look("the kernel", FILES_S, in_thread(read_kernel)),
        look("SELinux", FILES_S, in_thread(read_selinux)),
        look("the clock", FILES_S, in_thread(partial(read_clock, Path(str(agent.__file__))))),
        look("the driver's files", FILES_S, in_thread(partial(read_driver_files, DRIVER_PATHS))),
    )
    profiles = config.profiles if isinstance(config, Config) else ()
    units = await _look_at_units({*names, *(one.name for one in profiles)})
    names = names or _wished(profiles, units)
    snapshot = await _look_at_agent(units, places)
    inventory = await look_at_inventory(driver, units, snapshot, places.npu_socket)
    known = inventory if isinstance(inventory, Inventory) else _unknown(inventory)
    chosen = [one for one in profiles if one.name in names]
    images = images_of(chosen, known)
    survey, disks, firmware, open_nodes, facts = await asyncio.gather(
        _look_at_containers(units, podman, images),
        look("the disks", DISKS_S, _look_at_disks(chosen)),
        look_at_firmware(driver, known),
        look_at_open_nodes(units),
        look("the machine", FILES_S, in_thread(partial(_read_machine, known))),
    )
    store = await _look_at_store(survey, images)
    whole = _compose(facts, config, known, survey, snapshot)
    asked = Asked(tuple(names), config, known, survey, store, units)
    return Checkup(
        version=agent.__version__,
        is_root=is_root,
        python=sys.version_info[:3],
        kernel=kernel,
        selinux=selinux,
        clock=clock,
        systemd=systemd,
        driver=driver,
        inventory=inventory,
        firmware=firmware,
        open_nodes=open_nodes,
        podman=podman,
        quadlet=quadlet,
        survey=survey,
        store=store,
        disks=disks,
        config=config,
        facts=whole,
        units=units,
        snapshot=snapshot,
        patients=await look_at_patients(asked),
    )


async def _read_config(places: Places) -> Config:
    return await read_config(("--etc", places.etc, "--share", places.share))


def _has_generator() -> bool:
    return any(os.access(path, os.X_OK) for path in GENERATORS)


async def _look_at_units(names: set[str]) -> Seen[tuple[UnitStatus, ...]]:
    fronts = (front_unit(name) for name in sorted(names))
    every = (*UNITS, PODMAN_SOCKET, PODMAN_SERVICE, *fronts)
    return await look("systemd", SYSTEMD_S, read_units(every, SYSTEMD_S))


def _wished(profiles: Sequence[Profile], units: Seen[tuple[UnitStatus, ...]]) -> tuple[str, ...]:
    fronts = [(one.name, find_unit(units, front_unit(one.name))) for one in profiles]
    return tuple(name for name, unit in fronts if unit is not None and _counts(unit))


def _counts(front: UnitStatus) -> bool:
    return is_wished(front) or front.active == "failed"


async def _look_at_agent(units: Seen[tuple[UnitStatus, ...]], places: Places) -> Seen[Snapshot]:
    unit = find_unit(units, SERVICE)
    if unit is None or not unit.active.is_up():
        return Unseen(Why.NOT_ASKED, "the agent does not run")

    def ask() -> Snapshot:
        client = AgentClient(places.agent_socket)
        try:
            return client.status()
        finally:
            client.close()

    return await look("the agent", AGENT_S, in_thread(ask), AGENT_HINT)


def _unknown(unseen: Unseen) -> Inventory:
    return Inventory(DriverState.UNKNOWN, unseen.text)


async def _look_at_containers(
    units: Seen[tuple[UnitStatus, ...]], version: Seen[tuple[int, int, int]], images: list[str]
) -> Seen[PodmanSurvey]:
    if os.geteuid() != 0:
        return Unseen(Why.NEEDS_ROOT, "only root may ask Podman for its containers and images")
    if version == NO_PODMAN:
        return Unseen(Why.NOT_ASKED, "Podman is not installed")
    socket = find_unit(units, PODMAN_SOCKET)
    if socket is not None and socket.load_state == "masked":
        why = f"cannot ask Podman: {PODMAN_SOCKET} is masked"
        return Unseen(Why.FAILED, why, f"systemctl unmask {PODMAN_SOCKET}")
    if socket is not None and not socket.active.is_up() and socket.active != "failed":
        why = f"{PODMAN_SOCKET} is not active yet: deepseek-agent starts it"
        return Unseen(Why.NOT_ASKED, why, f"to see more: systemctl start {PODMAN_SOCKET}")
    return await look("Podman", PODMAN_S, Podman().survey(images), PODMAN_HINT)


async def _look_at_store(survey: Seen[PodmanSurvey], images: list[str]) -> Seen[PodmanStore]:
    if isinstance(survey, Unseen):
        return Unseen(Why.NOT_ASKED, "cannot be told: see podman-service")
    return await look("Podman's storage", PODMAN_S, Podman().store(images), PODMAN_HINT)


async def _look_at_disks(profiles: Sequence[Profile]) -> tuple[DiskFacts, ...]:
    folders = [str(Path(one.model).parent) for one in profiles]
    return tuple(await LocalDisks(Systemd()).look(folders))


@dataclass(frozen=True, slots=True)
class _Machine:
    host: HostFacts
    processes: tuple[ProcessFacts, ...]
    listeners: tuple[Listener, ...]


def _read_machine(inventory: Inventory) -> _Machine:
    machine = LocalMachine()
    pids = sorted({process.pid for npu in inventory.npus for process in npu.processes})
    return _Machine(
        machine.facts(NO_PODMAN, DRIVER_PATHS),
        tuple(machine.processes(pids)),
        tuple(machine.listeners()),
    )


def _compose(
    machine: Seen[_Machine],
    config: Seen[Config],
    inventory: Inventory,
    survey: Seen[PodmanSurvey],
    snapshot: Seen[Snapshot],
) -> Seen[Facts]:
    """As the planner takes them, but for what is looked at for each model."""
    if isinstance(machine, Unseen):
        return machine
    facts = Facts(
        host=machine.host,
        podman=survey if isinstance(survey, PodmanSurvey) else PodmanSurvey(NO_PODMAN, (), ()),
        inventory=inventory,
        models=(),
        processes=machine.processes,
        listeners=machine.listeners,
        podman_seen=isinstance(survey, PodmanSurvey),
    )
    if isinstance(snapshot, Unseen):
        return facts
    return replace(
        facts,
        neighbors=neighbors_in(snapshot, config) if isinstance(config, Config) else (),
        unfit=tuple(
            Unfit(one.logic_id, one.unfit, passing=False) for one in snapshot.npus if one.unfit
        ),
        host_suspect=snapshot.host_suspect,
    )
