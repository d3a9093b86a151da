# SPDX-License-Identifier: MulanPSL-2.0
"""A double of the writer behind the socket API: notes what is asked of it."""

from dataclasses import dataclass, field

from agent.errors import AgentError, Code, ConfigError


@dataclass
class FakeControl:
    """`status.server.Control`; knows one instance, and the NPUs 0 to 7."""

    asked: list[tuple[str, str]] = field(default_factory=list)

    async def attach(self, instance: str, resumed: bool) -> None:
        self._take("attach again" if resumed else "attach", instance)

    async def restart(self, instance: str) -> None:
        self._take("restart", instance)

    async def replan(self, instance: str) -> None:
        self._take("replan", instance)

    async def refresh_npus(self) -> None:
        self.asked.append(("refresh", ""))

    async def quarantine(self, npus: tuple[int, ...], by: str, reason: str) -> None:
        self._take_npus(f"quarantine by {by}: {reason}", npus)

    async def clear(self, npus: tuple[int, ...], by: str) -> None:
        self._take_npus(f"clear by {by}", npus)

    async def trust_host(self, by: str) -> None:
        self.asked.append((f"trust by {by}", ""))

    def start_wait_s(self) -> float:
        return 1800.0

    def _take(self, what: str, instance: str) -> None:
        self.asked.append((what, instance))
        if instance != "8b":
            raise ConfigError(Code.INSTANCE_UNKNOWN, f"cannot serve {instance}: no", "write it")

    def _take_npus(self, what: str, npus: tuple[int, ...]) -> None:
        self.asked.append((what, ",".join(str(npu) for npu in npus)))
        if not set(npus) <= set(range(8)):
            raise AgentError(Code.NPU_UNKNOWN, f"cannot find NPU {npus[0]}", "look")
