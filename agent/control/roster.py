# SPDX-License-Identifier: MulanPSL-2.0
"""The instances that the writer knows, and what each has that the others may not take."""

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace

from agent.action.running import load_running, no_drain_mark
from agent.config.values import Limits, Profile
from agent.control.memory import Memory, carry_over, recall, remember
from agent.control.record import Record
from agent.errors import AgentError
from agent.facts import Neighbor
from agent.model import HOLDING, Phase
from agent.policy.npu.kept import FleetMemory
from agent.policy.npu.state import Holding
from agent.ports import UnitFiles


class Roster:
    """`memory` is what the agent before this one has kept."""

    def __init__(self, files: UnitFiles, memory: Memory, boot_id: str) -> None:
        self._files = files
        self._memory = memory
        self._boot_id = boot_id
        self._records: dict[str, Record] = {}
        self._began = time.monotonic()

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records.values())

    def names(self) -> list[str]:
        return list(self._records)

    def get(self, name: str) -> Record | None:
        return self._records.get(name)

    def add(self, profile: Profile, limits: Limits) -> None:
        """With what is remembered of it, and what was written down when its engine was started."""
        known = self._memory.of(profile.name)
        same_boot = self._memory.boot_id == self._boot_id
        wall = time.time()
        state = recall(known, same_boot, limits, time.monotonic(), wall)
        record = Record(
            profile, state, wall, restarts=known.restarts, answered_as=known.answered_as
        )
        record.hold = known.hold
        record.start.last_s, record.start.last_mark = known.start_s, known.start_mark
        record.start.tried = known.tried if same_boot else None  # a boot is a new chance
        # The link and the names may be further, or not as far, as what was written down; a restart
        # that had begun may have come to nothing. An engine that runs on what it should stays.
        pinned = known.update.pin is not None
        record.update.state = replace(known.update, is_settled=not pinned, restart=pinned)
        record.update.no_hurry = not known.update.restart
        self.learn(record)
        self._records[profile.name] = record

    def learn(self, record: Record) -> bool:
        """What its engine was started with, as it was written down before that start; returns
        whether that is news. Where nothing is written, Podman tells which NPUs it has."""
        found = load_running(self._files, record.name)
        if found == record.running:
            return False
        record.running = found
        record.npus = found.npus if found is not None else ()
        return True

    def adopt(self, record: Record) -> None:
        """Its engine was found to be up. A stop of it waits for its requests again: one that was
        not to wait has not been heard, and the next may come days later."""
        self.learn(record)
        with suppress(AgentError):  # the next start removes it
            self._files.remove(no_drain_mark(record.name))

    def neighbors(
        self, record: Record, claims: Mapping[str, tuple[int, ...]]
    ) -> tuple[Neighbor, ...]:
        """The others that are up, or on their way."""
        return tuple(
            Neighbor(
                other.profile.name,
                _reserved(other, claims),
                other.in_force.listen,
                other.in_force.port,
            )
            for other in self
            if other is not record and other.state.phase in HOLDING
        )

    def holdings(self, claims: Mapping[str, tuple[int, ...]]) -> tuple[Holding, ...]:
        """Who has which NPUs."""
        return tuple(
            Holding(record.profile.name, _npus_of(record, claims), record.state.phase)
            for record in self
            if record.state.phase in HOLDING
        )

    def holders(self) -> dict[int, str]:
        """The instance by each NPU that one has."""
        return {
            npu: record.profile.name
            for record in self
            if record.state.phase in HOLDING
            for npu in record.npus
        }

    def remembered(self, npus: FleetMemory) -> Memory:
        """What shall outlive the agent; also of those that have no profile now."""
        now = time.monotonic()
        absent = carry_over(self._memory, self._records, self._boot_id, now - self._began)
        return remember(self, self._boot_id, now, time.time(), npus, absent)


def _reserved(record: Record, claims: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    """What the plans of others leave alone. One that is restarted keeps what it had until it has
    chosen anew, as far as its profile still names that: else whoever waits for NPUs would take them
    while an update is put in place, and one that served would be held."""
    if record.state.phase is not Phase.STARTING or record.profile.name in claims:
        return _npus_of(record, claims)
    wanted = record.profile.npus
    return tuple(npu for npu in record.npus if isinstance(wanted, str) or npu in wanted)


def _npus_of(record: Record, claims: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    """One that starts has what it has claimed for this start, and nothing of its former engine:
    that is down, and what may be left of it is cleared first. (What is not, Podman or the driver
    tell.)"""
    if record.state.phase is Phase.STARTING:
        return claims.get(record.profile.name, ())
    return record.npus
