# SPDX-License-Identifier: MulanPSL-2.0
"""What an image will need, before a model is fetched to the same file system: in comes an order,
out bytes by place. Nothing where nobody can tell: then the look before the image itself decides.
"""

import os
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from agent.errors import AgentError
from agent.supplies import ImageOrder
from agent.supply.archive_search import find_archive
from agent.supply.child import Silent, converse
from agent.supply.disk import nearest
from agent.supply.image import FETCHING_PATIENCE_S, PULLER
from agent.supply.signers import SIGNERS_FILE, are_named

# The child's own word: a place, and bytes.
Needs = tuple[tuple[str, int], ...]


def measure_image(
    order: ImageOrder,
    import_folder: str,
    puller: tuple[str, ...] = PULLER,
    signers: Path = SIGNERS_FILE,
) -> Needs:
    """From where it would be brought, the archive first."""
    found = None if are_named(signers) else find_archive(Path(import_folder), order.reference).image
    asked: list[Mapping[str, object]] = [{"archive": asdict(found)}] if found else []
    asked += [{"source": asdict(source)} for source in order.sources]
    return next((needs for one in asked if (needs := _ask(puller, one))), ())


def bytes_beside(folder: Path, needs: Iterable[tuple[str, int]]) -> int:
    """Of them those on the file system of `folder`, or of what is above it."""
    there = nearest(folder)
    sum_bytes = 0
    for place, size in needs:
        try:
            if os.stat(place).st_dev == os.stat(there).st_dev:
                sum_bytes += size
        except OSError:
            continue
    return sum_bytes


def _ask(puller: tuple[str, ...], order: Mapping[str, object]) -> Needs:
    try:
        with closing(converse((*puller, "measure"), order, lambda: FETCHING_PATIENCE_S)) as said:
            answer = next(iter(said), {}).get("answer")
    except (AgentError, Silent):
        return ()
    needs = answer.get("needs") if isinstance(answer, dict) else None
    rows = needs.items() if isinstance(needs, dict) else ()
    return tuple((place, size) for place, size in rows if isinstance(size, int))
