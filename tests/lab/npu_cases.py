# SPDX-License-Identifier: MulanPSL-2.0
"""The cases of the table of NPU faults: what happens to an NPU, and what has to come of it
(docs/npu-health.md). Codes are of the shipped catalogue, where it has one of that level.
"""

import time
from collections.abc import Callable

from agent.npud.dcmi.agenda import STATES_EVERY_S
from agent.policy.npu.reset import SETTLE_S, TRIES
from tests.fakes.dcmi.control import CRITICAL, MAJOR, MINOR

from .npu_run import Case, Ends, Run
from .npu_scene import (
    BOUND,
    CARDS,
    DEFAULTS,
    NEIGHBOR,
    PRE_SEPARATE,
    RESTART_AFTER_S,
    Scene,
)
from .npus import remove_npus, restore_npus

NOT_HANDLE, SUB_HEALTH = "80E01809", "80E20207"
RESTART_REQUEST, RESTART_BUSINESS = "80C98008", "80E01801"
FREE_RESTART, RESTART_NPU, SEPARATE, LINK_DOWN = "8C084E00", "80DE1801", "80E18402", "81078603"
UNKNOWN_MAJOR, UNKNOWN_MINOR = "DEAD0001", "DEAD0002"

# How long what nobody announces may take to be seen; and what a busy machine may add.
POLL_S = STATES_EVERY_S
SLACK_S = 5.0
# In the lab nobody tells systemd that a control group of v1 is empty (a release agent does on a
# host), so it may wait for the whole TimeoutStopSec of npud before it starts the next.
KILLED_S = 5.0 + SLACK_S
# A vendor call may take 5 s, then it hangs.
HANG_S = 10.0
HCCS_BOARD = "0x30"  # not of those that are known to be without
LINK_UP_S, LINK_DOWN_S, FLAPS = 3.0, 3.0, 3
DRIVER_AWAY_S = 5.0
RESETS_LIMIT_S = 60.0 * TRIES

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


FAULT, LOST, ASIDE = ("npu-fault", 1), ("npu-lost", 1), ("npu-set-aside", 1)
RESET = (("npu-reset", 1), ("npu-reset-ended", 1))
GOES_ON, MOVED, BACK, ANEW = Ends
EARLY = RESTART_AFTER_S + SLACK_S

CASES = (
    Case("NotHandle", fault(NOT_HANDLE), GOES_ON, (FAULT,)),
    Case("SubHealth", fault(SUB_HEALTH), GOES_ON, (FAULT,)),
    Case(
        f"RestartRequest, over with the restart (restart_after_s {RESTART_AFTER_S:g})",
        mended_by_restart(RESTART_REQUEST, EARLY),
        ANEW,
        (FAULT, LOST),
    ),
    Case(
        f"RestartBusiness, lasting (restart_after_s {RESTART_AFTER_S:g})",
        fault(RESTART_BUSINESS),
        MOVED,
        (FAULT, LOST),
    ),
    Case(
        "RestartBusiness, as shipped (restart_after_s 60)",
        mended_by_restart(RESTART_BUSINESS, 60 + SLACK_S),
        ANEW,
        (FAULT, LOST),
        settings=DEFAULTS,
    ),
    Case("FreeRestart, in use", fault(FREE_RESTART), GOES_ON, (FAULT,)),
    Case("FreeRestart, free", fault(FREE_RESTART), GOES_ON, (FAULT, *RESET), free=True),
    Case("RestartNPU", fault(RESTART_NPU), MOVED, (FAULT, LOST, *RESET), at_once=True),
    Case(
        "RestartNPU, no other NPU may serve",
        fault(RESTART_NPU),
        BACK,
        (FAULT, LOST, *RESET),
        name_of=BOUND,
        at_once=True,
    ),
    Case(
        "RestartNPU, board with HCCS",
        fault(RESTART_NPU),
        MOVED,
        (FAULT, LOST, ASIDE),
        at_once=True,
        arrange=with_hccs,
    ),
    Case("PreSeparate", fault(PRE_SEPARATE), GOES_ON, (FAULT, ASIDE)),
    Case("Separate", fault(SEPARATE), MOVED, (FAULT, ASIDE, LOST), at_once=True),
    Case("unknown code, major", fault(UNKNOWN_MAJOR), MOVED, (FAULT, ASIDE, LOST), at_once=True),
    Case("unknown code, minor", fault(UNKNOWN_MINOR, MINOR), GOES_ON, (FAULT,)),
    Case(
        "card drop (-8012)",
        card_drop,
        MOVED,
        (FAULT, LOST, *RESET),
        detected_within_s=POLL_S + SLACK_S,
    ),
    Case("device node gone", node_gone, MOVED, (FAULT, LOST), at_once=True),
    Case(
        "all device nodes gone and back",
        driver_gone,
        GOES_ON,
        (("npu-fault", CARDS), ("host-suspected", 1)),
    ),
    Case("driver gone (-8005) and back", driver_refuses, GOES_ON, (), detected_within_s=SLACK_S),
    Case(
        "DCMI call hangs, one chip",
        call_hangs,
        GOES_ON,
        (FAULT,),
        told="probe hangs",
        detected_within_s=HANG_S,
    ),
    Case(
        "DCMI call hangs, the list",
        list_hangs,
        GOES_ON,
        (),
        told="hangs",
        detected_within_s=HANG_S,
    ),
    Case(
        "npud killed",
        npud_killed,
        GOES_ON,
        (),
        told="driver=ready",
        detected_within_s=KILLED_S,
    ),
    Case(
        "npud killed, Separate before it is back",
        npud_killed_and_fault,
        MOVED,
        (FAULT, ASIDE, LOST),
        detected_within_s=KILLED_S,
    ),
    Case(
        "event lost (Separate)",
        event_lost,
        MOVED,
        (FAULT, ASIDE, LOST),
        detected_within_s=POLL_S + SLACK_S,
        arrange=without_events,
    ),
    Case(
        f"link flaps {FLAPS} times, then stays down",
        flapping,
        GOES_ON,
        (("npu-fault", FLAPS + 1), ASIDE),
    ),
    Case(
        "RestartNPU twice in a day",
        same_fault_twice,
        MOVED,
        (("npu-fault", 2), LOST, *RESET, ASIDE),
        at_once=True,
    ),
    Case(
        f"reset fails {TRIES} times",
        reset_fails,
        MOVED,
        (FAULT, LOST, ("npu-reset", TRIES), ("npu-reset-ended", TRIES), ASIDE),
        at_once=True,
    ),
    Case(
        "all NPUs at once (Separate)",
        all_at_once,
        GOES_ON,
        (("npu-fault", CARDS), ("host-suspected", 1)),
    ),
    Case(
        "all NPUs one after the other, unused first",
        one_after_the_other,
        GOES_ON,
        (
            ("npu-fault", CARDS),
            ("npu-set-aside", CARDS // 2),
            ("host-suspected", 1),
            ("npu-released", CARDS // 2),
        ),
        free=True,
    ),
    Case("Separate, free NPU", fault(SEPARATE), GOES_ON, (FAULT, ASIDE), free=True),
    Case(
        "Separate, the other instance's NPU",
        fault(SEPARATE, CRITICAL),
        MOVED,
        (FAULT, ASIDE, LOST),
        name_of=NEIGHBOR,
        at_once=True,
    ),
)
