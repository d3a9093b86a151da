# SPDX-License-Identifier: MulanPSL-2.0
"""What is asked for of the real writer, followed to its end. In simulated time."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.errors import Code, Failure
from agent.model import Phase
from agent.status.api.changes import ChangeDesk
from agent.status.changes import Change, Changes, Outcome, Verb
from agent.supplies import Report
from tests.build import build_host
from tests.scenario import virtual
from tests.scenario.updates import NEW, OLD, Host, Life, life

DOWN = Failure(Code.SOURCE_UNREACHABLE, "cannot fetch: nobody answers")
SOON_S = 20.0


@dataclass
class Asker:
    """Of that agent, and of who follows what was asked for."""

    agent: Life
    changes: Changes

    async def ask(self, verb: Verb, work: Awaitable[None]) -> int:
        """The number of it."""
        desk = ChangeDesk(self.agent.controller.board, self.agent.requests, self.changes)
        await desk.follow(verb, "8b", "root", work)
        return self.changes.latest().changes[-1].id

    def update(self) -> Awaitable[int]:
        return self.ask(Verb.UPDATE, self.agent.requests.update("8b", "", ""))

    def rollback(self) -> Awaitable[int]:
        return self.ask(Verb.ROLLBACK, self.agent.requests.rollback("8b"))

    async def end(self, number: int, within_s: float = 4000.0) -> Change:
        def outcome() -> Outcome:
            return self.of(number).outcome

        await self.agent.until(lambda: outcome() is not Outcome.RUNNING, within_s)
        return self.of(number)

    def of(self, number: int) -> Change:
        change = self.changes.of(number)
        assert change is not None
        return change


Scenario = Callable[[Asker], Awaitable[None]]
Play = Callable[[Scenario], None]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.fixture
def play(host: Host, monkeypatch: pytest.MonkeyPatch) -> Play:
    def whole(scenario: Scenario) -> None:
        async def one() -> None:
            async with life(host) as agent:
                changes = Changes()
                agent.controller.turned = changes.turn
                await scenario(Asker(agent, changes))

        virtual.run(monkeypatch, one)

    return whole


@pytest.fixture
def play_serving(play: Play) -> Play:
    """It begins with the old one serving."""

    def whole(scenario: Scenario) -> None:
        async def one(asker: Asker) -> None:
            await asker.agent.serve()
            await scenario(asker)

        play(one)

    return whole


def code(change: Change) -> Code | None:
    return change.failure.code if change.failure is not None else None


def test_an_update_after_one_that_brought_nothing_new(host: Host, play_serving: Play) -> None:
    async def scenario(asker: Asker) -> None:
        host.offer(OLD)
        for _ in range(2):
            assert (await asker.end(await asker.update())).outcome is Outcome.DONE
        host.around.supplier.brings = lambda order: Report(DOWN)
        failed = await asker.end(await asker.update())
        assert (failed.outcome, code(failed)) == (Outcome.FAILED, DOWN.code)
        host.offer(NEW)
        done = await asker.end(await asker.update())
        assert (done.outcome, host.engines.ran) == (Outcome.DONE, [OLD, NEW])

    play_serving(scenario)


@pytest.mark.parametrize("checked", [False, True])
def test_back_from_an_update_that_is_being_fetched(
    host: Host, play_serving: Play, checked: bool
) -> None:
    async def scenario(asker: Asker) -> None:
        if checked:
            host.offer(OLD)
            await asker.end(await asker.update())
        host.around.supplier.takes_s = 600.0
        update = await asker.update()
        await asyncio.sleep(10)
        rollback = await asker.rollback()
        assert (await asker.end(rollback, SOON_S)).outcome is Outcome.DONE
        ended = await asker.end(update, SOON_S)
        assert (ended.outcome, code(ended)) == (Outcome.FAILED, Code.UPDATE_REFUSED)
        assert host.engines.ran == [OLD]

    play_serving(scenario)


def test_back_from_an_update_that_waits_for_its_switch(host: Host, play_serving: Play) -> None:
    async def scenario(asker: Asker) -> None:
        await asker.agent.until(lambda: host.around.supplier.switches)
        host.around.supplier.switch_takes_s = 60.0
        update = await asker.update()
        await asker.agent.until(lambda: asker.agent.update.trial is not None)
        rollback = await asker.rollback()
        assert (await asker.end(rollback, SOON_S)).outcome is Outcome.DONE
        assert code(await asker.end(update, SOON_S)) is Code.UPDATE_REFUSED
        await asyncio.sleep(600)
        assert host.engines.ran == [OLD]

    play_serving(scenario)


def test_back_from_a_trial_and_from_what_has_won(host: Host, play_serving: Play) -> None:
    async def back(asker: Asker) -> None:
        number = await asker.rollback()
        assert (await asker.end(number)).outcome is Outcome.DONE
        assert (asker.agent.view.phase, host.engines.ran[-1]) == (Phase.SERVING, OLD)

    async def scenario(asker: Asker) -> None:
        update = await asker.update()
        await asker.agent.serve(NEW)
        await back(asker)
        assert asker.of(update).outcome is Outcome.FAILED
        assert (await asker.end(await asker.update())).outcome is Outcome.DONE
        await back(asker)
        assert host.engines.ran == [OLD, NEW, OLD, NEW, OLD]

    play_serving(scenario)


def test_back_while_it_is_stopped(host: Host, play_serving: Play) -> None:
    async def scenario(asker: Asker) -> None:
        await asker.end(await asker.update())
        await asker.agent.stop()
        assert (await asker.end(await asker.rollback(), SOON_S)).outcome is Outcome.DONE
        await asker.agent.start()
        await asker.agent.serve(OLD)

    play_serving(scenario)


def test_a_restart_that_is_held_at_once_again(host: Host, play: Play) -> None:
    """Between two looks of who follows it."""

    host.around.machine.host = build_host(ram_mib=1)

    async def scenario(asker: Asker) -> None:
        agent = asker.agent
        await agent.until(lambda: agent.view.phase is Phase.HELD)
        await asyncio.sleep(10)
        number = await asker.ask(Verb.RESTART, agent.requests.restart("8b"))
        failed = await asker.end(number, SOON_S)
        assert (failed.outcome, code(failed)) == (Outcome.FAILED, Code.HOST_TOO_SMALL)

    play(scenario)
