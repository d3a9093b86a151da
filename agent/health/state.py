# SPDX-License-Identifier: MulanPSL-2.0
"""What an engine is asked, what can come of it, and what is remembered of it. Pure values."""

from dataclasses import dataclass, field
from enum import StrEnum


class Question(StrEnum):
    """What an engine is asked."""

    METRICS = "metrics"
    CANARY = "canary"
    HEALTH = "health"
    INSIDE = "inside"  # /health at the container's own address
    STIRS = "stirs"  # whether its processes use the processor; none that do: TIMEOUT


class Outcome(StrEnum):
    """What came of a question."""

    OK = "ok"
    ILL = "ill"  # 5xx
    ODD = "odd"  # an answer that proves nothing: 4xx, or text that nobody understands
    REFUSED = "refused"  # nobody listens
    TIMEOUT = "timeout"
    BROKEN = "broken"  # cut off, or not HTTP
    UNABLE = "unable"  # it could not be asked: trouble on our own side


class Verdict(StrEnum):
    """What is wrong with an engine."""

    HUNG = "hung"  # the API server answers, no token comes
    SILENT = "silent"  # nothing answers at all
    REFUSES = "refuses"  # nobody listens any more
    FAILED = "failed"  # it says itself that its engine is dead
    CUT = "cut"  # it works, and cannot be reached


@dataclass(frozen=True, slots=True)
class Door:
    """One question: when it was asked last, and what came of it last."""

    asked_at: float = float("-inf")
    in_flight: bool = False
    outcome: Outcome | None = None  # of the latest that has ended
    began_at: float = float("-inf")  # when that one was asked
    ended_at: float = float("-inf")


NEVER_ASKED = Door()


@dataclass(frozen=True, slots=True)
class Rules:
    """What differs from engine to engine. `longest_step_s`: what its longest prompt may take."""

    longest_step_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Liveness:
    """All that is remembered of one engine, from the moment on in which it served."""

    life_at: float  # when it last proved to work
    tokens: float | None = None
    uncounted: bool = False  # what it counts is told, and not understood
    busy: bool = True  # it has requests; taken for granted until it says otherwise
    stalled_from: float | None = None  # when the first canary of a stall was asked
    misses: int = 0  # canaries of this stall that came back without an answer
    ills: int = 0  # answers in a row by which its engine is dead
    refusals: int = 0
    counted_at: float = float("-inf")  # when the latest of these was
    slowest_s: float = 0.0  # the longest step that ended well, lately
    slowest_at: float = 0.0
    stirred_at: float = float("-inf")  # when its processes last used the processor, or nobody knew
    hinted_at: float = float("-inf")  # something happened to it: look closely for a while
    doors: dict[Question, Door] = field(default_factory=dict)

    def door(self, question: Question) -> Door:
        return self.doors.get(question, NEVER_ASKED)
