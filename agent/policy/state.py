# SPDX-License-Identifier: MulanPSL-2.0
"""What policy remembers of an instance, what can happen to it, and what can be decided. Pure."""

from dataclasses import dataclass

from agent.errors import Failure
from agent.model import Health, Phase, UnitActive

# --- state ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class InstanceState:
    """All that policy remembers of an instance."""

    phase: Phase = Phase.IDLE
    wished: bool = False
    since: float = 0.0  # when this phase began
    failures: int = 0  # in a row, without a healthy stretch of limits.healthy_reset_s
    not_before: float = 0.0  # next try, in BACKOFF; next look, in WAITING and HELD
    failure: Failure | None = None  # why it does not serve, while it does not
    engine: UnitActive = UnitActive.UNKNOWN  # the rendered unit, when last seen
    acting: bool = False  # a start or stop of ours is under way; its end comes as an event
    outdated: bool = False  # a cause changed while a start was under way with the old facts
    lost: Failure | None = None  # why the engine that is being started will have to stop again


# --- events --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WishChanged:
    """The front unit began or ceased to wish. `again` when attach has just (re)connected."""

    wished: bool
    again: bool = False


@dataclass(frozen=True, slots=True)
class EngineObserved:
    """systemd's word on the rendered unit."""

    active: UnitActive
    detail: str = ""  # of the result, for the reason


@dataclass(frozen=True, slots=True)
class StartEnded:
    """A start action came to its end; `failure` is None when the container runs."""

    failure: Failure | None


@dataclass(frozen=True, slots=True)
class StopEnded:
    """A stop action came to its end."""

    failure: Failure | None


@dataclass(frozen=True, slots=True)
class Probed:
    """A check of the endpoint; HEALTHY means that a completion has been answered."""

    health: Health


@dataclass(frozen=True, slots=True)
class CauseChanged:
    """Something that may have been the reason for waiting or holding is different now."""


@dataclass(frozen=True, slots=True)
class NpuLost:
    """The engine has to leave its NPUs at once; it is started anew on what there is then."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class RestartRequested:
    """A person asked for a restart."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time went by."""


Event = (
    WishChanged
    | EngineObserved
    | StartEnded
    | StopEnded
    | Probed
    | CauseChanged
    | NpuLost
    | RestartRequested
    | Tick
)

# --- decisions -----------------------------------------------------------------------------------


class Nothing:
    """Nothing has to be done."""


@dataclass(frozen=True, slots=True)
class Start:
    """Plan, render and start."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop the rendered unit."""


Decision = Nothing | Start | Stop
NOTHING = Nothing()
