# SPDX-License-Identifier: MulanPSL-2.0
"""What is asked of the writer from outside: by the socket (`api.control`), by SIGHUP."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection

from agent.config.values import Config, Mode, find_profile
from agent.control.config_view import build_config_answer
from agent.control.controller import Controller
from agent.control.messages import (
    Asked,
    ConfigSeen,
    HoldAsked,
    Message,
    NpuAsked,
    PruneAsked,
    PullAsked,
    UpdateHappened,
)
from agent.control.pilot import observing, why_on_hold
from agent.control.record import Record
from agent.control.worker import Fronts
from agent.disks import PruneReport
from agent.errors import AgentError, Code, ConfigError, Failure, HostUnavailable
from agent.model import Hold, Phase, front_unit
from agent.plan.supply import Update
from agent.policy.npu.state import ClearAsked, HostCleared, NpuTick, QuarantineAsked
from agent.policy.state import Event, RestartRequested, WishChanged
from agent.policy.update import why_no_rollback, why_no_update
from agent.policy.update_state import RollbackAsked, UpdateAsked
from agent.ports import EventQuery
from agent.status.changes import Verb
from agent.status.config import ConfigAnswer
from agent.status.history import EventPage


class Requests:
    """Puts requests in the writer's queue and returns when they have been taken. `look` has the
    writer told what systemd says of an instance now, also of one that may have no profile; `reload`
    reads the configuration again."""

    def __init__(
        self,
        controller: Controller,
        look: Callable[[str], Awaitable[None]],
        reload: Callable[[], Awaitable[Failure | None]],
        fronts: Fronts,
    ) -> None:
        self._controller = controller
        self._look = look
        self._reload = reload
        self._fronts = fronts

    async def attach(self, instance: str, resumed: bool) -> None:
        """The front unit's main process is here, so the instance is wished. `resumed`: it was here
        before, and only the agent is new: that is no reason to hurry."""
        controller = self._controller
        if controller.roster.get(instance) is None and instance not in controller.strangers:
            await self._look(instance)
        if not resumed:
            self._known(instance)
            # A front unit that starts while the instance serves, as far as is known: it was stopped
            # in a moment in which the agent did not run, and the news waits on the bus.
            await self._look(instance)
        await self._ask(instance, WishChanged(True, again=not resumed))

    async def restart(self, instance: str) -> None:
        self._startable("restart", instance)
        await self._ask(instance, RestartRequested())

    def asked(self, verb: Verb, what: str, by: str) -> int:
        """Written down as an event; returns its id. `what`: an instance; else empty, or an NPU."""
        known = self._controller.roster.get(what) is not None
        words = f"{verb}, by {by}" if known or not what else f"{verb} {what}, by {by}"
        return self._controller.events.note(what if known else "", "asked", words)

    async def start(self, instance: str) -> None:
        """As `systemctl start` of its front unit; does not wait for what comes of it."""
        self._ready("start", instance)
        await self._fronts.dispatch_start(front_unit(instance))

    async def stop(self, instance: str) -> None:
        """As `systemctl stop` of its front unit, for now; does not wait for what comes of it."""
        self._known(instance)
        await self._fronts.dispatch_stop(front_unit(instance))

    async def hold(self, instance: str, by: str, reason: str) -> None:
        self._updatable("hold", instance)
        hold = Hold(time.time(), by, _one_line(reason))
        await self._take(lambda answer: HoldAsked(instance, hold, answer))

    async def release(self, instance: str) -> None:
        record = self._updatable("release", instance)
        if record.hold is None:
            raise AgentError(Code.NOT_ON_HOLD, f"cannot release {instance}: it is not on hold")
        await self._take(lambda answer: HoldAsked(instance, None, answer))

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
                    f"to restart it all the same: deepseekctl restart {instance}",
                )
        await self._ask(instance, RestartRequested())

    async def pull(self, instance: str) -> None:
        record = self._updatable("fetch what is missing for", instance)
        controller = self._controller
        order = await controller.actions.order_missing(controller.pilot.request(record))
        if isinstance(order, Failure):
            raise AgentError(order.code, order.message, order.hint)
        await self._take(lambda answer: PullAsked(instance, order, answer))

    async def update(self, instance: str, image: str, revision: str) -> None:
        record = self._updatable("update", instance)
        controller = self._controller
        _refuse(why_no_update(instance, record.update.state))
        request = controller.pilot.request(record)
        plan = await controller.actions.plan_update(request, Update(image, revision))
        if isinstance(plan, Failure):
            raise AgentError(plan.code, plan.message, plan.hint)
        # Two may have asked at once.
        _refuse(why_no_update(instance, record.update.state))
        asked = UpdateAsked(plan.order, plan.base)
        await self._take(lambda answer: UpdateHappened(instance, asked, answer))

    async def rollback(self, instance: str) -> None:
        record = self._updatable("roll back", instance)
        reference = record.profile.image_for(self._controller.desk.inventory)
        _refuse(why_no_rollback(instance, record.update.state, reference))
        await self._take(lambda answer: UpdateHappened(instance, RollbackAsked(), answer))

    async def prune(self, dry_run: bool) -> PruneReport:
        controller = self._controller
        if not dry_run and controller.config.mode is Mode.OBSERVE:
            failure = observing("prune")
            raise AgentError(failure.code, failure.message, failure.hint)
        answer: asyncio.Future[PruneReport | Failure] = asyncio.get_running_loop().create_future()
        controller.put(PruneAsked(dry_run, answer))
        outcome = await answer
        if isinstance(outcome, Failure):
            raise AgentError(outcome.code, outcome.message, outcome.hint)
        return outcome

    async def refresh_npus(self) -> None:
        """Has them read now, so that the next snapshot has today's readings."""
        await self._controller.npud.refresh()
        await self._take(lambda answer: NpuAsked(NpuTick(), answer))

    async def quarantine(self, npus: tuple[int, ...], by: str, reason: str) -> None:
        self._know_npus(npus)
        asked = QuarantineAsked(npus, by, _one_line(reason))
        await self._take(lambda answer: NpuAsked(asked, answer))

    async def clear(self, npus: tuple[int, ...], by: str) -> None:
        self._know_npus(npus)
        await self._take(lambda answer: NpuAsked(ClearAsked(npus, by), answer))

    async def trust_host(self, by: str) -> None:
        await self._take(lambda answer: NpuAsked(HostCleared(by), answer))

    async def reload(self) -> None:
        failure = await self._reload()
        if failure is not None:
            raise ConfigError(failure.code, failure.message, failure.hint)

    async def events(self, query: EventQuery) -> EventPage:
        return await self._controller.events.read(query)

    def config(self) -> ConfigAnswer:
        controller = self._controller
        return build_config_answer(controller.config, controller.config_problem)

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
        return self._ready(verb, instance)

    def _ready(self, verb: str, instance: str) -> Record:
        record = self._updatable(verb, instance)
        if record.hold is not None:
            _refuse(why_on_hold(verb, record, record.hold))
        return record

    def _updatable(self, verb: str, instance: str) -> Record:
        find_profile(self._controller.config, instance)
        record = self._known(instance)
        if self._controller.config.mode is Mode.OBSERVE:
            _refuse(observing(f"{verb} {instance}"))
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


def _one_line(reason: str) -> str:
    """It is written into the journal, and onto terminals."""
    return " ".join("".join(c if c.isprintable() else " " for c in reason).split())


def _refuse(failure: Failure | None) -> None:
    if failure is not None:
        raise AgentError(failure.code, failure.message, failure.hint)


def why_useless(record: Record, planned: tuple[int, ...] | Failure, lost: Collection[int]) -> str:
    """Empty when a restart on the NPUs `planned` brings more than `record` has. `lost`: those that
    it should not be on any more."""
    if isinstance(planned, Failure):
        return f"there is no plan now: {planned.message}"
    if set(record.npus) & set(lost) or len(planned) != len(record.npus):
        return ""
    where = ", ".join(str(npu) for npu in record.npus)
    return f"a new plan has as many NPUs as it runs on ({where})"
