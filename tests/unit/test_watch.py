# SPDX-License-Identifier: MulanPSL-2.0
"""What is read of an engine that serves, and the loop that asks it; against the double where it is
about what an engine says.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from agent.errors import Code
from agent.health.asking import CANARY, Asker, Engine
from agent.health.metrics import Work, missing, read_work, to_compare
from agent.health.state import Liveness, Outcome, Question, Rules, Verdict
from agent.health.watch import Watch
from agent.health.words import explain
from agent.host.http import LocalHttp
from agent.model import EngineWork
from agent.ports import Answer, Ask, NoAnswer, Server
from tests.fakes.engine.runner import RunningEngine
from tests.unit.test_endpoint import port_of

# --- the counters --------------------------------------------------------------------------------

METRICS = """# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a} b"} 3.0
vllm:num_requests_running{engine="1",model_name="a} b"} 1.0
vllm:num_requests_waiting{engine="0",model_name="a} b"} 2.0
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 100.0
vllm:prompt_tokens_total{engine="0",model_name="a} b"} 1.25e+06
vllm:generation_tokens_total{engine="0",model_name="a} b"} 7.0
vllm:generation_tokens_created{engine="0"} 1.7e+09
python_gc_objects_collected_total{generation="0"} 1.0
"""


def test_all_engines_are_added_up() -> None:
    work = read_work(METRICS.encode())
    assert work == EngineWork(4, 2, 1_250_000, 7)
    assert to_compare(work) == Work(1_250_007.0, 6.0)


MORE = """vllm:request_success_total{engine="0",finished_reason="stop",model_name="a"} 3.0
vllm:request_success_total{engine="0",finished_reason="length",model_name="a"} 2.0
vllm:request_success_created{engine="0",finished_reason="length",model_name="a"} 1.7e+09
vllm:num_preemptions_total{engine="0",model_name="a"} 1.0
vllm:kv_cache_usage_perc{engine="0",model_name="a"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="a"} 0.5
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.5",model_name="a"} 9.0
vllm:time_to_first_token_seconds_count{engine="0",model_name="a"} 6.0
vllm:time_to_first_token_seconds_count{engine="1",model_name="a"} 1.0
vllm:time_to_first_token_seconds_sum{engine="0",model_name="a"} 1.5
vllm:time_to_first_token_seconds_sum{engine="1",model_name="a"} 0.25
"""


def test_what_not_every_engine_tells() -> None:
    assert read_work((METRICS + MORE).encode()) == EngineWork(
        4, 2, 1_250_000, 7, 5, 1, 0.5, 7, 1.75
    )


def test_a_number_that_is_none_is_missing_and_the_others_are_told() -> None:
    odd = MORE.replace("0.25", "NaN").replace(" 2.0", " x")
    told = EngineWork(4, 2, 1_250_000, 7, None, 1, None, 7, None)
    assert read_work((METRICS + odd).encode()) == told


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<html>",
        METRICS.replace("7.0", "NaN"),
        METRICS.replace("7.0", "+Inf"),
        METRICS.replace("7.0", "seven"),
        METRICS.replace("7.0", "1e308"),  # two of these are more than a float holds
        METRICS.replace("vllm:generation_tokens_total", "vllm:other"),
    ],
)
def test_counters_that_do_not_say(text: str) -> None:
    assert read_work(text.encode()) is None
    assert "vllm:generation_tokens_total" in missing(text.encode())


# --- asking --------------------------------------------------------------------------------------


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[RunningEngine]:
    with RunningEngine(tmp_path) as running:
        running.wait_ready()
        yield running


def asker(engine: RunningEngine, key: str = "", inside: Server | None = None) -> Asker:
    server = Server("127.0.0.1", port_of(engine))
    return Asker(LocalHttp(), Engine(server, lambda: inside, engine.target.model, key))


def test_an_engine_that_works(engine: RunningEngine) -> None:
    async def ask() -> None:
        one = asker(engine)
        outcome, before = await one.ask(Question.METRICS, 2.0)
        assert outcome is Outcome.OK
        assert await one.ask(Question.HEALTH, 2.0) == (Outcome.OK, None)
        assert await one.ask(Question.CANARY, 5.0) == (Outcome.OK, None)
        _, after = await one.ask(Question.METRICS, 2.0)
        assert before is not None
        assert after is not None
        assert after.tokens > before.tokens
        assert await one.ask(Question.INSIDE, 2.0) == (Outcome.UNABLE, None)
        inside = Server("127.0.0.1", port_of(engine))
        assert await asker(engine, inside=inside).ask(Question.INSIDE, 5.0) == (Outcome.OK, None)

    asyncio.run(ask())


class _Http:
    """`ports.Http` that has one answer, and keeps what it was asked."""

    def __init__(self, answer: Answer | NoAnswer) -> None:
        self.answer = answer
        self.asked: list[Ask] = []

    async def ask(self, server: Server, request: Ask, deadline_s: float) -> Answer | NoAnswer:
        self.asked.append(request)
        return self.answer


TOKEN = b'{"choices": [{"text": "1"}]}'


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (Answer(200, TOKEN), Outcome.OK),
        (Answer(200, b"{}"), Outcome.ODD),
        (Answer(200, b'{"choices": []}'), Outcome.ODD),
        (Answer(200, b"not json"), Outcome.ODD),
        (Answer(401, b""), Outcome.ODD),
        (Answer(404, b""), Outcome.ODD),
        (Answer(500, b""), Outcome.ILL),
        (Answer(503, b""), Outcome.ILL),
        (NoAnswer.REFUSED, Outcome.REFUSED),
        (NoAnswer.TIMEOUT, Outcome.TIMEOUT),
        (NoAnswer.BROKEN, Outcome.BROKEN),
        (NoAnswer.UNABLE, Outcome.UNABLE),
    ],
)
def test_what_comes_of_a_canary(answer: Answer | NoAnswer, outcome: Outcome) -> None:
    http = _Http(answer)
    one = Asker(http, Engine(Server("127.0.0.1", 1), lambda: None, "m", "secret"))
    assert asyncio.run(one.ask(Question.CANARY, 1.0)) == (outcome, None)
    (request,) = http.asked
    assert request.key == "secret"
    assert request.name.startswith(CANARY)
    assert b'"max_tokens":1' in request.body


def test_inside_it_is_asked_what_its_server_answers_by_itself() -> None:
    """A token would have to wait in the queue of an engine that is busy."""
    http = _Http(Answer(404, b""))
    inside = Server("10.88.0.2", 8000)
    one = Asker(http, Engine(Server("127.0.0.1", 1), lambda: inside, "m", "secret"))
    assert asyncio.run(one.ask(Question.INSIDE, 1.0)) == (Outcome.ODD, None)
    assert http.asked == [Ask("GET", "/health")]


@pytest.mark.parametrize(
    ("used", "outcome"),
    [
        ((5.0, 5.001), Outcome.TIMEOUT),
        ((5.0, 7.0), Outcome.OK),
        ((5.0, 4.0), Outcome.OK),  # one of them has ended
        ((None, 5.0), Outcome.UNABLE),
        ((5.0, None), Outcome.UNABLE),
    ],
)
def test_whether_its_processes_compute(
    used: tuple[float | None, float | None], outcome: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.health.asking.STIRS_WITHIN_S", 0.05)
    read = iter(used)
    engine = Engine(Server("127.0.0.1", 1), lambda: None, "m", processor_s=lambda: next(read))
    asked = Asker(_Http(NoAnswer.TIMEOUT), engine).ask(Question.STIRS, 1.0)
    assert asyncio.run(asked) == (outcome, None)


def test_what_the_counters_say_is_handed_on() -> None:
    http, measured = _Http(Answer(200, METRICS.encode())), list[EngineWork]()
    engine = Engine(Server("127.0.0.1", 1), lambda: None, "m")
    lacking: list[tuple[str, ...]] = []
    one = Asker(http, engine, measured=measured.append, unmeasured=lacking.append)
    assert asyncio.run(one.ask(Question.METRICS, 1.0)) == (Outcome.OK, Work(1_250_007.0, 6.0))
    for answer in (
        Answer(200, METRICS.replace("prompt_tokens_total", "prompt_tokens").encode()),
        Answer(404, b""),
        NoAnswer.TIMEOUT,
        Answer(503, b""),
    ):
        http.answer = answer
        asyncio.run(one.ask(Question.METRICS, 1.0))
    assert measured == [EngineWork(4, 2, 1_250_000, 7)]
    assert lacking == [("vllm:prompt_tokens_total",), missing(b"")]
    assert len(missing(b"")) == 4


def test_metrics_that_say_nothing_are_no_reason() -> None:
    one = Asker(_Http(Answer(200, b"")), Engine(Server("127.0.0.1", 1), lambda: None, "m"))
    assert asyncio.run(one.ask(Question.METRICS, 1.0)) == (Outcome.ODD, None)


# --- the loop ------------------------------------------------------------------------------------


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (
        ("ROUND_S", 0.1),
        ("LOOK_S", 0.1),
        ("QUIET_S", 0.05),
        ("IDLE_PATIENCE_S", 0.4),
        ("HEALTH_DEADLINE_S", 0.1),
    ):
        monkeypatch.setattr(f"agent.health.liveness.{name}", seconds)
    monkeypatch.setattr("agent.health.watch.TICK_S", 0.01)


IDLE = Work(0.0, 0.0)


class _Engine:
    """Answers at once, but for canaries while it hangs."""

    def __init__(self) -> None:
        self.hangs = False
        self.most = 0
        self._in_flight = 0

    async def ask(self, question: Question, deadline_s: float) -> tuple[Outcome, Work | None]:
        if question is Question.METRICS:
            return Outcome.OK, IDLE
        if question is Question.CANARY:
            self._in_flight += 1
            self.most = max(self.most, self._in_flight)
            try:
                while self.hangs:  # noqa: ASYNC110 - a test sets it
                    await asyncio.sleep(0.01)
            finally:
                self._in_flight -= 1
        return Outcome.OK, None


async def run_for(watch: Watch, over: Callable[[], bool], limit_s: float = 20.0) -> None:
    task = asyncio.create_task(watch.run())
    try:
        async with asyncio.timeout(limit_s):
            while not over():  # noqa: ASYNC110 - any condition
                await asyncio.sleep(0.01)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.usefixtures("_quick")
def test_each_verdict_is_told_and_so_is_its_end() -> None:
    engine, told = _Engine(), list[Verdict | None]()

    async def whole() -> None:
        def report(verdict: Verdict | None, state: Liveness, now: float) -> None:
            told.append(verdict)
            engine.hangs = False

        engine.hangs = True
        await run_for(Watch(engine.ask, Rules(), report), lambda: len(told) == 2)

    asyncio.run(whole())
    assert told == [Verdict.HUNG, None]
    assert engine.most == 1


@pytest.mark.usefixtures("_quick")
def test_what_was_asked_before_a_verdict_is_not_waited_for() -> None:
    """The way to the engine was cut, and what was asked over it never ends."""
    told: list[Verdict | None] = []
    cut = True

    async def ask(question: Question, deadline_s: float) -> tuple[Outcome, Work | None]:
        if cut and question is not Question.INSIDE:
            await asyncio.Event().wait()
        return Outcome.OK, IDLE if question is Question.METRICS else None

    async def whole() -> None:
        def report(verdict: Verdict | None, state: Liveness, now: float) -> None:
            nonlocal cut
            told.append(verdict)
            cut = False

        await run_for(Watch(ask, Rules(), report), lambda: len(told) == 2, 8.0)

    began = time.monotonic()
    asyncio.run(whole())
    assert told == [Verdict.CUT, None]
    assert time.monotonic() - began < 8.0


@pytest.mark.usefixtures("_quick")
def test_time_in_which_this_process_did_not_live_does_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The clock jumps by a minute while a canary is under way: the machine stood still."""
    monkeypatch.setattr("agent.health.watch.LATE_S", 0.04)
    jump = [0.0]
    clock = time.monotonic
    monkeypatch.setattr(
        "agent.health.watch.time", SimpleNamespace(monotonic=lambda: clock() + jump[0])
    )
    engine, told = _Engine(), list[Verdict | None]()

    async def whole() -> None:
        watch = Watch(engine.ask, Rules(), lambda verdict, state, now: told.append(verdict))
        task = asyncio.create_task(watch.run())
        await asyncio.sleep(0.15)
        engine.hangs = True
        await asyncio.sleep(0.15)
        jump[0] = 60.0
        await asyncio.sleep(0.1)
        engine.hangs = False
        await asyncio.sleep(0.3)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(whole())
    assert told == []


def test_it_rests_while_the_engine_is_well_and_a_hint_wakes_it() -> None:
    """Nothing is due for almost a second when it has asked all that it wants to know."""
    engine, turns, asked = _Engine(), list[float](), list[Question]()

    async def ask(question: Question, deadline_s: float) -> tuple[Outcome, Work | None]:
        asked.append(question)
        return await engine.ask(question, deadline_s)

    async def whole() -> None:
        watch = Watch(ask, Rules(), lambda verdict, state, now: None)
        watch.each_turn = lambda: turns.append(time.monotonic())
        task = asyncio.create_task(watch.run())
        await asyncio.sleep(0.2)
        before = len(turns)
        await asyncio.sleep(1.0)
        assert len(turns) == before
        assert Question.HEALTH not in asked
        watch.hint()
        await asyncio.sleep(0.1)
        assert Question.HEALTH in asked
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(whole())


# --- words ---------------------------------------------------------------------------------------


def test_a_hang_without_counters_does_not_say_what_they_say() -> None:
    state = Liveness(life_at=100.0, misses=2, uncounted=True)
    assert "its counters are not understood" in explain(Verdict.HUNG, state, 1900.0).message


@pytest.mark.parametrize("verdict", Verdict)
def test_a_verdict_says_what_it_rests_on(verdict: Verdict) -> None:
    state = Liveness(life_at=100.0, misses=2, refusals=3, ills=4, busy=False)
    failure = explain(verdict, state, 114.5)
    wanted, said = {
        Verdict.HUNG: (Code.ENGINE_HUNG, "no token for 14.5 s, 2 canaries unanswered"),
        Verdict.SILENT: (Code.ENGINE_HUNG, "14.5 s"),
        Verdict.REFUSES: (Code.ENGINE_FAILED, "3 times"),
        Verdict.FAILED: (Code.ENGINE_FAILED, "4 times"),
        Verdict.CUT: (Code.PORT_CUT, "in its container"),
    }[verdict]
    assert failure.code is wanted
    assert said in failure.message
    assert failure.message.startswith("cannot ")
    assert failure.hint
