# SPDX-License-Identifier: MulanPSL-2.0
"""A look that is news itself leads to no chain of looks; what changes is seen all the same."""

import asyncio
from dataclasses import dataclass, field, replace

from agent.control.messages import Message, UnitsSeen
from agent.control.watcher import CALM_S, UnitWatcher
from agent.model import UnitActive, UnitStatus, engine_unit, front_unit
from tests.build import build_front

FRONT, ENGINE = front_unit("8b"), engine_unit("8b")


@dataclass
class Systemd:
    """To look at the engine's unit loads it, of which the front unit tells at once."""

    watcher: UnitWatcher | None = None
    active: UnitActive = UnitActive.INACTIVE
    looks: int = 0
    seen: list[Message] = field(default_factory=list)

    async def watch(self, unit: str) -> None:
        pass

    async def status(self, unit: str) -> UnitStatus:
        await asyncio.sleep(0)
        if unit == FRONT:
            return build_front()
        self.looks += 1
        assert self.watcher is not None
        self.watcher.on_change(FRONT)
        return replace(build_front(self.active), name=ENGINE)

    async def loaded(self, pattern: str) -> tuple[str, ...]:
        return ()

    def latest(self) -> UnitActive:
        seen = [one for one in self.seen if isinstance(one, UnitsSeen)]
        return seen[-1].engine.active


async def begin(systemd: Systemd) -> "asyncio.Task[None]":
    watcher = UnitWatcher(systemd, systemd.seen.append, lambda: ["8b"])
    systemd.watcher = watcher
    watcher.on_systemd(None)
    task = asyncio.create_task(watcher.run())
    await watcher.began.wait()
    return task


def test_a_look_that_is_news_itself_is_no_chain() -> None:
    async def scenario() -> int:
        systemd = Systemd()
        task = await begin(systemd)
        await asyncio.sleep(2.5 * CALM_S)
        task.cancel()
        return systemd.looks

    assert 2 <= asyncio.run(scenario()) <= 6


def test_what_changes_meanwhile_is_seen() -> None:
    async def scenario() -> UnitActive:
        systemd = Systemd()
        task = await begin(systemd)
        await asyncio.sleep(CALM_S / 2)
        systemd.active = UnitActive.ACTIVE
        assert systemd.watcher is not None
        systemd.watcher.on_change(ENGINE)
        await asyncio.sleep(CALM_S / 4)
        task.cancel()
        return systemd.latest()

    assert asyncio.run(scenario()) is UnitActive.ACTIVE
