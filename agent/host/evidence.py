# SPDX-License-Identifier: MulanPSL-2.0
"""`ports.Evidence`: hands notes over and has `deepseek-evidence@.service` write the file.

The agent's own sandbox sees no kernel stacks, so a unit of root's does the work (agent/evidence).
"""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import structlog

from agent.errors import AgentError
from agent.host.atomic import write_atomically
from agent.model import JobResult, evidence_unit
from agent.ports import EvidenceNotes, UnitManager

log = structlog.get_logger(__name__)

NOTES = Path("/run/deepseek-agent/evidence")
FOLDER = Path("/var/lib/deepseek-agent/evidence")
# Of the deadline: a program that is told to end writes what it has.
END_S = 1.0


class EvidenceUnit:
    """`ports.Evidence` by a unit."""

    def __init__(self, units: UnitManager, notes: Path = NOTES, folder: Path = FOLDER) -> None:
        self._units = units
        self._notes = notes
        self._folder = folder

    async def gather(self, instance: str, notes: EvidenceNotes, deadline_s: float) -> str | None:
        file = f"{instance}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.txt"
        path = self._folder / file
        try:
            text = json.dumps({"file": file, **asdict(notes)})
            write_atomically(self._notes / f"{instance}.json", text, mode=0o600)
            await self._run(evidence_unit(instance), deadline_s)
        except (AgentError, OSError) as error:
            log.warning("evidence-not-gathered", instance=instance, reason=str(error))
        return str(path) if _is_file(path) else None

    async def _run(self, unit: str, deadline_s: float) -> None:
        result = await self._units.start(unit, deadline_s - END_S)
        if result is JobResult.TIMEOUT:
            await self._units.stop(unit, END_S)
        if result is not JobResult.DONE:
            # On a full disk, say. A failed unit would ask for somebody to mend it.
            log.warning("evidence-not-whole", unit=unit, result=result.value)
            await self._units.reset_failed(unit)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False
