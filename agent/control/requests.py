# SPDX-License-Identifier: MulanPSL-2.0
"""What is asked of the writer from outside: by the socket (`status.server.Control`), by SIGHUP."""

import asyncio
from collections.abc import Awaitable, Callable, Collection

from agent.config.values import Config, Mode, find_profile
from agent.control.controller import Controller
from agent.control.messages import Asked, ConfigSeen, Message, NpuAsked
from agent.control.pilot import observing
from agent.control.record import Record
from agent.errors import AgentError, Code, ConfigError, Failure, HostUnavailable
from agent.model import Phase, front_unit
from agent.policy.npu.state import ClearAsked, HostCleared, NpuTick, QuarantineAsked
from agent.policy.state import Event, RestartRequested, WishChanged


class Requests:
    """Puts requests in the writer's queue and returns when they have been taken. `look` has the
    writer told what systemd says of an instance now."""

    def __init__(self, controller: Controller, look: Callable[[str], Awaitable[None]]) -> None:
        self._controller = controller
        self._look = look

    async def attach(self, instance: str, resumed: bool) -> None:
        """The front unit's main process is here, so the instance is wished. `resumed`: it was here
        before, and only the agent is new: that is no reason to hurry."""
        if not resumed:
            self._known(instance)
            # A front unit that starts while the instance serves, as far as is known: it was stopped
            # in a moment in which the agent did not run, and the news waits on the bus.
            await self._look(instance)
        await self._ask(instance, WishChanged(True, again=not resumed))

    async def restart(self, instance: str) -> None:
        self._startable("restart", instance)
        await self._ask(instance, RestartRequested())

    async def replan(self, instance: str) -> None:
        """A restart, when that would bring more than it runs on now."""
        record = self._startable("replan", instance)
        if record.state.phase in (Phase.LOADING, Phase.SERVING):
            controller = self._controller
            planned = await controller.actions.plan_anew(controller.pilot.request(record))
            lost = {one.logic_id for one in controller.desk.unfit}
            if why := why_useless(record, planned, lost):
                raise AgentError(
                    Code.REPLAN_USELESS,
                    f"cannot replan {instance}: {why}; it goes on as it is",
                    "to restart it all the same: deepseekctl restart",
                )
        await self._ask(instance, RestartRequested())

    async def refresh_npus(self) -> None:
        """Has them read now, so that the next snapshot has today's readings."""
        await self._controller.npud.refresh()
        await self._take(lambda answer: NpuAsked(NpuTick(), answer))

    async def quarantine(self, npus: tuple[int, ...], by: str, reason: str) -> None:
        self._know_npus(npus)
        # It is written into the journal, and onto terminals.
        words = " ".join("".join(c if c.isprintable() else " " for c in reason).split())
        await self._take(lambda answer: NpuAsked(QuarantineAsked(npus, by, words), answer))

    async def clear(self, npus: tuple[int, ...], by: str) -> None:
        self._know_npus(npus)
        await self._take(lambda answer: NpuAsked(ClearAsked(npus, by), answer))

    async def trust_host(self, by: str) -> None:
        await self._take(lambda answer: NpuAsked(HostCleared(by), answer))

    def start_wait_s(self) -> float:
        return self._controller.config.limits.start_wait_s

    async def take_config(self, config: Config | Failure) -> None:
        """Puts a configuration that was read again in force; returns when that is done."""
        await self._take(lambda answer: ConfigSeen(config, answer))

    async def _ask(self, instance: str, event: Event) -> None:
        self._known(instance)
        await self._take(lambda answer: Asked(instance, event, answer))

    async def _take(self, message: "Callable[[asyncio.Future[None]], Message]") -> None:
        """Returns when the writer has taken it."""
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._controller.put(message(answer))
        await answer

    def _startable(self, verb: str, instance: str) -> Record:
        find_profile(self._controller.config, instance)
        record = self._known(instance)
        if not record.state.wished:
            raise AgentError(
                Code.NOT_WISHED,
                f"cannot {verb} {instance}: it is not started",
                f"systemctl start {front_unit(instance)}",
            )
        if self._controller.config.mode is Mode.OBSERVE:
            failure = observing(f"{verb} {instance}")
            raise AgentError(failure.code, failure.message, failure.hint)
        return record

    def _know_npus(self, npus: tuple[int, ...]) -> None:
        known = [view.logic_id for view in self._controller.board.snapshot.npus]
        for npu in npus:
            if npu not in known:
                raise AgentError(
                    Code.NPU_UNKNOWN,
                    f"cannot find NPU {npu}: this host has {known or 'none, as far as is known'}",
                    "deepseekctl npus shows them",
                )

    def _known(self, instance: str) -> Record:
        """Also one whose profile is broken by now: the writer knows what may go on under it."""
        blind = self._controller.systemd_problem
        if blind is not None:
            # Whether it runs is not known, so there is nothing to say about it and nothing to do.
            raise HostUnavailable(blind.code, blind.message, blind.hint)
        record = self._controller.roster.get(instance)
        if record is not None:
            return record
        problem = self._controller.config_problem
        if problem is not None:
            raise ConfigError(problem.code, problem.message, problem.hint)
        find_profile(self._controller.config, instance)
        raise ConfigError(Code.INSTANCE_UNKNOWN, f"cannot serve {instance!r}: it is not known")


def why_useless(record: Record, planned: tuple[int, ...] | Failure, lost: Collection[int]) -> str:
    """Empty when a restart on the NPUs `planned` brings more than `record` has. `lost`: those that
    it should not be on any more."""
    if isinstance(planned, Failure):
        return f"there is no plan now: {planned.message}"
    if set(record.npus) & set(lost) or len(planned) != len(record.npus):
        return ""
    where = ", ".join(str(npu) for npu in record.npus)
    return f"a new plan has as many NPUs as it runs on ({where})"
