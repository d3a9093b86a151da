# SPDX-License-Identifier: MulanPSL-2.0
"""A host on which nothing is wrong, as the doctor sees it; changes are named."""

from dataclasses import replace
from typing import Any

from agent.config.values import Profile
from agent.disks import GIB, DiskFacts, Role
from agent.doctor.checks import examine
from agent.doctor.checkup import Checkup, Patient
from agent.doctor.looks import (
    Clock,
    DriverFiles,
    Firmware,
    Kernel,
    ModelFiles,
    Node,
    Selinux,
    SelinuxMode,
    Unseen,
    Why,
)
from agent.doctor.verdict import Finding
from agent.facts import ModelFacts, PodmanStore, StoredImage
from agent.model import UnitActive, UnitStatus
from agent.plan.needs import MANAGER_DEVICES
from agent.plan.plan import DRIVER_PATHS
from tests.build import (
    HEADS,
    SUPPLY,
    build_config,
    build_facts,
    build_front,
    build_inventory,
    build_profile,
    build_snapshot,
    build_view,
)

NOW = 1_796_000_000.0
STORAGE = "/var/lib/containers/storage"
NOTHING = Unseen(Why.NOT_ASKED, "nothing has to be fetched")
MODEL = ModelFacts(build_profile().model, HEADS, kv_heads=8, disk_mib=900_000, weights_mib=15_317)


def build_unit(name: str, active: UnitActive = UnitActive.ACTIVE, **changes: Any) -> UnitStatus:
    return replace(build_front(active), name=name, **changes)


def units(**changes: UnitStatus) -> tuple[UnitStatus, ...]:
    """`agent`, `socket`, `npud` and `front` may be others."""
    usual = {
        "agent": build_unit("deepseek-agent.service"),
        "socket": build_unit("deepseek-agent.socket"),
        "npud": build_unit("deepseek-npud.service"),
        "front": build_unit("deepseek@8b.service"),
    }
    return tuple((usual | changes).values())


def build_node(path: str, **changes: Any) -> Node:
    return replace(Node(path, True, 0o660, "HwHiAiUser", "HwHiAiUser"), **changes)


def build_driver(**changes: Any) -> DriverFiles:
    paths = (*(f"/dev/davinci{number}" for number in range(8)), *MANAGER_DEVICES)
    driver = DriverFiles(
        nodes=tuple(map(build_node, paths)),
        version="25.5.1",
        install_status="complete",
        paths=DRIVER_PATHS,
        npu_smi="/usr/local/bin/npu-smi",
    )
    return replace(driver, **changes)


def build_patient(profile: Profile | None = None, **changes: Any) -> Patient:
    profile = profile or build_profile()
    files = ModelFiles(profile.model, has_manifest=True, problems=())
    return replace(Patient(profile.name, profile, MODEL, files, (), (), NOTHING), **changes)


def build_checkup(*patients: Patient, **changes: Any) -> Checkup:
    profile = build_profile()
    facts = build_facts(profile, models=())
    images = tuple(StoredImage(one.reference, "arm64") for one in facts.podman.images)
    checkup = Checkup(
        version="0.1.0",
        is_root=True,
        python=(3, 11, 6),
        kernel=Kernel(2, ("cpu", "memory", "pids"), 4_194_304, 3_000_000, 1_073_741_816),
        selinux=Selinux(SelinuxMode.ENFORCING, has_module=True),
        clock=Clock(NOW, synchronized=True, built_at=NOW - 86_400),
        systemd=255,
        driver=build_driver(),
        inventory=build_inventory(),
        firmware=tuple(Firmware(card, "7.8.0.6.201", "OK") for card in range(8)),
        open_nodes=(),
        podman=(4, 9, 4),
        quadlet=True,
        survey=facts.podman,
        store=PodmanStore("overlay", STORAGE, "/var/tmp", images),
        disks=(DiskFacts(Role.MODELS, "/var/lib/deepseek/models", 1, 500 * GIB, 900 * GIB),),
        config=build_config(profile, supply=SUPPLY),
        facts=facts,
        units=units(),
        snapshot=build_snapshot(build_view()),
        patients=patients or (build_patient(),),
    )
    return replace(checkup, **changes)


def find(checkup: Checkup, check: str) -> Finding:
    return next(one for one in examine(checkup) if one.id == check)
