# SPDX-License-Identifier: MulanPSL-2.0
"""The files by which the agent and this process talk: an order in, progress and a report out."""

from contextlib import suppress
from pathlib import Path

import msgspec

from agent import disks
from agent.decoding import decode_json
from agent.disks import PruneOrder, PruneReport
from agent.host.atomic import write_atomically
from agent.host.reading import read_regular
from agent.supplies import SCHEMA, Order, Progress, Report

PRUNE_ORDER_LIMIT_BYTES = 2**20


def read_order(folder: Path, stem: str) -> Order:
    """`stem`: see `supplies.letter_stem`. Raises OSError, and ValueError for what no agent of this
    version writes."""
    order = decode_json(read_regular(folder / f"{stem}.order.json"), Order)
    if order.schema != SCHEMA:
        raise ValueError(f"its schema is {order.schema}, and {SCHEMA} is known")
    return order


def write_progress(folder: Path, stem: str, progress: Progress) -> None:
    _write(_progress(folder, stem), progress)


def remove_progress(folder: Path, stem: str) -> None:
    with suppress(OSError):
        _progress(folder, stem).unlink()


def write_report(folder: Path, stem: str, report: Report) -> None:
    _write(folder / f"{stem}.report.json", report)


def take_prune_order(folder: Path) -> PruneOrder:
    """It is carried out once: what is to be kept may be other things the next time. Raises OSError,
    and ValueError."""
    path = folder / "order.json"
    text = read_regular(path, PRUNE_ORDER_LIMIT_BYTES)
    path.unlink()
    order = decode_json(text, PruneOrder)
    if order.schema != disks.SCHEMA:
        raise ValueError(f"its schema is {order.schema}, and {disks.SCHEMA} is known")
    return order


def write_prune_report(folder: Path, report: PruneReport) -> None:
    _write(folder / "report.json", report)


def _progress(folder: Path, stem: str) -> Path:
    return folder / f"{stem}.progress.json"


def _write(path: Path, content: Progress | Report | PruneReport) -> None:
    write_atomically(path, msgspec.json.encode(content).decode(), mode=0o600)
