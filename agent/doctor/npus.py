# SPDX-License-Identifier: MulanPSL-2.0
"""Checks of the NPUs: driver, its files and nodes, firmware, health, who uses them. Pure."""

from collections.abc import Iterator

from agent.doctor.checkup import Checkup
from agent.doctor.looks import DriverFiles, Node
from agent.doctor.verdict import Verdict, error, lean, need, of_failure, ok, skipped, some, warning
from agent.model import DriverState, Inventory, Npu, NpuHealth, ProductLine, product_line
from agent.plan.holders import find_holders
from agent.plan.needs import MANAGER_DEVICES, check_driver

INSTALLED = "complete"  # Driver_Install_Status of /etc/ascend_install.info (facts: ascend, 1.5)
OURS = ("deepseek@", "container deepseek-vllm-")
# Without its libraries vLLM finds no NPU in its container; the others are for npu-smi in there.
LIBRARIES = "/usr/local/Ascend/driver/lib64"
TOOLS = ("/usr/local/dcmi", "/usr/local/bin/npu-smi")


def driver(checkup: Checkup) -> Verdict:
    """Whether it answers, and its version."""
    inventory = need(checkup.inventory)
    state = inventory.driver
    if state is DriverState.UNKNOWN:
        return error(
            f"cannot tell the state of the NPUs: {inventory.detail or 'no answer'}",
            "see: dmesg, and whether npu-smi info answers; processes in state D hold the driver",
        )
    if state is not DriverState.READY:
        return of_failure(check_driver(inventory), "")
    version = inventory.driver_version or _version(checkup.driver) or "of unknown version"
    lines = sorted({product_line(npu.product) for npu in inventory.npus if npu.product})
    unknown = sorted({n.product for n in inventory.npus if _is_unknown(n)})
    if unknown:
        return warning(
            f"cannot serve on {', '.join(unknown)}: no vllm-ascend image is made for it",
            "supported are Atlas 800I/800T A2 and A3, and 300I Duo",
        )
    named = f" ({', '.join(lines)})" if lines else ""
    return ok(f"driver {version}, {len(inventory.npus)} NPUs{named}")


def _version(seen: object) -> str:
    return seen.version if isinstance(seen, DriverFiles) else ""


def _is_unknown(npu: Npu) -> bool:
    return bool(npu.product) and product_line(npu.product) is ProductLine.UNKNOWN


def files(checkup: Checkup) -> Verdict:
    """What the driver's package installs, and a container needs."""
    seen = need(checkup.driver)
    if not seen.paths and not seen.version:
        return error(
            "cannot find the Ascend driver: nothing of it is in /usr/local/Ascend or "
            "/usr/local/dcmi",
            "install driver and firmware for this server (hiascend.com, *.run --full), then reboot",
        )
    if seen.install_status and seen.install_status != INSTALLED:
        return error(
            f"cannot rely on the driver: its installation is {seen.install_status!r}, not complete "
            "(/etc/ascend_install.info)",
            "install it again, and reboot",
        )
    if LIBRARIES not in seen.paths:
        return error(
            f"cannot give a container the driver's libraries: {LIBRARIES} is missing",
            "install the driver with --full, then reboot",
        )
    if missing := [path for path in TOOLS if path not in seen.paths]:
        return warning(
            f"cannot give a container npu-smi: {', '.join(missing)} is missing",
            "install the driver with --full, then reboot",
        )
    version = f", version {seen.version}" if seen.version else ""
    return ok(f"{len(seen.paths)} paths for the container{version}")


def devices(checkup: Checkup) -> Verdict:
    """The nodes in /dev: there, devices, and their rights."""
    seen = lean(checkup.driver, "npu-files")
    if not seen.nodes:
        return skipped("there are none: see npu-driver")
    names = {node.path for node in seen.nodes}
    chips = [node for node in seen.nodes if node.path not in MANAGER_DEVICES]
    missing = [path for path in MANAGER_DEVICES if path not in names]
    if not chips:
        return error(
            "cannot see any NPU: there is no /dev/davinci0 or any other",
            "load the driver: reboot after its installation; is the card seen? "
            "lspci -d 19e5: ; see: dmesg",
        )
    if missing:
        return error(
            f"cannot give a container the NPUs: {', '.join(missing)} does not exist",
            "the driver makes it when it is loaded whole: see dmesg, and reboot",
        )
    if odd := [node.path for node in seen.nodes if not node.is_device]:
        return error(
            f"cannot use {some(odd)}: it is no device, something else made a file there",
            "remove it, and load the driver anew: reboot",
        )
    if gone := list(_without_node(checkup.inventory, names)):
        return error(
            f"cannot use {some(gone)}: the driver tells of it, and its node is gone",
            "a container with /dev of the host may have removed it; reboot brings it back",
        )
    if closed := [node for node in seen.nodes if node.mode & 0o600 != 0o600]:
        return warning(
            f"cannot be sure that programs can open {some(map(_rights, closed))}",
            "the driver makes them 0660 HwHiAiUser: chmod 660, or install the driver anew",
        )
    return ok(f"{len(chips)} NPUs and 3 managers, {_rights(chips[0])}")


def _rights(node: Node) -> str:
    return f"{node.path} {node.owner}:{node.group} {node.mode:04o}"


def _without_node(seen: object, names: set[str]) -> Iterator[str]:
    if isinstance(seen, Inventory):
        yield from (npu.device for npu in seen.npus if npu.device not in names)


def firmware(checkup: Checkup) -> Verdict:
    """By the driver's own account; which one an image needs is written nowhere that we know."""
    cards = need(checkup.firmware)
    bad = [one for one in cards if one.compatibility.upper() == "NOK"]
    if bad:
        told = some(f"card {one.card_id} has {one.version}" for one in bad)
        return error(
            f"cannot rely on the firmware: the driver says that it does not fit ({told})",
            "install the firmware that belongs to the driver, then reboot",
        )
    versions = sorted({one.version for one in cards if one.version})
    if len(versions) > 1:
        return warning(
            f"cannot rely on NPUs together: their firmware differs ({', '.join(versions)})",
            "install the same firmware on all of them, then reboot",
        )
    if not versions:
        return skipped("the driver does not tell the firmware")
    fits = all(one.compatibility.upper() == "OK" for one in cards)
    return ok(f"{versions[0]}" + (", fits the driver" if fits else ""))


def health(checkup: Checkup) -> Verdict:
    """The driver's word for each chip, and its faults."""
    inventory = lean(checkup.inventory, "npu-driver")
    if inventory.driver is not DriverState.READY:
        return skipped("the driver does not answer")
    ill = [npu for npu in inventory.npus if npu.health is not NpuHealth.OK]
    faulty = [npu for npu in inventory.npus if npu.faults and npu not in ill]
    hint = "see: deepseekctl npus, which says for each fault what to do"
    serious = [npu for npu in ill if npu.health is not NpuHealth.WARNING]
    if serious:
        return error(f"cannot rely on {some(map(_ill, (*serious, *_others(ill, serious))))}", hint)
    if ill or faulty:
        return warning(f"cannot rely on {some(map(_ill, (*ill, *faulty)))} for long", hint)
    return ok(f"{len(inventory.npus)} of {len(inventory.npus)} are well")


def _others(every: list[Npu], some_of_them: list[Npu]) -> list[Npu]:
    return [npu for npu in every if npu not in some_of_them]


def _ill(npu: Npu) -> str:
    codes = "; ".join(f"{one.code} {one.text}".strip() for one in npu.faults[:2])
    about = codes or npu.reason
    return f"NPU {npu.logic_id}: {npu.health}" + (f" ({about})" if about else "")


def users(checkup: Checkup) -> Verdict:
    """Who has them, of containers and processes that are not ours."""
    lean(checkup.inventory, "npu-driver")
    facts = need(checkup.facts)
    if facts.inventory.driver is not DriverState.READY:
        return skipped("the driver does not answer")
    holders = find_holders("", facts)
    foreign = {npu: one for npu, one in holders.items() if not one.who.startswith(OURS)}
    opened = need(checkup.open_nodes) if checkup.is_root else ()
    told = [f"NPU {npu}: {one.why}" for npu, one in sorted(foreign.items())]
    told += [words for npu, words in opened if npu not in holders]
    if told:
        return warning(
            f"cannot use all NPUs: {some(told)}",
            "stop it, or leave these NPUs to it: the agent takes others",
        )
    if not checkup.is_root:
        return skipped("only root can tell who has an NPU open")
    return ok(
        f"{len(holders)} have models of ours, the others nobody" if holders else "all are free"
    )
