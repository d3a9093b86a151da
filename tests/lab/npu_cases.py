# SPDX-License-Identifier: MulanPSL-2.0
"""The cases of the table of NPU faults: what happens to an NPU (npu_scripts.py), and what has to
come of it (docs/npu-health.md).
"""

from agent.npud.left_memory import LASTS_S
from agent.policy.npu.reset import TRIES
from tests.fakes.dcmi.control import CRITICAL, MINOR

from .npu_run import Case, Ends
from .npu_scene import BOUND, CARDS, DEFAULTS, NEIGHBOR, PRE_SEPARATE, RESTART_AFTER_S
from .npu_scripts import (
    FLAPS,
    FREE_RESTART,
    HANG_S,
    NOT_HANDLE,
    NPUD_BACK_S,
    POLL_S,
    READ_EVERY_S,
    RESTART_BUSINESS,
    RESTART_NPU,
    RESTART_REQUEST,
    SEPARATE,
    SLACK_S,
    SUB_HEALTH,
    UNKNOWN_MAJOR,
    UNKNOWN_MINOR,
    all_at_once,
    call_hangs,
    card_drop,
    driver_gone,
    driver_refuses,
    event_lost,
    fault,
    flapping,
    list_hangs,
    memory_left,
    mended_by_restart,
    node_gone,
    npud_killed,
    npud_killed_and_fault,
    one_after_the_other,
    reset_fails,
    same_fault_twice,
    with_hccs,
    without_events,
)

FAULT, LOST, ASIDE = ("npu-fault", 1), ("npu-lost", 1), ("npu-set-aside", 1)
RESET = (("npu-reset", 1), ("npu-reset-ended", 1))
GOES_ON, MOVED, BACK, ANEW = Ends
LEFT_S = LASTS_S + READ_EVERY_S + SLACK_S
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
        detected_within_s=NPUD_BACK_S,
    ),
    Case(
        "npud killed, Separate before it is back",
        npud_killed_and_fault,
        MOVED,
        (FAULT, ASIDE, LOST),
        detected_within_s=NPUD_BACK_S,
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
    Case(
        "engine killed, its memory is left",
        memory_left,
        MOVED,
        (FAULT, *RESET),
        detected_within_s=LEFT_S,
    ),
    Case(
        "engine killed, its memory is left, no other NPU may serve",
        memory_left,
        BACK,
        (FAULT, *RESET),
        name_of=BOUND,
        detected_within_s=LEFT_S,
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
