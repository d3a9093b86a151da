# SPDX-License-Identifier: MulanPSL-2.0
"""Images that are in Podman's storage, and which of them we have brought.

Each image that was brought has a file here by its id, which says under which names: an image that
has only such names is nobody else's.
"""

import os
import re
import time
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from agent.decoding import decode_json
from agent.errors import AgentError, Code
from agent.host.atomic import write_atomically
from agent.host.reading import read_regular
from agent.supplies import Order, Report
from agent.supply.child import Silent, converse, module
from agent.supply.pruning import SETTLED_S, StoredImage

PODMAN = module("agent.host.images")
BROUGHT = Path("/var/lib/deepseek-agent/images")
PATIENCE_S = 660.0  # a little longer than the child's own limit for a removal
_ID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Brought:
    """Of one image."""

    references: tuple[str, ...]
    at: float  # seconds since the epoch


class _Row(msgspec.Struct):
    """What the child tells of an image."""

    image_id: str
    names: tuple[str, ...]
    digests: tuple[str, ...]
    size_bytes: int
    created_at: float
    used_by: str


class _Listing(msgspec.Struct):
    images: tuple[_Row, ...]
    storage: str


@dataclass(frozen=True, slots=True)
class Storage:
    """What Podman has, and where."""

    images: tuple[StoredImage, ...]
    folder: str


def note_brought(image_id: str, references: tuple[str, ...], folder: Path = BROUGHT) -> None:
    """Adds to what is known of it. Raises OSError."""
    if not _ID.fullmatch(image_id):
        return
    path = folder / f"{image_id}.json"
    known = _read(path)
    before = known.references if known is not None else ()
    brought = Brought(tuple(dict.fromkeys((*before, *references))), time.time())
    write_atomically(path, msgspec.json.encode(brought).decode(), mode=0o600)


def note_report(order: Order, report: Report, folder: Path = BROUGHT) -> None:
    """What an order has brought. Raises OSError."""
    if order.image is not None and report.image_id:
        sources = (source.reference for source in order.image.sources)
        note_brought(report.image_id, (order.image.reference, *sources), folder)


def list_stored(puller: tuple[str, ...] = PODMAN, brought: Path = BROUGHT) -> Storage:
    """Raises AgentError."""
    try:
        found = msgspec.convert(_ask(puller, "list", {}), type=_Listing)
    except msgspec.ValidationError as error:
        raise AgentError(Code.INTERNAL, f"cannot understand Podman's images: {error}") from error
    images = tuple(_stored(row, _read(brought / f"{row.image_id}.json")) for row in found.images)
    return Storage(images, found.storage)


def remove_stored(image: StoredImage, puller: tuple[str, ...] = PODMAN) -> None:
    """Raises AgentError, also when a container uses it by now."""
    _ask(puller, "remove", {"image_id": image.image_id, "names": image.names})


def forget_gone(there: Iterable[StoredImage], folder: Path = BROUGHT) -> None:
    """An image that has gone may come back by somebody else's hand. Of one that came after the look
    at what is there, the file is new."""
    known = {image.image_id for image in there}
    with suppress(OSError):
        for name in os.listdir(folder):
            image_id, path = name.removesuffix(".json"), folder / name
            is_old = time.time() - path.stat().st_mtime > SETTLED_S
            if _ID.fullmatch(image_id) and image_id not in known and is_old:
                path.unlink(missing_ok=True)


def _stored(row: _Row, brought: Brought | None) -> StoredImage:
    return StoredImage(
        image_id=row.image_id,
        names=row.names,
        digests=row.digests,
        size_bytes=row.size_bytes,
        since=brought.at if brought is not None else row.created_at,
        brought_as=brought.references if brought is not None else (),
        used_by=row.used_by,
    )


def _read(path: Path) -> Brought | None:
    """What cannot be read is as if it were not there: then the image is kept."""
    try:
        return decode_json(read_regular(path), Brought)
    except (OSError, ValueError):
        return None


def _ask(puller: tuple[str, ...], verb: str, order: object) -> Mapping[str, object]:
    """Raises AgentError."""
    try:
        with closing(converse((*puller, verb), order, lambda: PATIENCE_S)) as said:
            for line in said:
                if isinstance(error := line.get("error"), dict):
                    code, hint = Code(str(error.get("code"))), str(error.get("hint", ""))
                    raise AgentError(code, str(error.get("message")), hint)
                if isinstance(answer := line.get("answer"), dict):
                    return answer
    except Silent as silent:
        raise AgentError(Code.PODMAN_SILENT, f"cannot {verb} images: {silent}") from silent
    raise AgentError(Code.INTERNAL, f"cannot {verb} images: no answer came")
