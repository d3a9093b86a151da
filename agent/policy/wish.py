# SPDX-License-Identifier: MulanPSL-2.0
"""Whether somebody wishes an instance to serve, read from its front unit in systemd. Pure.

The wish lives in systemd alone; the agent keeps no copy, so an agent that crashed, was upgraded or
restarted only has to look (design, section 2).
"""

from dataclasses import replace

from agent import exits
from agent.model import UnitActive, UnitStatus

# The results that systemd knows (systemd.exec(5), $SERVICE_RESULT), and what each says of the wish.
# units/front-stopped, which stops the engine or leaves it alone, goes by the same.
#
# Nobody asked for these, so the wish stands. "resources": systemd could not make a process (out of
# memory or pids), or not prepare it.
CRASHES = ("signal", "core-dump", "watchdog", "oom-kill", "resources")
# "exit-code" is a crash, too, unless attach chose the status. The others are errors in it (Python:
# 1, 2, 120), or come from systemd, which could not execute it (200 and above: 203, 226). With 0 it
# is not attach that failed, but a command that somebody added to the unit: it is theirs to say so.
CHOSEN = (0, exits.HELD, exits.PERSON)
# The rest is no crash:
# * "success": attach ends with 0 only after SIGTERM, by systemd or by hand: a stop.
# * "protocol": the same before READY=1, by hand.
# * "timeout": a stop that took longer than TimeoutStopSec=, of attach or of the engine. The unit
#   has no other limit (TimeoutStartSec=infinity); whoever adds one wants it to end.
# * "start-limit-hit", "exec-condition": the unit has neither. Whoever adds one wants no start.


def is_wished(front: UnitStatus) -> bool:
    """True when the front unit says that the instance shall serve."""
    match front.active:
        case (
            UnitActive.ACTIVE | UnitActive.ACTIVATING | UnitActive.RELOADING | UnitActive.REFRESHING
        ):
            return True
        case UnitActive.FAILED | UnitActive.DEACTIVATING:
            # On its way down the result is known already: after a crash of attach, or when it left
            # because the agent holds, ExecStopPost= runs and nobody has withdrawn the wish.
            return _crashed(front) or _has_left(front, exits.HELD)
        case UnitActive.INACTIVE | UnitActive.UNKNOWN:
            return False


def has_crashed(front: UnitStatus) -> bool:
    """True when the front unit has to be started again although nothing else changed."""
    return front.active is UnitActive.FAILED and _crashed(front)


def is_refused(front: UnitStatus) -> bool:
    """True when it ended because only a person can mend it, and is to come up at a boot: it is not
    started again by itself, and whoever expects it to serve has to be told."""
    return _has_left(front, exits.PERSON) and front.active is UnitActive.FAILED


def only_looks_wished(front: UnitStatus) -> bool:
    """True when it is failed as a crashed, held or refused one is, but somebody has stopped it.
    systemd should forget that, lest it be taken for one when the two cannot be told apart any
    more."""
    unasked = replace(front, stop_asked=False)
    return (
        front.active is UnitActive.FAILED
        and front.stop_asked
        and (is_wished(unasked) or is_refused(unasked))
    )


def was_stopped_when_failed(before: UnitStatus, now: UnitStatus) -> bool:
    """Whether the job that ended between these two looks was a stop of a unit that had failed, by
    which systemd changes nothing. Any start would have given the unit another invocation, and of a
    try-restart, which does nothing either, nobody is told (host/jobs.py)."""
    return (
        now.active is UnitActive.FAILED
        and now.invocation_id == before.invocation_id
        and before.active not in (UnitActive.ACTIVATING, UnitActive.UNKNOWN)
    )


def _crashed(front: UnitStatus) -> bool:
    if front.stop_asked:
        return False
    if front.result == "exit-code":
        return front.exit_status not in CHOSEN
    return front.result in CRASHES


def _has_left(front: UnitStatus, status: int) -> bool:
    return (
        not front.stop_asked
        and front.result == "exit-code"
        and front.exit_status == status
        and front.unit_file_state == "enabled"
    )
