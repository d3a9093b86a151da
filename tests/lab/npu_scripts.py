# SPDX-License-Identifier: MulanPSL-2.0
"""What happens to NPUs in the cases of the table (npu_cases.py): each script makes one of them ill
in its own way. Codes are of the shipped catalogue, where it has one of that level.
"""

import time
from collections.abc import Callable

from agent.npud.dcmi.agenda import STATES_EVERY_S
from agent.npud.left_memory import LASTS_S
from agent.policy.npu.reset import SETTLE_S, TRIES
from tests.fakes.dcmi.control import MAJOR, MINOR

from .npu_run import Run
from .npu_scene import CARDS, Scene
from .npus import remove_npus, restore_npus

NOT_HANDLE, SUB_HEALTH = "80E01809", "80E20207"
RESTART_REQUEST, RESTART_BUSINESS = "80C98008", "80E01801"
FREE_RESTART, RESTART_NPU, SEPARATE, LINK_DOWN = "8C084E00", "80DE1801", "80E18402", "81078603"
UNKNOWN_MAJOR, UNKNOWN_MINOR = "DEAD0001", "DEAD0002"

# How long what nobody announces may take to be seen; and what a busy machine may add.
POLL_S = STATES_EVERY_S
SLACK_S = 5.0
# RestartSec= of 1 s; on legacy often TimeoutStopSec= (5 s) before it: in the lab nobody tells
# systemd that a control group of v1 is empty ("Processes still around after SIGKILL").
NPUD_BACK_S = 6.0 + SLACK_S
# A vendor call may take 5 s, then it hangs.
HANG_S = 10.0
HCCS_BOARD = "0x30"  # not of those that are known to be without
LINK_UP_S, LINK_DOWN_S, FLAPS = 3.0, 3.0, 3
DRIVER_AWAY_S = 5.0
RESETS_LIMIT_S = 60.0 * TRIES
LEFT_MB = 40_000
READ_EVERY_S = 60.0  # by npud, when nobody asks for more

Script = Callable[[Run], None]


def fault(code: str, severity: int = MAJOR) -> Script:
    """It comes, and stays."""

    def script(run: Run) -> None:
        run.scene.libdcmi.raise_fault(run.npu, 0, code, severity, "made by the lab")

    return script


def mended_by_restart(code: str, limit_s: float) -> Script:
    """It is over as soon as the model is stopped."""

    def script(run: Run) -> None:
        fault(code)(run)
        run.wait("npu-lost", limit_s=limit_s)
        run.scene.libdcmi.clear_fault(run.npu, 0, code)

    return script


def card_drop(run: Run) -> None:
    run.scene.libdcmi.drop(run.npu, 0)
    run.wait("npu-fault", limit_s=POLL_S + SLACK_S)


def node_gone(run: Run) -> None:
    remove_npus(run.scene.host, [run.npu])


def driver_gone(run: Run) -> None:
    remove_npus(run.scene.host)
    time.sleep(DRIVER_AWAY_S)
    restore_npus(run.scene.host, range(CARDS))
    run.wait("npus", 2)


def driver_refuses(run: Run) -> None:
    """libdcmi says so at the next look; what serves is not touched."""
    run.scene.libdcmi.driver_absent()
    run.scene.refresh()
    run.wait("npus")
    time.sleep(DRIVER_AWAY_S)
    run.scene.libdcmi.driver_back()
    run.scene.refresh()
    run.wait("npus", 2)


def call_hangs(run: Run) -> None:
    """At the next look at the chip, which a fault of no weight brings about."""
    run.scene.libdcmi.hang("get_device_health", run.npu)
    fault(UNKNOWN_MINOR, MINOR)(run)
    run.wait_npud("probe hangs")
    run.scene.libdcmi.release("get_device_health", run.npu)


def list_hangs(run: Run) -> None:
    run.scene.libdcmi.hang("get_card_list")
    run.scene.refresh()
    run.wait_npud("hangs")
    run.scene.libdcmi.release("get_card_list")


def npud_killed(run: Run) -> None:
    run.scene.kill_npud()
    run.wait_npud("driver=ready")


def npud_killed_and_fault(run: Run) -> None:
    run.scene.kill_npud()
    fault(SEPARATE)(run)


def event_lost(run: Run) -> None:
    fault(SEPARATE)(run)
    run.wait("npu-fault", limit_s=POLL_S + SLACK_S)


def flapping(run: Run) -> None:
    """Too short to count, again and again; then it stays."""
    libdcmi = run.scene.libdcmi
    for _ in range(FLAPS):
        libdcmi.raise_fault(run.npu, 0, LINK_DOWN, MAJOR, "made by the lab")
        time.sleep(LINK_DOWN_S)
        libdcmi.clear_fault(run.npu, 0, LINK_DOWN)
        time.sleep(LINK_UP_S)
    fault(LINK_DOWN)(run)


def same_fault_twice(run: Run) -> None:
    fault(RESTART_NPU)(run)
    run.wait("npu-reset-ended")
    time.sleep(SETTLE_S + 1)  # what a chip says soon after its reset is not believed
    fault(RESTART_NPU)(run)


def reset_fails(run: Run) -> None:
    run.scene.libdcmi.set_reset(run.npu, 0, "fails")
    fault(RESTART_NPU)(run)
    run.wait("npu-set-aside", limit_s=RESETS_LIMIT_S)


def memory_left(run: Run) -> None:
    """The engine is killed, and the driver keeps its memory, until a reset."""
    run.scene.libdcmi.leave_memory(run.npu, 0, LEFT_MB)
    run.kill_engine()
    run.wait("npu-fault", limit_s=LASTS_S + READ_EVERY_S + SLACK_S)
    run.wait("npu-reset-ended")


def all_at_once(run: Run) -> None:
    run.scene.libdcmi.raise_faults(range(CARDS), SEPARATE, MAJOR, "made by the lab")


def one_after_the_other(run: Run) -> None:
    """A second between two; the NPUs that serve come last."""
    used = {npu for engine in run.before.values() for npu in engine.npus}
    for npu in sorted(range(CARDS), key=lambda number: number in used):
        run.scene.libdcmi.raise_fault(npu, 0, SEPARATE, MAJOR, "made by the lab")
        time.sleep(1)


def without_events(scene: Scene, _npu: int) -> None:
    scene.libdcmi.set_option("events", "off")


def with_hccs(scene: Scene, _npu: int) -> None:
    scene.libdcmi.set_option("board", HCCS_BOARD)
    scene.libdcmi.set_option("hccs", "on")
    scene.host.run(["systemctl", "restart", "deepseek-npud"])
    time.sleep(1)
