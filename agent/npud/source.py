# SPDX-License-Identifier: MulanPSL-2.0
"""Where the driver's account comes from: the seam between the loop, libdcmi and npu-smi.

Comes in: `begin`, `reset`, and the loop's events. Goes out: an Inventory without the device nodes,
through the OnAccount that an implementation was given.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from agent.model import Inventory, ResetOutcome
from agent.npud.requests import Reset

OnAccount = Callable[[Inventory], None]
OnReset = Callable[[ResetOutcome, str], None]  # how it went, and the driver's words

# facts: ascend 1.6. One busy chip is enough for all of them to be refused.
OCCUPIED_MEANS = (
    " (an NPU is occupied by another mount namespace: a container, or a sandboxed"
    " service that uses the driver; see /proc/uda/namespace_node)"
)
RESET_UNDER_WAY = "reset under way"  # the reason of a chip that is not asked because of it
ANOTHER_RESET = "another reset is under way"
FAULT_GONE = "its fault is gone"


@dataclass(frozen=True, slots=True)
class ResetLimits:
    """npu-smi says that the reset itself takes up to 260 s (facts: ascend 1.4); for the chips to
    boot the peer waits 150 s (facts: ascend 3)."""

    reset_s: float = 260.0
    boot_s: float = 150.0
    look_s: float = 1.0  # between two looks at the boot


RESET_LIMITS = ResetLimits()


class Source(ABC):
    """One reading at a time; no method may block, whatever the driver does.

    An ABC and not a Protocol: importing typing would cost npud more than half a MiB.
    """

    @abstractmethod
    def begin(self, now: float) -> None:
        """Start a reading, or one more after the one that is under way."""

    @abstractmethod
    def tick(self, now: float) -> None:
        """Time has passed, or a child has ended."""

    @abstractmethod
    def next_at(self) -> float:
        """When `tick` is wanted next; inf when it is not."""

    @abstractmethod
    def close(self) -> None:
        """End what runs, do not wait for it."""

    @abstractmethod
    def reset(self, request: Reset, on_end: OnReset, now: float) -> None:
        """Reset what nothing uses; `on_end` hears how it went, at once or minutes later."""
