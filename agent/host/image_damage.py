# SPDX-License-Identifier: MulanPSL-2.0
"""An image of which Podman has a part only, after a power cut: in comes what Podman says of it, or
where it keeps things; out come whether that is it, and its names.

Seen with 4.3.1 and 5.4.2, of whose images files were emptied or removed: one image, and a list with
it in, end with status 500, and `podman image exists` says 0 or 1. What is pulled or loaded upon it
mends the records, never the layers. Removed by its names it goes, and the next load is whole.
"""

import re
from pathlib import Path

from agent.host.reading import read_regular
from agent.json_text import load_json

LOOK_AGAIN_S = 1.0
RECORDS_LIMIT_BYTES = 64 * 1024 * 1024
_DAMAGE = re.compile(
    # Of a layer: its folder, what it lies upon (podman#12337, podman#5986), or all of it.
    r"/(?:overlay|vfs)(?:/[^:\s]*)?: (?:invalid argument|no such file or directory)"
    r"|layer not (?:known|found)"
    # Of the records: gone, empty, zeros, another's.
    r"|locating item named|unexpected end of JSON input|invalid character .* looking for beginning"
    r"|config\.json digest \S+ does not match"
    # All of these before 4.4, whose API cannot say what was wrong (podman#16050).
    r"|nil pointer dereference"
)


def is_damage(text: str) -> bool:
    """Whether Podman's error is about the files of one image, and not about Podman."""
    return _DAMAGE.search(text) is not None


def read_names(storage: str, image: str) -> tuple[str, ...]:
    """All names of the image with this id or name, as containers/storage has noted them
    (overlay-images/images.json, 1.43 to 1.57): Podman lists none while one is damaged. Nothing when
    it cannot be read."""
    return next(
        (names for row in _read_rows(storage) if image in (row.get("id"), *(names := _names(row)))),
        (),
    )


def _names(row: dict[str, object]) -> tuple[str, ...]:
    names = row.get("names")
    return tuple(str(one) for one in names) if isinstance(names, list) else ()


def _read_rows(storage: str) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for path in sorted(Path(storage).glob("*-images/images.json")):
        try:
            document = load_json(read_regular(str(path), RECORDS_LIMIT_BYTES))
        except (OSError, ValueError):
            continue
        rows += (
            [row for row in document if isinstance(row, dict)] if isinstance(document, list) else []
        )
    return rows
