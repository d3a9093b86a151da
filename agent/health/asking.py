# SPDX-License-Identifier: MulanPSL-2.0
"""Asks an engine, and says what came of it in the words of `state`.

The canary is one completion of one token. It can be told from users' requests: by its User-Agent,
by its request id "deepseek-agent-canary-N" in vLLM's log, and by `user` in its body.
"""

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from agent.decoding import decode_json
from agent.health.metrics import Work, missing, read_work, to_compare, without_buckets
from agent.health.state import Outcome, Question
from agent.model import EngineWork
from agent.ports import Answer, Ask, Http, NoAnswer, Server

CANARY = "deepseek-agent-canary"
_numbers = itertools.count(1)
# Of a container whose processes all sleep: their timers, and the heartbeats between them.
STILL_SHARE = 0.1  # of one processor
STIRS_WITHIN_S = 2.0


class _Completion(msgspec.Struct):
    choices: list[msgspec.Raw]


@dataclass(frozen=True, slots=True)
class Engine:
    """Where an engine is reached and how: `door` as users do, `inside` at the container's own
    address, None while that is not known; `processor_s`: what its processes have used so far."""

    door: Server
    inside: Callable[[], Server | None]
    served_name: str
    key: str = ""
    processor_s: Callable[[], float | None] = lambda: None


@dataclass
class Asker:
    """Asks one engine. `counted`: /metrics as it was told last, without buckets;
    `measured` hears each time what they say of its work, `unmeasured` what they do not have."""

    http: Http
    engine: Engine
    counted: bytes = b""
    measured: Callable[[EngineWork], None] = lambda work: None
    unmeasured: Callable[[tuple[str, ...]], None] = lambda lacks: None

    async def ask(self, question: Question, deadline_s: float) -> tuple[Outcome, Work | None]:
        """What came of it; for the counters, what they say."""
        match question:
            case Question.METRICS:
                return await self._read_work(deadline_s)
            case Question.HEALTH:
                return await self._health(self.engine.door, deadline_s), None
            case Question.CANARY:
                return await self._canary(self.engine.door, deadline_s), None
            case Question.INSIDE:
                inside = self.engine.inside()
                outcome = Outcome.UNABLE
                if inside is not None:
                    outcome = await self._health(inside, deadline_s)
                return outcome, None
            case Question.STIRS:
                return await _stirs(self.engine.processor_s), None

    async def _health(self, server: Server, deadline_s: float) -> Outcome:
        return _judge(await self.http.ask(server, Ask("GET", "/health"), deadline_s))

    async def _read_work(self, deadline_s: float) -> tuple[Outcome, Work | None]:
        answer = await self.http.ask(self.engine.door, Ask("GET", "/metrics"), deadline_s)
        outcome = _judge(answer)
        if outcome is Outcome.ODD:
            self.unmeasured(missing(b""))
        if outcome is not Outcome.OK or not isinstance(answer, Answer):
            return outcome, None
        self.counted = without_buckets(answer.body)
        work = read_work(self.counted)
        if work is None:
            self.unmeasured(missing(self.counted))
            return Outcome.ODD, None
        self.measured(work)
        return outcome, to_compare(work)

    async def _canary(self, server: Server, deadline_s: float) -> Outcome:
        request = one_token(self.engine.served_name, self.engine.key)
        answer = await self.http.ask(server, request, deadline_s)
        outcome = _judge(answer)
        if outcome is Outcome.OK and isinstance(answer, Answer) and not _is_token(answer.body):
            return Outcome.ODD
        return outcome


async def _stirs(processor_s: Callable[[], float | None]) -> Outcome:
    """A process that has ended takes its time with it: something has happened then, too."""
    before = processor_s()
    await asyncio.sleep(STIRS_WITHIN_S)
    after = processor_s()
    if before is None or after is None:
        return Outcome.UNABLE
    still = 0 <= after - before < STILL_SHARE * STIRS_WITHIN_S
    return Outcome.TIMEOUT if still else Outcome.OK


def one_token(served_name: str, key: str) -> Ask:
    """The request for it."""
    wanted = {
        "model": served_name,
        "prompt": "1",
        "max_tokens": 1,
        "temperature": 0,
        "user": CANARY,
    }
    name = f"{CANARY}-{next(_numbers)}"
    return Ask("POST", "/v1/completions", msgspec.json.encode(wanted), key, name)


def _is_token(body: bytes) -> bool:
    try:
        return bool(decode_json(body, _Completion).choices)
    except msgspec.MsgspecError:
        return False


def _judge(answer: Answer | NoAnswer) -> Outcome:
    match answer:
        case Answer(status=200):
            return Outcome.OK
        case Answer(status=status):
            return Outcome.ILL if status >= 500 else Outcome.ODD
        case NoAnswer.REFUSED:
            return Outcome.REFUSED
        case NoAnswer.TIMEOUT:
            return Outcome.TIMEOUT
        case NoAnswer.BROKEN:
            return Outcome.BROKEN
        case NoAnswer.UNABLE:
            return Outcome.UNABLE
