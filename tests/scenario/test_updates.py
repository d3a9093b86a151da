# SPDX-License-Identifier: MulanPSL-2.0
"""An update: fetched beside what serves, on trial, and back by itself. In simulated time."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from agent.errors import AgentError, Code, Failure, HostUnavailable
from agent.model import JobResult, Phase, UnitActive
from agent.policy.state import EngineIll, NpuLost
from agent.supplies import Order, Purpose, Report
from tests.build import SUPPLY, build_config, build_profile
from tests.fakes.engine.vllm_double.failures import FAILURES
from tests.scenario import virtual
from tests.scenario.updates import NEW, NEWER, OLD, QUADLET, STOP_S, Host, Life, life

Scenario = Callable[[Life], Awaitable[None]]
FAULTED = "RuntimeError: ACL stream synchronize failed, error code:507018"
DOWN = Failure(Code.SOURCE_UNREACHABLE, "cannot fetch: nobody answers")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.fixture
def play(host: Host, monkeypatch: pytest.MonkeyPatch) -> Callable[[Scenario], None]:
    """One life of the agent, which begins with the old one serving."""

    def whole(scenario: Scenario) -> None:
        async def one() -> None:
            async with life(host) as agent:
                await agent.serve()
                await scenario(agent)

        virtual.run(monkeypatch, one)

    return whole


Play = Callable[[Scenario], None]


async def update(agent: Life, image: str = "", revision: str = "") -> None:
    await agent.requests.update("8b", image, revision)


def test_what_has_answered_is_kept(host: Host, play: Play) -> None:
    async def scenario(agent: Life) -> None:
        await agent.until(lambda: host.around.supplier.switches)
        assert host.kept == {"current": OLD, "previous": "", "trial": ""}
        assert agent.update.current is not None
        assert (agent.update.current.image_id, agent.update.current.model_revision) == (OLD, "r1")

    play(scenario)


def test_a_good_one_stays(host: Host, play: Play) -> None:
    host.offer(NEW, "r2")
    host.around.supplier.takes_s = 600.0

    async def scenario(agent: Life) -> None:
        await update(agent)
        assert agent.update.fetching
        assert agent.view.fetch is not None
        await asyncio.sleep(500)
        assert (agent.view.phase, host.engines.ran) == (Phase.SERVING, [OLD])
        await agent.serve(NEW)
        assert host.kept == {"current": OLD, "previous": "", "trial": NEW}
        assert host.around.machine.revision == "r2"
        await agent.until(lambda: "updated" in agent.kinds)
        await asyncio.sleep(10)
        assert host.kept == {"current": NEW, "previous": OLD, "trial": ""}
        assert agent.update.trial is None
        assert host.engines.ran == [OLD, NEW]
        (order,) = host.around.supplier.orders
        assert order.purpose is Purpose.REFRESH
        assert "fetched" not in agent.kinds  # nothing was missing

    play(scenario)


def test_nothing_is_waited_for(host: Host, play: Play) -> None:
    """The former switch, a moment ago, went well."""

    async def scenario(agent: Life) -> None:
        await agent.until(lambda: host.around.supplier.switches)
        asked_at = time.monotonic()
        await update(agent)
        await agent.until(lambda: NEW in host.engines.ran)
        assert time.monotonic() - asked_at < STOP_S + host.engines.takes_s + 5.0

    play(scenario)


def test_nothing_new_disturbs_nothing(host: Host, play: Play) -> None:
    host.offer(OLD)

    async def scenario(agent: Life) -> None:
        await update(agent)
        await agent.until(lambda: agent.update.checked_at)
        await asyncio.sleep(60)
        assert (agent.view.phase, host.engines.ran) == (Phase.SERVING, [OLD])
        assert "up-to-date" in agent.kinds
        assert "fetched" not in agent.kinds

    play(scenario)


async def comes_back(agent: Life, code: Code) -> None:
    host = agent.host
    await update(agent)
    await agent.until(lambda: "update-undone" in agent.kinds)
    await agent.serve(OLD)
    assert host.engines.ran == [OLD, NEW, OLD]
    assert agent.update.undone is not None
    assert agent.update.undone.failure.code is code
    assert (agent.update.trial, host.around.machine.revision) == (None, "r1")
    assert host.kept == {"current": OLD, "previous": "", "trial": ""}
    await asyncio.sleep(3600)  # and it is not tried again
    assert host.engines.ran == [OLD, NEW, OLD]
    assert agent.view.phase is Phase.SERVING


def test_one_that_dies_at_once(host: Host, play: Play) -> None:
    host.offer(NEW, "r2")
    host.engines.lives[NEW] = 0.5
    play(lambda agent: comes_back(agent, Code.ENGINE_DIED))
    died = host.engines.started[1] + 0.5
    assert host.engines.started[2] - died < 1.0 + host.engines.takes_s  # no backoff


def test_one_that_never_answers(host: Host, play: Play) -> None:
    host.engines.silent.add(NEW)
    play(lambda agent: comes_back(agent, Code.START_TOO_SLOW))


def test_one_that_needs_longer_than_the_former_one(host: Host, play: Play) -> None:
    """Its first start: what the former one needed says nothing."""

    async def scenario(agent: Life) -> None:
        host.engines.serves_s = 400.0
        await update(agent)
        await agent.until(lambda: "updated" in agent.kinds)
        assert host.engines.ran == [OLD, NEW]

    play(scenario)


def test_one_that_dies_after_five_minutes(host: Host, play: Play) -> None:
    host.engines.lives[NEW] = 300.0
    play(lambda agent: comes_back(agent, Code.ENGINE_DIED))


def test_one_that_dies_after_twenty_minutes_is_started_again(host: Host, play: Play) -> None:
    host.engines.lives[NEW] = 1200.0

    async def scenario(agent: Life) -> None:
        await update(agent)
        await agent.until(lambda: "updated" in agent.kinds)
        await agent.until(lambda: len(host.engines.ran) == 3)
        assert host.engines.ran == [OLD, NEW, NEW]
        assert "update-undone" not in agent.kinds

    play(scenario)


def test_one_that_cannot_read_the_model(host: Host, play: Play) -> None:
    """Its log tells that another start would come to the same: it is held, where nothing else is
    there."""
    host.engines.lives[NEW] = 20.0
    host.around.logs.last_words = ("ValueError: unrecognized arguments: --what",)

    async def scenario(agent: Life) -> None:
        await update(agent)
        await agent.until(lambda: "update-undone" in agent.kinds)
        assert "held" not in agent.kinds
        await agent.serve(OLD)
        assert host.engines.ran == [OLD, NEW, OLD]

    play(scenario)


def test_an_npu_that_is_lost_undoes_nothing(host: Host, play: Play) -> None:
    async def scenario(agent: Life) -> None:
        await update(agent)
        await agent.serve(NEW)
        lost = Failure(Code.NPU_LOST, "cannot keep serving: NPU 0")
        agent.controller.pilot.feed("8b", NpuLost(lost))
        await asyncio.sleep(1)
        await agent.serve(NEW)
        assert agent.update.trial is not None
        await agent.until(lambda: "updated" in agent.kinds)
        assert host.engines.ran == [OLD, NEW, NEW]

    play(scenario)


def test_an_npu_that_faults_undoes_nothing(host: Host, play: Play) -> None:
    """Only the engine's log tells that it was the NPU."""
    host.engines.lives[NEW] = 300.0
    host.around.logs.last_words = (FAULTED,)

    async def scenario(agent: Life) -> None:
        await update(agent)
        await agent.until(lambda: host.engines.ran == [OLD, NEW, NEW])
        assert agent.update.trial is not None
        host.engines.lives.clear()
        await agent.until(lambda: "updated" in agent.kinds)
        assert "npu-faulted" in agent.kinds

    play(scenario)


def test_one_whose_npu_faults_each_time_is_undone(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kernels that fail: the driver has nothing against the NPU, and the former one runs on it. The
    agent may be another one meanwhile."""
    host.engines.lives[NEW] = 300.0
    host.around.logs.last_words = (FAULTED,)

    async def first(agent: Life) -> None:
        await update(agent)
        await agent.until(lambda: host.engines.ran == [OLD, NEW, NEW, NEW])
        await agent.serve(NEW)

    restarted(host, monkeypatch, first, is_undone)
    assert host.engines.ran == [OLD, *5 * [NEW], OLD]


def test_one_that_cannot_use_its_npu_is_undone(host: Host, play: Play) -> None:
    """Otherwise it would be held, and never tried again."""
    host.engines.lives[NEW] = 20.0
    host.around.logs.last_words = ("RuntimeError: SetDevice failed, error code is 107001",)
    play(lambda agent: comes_back(agent, Code.NPU_NOT_USABLE))


def test_a_port_that_somebody_else_has_undoes_nothing(host: Host, play: Play) -> None:
    """Podman says so: the start fails each time, and that of the former one would."""
    host.around.logs.last_words = ("listen tcp :2023: bind: address already in use",)

    async def scenario(agent: Life) -> None:
        await update(agent)
        host.engines.refuses = JobResult.FAILED
        await agent.until(lambda: agent.view.phase is Phase.HELD)
        assert agent.view.failure is not None
        assert agent.view.failure.code is Code.PORT_IN_USE
        assert agent.update.trial is not None
        host.engines.refuses = None
        await is_updated(agent)

    play(scenario)


def test_a_full_run_undoes_nothing(host: Host, play: Play) -> None:
    """Nothing can be started then, and the former one neither."""

    async def scenario(agent: Life) -> None:
        await update(agent)
        host.engines.refuses, host.around.machine.full = JobResult.FAILED, ("/run",)
        await agent.until(lambda: agent.view.failures == 3)
        assert agent.view.failure is not None
        assert agent.view.failure.code == "run-too-full"
        assert (agent.update.trial is not None, agent.update.undone) == (True, None)
        host.engines.refuses, host.around.machine.full = None, ()
        await is_updated(agent)

    play(scenario)


@pytest.mark.parametrize("result", [JobResult.CANCELED, JobResult.DEPENDENCY, JobResult.TIMEOUT])
def test_a_job_that_is_not_run_undoes_nothing(host: Host, play: Play, result: JobResult) -> None:
    """A stop or reboot within its seconds, a mount that fails, a queue. Nor is the reason read in
    what the former engine printed."""
    host.around.logs.last_words = ("ValueError: unrecognized arguments: --what",)

    async def scenario(agent: Life) -> None:
        await update(agent)
        host.engines.refuses = result
        await agent.until(lambda: agent.view.failures == 3)
        assert agent.view.failure is not None
        assert agent.view.failure.code == "job-not-run"
        assert (agent.update.trial is not None, agent.update.undone) == (True, None)
        host.engines.refuses = None
        await is_updated(agent)

    play(scenario)


def test_one_that_was_stopped_is_not_judged(host: Host, play: Play) -> None:
    """Its end was heard of before the person's wish was."""
    host.engines.lives[NEW] = 20.0
    host.around.logs.tail_takes_s = 5.0

    async def scenario(agent: Life) -> None:
        await update(agent)
        await agent.until(lambda: agent.view.phase is Phase.BACKOFF)
        await agent.stop()
        await asyncio.sleep(60)
        assert (agent.update.trial is not None, agent.update.undone) == (True, None)
        host.engines.lives.clear()
        await agent.start()
        await agent.until(lambda: "updated" in agent.kinds)

    play(scenario)


def test_one_that_hangs_is_undone(host: Host, play: Play) -> None:
    async def scenario(agent: Life) -> None:
        await update(agent)
        await agent.serve(NEW)
        hung = Failure(Code.ENGINE_HUNG, "cannot keep serving: no token comes")
        agent.controller.pilot.feed("8b", EngineIll(hung))
        await agent.until(lambda: "update-undone" in agent.kinds)
        await agent.serve(OLD)
        assert agent.update.undone is not None
        assert agent.update.undone.failure == hung

    play(scenario)


def test_a_stop_ends_no_trial(host: Host, play: Play) -> None:
    host.engines.lives[NEW] = 300.0

    async def scenario(agent: Life) -> None:
        await update(agent)
        await agent.serve(NEW)
        await agent.stop()
        await asyncio.sleep(3600)
        assert agent.update.trial is not None
        await agent.start()
        await agent.serve(NEW)
        await agent.until(lambda: "update-undone" in agent.kinds)
        await agent.serve(OLD)

    play(scenario)


def test_while_it_does_not_serve_it_is_fetched_for_the_next_start(host: Host, play: Play) -> None:
    async def scenario(agent: Life) -> None:
        await agent.stop()
        await update(agent)
        await agent.until(lambda: agent.update.trial is not None)
        await asyncio.sleep(60)
        assert host.engines.ran == [OLD]
        assert host.kept["trial"] == NEW
        await agent.start()
        await agent.serve(NEW)
        await agent.until(lambda: "updated" in agent.kinds)

    play(scenario)


def test_a_second_one_is_refused(host: Host, play: Play) -> None:
    host.around.supplier.takes_s = 60.0

    async def scenario(agent: Life) -> None:
        for ready in (lambda: agent.update.fetching, lambda: agent.update.trial is not None):
            if not agent.update.fetching:
                await update(agent)
            await agent.until(ready)
            with pytest.raises(AgentError) as caught:
                await update(agent, image="quay.io/other:1")
            assert caught.value.failure.code is Code.UPDATE_REFUSED
        assert len(host.around.supplier.orders) == 1

    play(scenario)


def test_what_cannot_be_fetched_is_told(host: Host, play: Play) -> None:
    host.around.supplier.brings = lambda order: Report(DOWN)

    async def scenario(agent: Life) -> None:
        await update(agent)
        await agent.until(lambda: "update-failed" in agent.kinds)
        assert agent.view.fetch_end is not None
        assert agent.view.fetch_end.failure == DOWN
        assert host.engines.ran == [OLD]

    play(scenario)


def test_another_image_and_revision_by_hand(host: Host, play: Play) -> None:
    async def scenario(agent: Life) -> None:
        await update(agent, image="mirror.example/vllm:2", revision="v2")
        await agent.serve(NEW)
        (order,) = host.around.supplier.orders
        assert order.image is not None
        assert order.model is not None
        assert order.image.reference == "mirror.example/vllm:2"
        assert {one.revision for one in order.model.sources} == {"v2"}

    play(scenario)


def test_an_operators_model_is_left_alone(host: Host, play: Play) -> None:
    host.around.machine.revision = ""

    async def scenario(agent: Life) -> None:
        with pytest.raises(AgentError) as caught:
            await update(agent, revision="v2")
        assert caught.value.failure.code is Code.UPDATE_REFUSED
        await update(agent)
        await agent.until(lambda: host.around.supplier.orders)
        assert host.around.supplier.orders[0].model is None

    play(scenario)


def test_back_by_hand(host: Host, play: Play) -> None:
    host.offer(NEW, "r2")

    async def scenario(agent: Life) -> None:
        with pytest.raises(AgentError):
            await agent.requests.rollback("8b")
        await update(agent)
        await agent.until(lambda: "updated" in agent.kinds)
        await agent.requests.rollback("8b")
        await agent.serve(OLD)
        assert host.around.machine.revision == "r1"
        assert host.kept == {"current": OLD, "previous": NEW, "trial": ""}
        await agent.requests.rollback("8b")
        await agent.serve(NEW)
        assert host.engines.ran == [OLD, NEW, OLD, NEW]

    play(scenario)


def test_back_by_hand_from_a_trial(host: Host, play: Play) -> None:
    async def scenario(agent: Life) -> None:
        await update(agent)
        await agent.serve(NEW)
        await agent.requests.rollback("8b")
        await agent.serve(OLD)
        assert (agent.update.trial, agent.update.previous) == (None, None)

    play(scenario)


def test_a_damaged_model_on_trial_is_not_mended(host: Host, play: Play) -> None:
    """It goes back to what could be read."""
    host.offer(NEW, "r2")
    switched = host.around.supplier.switched

    def switch(order: Order) -> Report:
        report = switched(order)
        damaged = host.around.machine.revision == "r2"
        host.around.machine.problem = "config.json is damaged" if damaged else ""
        return report

    host.around.supplier.switched = switch

    async def scenario(agent: Life) -> None:
        await update(agent)
        await agent.until(lambda: "update-undone" in agent.kinds)
        await agent.serve(OLD)
        assert host.engines.ran == [OLD, OLD]
        assert host.around.machine.revision == "r1"
        assert all(one.purpose is Purpose.REFRESH for one in host.around.supplier.orders)

    play(scenario)


# --- what a start runs on ------------------------------------------------------------------------


def test_a_tag_that_moves_changes_nothing(host: Host, play: Play) -> None:
    """By `podman pull`, or an update that was undone."""

    async def scenario(agent: Life) -> None:
        host.around.podman.images[agent.view.image] = NEWER
        await agent.requests.restart("8b")
        await agent.until(lambda: len(host.engines.ran) == 2)
        assert host.engines.ran == [OLD, OLD]

    play(scenario)


def test_an_image_that_is_gone_is_told(host: Host, play: Play) -> None:
    async def scenario(agent: Life) -> None:
        host.around.podman.images |= {agent.view.image: NEWER, OLD: ""}
        await agent.requests.restart("8b")
        await agent.until(lambda: "pin-lost" in agent.kinds)
        await agent.serve(NEWER)
        assert "gone from Podman" in agent.told("pin-lost")

    play(scenario)


def test_switching_is_tried_again(host: Host, play: Play) -> None:
    """What serves goes on until the new one is in its place."""
    busy = Report(Failure(Code.PODMAN_SILENT, "cannot ask Podman"))
    switch = host.around.supplier.switched

    async def scenario(agent: Life) -> None:
        await asyncio.sleep(5)
        host.around.supplier.switched = lambda order: busy
        await update(agent)
        await asyncio.sleep(300)
        assert (agent.view.phase, host.engines.ran) == (Phase.SERVING, [OLD])
        host.around.supplier.switched = switch
        await agent.serve(NEW)

    play(scenario)


def test_a_podman_that_is_silent_to_a_switch_is_asked_by_the_agent_too(
    host: Host, play: Play
) -> None:
    """What mends it (`action.healing`) counts the questions of the agent alone."""
    silent = Failure(Code.PODMAN_SILENT, "cannot ask Podman: it does not answer")
    busy = Report(silent)
    switch, podman = host.around.supplier.switched, host.around.podman

    async def scenario(agent: Life) -> None:
        await asyncio.sleep(5)
        host.around.supplier.switched = lambda order: busy
        await update(agent)
        await asyncio.sleep(5)
        podman.broken = HostUnavailable(silent.code, silent.message)
        host.engines.die()
        await asyncio.sleep(100)
        before = podman.surveys
        await asyncio.sleep(300)
        assert podman.surveys > before
        host.around.supplier.switched, podman.broken = switch, None
        await agent.serve(NEW)

    play(scenario)


# --- another life of the agent -------------------------------------------------------------------


def restarted(
    host: Host,
    monkeypatch: pytest.MonkeyPatch,
    first: Scenario,
    second: Scenario,
    between: Callable[[], None] = lambda: None,
) -> None:
    async def both() -> None:
        async with life(host) as agent:
            await agent.serve()
            await asyncio.sleep(5)
            await first(agent)
        between()
        async with life(host) as agent:
            await second(agent)

    virtual.run(monkeypatch, both)


async def is_updated(agent: Life) -> None:
    await agent.until(lambda: "updated" in agent.kinds)
    assert agent.host.engines.ran == [OLD, NEW]


async def is_undone(agent: Life) -> None:
    await agent.until(lambda: agent.update.undone is not None)
    await agent.serve(OLD)
    await asyncio.sleep(700)
    assert agent.view.phase is Phase.SERVING
    assert agent.host.engines.ran[-1] == OLD
    assert agent.host.kept["trial"] == ""


def test_the_agent_ends_while_it_fetches(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.around.supplier.takes_s = 60.0

    async def first(agent: Life) -> None:
        await update(agent)
        await asyncio.sleep(10)

    restarted(host, monkeypatch, first, is_updated)
    orders = host.around.supplier.orders
    assert orders[0] == orders[1]


def test_the_agent_ends_while_it_switches(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.around.supplier.switch_takes_s = 3.0

    async def first(agent: Life) -> None:
        await update(agent)
        await agent.until(lambda: agent.update.trial is not None)
        await asyncio.sleep(1)

    restarted(host, monkeypatch, first, is_updated)


@pytest.mark.parametrize("phase", [Phase.STOPPING, Phase.STARTING, Phase.LOADING, Phase.SERVING])
def test_the_agent_ends_in_a_trial(
    host: Host, monkeypatch: pytest.MonkeyPatch, phase: Phase
) -> None:
    async def first(agent: Life) -> None:
        await update(agent)
        await agent.until(lambda: agent.update.trial is not None)
        await agent.until(lambda: agent.view.phase is not Phase.SERVING or NEW in host.engines.ran)
        await agent.until(lambda: agent.view.phase is phase)

    restarted(host, monkeypatch, first, is_updated)


def test_the_agent_ends_on_the_way_back(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.engines.lives[NEW] = 40.0
    host.around.supplier.switch_takes_s = 2.0

    async def first(agent: Life) -> None:
        await update(agent)
        await agent.until(lambda: "update-undone" in agent.kinds)

    restarted(host, monkeypatch, first, is_undone)


def test_a_new_agent_goes_on_with_a_backoff(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """That it looks anew at what is in use is no reason to start anything sooner."""

    async def first(agent: Life) -> None:
        host.engines.lives[OLD] = 0.1
        await agent.requests.restart("8b")
        await agent.until(lambda: agent.view.failures == 7)

    async def second(agent: Life) -> None:
        starts = len(host.engines.started)
        await asyncio.sleep(30)
        assert agent.view.phase is Phase.BACKOFF
        assert len(host.engines.started) == starts
        await agent.until(lambda: len(host.engines.started) == starts + 1, within_s=120.0)

    restarted(host, monkeypatch, first, second)


def test_a_person_is_heard_at_once_after_a_boot(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new agent has no hurry to start what it finds in use; that ends with its first start."""

    async def first(agent: Life) -> None:
        await update(agent)
        await is_updated(agent)

    async def second(agent: Life) -> None:
        await agent.start()
        await agent.serve(NEW)
        host.engines.lives[NEW] = 0.1
        await agent.requests.restart("8b")
        await agent.until(lambda: agent.view.failures == 7)
        await agent.requests.rollback("8b")
        await agent.until(lambda: host.engines.ran[-1] == OLD, within_s=10.0)
        await agent.serve(OLD)

    def reboot() -> None:
        host.engines.front = host.engines.engine = UnitActive.INACTIVE

    restarted(host, monkeypatch, first, second, reboot)


def test_a_boot_in_a_trial(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.engines.lives[NEW] = 400.0

    async def first(agent: Life) -> None:
        await update(agent)
        await agent.serve(NEW)
        await asyncio.sleep(100)

    def boot() -> None:
        host.around.boot = "another"
        host.engines.engine = UnitActive.INACTIVE

    restarted(host, monkeypatch, first, is_undone, boot)


@pytest.mark.parametrize("shared", [True, False])
def test_what_another_instance_has_on_trial_reaches_only_itself(
    host: Host, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    """Both have the same folder; the link there is at what the other one tries. Alone, nobody moves
    the link but a person who imports a bundle, and means it."""
    other = build_profile(name="other", port=2099)
    profiles = (build_profile(), other if shared else replace(other, model="/srv/models/other"))
    host.config = build_config(*profiles, supply=SUPPLY)
    host.around.machine.stored = ("r1", "r2")

    async def scenario() -> None:
        async with life(host) as agent:
            await agent.serve()
            assert pinned_revision(agent) == "r1"
            host.around.machine.revision = "r2"
            host.engines.engine = UnitActive.FAILED
            await host.engines.tell()
            await agent.until(lambda: host.engines.ran == [OLD, OLD])
            await agent.serve()
            runs_on = host.files.read(QUADLET) or ""
            assert (".store/DeepSeek-R1-Distill-Llama-8B/r1:" in runs_on) is shared
            assert pinned_revision(agent) == ("r1" if shared else "r2")
            assert ("pin-lost" in agent.kinds) is not shared

    virtual.run(monkeypatch, scenario)


@pytest.mark.parametrize("seen_by", ["the engine", "the plan"])
def test_its_own_revision_is_mended_wherever_the_link_leads(
    host: Host, monkeypatch: pytest.MonkeyPatch, seen_by: str
) -> None:
    """Another instance with the same folder was updated: what it runs on is right, and no help."""
    other = build_profile(name="other", port=2099)
    host.config = build_config(build_profile(), other, supply=SUPPLY)
    host.around.machine.stored = ("r1", "r2")

    async def scenario() -> None:
        async with life(host) as agent:
            await agent.serve()
            host.around.machine.revision = "r2"
            if seen_by == "the plan":
                host.around.machine.problem = "config.json is damaged: no JSON"
            else:
                host.around.logs.last_words = tuple(FAILURES["damaged-model"].text.splitlines())
                host.engines.lives[OLD] = 20.0
            host.engines.engine = UnitActive.FAILED
            await host.engines.tell()
            await agent.until(lambda: host.around.supplier.orders)
            model = host.around.supplier.orders[-1].model
            assert model is not None
            assert (model.recheck, model.revision) == (True, "r1")

    virtual.run(monkeypatch, scenario)


def pinned_revision(agent: Life) -> str:
    assert agent.update.current is not None
    return agent.update.current.model_revision


def test_one_that_brings_the_host_down(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    async def boots() -> None:
        async with life(host) as agent:
            await agent.serve()
            await update(agent)
            await agent.serve(NEW)
            await asyncio.sleep(100)
        for boot in ("second", "third", "fourth"):
            host.around.boot = boot
            host.engines.engine = UnitActive.INACTIVE
            async with life(host) as agent:
                await agent.serve(OLD if boot == "fourth" else NEW)
                await asyncio.sleep(100)
        async with life(host) as agent:
            await is_undone(agent)
            assert agent.update.undone is not None
            assert agent.update.undone.failure.code == "host-went-down"

    virtual.run(monkeypatch, boots)
    assert host.engines.ran == [OLD, NEW, NEW, NEW, OLD]
