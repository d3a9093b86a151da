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
    answered: bool = False  # the engine that runs is known to have served
    acting: bool = False  # a start or stop of ours is under way; its end comes as an event
    outdated: bool = False  # a cause changed while a start was under way with the old facts
    fetched: bool = False  # this start comes after what was missing has been brought
    mended: bool = False  # its model has been, and no engine has served since: that did not help
    lost: Failure | None = None  # why the engine that is being started will have to stop again
    ill: Failure | None = None  # why the engine is being stopped; the next start waits its time
    proven: bool = False  # it has served for such a healthy stretch: its end waits for nothing
    restart: bool = False  # asked for while a start or stop was under way: it follows that
    soon: int = 0  # failures in a row of what may pass soon, while `failure` is one: `count_soon`


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
    answered: bool = False  # this very start of it has answered a completion already


@dataclass(frozen=True, slots=True)
class StartEnded:
    """A start action came to its end; `failure` is None when the container runs. `lacking`: what
    is missing can be brought."""

    failure: Failure | None
    lacking: bool = False


@dataclass(frozen=True, slots=True)
class FetchEnded:
    """What was missing has been brought, or why not. `mended`: each byte of a model was checked."""

    failure: Failure | None
    mended: bool = False


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
class EngineIll:
    """The engine was seen not to work, though its unit is up; or it is out of its budget for
    loading."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Diagnosed:
    """Why the engine died, from its log; it comes after the death was seen. `mendable`: what it
    found damaged can be checked, and brought again."""

    failure: Failure
    mendable: bool = False


@dataclass(frozen=True, slots=True)
class StopMissed:
    """The engine is up for long, though nobody wants it, and nothing stops it."""


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
    | FetchEnded
    | StopEnded
    | Probed
    | CauseChanged
    | NpuLost
    | EngineIll
    | Diagnosed
    | StopMissed
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
class Fetch:
    """Have brought what the latest plan lacks."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop the rendered unit. `ill`: why it is no use to wait for what it has to do; it is
    examined first, and has little time to end."""

    ill: Failure | None = None


Decision = Nothing | Start | Fetch | Stop
NOTHING = Nothing()
