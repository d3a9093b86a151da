# SPDX-License-Identifier: MulanPSL-2.0
"""Looks at the NPUs: by the agent, by npud, or where neither runs by an npud of our own.

The driver is never asked by this process: it takes whoever is not root in the host's own mount
namespace for a container, which would occupy the NPUs.
"""

import os
from functools import partial

from agent.doctor.agent import NPUD
from agent.doctor.checkup import find_unit
from agent.doctor.looks import DriverFiles, Firmware, Seen, Unseen, Why
from agent.host.driver_files import is_in_hosts_namespace, read_firmware
from agent.host.look import look
from agent.host.own_npud import read_by_own_npud, read_known
from agent.host.units import read_main_pid
from agent.model import DriverState, Inventory, UnitStatus
from agent.npud.open_nodes import find_openers
from agent.status.snapshot import Snapshot
from agent.threads import in_thread

NPUD_S, OWN_S, FIRMWARE_S, FIRMWARE_ALL_S, NODES_S, SYSTEMD_S = 8.0, 16.0, 10.0, 25.0, 5.0, 10.0
HINT = "systemctl restart deepseek-npud; when that does not end: a driver call hangs, see dmesg"
OUTSIDE = (
    "this is not the host's own mount namespace, and whoever asks the driver from outside it "
    "occupies the NPUs"
)
NOT_ROOT = "only root may ask the driver, and the agent does not run"


async def look_at_inventory(
    driver: Seen[DriverFiles],
    units: Seen[tuple[UnitStatus, ...]],
    snapshot: Seen[Snapshot],
    socket: str,
) -> Seen[Inventory]:
    if isinstance(snapshot, Snapshot) and snapshot.inventory.driver is not DriverState.UNKNOWN:
        return snapshot.inventory
    is_root = os.geteuid() == 0
    npud = find_unit(units, NPUD)
    if is_root and npud is not None and npud.active.is_up():
        return await look("the NPUs by deepseek-npud", NPUD_S + 2, read_known(socket, NPUD_S), HINT)
    if isinstance(snapshot, Snapshot):
        return snapshot.inventory
    if isinstance(driver, DriverFiles) and not driver.nodes:
        return Inventory(DriverState.ABSENT, "no /dev/davinci* devices")
    if not is_root:
        return Unseen(Why.NEEDS_ROOT, NOT_ROOT)
    if not is_in_hosts_namespace():
        return Unseen(Why.NOT_ASKED, OUTSIDE)
    return await look("the NPUs", OWN_S + 8, read_by_own_npud(OWN_S))


async def look_at_firmware(
    driver: Seen[DriverFiles], inventory: Inventory
) -> Seen[tuple[Firmware, ...]]:
    if os.geteuid() != 0:
        return Unseen(Why.NEEDS_ROOT, "only root may ask npu-smi")
    if not isinstance(driver, DriverFiles) or not driver.npu_smi:
        return Unseen(Why.NOT_ASKED, "there is no npu-smi to ask")
    if inventory.driver is not DriverState.READY:
        return Unseen(Why.NOT_ASKED, "the driver does not answer")
    if not is_in_hosts_namespace():
        return Unseen(Why.NOT_ASKED, OUTSIDE)
    cards = sorted({npu.card_id for npu in inventory.npus})
    asking = read_firmware(driver.npu_smi, cards, FIRMWARE_S)
    return await look("the firmware by npu-smi", FIRMWARE_ALL_S, asking, "see: dmesg")


async def look_at_open_nodes(
    units: Seen[tuple[UnitStatus, ...]],
) -> Seen[tuple[tuple[int, str], ...]]:
    if os.geteuid() != 0:
        return Unseen(Why.NEEDS_ROOT, "only root can tell who has an NPU open")
    return await look("the processes", NODES_S + SYSTEMD_S, _open_nodes(units))


async def _open_nodes(units: Seen[tuple[UnitStatus, ...]]) -> tuple[tuple[int, str], ...]:
    """npud itself does not count."""
    npud = await read_main_pid(NPUD, SYSTEMD_S) if isinstance(units, tuple) else 0
    found = await in_thread(partial(find_openers, "/dev", npud or os.getpid()))
    if found is None:
        raise TimeoutError
    return tuple(sorted(found.items()))
