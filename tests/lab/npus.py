# SPDX-License-Identifier: MulanPSL-2.0
"""Ascend NPUs that are not there: their device nodes, and the double of libdcmi that tells of them.

The nodes are /dev/null under another name. Like real ones they are gone after a reboot, until the
driver (fake-npu-driver.service, if it was installed) makes them again; so is what libdcmi tells.
"""

from collections.abc import Sequence
from pathlib import Path

from tests.fakes.dcmi.control import DEFAULT_PATH, DcmiDouble

from .driver import STATE_FOLDER, TOOL, install_driver, load_at_boot
from .host import LabHost

MANAGERS = ("davinci_manager", "devmm_svm", "hisi_hdc")
PRODUCT = "910B3"  # Atlas 800I A2: one chip a card, card N is /dev/davinciN


def list_nodes(numbers: Sequence[int]) -> list[str]:
    return [f"davinci{number}" for number in numbers] + list(MANAGERS)


def make_npus(
    host: LabHost,
    count: int = 8,
    *,
    at_boot: bool = False,
    delay_s: float = 0,
    libdcmi: bool = True,
) -> None:
    """The driver, and `count` NPUs: at once, or by a unit at every boot.

    With at_boot the unit is enabled and not started: `delay_s` after the start of a boot the nodes
    are there. Start fake-npu-driver.service, or call this once without it, to have them now.
    Without libdcmi there is npu-smi instead.
    """
    install_driver(host, PRODUCT, count, libdcmi=libdcmi)
    names = list_nodes(range(count))
    if at_boot:
        load_at_boot(host, names, delay_s)
    else:
        host.run([TOOL, *names])


def remove_npus(host: LabHost, numbers: Sequence[int] | None = None) -> None:
    """The nodes of these NPUs vanish, and libdcmi goes on telling of them; without numbers the
    driver is unloaded, and what it knew is forgotten."""
    if numbers is None:
        script = "rm -f /dev/davinci* " + " ".join(f"/dev/{name}" for name in MANAGERS)
        host.run(["sh", "-c", f"{script}; rm -f {STATE_FOLDER}/state"])
    else:
        host.run(["rm", "-f", *(f"/dev/davinci{number}" for number in numbers)])


def restore_npus(host: LabHost, numbers: Sequence[int]) -> None:
    """Their nodes come back; the driver is loaded if it is not."""
    host.run([TOOL, *list_nodes(numbers)])


def libdcmi_of(host: LabHost) -> DcmiDouble:
    """To order what the host's libdcmi tells. Good until the host boots again: its /run is not on
    its disk, and is reached through its PID 1."""
    return DcmiDouble(Path(f"/proc/{host.leader()}/root{DEFAULT_PATH}"))
