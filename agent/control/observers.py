# SPDX-License-Identifier: MulanPSL-2.0
"""What is seen of engines, as the writer needs it; `health` does it, and `daemon` brings both
together.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from agent.config.values import Profile
from agent.errors import Failure
from agent.facts import ContainerFacts
from agent.model import EngineWork, Health, StartProgress

# Waits until an instance answers.
Probe = Callable[[Profile], Awaitable[Health]]
Where = Callable[[], ContainerFacts | None]
# What is wrong, and the counters of the engine by which that was seen; None: it works again.
Told = Callable[[Failure | None, str], None]
# What it says of its work, every few seconds.
Measured = Callable[[EngineWork], None]
# Watches an engine from the moment on in which it serves. Ends only by cancellation.
Guard = Callable[[Profile, Where, Told, Measured], Awaitable[None]]


class EngineLogWatch(Protocol):
    """Reading engines' logs."""

    async def follow(
        self, instance: str, invocation: str, tell: Callable[[StartProgress], None]
    ) -> None:
        """Tells news until it is cancelled."""
        ...

    async def why(self, instance: str, invocation: str, served: bool) -> Failure | None: ...


@dataclass(frozen=True, slots=True)
class Observers:
    """Of all engines."""

    probe: Probe
    guard: Guard
    logs: EngineLogWatch
