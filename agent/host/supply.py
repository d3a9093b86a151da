# SPDX-License-Identifier: MulanPSL-2.0
"""`ports.Supplier`: `deepseek-supply@.service` does the work, and goes on when the agent ends;
`deepseek-switch@.service` what a start waits for.

They talk by files: the order before it starts, its progress and its report (`agent.supplies`). A
new agent that has the same order follows the process that carries it out already.
"""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec
import structlog

from agent.decoding import decode_json
from agent.errors import AgentError, Code, HostError
from agent.host.atomic import write_atomically
from agent.host.reading import read_regular
from agent.model import JobResult, is_instance_name, supply_unit, switch_unit
from agent.ports import UnitManager
from agent.supplies import Item, Order, Progress, Purpose, Report, Stage, letter_stem

log = structlog.get_logger(__name__)

FOLDER = Path("/run/deepseek-agent/supply")
LOOK_EVERY_S = 1.0
SWITCH_PACE = 5  # times as often: it takes no longer than to start the program, and a start waits
# Type=exec: over when the program has been executed.
START_DEADLINE_S = 30.0
# It ends at once by SIGTERM; TimeoutStopSec= of the unit is 15 s.
STOP_DEADLINE_S = 20.0

STILL_S = 120.0  # a pull that told nothing new for so long may hang with the service itself

Kind = TypeVar("Kind")


class SupplyUnit:
    """`ports.Supplier` by a unit."""

    def __init__(
        self, units: UnitManager, folder: Path = FOLDER, look_every_s: float = LOOK_EVERY_S
    ) -> None:
        self._units = units
        self._folder = folder
        self._look_every_s = look_every_s

    async def bring(self, order: Order, tell: Callable[[Progress], None]) -> Report:
        unit, stem = _unit(order), _stem(order)
        if not await self._carries_out(order, unit):
            await self._begin(order, unit)
        told: Progress | None = None
        # Hours, where the network is slow; what stands still is ended by the program itself.
        while await self._is_up(unit):
            progress = self._read(stem, "progress", Progress)
            if progress is not None and progress != told:
                told = progress
                tell(progress)
            await asyncio.sleep(self._look_every_s / (SWITCH_PACE if _switches(order) else 1))
        report = self._read(stem, "report", Report)
        if report is not None:
            return report
        await self._units.reset_failed(unit)
        raise HostError(
            Code.SOURCE_UNREACHABLE,
            f"cannot bring what {order.instance} lacks: {unit} ended without a report",
            f"journalctl -b -u {unit}",
        )

    async def end(self, instance: str) -> None:
        await self._end(supply_unit(instance))

    async def is_pulling(self) -> bool:
        """Whether an image is on its way through Podman's service. Raises what `units` raise."""
        for path in sorted(self._folder.glob("*.progress.json")):
            stem = path.name.removesuffix(".progress.json")
            progress = self._read(stem, "progress", Progress) if is_instance_name(stem) else None
            if progress is None or not _is_pull(progress) or _stands_still(progress, path):
                continue
            if await self._is_up(supply_unit(stem)):
                return True
        return False

    async def _end(self, unit: str) -> None:
        if await self._is_up(unit):
            await self._units.stop(unit, STOP_DEADLINE_S)
            await self._units.reset_failed(unit)

    async def _carries_out(self, order: Order, unit: str) -> bool:
        return await self._is_up(unit) and self._read(_stem(order), "order", Order) == order

    async def _begin(self, order: Order, unit: str) -> None:
        await self._end(unit)
        stem = _stem(order)
        for kind in ("report", "progress"):
            self._path(stem, kind).unlink(missing_ok=True)
        try:
            text = msgspec.json.encode(order).decode()
            await asyncio.to_thread(write_atomically, self._path(stem, "order"), text)
        except OSError as error:
            raise HostError(
                Code.FILE_NOT_WRITTEN, f"cannot write the order for {unit}: {error}"
            ) from error
        result = await self._units.start(unit, START_DEADLINE_S)
        if result is not JobResult.DONE:
            await self._units.reset_failed(unit)
            raise HostError(
                Code.JOB_NOT_RUN,  # none of an engine: there is no log that tells more
                f"cannot start {unit}: job {result}",
                f"journalctl -b -u {unit}",
            )

    async def _is_up(self, unit: str) -> bool:
        try:
            return not (await self._units.status(unit)).active.is_down()
        except AgentError as error:
            # The bus may be away for a while; the process goes on without it.
            log.warning("supply-not-seen", unit=unit, reason=error.failure.message)
            if error.failure.code is Code.SYSTEMD_UNAVAILABLE:
                return True
            raise

    def _read(self, stem: str, kind: str, what: type[Kind]) -> Kind | None:
        """None when it is not there, or not what it should be."""
        try:
            return decode_json(read_regular(self._path(stem, kind)), what)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.warning("supply-file-damaged", order=stem, kind=kind, reason=str(error))
            return None

    def _path(self, stem: str, kind: str) -> Path:
        return self._folder / f"{stem}.{kind}.json"


def _stands_still(progress: Progress, path: Path) -> bool:
    """While layers are unpacked there is nothing to tell of."""
    try:
        silent_s = time.time() - path.stat().st_mtime
    except OSError:
        return True
    return progress.stage is Stage.FETCHING and silent_s >= STILL_S


def _is_pull(progress: Progress) -> bool:
    """Archives are loaded by Podman's command, and their source is a path."""
    return (
        progress.item is Item.IMAGE
        and progress.stage in (Stage.FETCHING, Stage.PLACING)
        and not progress.source.startswith("/")
    )


def _switches(order: Order) -> bool:
    return order.purpose is Purpose.SWITCH


def _unit(order: Order) -> str:
    return switch_unit(order.instance) if _switches(order) else supply_unit(order.instance)


def _stem(order: Order) -> str:
    return letter_stem(order.instance, switches=_switches(order))
