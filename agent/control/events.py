# SPDX-License-Identifier: MulanPSL-2.0
"""What happened, oldest first, for the status and the journal."""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

import msgspec
import structlog

from agent.decoding import decode_json
from agent.errors import Failure
from agent.model import Npu, Phase
from agent.policy.state import InstanceState
from agent.ports import EventKeeper, EventQuery, StoredEvent
from agent.status.history import EventPage
from agent.status.snapshot import EventView, Evidence

log = structlog.get_logger(__name__)

EVENTS_KEPT = 200
OBSERVED = 'nothing is done: mode is "observe"'
STAYS = (Phase.WAITING, Phase.HELD)


class EventLog:
    """The latest ones, and through `keeper` those before. `kept`: what an agent before this one has
    left there, oldest first."""

    def __init__(self, keeper: EventKeeper, kept: Sequence[StoredEvent] = ()) -> None:
        self._keeper = keeper
        known = (decode_event(one) for one in kept)
        self._events = deque((one for one in known if one is not None), EVENTS_KEPT)
        self._told: dict[str, Failure | None] = {}  # why an instance stays, as it was noted
        # Without those of before, numbers must not come again all the same.
        self._last = kept[-1].id if kept else int(time.time() * 1000)

    @property
    def latest(self) -> tuple[EventView, ...]:
        return tuple(self._events)

    def note(self, instance: str, kind: str, message: str = "", file: str = "") -> int:
        """`instance` is empty when it is about the host or the agent; `file`: where more is.
        Returns the event's id."""
        self._add(EventView(time.time(), instance, str(kind), message, file=file))
        more = {"file": file} if file else {}
        log.info(str(kind), instance=instance, reason=message, **more)
        return self._last

    def note_npu(self, npu: Npu | int, kind: str, message: str, instance: str = "") -> None:
        """About an NPU, with how it is now; its logic id alone where nothing is known of it."""
        if isinstance(npu, int):
            self._add(EventView(time.time(), instance, kind, message, npu))
            log.info(kind, instance=instance, npu=npu, reason=message)
        else:
            logic_id = npu.logic_id
            self._add(EventView(time.time(), instance, kind, message, logic_id, _gather(npu)))
            log.info(kind, instance=instance, npu=logic_id, reason=message, **_for_journal(npu))

    async def read(self, query: EventQuery) -> EventPage:
        """Raises HostUnavailable when the file with them cannot be read now."""
        known = self._last  # one that is noted while the file is read may not be in what is found
        found = await self._keeper.read(query)
        missed = query.after > 0 and query.after < await self._keeper.oldest() - 1
        events = tuple(one for one in map(decode_event, found) if one is not None)
        # The newest are the last there are.
        more = len(found) == query.limit and not query.newest
        last = found[-1].id if found else 0
        after = last if more else max(query.after, known, last)
        return EventPage(events, after, more, missed)

    def _add(self, event: EventView) -> None:
        self._last += 1
        event = replace(event, id=self._last)
        self._events.append(event)
        text = msgspec.json.encode(event).decode()
        stored = StoredEvent(event.id, event.at, event.instance, event.kind, event.npu, text)
        self._keeper.add(stored)

    def tell(self, instance: str, before: Phase, state: InstanceState) -> None:
        """A new phase. Looking again while nothing has changed is no news: it may go on for days,
        and would push out what is."""
        if state.phase is Phase.STARTING and before in STAYS:
            return
        if state.phase is Phase.FETCHING and self._told.get(instance) is not None:
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


def decode_event(stored: StoredEvent) -> EventView | None:
    """None for one of a version that wrote it in another way."""
    try:
        return decode_json(stored.text, EventView)
    except msgspec.MsgspecError:
        return None
