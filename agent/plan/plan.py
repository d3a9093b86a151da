# SPDX-License-Identifier: MulanPSL-2.0
"""Builds the plan for one instance: what shall run, on which NPUs, from which image. Pure.

In: profile, facts of the host, of Podman and of the model, the NPU inventory. Out: a `Plan`, or a
`Failure` with the numbers that it looked at.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from agent.config.values import Profile
from agent.errors import Code, Failure
from agent.model import (
    ContainerFacts,
    DriverState,
    HostFacts,
    Inventory,
    ModelFacts,
    Npu,
    PodmanSurvey,
    container_name,
)
from agent.plan.npus import choose_npus

# Every container needs these beside its davinciN (facts: ascend, section 4, as the vendor's own
# container runtime does).
MANAGER_DEVICES = ("/dev/davinci_manager", "/dev/devmm_svm", "/dev/hisi_hdc")

# What the driver has installed and the container must see (the tutorial's step 4 and the
# installation page of vllm-ascend). Mounted read-only at the same place.
DRIVER_PATHS = (
    "/usr/local/dcmi",
    "/usr/local/bin/npu-smi",
    "/usr/local/Ascend/driver/lib64",
    "/usr/local/Ascend/driver/version.info",
    "/etc/ascend_install.info",
)

DEVICE_PREFIX = "/dev/davinci"
OLDEST_PODMAN = (3, 4, 0)  # openEuler 22.03


@dataclass(frozen=True, slots=True)
class Plan:
    """What shall run."""

    instance: str
    profile: Profile
    image_id: str
    npus: tuple[Npu, ...]
    host: HostFacts

    @property
    def tensor_parallel_size(self) -> int:
        return len(self.npus)


def build_plan(
    profile: Profile,
    host: HostFacts,
    podman: PodmanSurvey,
    model: ModelFacts,
    inventory: Inventory,
    taken: Iterable[int] = (),
) -> Plan | Failure:
    """The plan for `profile`, or why there can be none.

    `taken` are NPUs that other instances have in their plans; those of running containers other
    than the instance's own are found in `podman`.
    """
    refusal = (
        check_driver(inventory)
        or _check_host(profile, host)
        or _check_model(model)
        or _check_image(profile, podman)
    )
    if refusal is not None:
        return refusal
    held = set(taken) | held_by_containers(
        podman.containers, except_name=container_name(profile.name)
    )
    chosen = choose_npus(
        profile.npus,
        inventory,
        held,
        model.attention_heads,
        profile.needs.npu_memory_gib * 1024,
    )
    if isinstance(chosen, Failure):
        return chosen
    return Plan(profile.name, profile, podman.image.image_id, chosen, host)


def held_by_containers(containers: Iterable[ContainerFacts], except_name: str) -> set[int]:
    """Logic ids of the NPUs that running containers have, other than the one named."""
    return {
        int(device.removeprefix(DEVICE_PREFIX))
        for container in containers
        if container.running and container.name != except_name
        for device in container.devices
        if device.removeprefix(DEVICE_PREFIX).isdecimal()
    }


def check_driver(inventory: Inventory) -> Failure | None:
    """Why nothing can be planned yet; None when the NPUs can be used."""
    match inventory.driver:
        case DriverState.READY:
            missing = [path for path in MANAGER_DEVICES if path not in inventory.manager_devices]
            if missing:
                return Failure(
                    Code.NPU_DEVICE_MISSING,
                    f"cannot use the NPUs yet: {', '.join(missing)} does not exist",
                    "the Ascend driver creates it when it is loaded: systemctl status, dmesg",
                )
            return None
        case DriverState.ABSENT:
            return Failure(
                Code.DRIVER_ABSENT,
                f"cannot see an NPU driver: {inventory.detail or 'no /dev/davinci* devices'}",
                "install the Ascend driver and firmware, or wait until it is loaded",
            )
        case DriverState.FAILED:
            return Failure(
                Code.DRIVER_FAILED,
                f"cannot use the NPU driver: {inventory.detail}",
                "see dmesg; after an upgrade of driver or firmware the host has to be rebooted",
            )
        case DriverState.UNKNOWN:
            return Failure(
                Code.NPUD_SILENT,
                f"cannot tell the state of the NPUs: {inventory.detail or 'no answer yet'}",
                "see: systemctl status deepseek-npud",
            )


def _check_host(profile: Profile, host: HostFacts) -> Failure | None:
    if host.podman_version < OLDEST_PODMAN:
        version = ".".join(str(part) for part in host.podman_version)
        return Failure(
            Code.PODMAN_UNSUPPORTED,
            f"cannot run the container: Podman is {version}, needed is 3.4 or newer",
            "dnf upgrade podman",
        )
    needs = profile.needs
    # A host sold as "32 GB" shows a few percent less: the kernel keeps some of it.
    if host.ram_mib < needs.ram_gib * 1024 * 0.9:
        return _too_small(profile, f"{needs.ram_gib} GiB of RAM", f"{host.ram_mib} MiB")
    if host.cpu_cores < needs.cpu_cores:
        return _too_small(profile, f"{needs.cpu_cores} CPU cores", str(host.cpu_cores))
    return None


def _too_small(profile: Profile, needed: str, there: str) -> Failure:
    return Failure(
        Code.HOST_TOO_SMALL,
        f"cannot serve {profile.name}: it needs {needed}, this host has {there}",
        f"choose a smaller model, or lower [needs] in /etc/deepseek-agent/models.d/"
        f"{profile.name}.toml if you know that it fits",
    )


def _check_model(model: ModelFacts) -> Failure | None:
    if model.problem:
        return Failure(
            Code.MODEL_INVALID if model.present else Code.MODEL_MISSING,
            f"cannot serve {model.directory}: {model.problem}",
            "put the model's files there, whole, then: systemctl start the instance again",
        )
    return None


def _check_image(profile: Profile, podman: PodmanSurvey) -> Failure | None:
    if not podman.image.image_id:
        return Failure(
            Code.IMAGE_MISSING,
            f"cannot run {profile.image}: the image is not in Podman's storage",
            f"podman pull {profile.image}, or podman load -i FILE",
        )
    return None
