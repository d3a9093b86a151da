# SPDX-License-Identifier: MulanPSL-2.0
"""What is asked of the writer from outside: by the socket (`status.server.Control`), by SIGHUP."""

import asyncio
from collections.abc import Awaitable, Callable

from agent.config.values import Config, Mode, find_profile
from agent.control.controller import Controller, observing
from agent.control.messages import Asked, ConfigSeen
from agent.control.record import Record
from agent.errors import AgentError, Code, ConfigError, Failure, HostUnavailable
from agent.model import front_unit
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
        find_profile(self._controller.config, instance)
        record = self._known(instance)
        if not record.state.wished:
            raise AgentError(
                Code.NOT_WISHED,
                f"cannot restart {instance}: it is not started",
                f"systemctl start {front_unit(instance)}",
            )
        if self._controller.config.mode is Mode.OBSERVE:
            failure = observing(f"restart {instance}")
            raise AgentError(failure.code, failure.message, failure.hint)
        await self._ask(instance, RestartRequested())

    def start_wait_s(self) -> float:
        return self._controller.config.limits.start_wait_s

    async def take_config(self, config: Config | Failure) -> None:
        """Puts a configuration that was read again in force; returns when that is done."""
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._controller.put(ConfigSeen(config, answer))
        await answer

    async def _ask(self, instance: str, event: Event) -> None:
        self._known(instance)
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._controller.put(Asked(instance, event, answer))
        await answer

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
