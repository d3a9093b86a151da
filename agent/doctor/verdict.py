# SPDX-License-Identifier: MulanPSL-2.0
"""How a check ends, and how a look that has brought nothing ends it. Pure."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar, assert_never

from agent.doctor.looks import Seen, Unseen, Why
from agent.errors import Failure

Kind = TypeVar("Kind")


class Status(StrEnum):
    """From the best to the worst."""

    OK = "ok"
    SKIPPED = "skipped"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found; `hint` says what to do when it is not well."""

    status: Status
    message: str
    hint: str = ""


class Group(StrEnum):
    """Where a person looks for it."""

    HOST = "the host"
    NPUS = "NPUs"
    PODMAN = "Podman"
    AGENT = "the agent"
    MODEL = "model"


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict with the name of its check; `instance` is empty for what is about the host."""

    id: str
    group: Group
    instance: str
    verdict: Verdict


class NotSeen(Exception):
    """What a check needs was not seen."""

    def __init__(self, unseen: Unseen) -> None:
        super().__init__(unseen.text)
        self.unseen = unseen


def need(seen: Seen[Kind]) -> Kind:
    """Raises NotSeen, which ends the check as `finish` says."""
    if isinstance(seen, Unseen):
        raise NotSeen(seen)
    return seen


def lean(seen: Seen[Kind], owner: str) -> Kind:
    """As `need`, where the check `owner` is the one to tell that it was not seen."""
    if isinstance(seen, Unseen):
        raise NotSeen(Unseen(Why.NOT_ASKED, f"cannot be told: see {owner}"))
    return seen


def finish(judge: Callable[[], Verdict]) -> Verdict:
    """The verdict, whatever happens: one check that breaks does not break the others."""
    found = _judged(judge)
    return Verdict(found.status, _one_line(found.message), _one_line(found.hint))


def _one_line(text: str) -> str:
    """What programs say may be several."""
    return " ".join(text.split())


def _judged(judge: Callable[[], Verdict]) -> Verdict:
    try:
        return judge()
    except NotSeen as error:
        return _of_unseen(error.unseen)
    except Exception as error:
        why = f"cannot finish this check: internal error: {error!r}"[:300]
        return Verdict(Status.ERROR, why, "please report it; the other checks are not touched")


def _of_unseen(unseen: Unseen) -> Verdict:
    match unseen.why:
        case Why.SILENT | Why.FAILED:
            return Verdict(Status.ERROR, unseen.text, unseen.hint)
        case Why.NEEDS_ROOT | Why.NOT_ASKED:
            return Verdict(Status.SKIPPED, unseen.text, unseen.hint)
        case _:
            assert_never(unseen.why)


def ok(message: str) -> Verdict:
    return Verdict(Status.OK, message)


def skipped(message: str) -> Verdict:
    return Verdict(Status.SKIPPED, message)


def warning(message: str, hint: str) -> Verdict:
    return Verdict(Status.WARNING, message, hint)


def error(message: str, hint: str) -> Verdict:
    return Verdict(Status.ERROR, message, hint)


def of_failure(failure: Failure | None, well: str) -> Verdict:
    """As the agent itself would refuse; `well` when it would not."""
    return ok(well) if failure is None else error(failure.message, failure.hint)


def some(words: Iterable[str], limit: int = 4) -> str:
    """ "a, b, c, d and 3 more" """
    every = list(words)
    left = len(every) - limit
    return ", ".join(every[:limit]) + (f" and {left} more" if left > 0 else "")
