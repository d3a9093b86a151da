# SPDX-License-Identifier: MulanPSL-2.0
"""What happened, oldest first, for the status and the journal."""

import time
from collections import deque

import structlog

from agent.errors import Failure
from agent.model import Npu, Phase
from agent.policy.state import InstanceState
from agent.status.snapshot import EventView, Evidence

log = structlog.get_logger(__name__)

EVENTS_KEPT = 200
STAYS = (Phase.WAITING, Phase.HELD)


class EventLog:
    """The latest ones."""

    def __init__(self) -> None:
        self._events: deque[EventView] = deque(maxlen=EVENTS_KEPT)
        self._told: dict[str, Failure | None] = {}  # why an instance stays, as it was noted

    @property
    def latest(self) -> tuple[EventView, ...]:
        return tuple(self._events)

    def note(self, instance: str, kind: str, message: str = "") -> None:
        """`instance` is empty when it is about the host or the agent."""
        self._events.append(EventView(time.time(), instance, kind, message))
        log.info(str(kind), instance=instance, reason=message)

    def note_npu(self, npu: Npu | int, kind: str, message: str, instance: str = "") -> None:
        """About an NPU, with how it is now; its logic id alone where nothing is known of it."""
        if isinstance(npu, int):
            event = EventView(time.time(), instance, kind, message, npu)
            log.info(kind, instance=instance, npu=npu, reason=message)
        else:
            logic_id = npu.logic_id
            event = EventView(time.time(), instance, kind, message, logic_id, _gather(npu))
            log.info(kind, instance=instance, npu=logic_id, reason=message, **_for_journal(npu))
        self._events.append(event)

    def tell(self, instance: str, before: Phase, state: InstanceState) -> None:
        """A new phase. Looking again while nothing has changed is no news: it may go on for days,
        and would push out what is."""
        if state.phase is Phase.STARTING and before in STAYS:
            return
        if state.phase in STAYS and state.failure == self._told.get(instance):
            return
        self._told[instance] = state.failure if state.phase in STAYS else None
        stuck = state.phase in (*STAYS, Phase.BACKOFF)
        self.note(instance, state.phase, state.failure.message if stuck and state.failure else "")


def _gather(npu: Npu) -> Evidence:
    return Evidence(npu.health, npu.reason, npu.faults, npu.readings, npu.processes)


def _for_journal(npu: Npu) -> dict[str, object]:
    return {
        "health": npu.health.value,
        "codes": ",".join(fault.code for fault in npu.faults),
        "temperature_c": npu.readings.temperature_c,
        "hbm_temperature_c": npu.readings.hbm_temperature_c,
        "ecc_double": npu.readings.ecc_double,
        "memory_used_mib": npu.memory_used_mib,
    }
