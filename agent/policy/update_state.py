# SPDX-License-Identifier: MulanPSL-2.0
"""What is kept of an instance's image and model over updates, and what can happen to them. Pure."""

from dataclasses import dataclass

from agent.errors import Failure
from agent.supplies import KeptImage, Order, Report, Role, Supply

# --- state ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Undone:
    """An update that was lost, and why. Told until the next one."""

    supply: Supply
    failure: Failure
    at: float


@dataclass(frozen=True, slots=True)
class UpdateState:
    """All that is kept of it. With `order` or `trial` there is a `current`."""

    current: Supply | None = None  # has answered; what it goes back to
    previous: Supply | None = None  # before that
    trial: Supply | None = None
    order: Order | None = None  # new things are being fetched
    on_trial: bool = False  # a start on it has begun: what fails now fails on it
    boots: int = 0  # in which a start on the latest trial has begun
    boot: str = ""  # the latest of them
    faults: int = 0  # ends of the latest trial that it or its NPU may be the reason of
    answered_at: float | None = None  # on trial
    undone: Undone | None = None
    checked_at: float = 0.0  # when the latest update brought nothing new
    is_settled: bool = True  # the model's link and the names of images are as this says
    restart: bool = False  # the engine that runs is to be replaced

    @property
    def pin(self) -> Supply | None:
        """What the next start shall run on."""
        return self.trial or self.current

    @property
    def kept(self) -> tuple[KeptImage, ...]:
        """By role; what has none is named by nothing."""
        roles = ((Role.CURRENT, self.current), (Role.PREVIOUS, self.previous))
        return tuple(
            KeptImage(role, one.image_id if one is not None else "")
            for role, one in (*roles, (Role.TRIAL, self.trial))
        )


# --- events --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class UpdateAsked:
    """By a person. `base`: what a start would run on now, where nothing has answered yet."""

    order: Order
    base: Supply


@dataclass(frozen=True, slots=True)
class UpdateFetched:
    """The order has been carried out, or why not."""

    outcome: Report | Failure


@dataclass(frozen=True, slots=True)
class RollbackAsked:
    """By a person: to what ran before."""


@dataclass(frozen=True, slots=True)
class Settled:
    """The link leads to what `pin` says, and images have their names, as it was in `of`."""

    of: UpdateState


@dataclass(frozen=True, slots=True)
class PinLost:
    """The revision of the model that shall run by `of` is not there."""

    of: UpdateState
    failure: Failure


@dataclass(frozen=True, slots=True)
class StartDue:
    """The next start will begin in this boot. Empty: nobody can tell which it is."""

    boot: str


@dataclass(frozen=True, slots=True)
class Attempted:
    """A start on `pin` begins."""

    pin: Supply
    boot: str


@dataclass(frozen=True, slots=True)
class RestartBegun:
    """The engine that runs is being replaced."""


@dataclass(frozen=True, slots=True)
class EngineStarted:
    """`supply`: what it runs on; `is_new`: it did not run already."""

    supply: Supply
    is_new: bool


@dataclass(frozen=True, slots=True)
class EngineAnswered:
    """For the first time."""

    supply: Supply


@dataclass(frozen=True, slots=True)
class EngineFailed:
    """It died, was replaced as ill, or could not be started. `npu_lost`: its NPU is not well.
    `ran`: its start had succeeded, so that neither a plan has found that nor Podman."""

    failure: Failure
    npu_lost: bool
    ran: bool = True


@dataclass(frozen=True, slots=True)
class ServingTick:
    """Time went by in which it served."""


UpdateEvent = (
    UpdateAsked
    | UpdateFetched
    | RollbackAsked
    | Settled
    | PinLost
    | StartDue
    | Attempted
    | RestartBegun
    | EngineStarted
    | EngineAnswered
    | EngineFailed
    | ServingTick
)


@dataclass(frozen=True, slots=True)
class News:
    """What is to be told."""

    kind: str
    message: str


Step = tuple[UpdateState, News | None]
