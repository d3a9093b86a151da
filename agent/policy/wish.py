# SPDX-License-Identifier: MulanPSL-2.0
"""Whether somebody wishes an instance to serve, read from its front unit in systemd. Pure.

The wish lives in systemd alone; the agent keeps no copy, so an agent that crashed, was upgraded or
restarted only has to look (design, section 2).
"""

from agent import exits
from agent.model import UnitActive, UnitStatus

# The front unit died of something that nobody asked for: the wish stands.
CRASHES = ("signal", "core-dump", "watchdog", "oom-kill")


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
            return _crashed(front) or _is_held(front)
        case UnitActive.INACTIVE | UnitActive.UNKNOWN:
            return False


def has_crashed(front: UnitStatus) -> bool:
    """True when the front unit has to be started again although nothing else changed."""
    return front.active is UnitActive.FAILED and _crashed(front)


def was_killed_in_stop(front: UnitStatus) -> bool:
    """True when it only looks like a crash: attach was killed while a stop was under way. systemd
    should forget it, lest it be taken for a crash when it no longer tells the two apart."""
    return front.active is UnitActive.FAILED and front.result in CRASHES and front.stop_asked


def _crashed(front: UnitStatus) -> bool:
    return front.result in CRASHES and not front.stop_asked


def _is_held(front: UnitStatus) -> bool:
    return (
        front.result == "exit-code"
        and front.exit_status == exits.HELD
        and front.unit_file_state == "enabled"
    )
