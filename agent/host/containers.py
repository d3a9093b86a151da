# SPDX-License-Identifier: MulanPSL-2.0
"""`ports.ContainerEngine`: asks `host.podman` in a short-lived process, with a deadline."""

from collections.abc import Sequence
from typing import TypeVar

import msgspec

from agent.decoding import decode_json
from agent.errors import AgentError, Code, Failure, HostError, HostUnavailable
from agent.facts import PodmanStore, PodmanSurvey
from agent.host.process import run_module

# Longer than one call of the child (10 s), so that its own error is heard first.
SURVEY_DEADLINE_S = 30.0
# Stopping an engine that ignores SIGTERM takes its stop timeout (40 s) first.
REMOVE_DEADLINE_S = 75.0

MODULE = "agent.host.podman"


class _Error(msgspec.Struct):
    code: Code
    message: str
    hint: str


class _Answer(msgspec.Struct):
    answer: msgspec.Raw = msgspec.Raw(b"null")
    error: _Error | None = None


class Podman:
    """Podman behind its API socket."""

    def __init__(self, arguments: tuple[str, ...] = ()) -> None:
        """`arguments` are passed to the child, for tests: another socket."""
        self._arguments = arguments

    async def survey(self, images: Sequence[str]) -> PodmanSurvey:
        return _decode(await self._ask("survey", images, SURVEY_DEADLINE_S), PodmanSurvey)

    async def store(self, images: Sequence[str]) -> PodmanStore:
        """Where Podman keeps things, and for which machine these images are made."""
        return _decode(await self._ask("store", images, SURVEY_DEADLINE_S), PodmanStore)

    async def remove(self, container: str) -> None:
        await self._ask("remove", [container], REMOVE_DEADLINE_S)

    async def _ask(self, verb: str, subjects: Sequence[str], deadline_s: float) -> msgspec.Raw:
        done = await run_module(
            MODULE,
            (*self._arguments, verb, "--", *subjects),
            deadline_s=deadline_s,
            # podman-py looks for the caller's connections there; the socket is named outright.
            environment={"HOME": "/nonexistent"},
        )
        try:
            answer = decode_json(done.output, _Answer)
        except msgspec.MsgspecError as error:
            why = done.errors.strip()[-300:] or f"exit status {done.status}"
            raise HostUnavailable(
                Code.PODMAN_UNAVAILABLE if done.status is not None else Code.PODMAN_SILENT,
                f"cannot ask Podman: {why}",
                "see: systemctl status podman.socket podman.service",
            ) from error
        if answer.error is not None:
            raise _as_error(Failure(answer.error.code, answer.error.message, answer.error.hint))
        return answer.answer


Kind = TypeVar("Kind")


def _decode(raw: msgspec.Raw, kind: type[Kind]) -> Kind:
    try:
        return decode_json(raw, kind)
    except msgspec.MsgspecError as error:
        raise HostError(
            Code.PODMAN_UNAVAILABLE, f"cannot understand Podman's answer: {error}"
        ) from error


def _as_error(failure: Failure) -> AgentError:
    return HostUnavailable(failure.code, failure.message, failure.hint)
