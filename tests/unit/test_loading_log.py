# SPDX-License-Identifier: MulanPSL-2.0
"""The log of an engine that loads is found, however long systemd does not tell where it is."""

import asyncio
from dataclasses import dataclass, field, replace

import pytest

from agent.control import loading
from agent.control.events import EventLog
from agent.control.loading import Loading
from agent.control.messages import Message, StartMoved
from agent.control.record import Record
from agent.control.tasks import Tasks
from agent.errors import Code, HostUnavailable
from agent.health.log_watch import LogWatch
from agent.model import Phase, Step, UnitStatus
from agent.policy.state import InstanceState, Tick
from tests.build import build_front, build_profile
from tests.fakes.engine.vllm_double.engine import loading_line
from tests.fakes.events import FakeEventKeeper
from tests.scenario.ports import FakeEngineLog

AWAY = HostUnavailable(Code.SYSTEMD_UNAVAILABLE, "cannot ask systemd: the system bus is gone")
LOADS = InstanceState(Phase.LOADING, wished=True)


@dataclass
class Host:
    """systemd's answers, one after the other, of which the last one stays; and what was heard."""

    answers: list[HostUnavailable | str]
    asked: int = 0
    heard: list[Message] = field(default_factory=list)

    async def status(self, unit: str) -> UnitStatus:
        answer = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        if isinstance(answer, HostUnavailable):
            raise answer
        return replace(build_front(), name=unit, invocation_id=answer)


def follow(host: Host, loads_s: float) -> Record:
    """An engine that loads for so long, and has come to 5 of 11 parts."""
    logs = LogWatch(FakeEngineLog([loading_line(5, 11, 3.0)]))
    record = Record(build_profile(), LOADS, 0.0)

    async def scenario() -> None:
        tasks = Tasks(lambda error: None)
        watch = Loading(logs, host.status, host.heard.append, tasks, EventLog(FakeEventKeeper()))
        watch.follow(record, InstanceState(Phase.STARTING, wished=True), Tick())
        await asyncio.sleep(loads_s)
        record.state = replace(LOADS, phase=Phase.SERVING)
        watch.follow(record, LOADS, Tick())
        asked = host.asked
        await asyncio.sleep(0.05)
        assert host.asked == asked
        await tasks.end()

    asyncio.run(scenario())
    return record


@pytest.mark.parametrize("answers", [["a"], [AWAY, "a"], ["", "a"], [AWAY, "", AWAY, "a"]])
def test_its_log_is_read(
    answers: list[HostUnavailable | str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a start that moves all the time is stopped as too slow."""
    monkeypatch.setattr(loading, "ASK_AGAIN_S", 0.01)
    host = Host(answers)
    follow(host, 0.3)
    assert [one.progress.step for one in host.heard if isinstance(one, StartMoved)] == [
        Step.WEIGHTS
    ]
    assert host.asked == len(answers)


def test_it_is_looked_for_only_while_it_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "ASK_AGAIN_S", 0.01)
    host = Host([AWAY])
    follow(host, 0.1)
    assert host.asked > 1
    assert host.heard == []
