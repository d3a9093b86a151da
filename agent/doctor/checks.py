# SPDX-License-Identifier: MulanPSL-2.0
"""All checks, in the order in which they are shown. In: a `Checkup`. Out: findings. Pure.

An id is stable: monitoring may match on it, and docs/doctor.md explains each.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from agent.doctor import agent, host, npus, patient, podman, sources
from agent.doctor.checkup import Checkup, Patient
from agent.doctor.verdict import Finding, Group, Verdict, finish


@dataclass(frozen=True, slots=True)
class Check:
    """One about the host."""

    id: str
    group: Group
    judge: Callable[[Checkup], Verdict]


@dataclass(frozen=True, slots=True)
class ModelCheck:
    """One about each model."""

    id: str
    judge: Callable[[Checkup, Patient], Verdict]


CHECKS = (
    Check("systemd", Group.HOST, host.systemd),
    Check("cgroup", Group.HOST, host.cgroup),
    Check("python", Group.HOST, host.python),
    Check("kernel-limits", Group.HOST, host.kernel_limits),
    Check("selinux", Group.HOST, host.selinux),
    Check("clock", Group.HOST, host.clock),
    Check("disk-room", Group.HOST, host.disk_room),
    Check("npu-driver", Group.NPUS, npus.driver),
    Check("npu-files", Group.NPUS, npus.files),
    Check("npu-devices", Group.NPUS, npus.devices),
    Check("npu-firmware", Group.NPUS, npus.firmware),
    Check("npu-health", Group.NPUS, npus.health),
    Check("npu-users", Group.NPUS, npus.users),
    Check("podman", Group.PODMAN, podman.version),
    Check("renderer", Group.PODMAN, podman.renderer),
    Check("podman-service", Group.PODMAN, podman.service),
    Check("podman-storage", Group.PODMAN, podman.storage),
    Check("config", Group.AGENT, agent.configuration),
    Check("agent-units", Group.AGENT, agent.units),
    Check("agent-answers", Group.AGENT, agent.answers),
    Check("agent-version", Group.AGENT, agent.version),
    Check("npud", Group.AGENT, agent.npud),
)
MODEL_CHECKS = (
    ModelCheck("profile", patient.profile),
    ModelCheck("front-unit", patient.front),
    ModelCheck("cpu", patient.cores),
    ModelCheck("ram", patient.ram),
    ModelCheck("model", patient.model),
    ModelCheck("model-heads", patient.heads),
    ModelCheck("npus", patient.npus),
    ModelCheck("image", patient.image),
    ModelCheck("fetch-room", patient.room),
    ModelCheck("key-files", patient.key_files),
    ModelCheck("port", patient.port),
    ModelCheck("dns", sources.lookup),
    ModelCheck("sources", sources.reach),
)


def examine(checkup: Checkup) -> tuple[Finding, ...]:
    """Every check's finding."""
    about_host = tuple(
        Finding(one.id, one.group, "", finish(partial(one.judge, checkup))) for one in CHECKS
    )
    about_models = tuple(
        Finding(one.id, Group.MODEL, sick.name, finish(partial(one.judge, checkup, sick)))
        for sick in checkup.patients
        for one in MODEL_CHECKS
    )
    return (*about_host, *about_models)
