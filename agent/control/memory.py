# SPDX-License-Identifier: MulanPSL-2.0
"""What outlives the agent, in state.json: how often things have failed, NPUs set aside. Pure.

Only what cannot be seen again. Wishes, engines and their NPUs are in systemd and Podman, and are
looked at; so losing this costs a backoff that begins anew, counters, NPUs in quarantine, holds, and
the way back from an update.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

import msgspec

from agent.action.tried import Tried
from agent.config.values import Limits
from agent.control.record import Record
from agent.control.update_seen import NO_UPDATE
from agent.decoding import decode_json
from agent.errors import Failure
from agent.model import Hold, Phase
from agent.policy.npu.kept import FleetMemory
from agent.policy.state import InstanceState
from agent.policy.update_state import UpdateState

NO_NPUS = FleetMemory()
# What is kept of instances without a profile: of so many, and for so long.
ABSENT_MAX = 64
ABSENT_MAX_S = 90 * 86_400.0
ORDER_MAX_S = 86_400.0
ABSENT_STEP_S = 3600.0  # written no more often than this because of the time alone
SCHEMA = 1  # fields are added, with defaults, so that versions can read each other's


@dataclass(frozen=True, slots=True)
class InstanceMemory:
    """Of one instance."""

    name: str
    restarts: int = 0  # engines started in place of one that had failed, ever
    failures: int = 0  # in a row
    retry_at: float = 0.0  # seconds since the epoch, while it waits for its next try; else 0
    failure: Failure | None = None  # why it waits for that
    start_s: float | None = None  # what it needed the last time until it answered
    start_mark: str = ""  # of that start (action/tried)
    tried: Tried | None = None  # in vain, in this boot
    answered_as: str = ""  # the invocation of the engine's unit that has served
    update: UpdateState = NO_UPDATE  # which image and model it runs on, beside what else
    hold: Hold | None = None  # a person wants it stopped
    absent_s: float = 0.0  # it has had no profile, while an agent ran; 0 as long as it has one


@dataclass(frozen=True, slots=True)
class Memory:
    """All of it. `boot_id`: a boot is a new chance, so what failed in a row before it is over."""

    schema: int = SCHEMA
    boot_id: str = ""
    instances: tuple[InstanceMemory, ...] = ()
    npus: FleetMemory = NO_NPUS  # what was done about them is not seen anywhere else

    def of(self, name: str) -> InstanceMemory:
        return next((one for one in self.instances if one.name == name), InstanceMemory(name))


def remember(
    records: Iterable[Record],
    boot_id: str,
    now: float,
    wall: float,
    npus: FleetMemory = NO_NPUS,
    absent: Iterable[InstanceMemory] = (),
) -> Memory:
    """`now` is monotonic, `wall` in seconds since the epoch; `absent`: see `carry_over`."""
    found = (_of(record, now, wall) for record in records)
    instances = tuple(one for one in found if one != InstanceMemory(one.name))
    return Memory(SCHEMA, boot_id, (*instances, *absent), npus)


def carry_over(
    memory: Memory, known: Collection[str], boot_id: str, for_s: float
) -> tuple[InstanceMemory, ...]:
    """What stays of those that are not `known`: a profile may be away for a moment, or all of them
    where the configuration cannot be read, and a hold must outlive that as the way back does.

    For so long in which agents ran without it (`for_s`: this one), which no clock can shorten.
    """
    found = []
    for one in memory.instances:
        absent_s = (max(0.0, one.absent_s) + for_s) // ABSENT_STEP_S * ABSENT_STEP_S
        empty = replace(one, absent_s=0.0) == InstanceMemory(one.name)
        if one.name not in known and not empty and absent_s < ABSENT_MAX_S:
            found.append(replace(one, absent_s=absent_s))
    found = [_without_order(one) if one.absent_s >= ORDER_MAX_S else one for one in found]
    found = sorted(found, key=lambda one: one.absent_s)[:ABSENT_MAX]
    if memory.boot_id == boot_id:
        return tuple(found)
    # The next agent will take them for things of this boot.
    return tuple(replace(one, failures=0, retry_at=0.0, failure=None, tried=None) for one in found)


def _without_order(one: InstanceMemory) -> InstanceMemory:
    """What somebody has asked for, and may be surprised by now."""
    return replace(one, update=replace(one.update, order=None))


def encode_memory(memory: Memory) -> str:
    return msgspec.json.encode(memory).decode()


def decode_memory(text: str) -> Memory:
    """Raises ValueError for what cannot be understood."""
    try:
        return decode_json(text, Memory)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from error


def _of(record: Record, now: float, wall: float) -> InstanceMemory:
    state, start = record.state, record.start
    memory = InstanceMemory(
        record.profile.name,
        record.restarts,
        state.failures,
        start_s=start.last_s,
        start_mark=start.last_mark,
        tried=start.tried,
        answered_as=record.answered_as,
        update=record.update.state,
        hold=record.hold,
    )
    if state.phase is not Phase.BACKOFF:
        return memory
    retry_at = round(wall + state.not_before - now)  # whole seconds: the clocks drift apart
    return replace(memory, retry_at=float(retry_at), failure=state.failure)


def recall(
    memory: InstanceMemory, same_boot: bool, limits: Limits, now: float, wall: float
) -> InstanceState:
    """How an instance stands when nothing has been looked at yet. The clock may have jumped: no
    wait is longer than the longest backoff."""
    if not same_boot:
        return InstanceState(since=now)
    failures = max(0, memory.failures)
    if not memory.retry_at or memory.failure is None:
        return InstanceState(since=now, failures=failures)
    wait_s = min(max(0.0, memory.retry_at - wall), limits.backoff_max_s)
    return InstanceState(Phase.BACKOFF, True, now, failures, now + wait_s, memory.failure)
