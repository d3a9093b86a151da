# SPDX-License-Identifier: MulanPSL-2.0
"""What the host must have before NPUs are chosen: driver, size, model, image, port, files. Pure.

Each check returns a `Failure` with the numbers that it looked at, or None.
"""

from ipaddress import ip_address

from agent.config.values import Profile
from agent.errors import Code, Failure
from agent.facts import Facts, HostFacts
from agent.model import DriverState, Inventory, container_name

# Every container needs these beside its davinciN (facts: ascend, section 4, as the vendor's own
# container runtime does).
MANAGER_DEVICES = ("/dev/davinci_manager", "/dev/devmm_svm", "/dev/hisi_hdc")
OLDEST_PODMAN = (3, 4, 0)  # openEuler 22.03


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
                "systemctl start deepseek-agent; then: systemctl status deepseek-npud",
            )


def check_host(profile: Profile, facts: Facts, reference: str, image_id: str) -> Failure | None:
    """Everything but the NPUs themselves. `reference` is the image for this host's NPUs, `image_id`
    what it means; empty when there is none."""
    return (
        check_podman(facts.host)
        or check_ram(profile, facts.host)
        or check_cores(profile, facts.host)
        or check_disk(profile, facts)
        or check_model(profile, facts)
        or check_image(facts, reference, image_id)
        or check_files(profile, facts)
        or check_port(profile, facts)
    )


def check_podman(host: HostFacts) -> Failure | None:
    if host.podman_version < OLDEST_PODMAN:
        version = ".".join(str(part) for part in host.podman_version)
        if not any(host.podman_version):
            version = "not installed"
        return Failure(
            Code.PODMAN_UNSUPPORTED,
            f"cannot run the container: Podman is {version}, needed is 3.4 or newer",
            "dnf upgrade podman",
        )
    return None


def check_ram(profile: Profile, host: HostFacts) -> Failure | None:
    needs = profile.needs
    # A host sold as "32 GB" shows a few percent less: the kernel keeps some of it.
    if host.ram_mib < needs.ram_gib * 1024 * 0.9:
        return _too_small(profile, f"{needs.ram_gib} GiB of RAM", f"{host.ram_mib} MiB")
    return None


def check_cores(profile: Profile, host: HostFacts) -> Failure | None:
    needs = profile.needs
    if host.cpu_cores < needs.cpu_cores:
        return _too_small(profile, f"{needs.cpu_cores} CPU cores", str(host.cpu_cores))
    return None


def check_disk(profile: Profile, facts: Facts) -> Failure | None:
    """Told before anybody begins to fetch a model that cannot fit; a disk that holds it is big
    enough."""
    model = facts.model(profile.model)
    if model is None or not model.disk_mib:
        return None
    if model.present or model.disk_mib >= profile.needs.disk_gib * 1024 * 0.9:
        return None
    return _too_small(profile, f"{profile.needs.disk_gib} GiB of disk", f"{model.disk_mib} MiB")


def _too_small(profile: Profile, needed: str, there: str) -> Failure:
    return Failure(
        Code.HOST_TOO_SMALL,
        f"cannot serve {profile.name}: it needs {needed}, this host has {there}",
        f"choose a smaller model, or lower [needs] in /etc/deepseek-agent/models.d/"
        f"{profile.name}.toml if you know that it fits",
    )


def check_model(profile: Profile, facts: Facts) -> Failure | None:
    model = facts.model(profile.model)
    if model is None:
        return Failure(
            Code.MODEL_MISSING,
            f"cannot serve {profile.model}: the facts do not tell about it",
            "take the facts on a host that has the model: deepseekctl facts --json",
        )
    if model.problem:
        return Failure(
            Code.MODEL_INVALID if model.present else Code.MODEL_MISSING,
            f"cannot serve {model.directory}: {model.problem}",
            "it is checked and mended by itself; where that does not help, another revision may: "
            f"deepseekctl update {profile.name} --revision REV"
            if model.present and model.revision
            else "put the model's files there, whole, then: systemctl start the instance again",
        )
    return None


def check_image(facts: Facts, reference: str, image_id: str) -> Failure | None:
    if facts.podman_seen and not image_id:
        return Failure(
            Code.IMAGE_MISSING,
            f"cannot run {reference}: the image is not in Podman's storage",
            f"podman pull {reference}, or podman load -i FILE",
        )
    return None


def check_files(profile: Profile, facts: Facts) -> Failure | None:
    for key, path in (
        ("api_key_file", profile.api_key_file),
        ("tls_certificate", profile.tls_certificate),
        ("tls_key", profile.tls_key),
    ):
        if problem := facts.file_problem(path):
            return Failure(
                Code.FILE_UNUSABLE,
                f"cannot use {key} {path}: {problem}",
                f"mend the file, or {key} in /etc/deepseek-agent/models.d/{profile.name}.toml",
            )
    return None


def check_port(profile: Profile, facts: Facts) -> Failure | None:
    """Another instance with the port, or anybody else who listens on it."""
    for neighbor in facts.neighbors:
        same = neighbor.name != profile.name and neighbor.port == profile.port
        if same and _overlap(neighbor.listen, profile.listen):
            who = f"deepseek@{neighbor.name} has it"
            return _port_in_use(Code.PORT_TAKEN, profile, who)
    own = container_name(profile.name)
    if any(one.running and one.name == own for one in facts.podman.containers):
        return None  # it is our own that listens; it goes before the new one comes
    for listener in facts.listeners:
        if listener.port == profile.port and _overlap(listener.address, profile.listen):
            who = f"something else listens on {listener.address}"
            return _port_in_use(Code.PORT_IN_USE, profile, who)
    return None


def _overlap(one: str, other: str) -> bool:
    """Whether two listeners get in each other's way. "::" takes IPv4 too, unless told otherwise."""
    first, second = ip_address(one), ip_address(other)
    if first.is_unspecified or second.is_unspecified:
        takes_both = any(one.is_unspecified and one.version == 6 for one in (first, second))
        return takes_both or first.version == second.version
    return first == second


def _port_in_use(code: Code, profile: Profile, who: str) -> Failure:
    return Failure(
        code,
        f"cannot serve {profile.name} on port {profile.port}: {who}",
        f"choose another `port`, or see who it is: ss -ltnp sport = :{profile.port}",
    )
