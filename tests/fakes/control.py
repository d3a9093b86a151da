# SPDX-License-Identifier: MulanPSL-2.0
"""A double of the writer behind the socket API: notes what is asked of it."""

from dataclasses import dataclass, field

from agent.control.config_view import build_config_answer
from agent.control.events import decode_event
from agent.disks import PruneReport
from agent.errors import AgentError, Code, ConfigError
from agent.ports import EventQuery
from agent.status.changes import Verb
from agent.status.config import ConfigAnswer
from agent.status.history import EventPage
from tests.build import build_config, build_profile
from tests.fakes.events import FakeEventKeeper


@dataclass
class FakeControl:
    """`status.api.control.Control`; knows one instance, and the NPUs 0 to 7."""

    calls: list[tuple[str, str]] = field(default_factory=list)
    told: list[tuple[Verb, str, str]] = field(default_factory=list)
    history: FakeEventKeeper = field(default_factory=FakeEventKeeper)

    async def attach(self, instance: str, resumed: bool) -> None:
        self._take("attach again" if resumed else "attach", instance)

    def asked(self, verb: Verb, what: str, by: str) -> int:
        self.told.append((verb, what, by))
        return len(self.told)

    async def start(self, instance: str) -> None:
        self._take("start", instance)

    async def stop(self, instance: str) -> None:
        self._take("stop", instance)

    async def hold(self, instance: str, by: str, reason: str) -> None:
        self._take(f"hold by {by}: {reason}", instance)

    async def release(self, instance: str) -> None:
        self._take("release", instance)

    async def restart(self, instance: str) -> None:
        self._take("restart", instance)

    async def pull(self, instance: str) -> None:
        self._take("pull", instance)

    async def update(self, instance: str, image: str, revision: str) -> None:
        self._take(f"update to {image or 'its own'} {revision or 'its own'}", instance)

    async def rollback(self, instance: str) -> None:
        self._take("rollback", instance)

    async def prune(self, dry_run: bool) -> PruneReport:
        self.calls.append(("prune", "dry" if dry_run else ""))
        return PruneReport("1", (), dry_run=dry_run)

    async def replan(self, instance: str) -> None:
        self._take("replan", instance)

    async def reload(self) -> None:
        self.calls.append(("reload", ""))

    async def refresh_npus(self) -> None:
        self.calls.append(("refresh", ""))

    async def quarantine(self, npus: tuple[int, ...], by: str, reason: str) -> None:
        self._take_npus(f"quarantine by {by}: {reason}", npus)

    async def clear(self, npus: tuple[int, ...], by: str) -> None:
        self._take_npus(f"clear by {by}", npus)

    async def trust_host(self, by: str) -> None:
        self.calls.append((f"trust by {by}", ""))

    async def events(self, query: EventQuery) -> EventPage:
        """What is on the board."""
        found = await self.history.read(query)
        events = tuple(one for one in map(decode_event, found) if one is not None)
        return EventPage(events, found[-1].id if found else query.after, False, False)

    def config(self) -> ConfigAnswer:
        return build_config_answer(build_config(build_profile()), None)

    def start_wait_s(self) -> float:
        return 1800.0

    def _take(self, what: str, instance: str) -> None:
        self.calls.append((what, instance))
        if instance != "8b":
            raise ConfigError(Code.INSTANCE_UNKNOWN, f"cannot serve {instance}: no", "write it")

    def _take_npus(self, what: str, npus: tuple[int, ...]) -> None:
        self.calls.append((what, ",".join(str(npu) for npu in npus)))
        if not set(npus) <= set(range(8)):
            raise AgentError(Code.NPU_UNKNOWN, f"cannot find NPU {npus[0]}", "look")
