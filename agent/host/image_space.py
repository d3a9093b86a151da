# SPDX-License-Identifier: MulanPSL-2.0
"""Whether an image fits: in come its layers and where Podman keeps things, out comes a `Failure`.

Podman fetches layers into files below its temporary folder (/var/tmp, containers.conf(5)
image_copy_tmp_dir) and unpacks them from there into its storage.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.errors import Code, Failure
from agent.host.reading import read_regular
from agent.host.registry import Layer
from agent.json_text import load_json

# Layers of vllm-ascend and CANN images are gzip of binaries and Python: 2.0 to 2.4 times as large
# when unpacked.
UNPACKED = 2.5
MIB = 1024 * 1024
LAYERS_LIMIT_BYTES = 64 * MIB


# Places, and bytes.
Needs = tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Places:
    """Where Podman keeps things."""

    storage: str  # graphRoot
    temporary: str


def read_present(storage: str) -> frozenset[str]:
    """Digests of the layers that are in storage, from what containers/storage keeps about them
    (overlay-layers/layers.json, 1.43 to 1.57). Nothing when it cannot be read."""
    try:
        document = load_json(
            read_regular(f"{storage}/overlay-layers/layers.json", LAYERS_LIMIT_BYTES)
        )
    except (OSError, ValueError):
        return frozenset()
    rows = [row for row in document if isinstance(row, dict)] if isinstance(document, list) else []
    keys = ("compressed-diff-digest", "diff-digest")
    return frozenset(str(row[key]) for row in rows for key in keys if key in row)


def why_too_full(
    layers: Sequence[Layer], present: frozenset[str], places: Places, keep_free_mib: int
) -> Failure | None:
    """None when there is room for what is to be fetched, or nobody can tell."""
    return why_no_room(needs_of_pull(layers, present, places), keep_free_mib)


def needs_of_pull(layers: Sequence[Layer], present: frozenset[str], places: Places) -> Needs:
    """Nothing when all of it is there."""
    fetched = sum(layer.size for layer in layers if layer.digest not in present)
    needs = ((places.storage, fetched * UNPACKED), (places.temporary, fetched * 1.0))
    return needs if fetched else ()


def why_no_room_to_load(
    size: int, kind: str, is_packed: bool, places: Places, keep_free_mib: int
) -> Failure | None:
    """None when there is room, or nobody can tell."""
    return why_no_room(needs_of_load(size, kind, is_packed, places), keep_free_mib)


def needs_of_load(size: int, kind: str, is_packed: bool, places: Places) -> Needs:
    """`size`: of all that is in the archive. A docker-archive holds layers that are unpacked
    already; what else Podman writes stands in `image_load`."""
    copies = 1.0 + (kind == "oci-archive" or (kind == "docker-archive" and is_packed))
    factor = 1.0 if kind == "docker-archive" else UNPACKED
    return ((places.storage, size * factor), (places.temporary, size * copies))


def why_no_room(needs: Needs, keep_free_mib: int) -> Failure | None:
    """Those in one file system are added up."""
    summed: dict[int, tuple[str, float]] = {}
    for place, size in needs:
        try:
            device = os.stat(place).st_dev
        except OSError:
            continue
        path, before = summed.get(device, (place, 0.0))
        summed[device] = (path, before + size)
    looks = (_look(path, size, keep_free_mib) for path, size in summed.values())
    return next((full for full in looks if full), None)


def _look(path: str, needed: float, keep_free_mib: int) -> Failure | None:
    status = os.statvfs(path)
    free = status.f_bavail * status.f_frsize
    if free >= needed + keep_free_mib * MIB:
        return None
    kept = f", and {keep_free_mib} MiB are to stay free" if keep_free_mib else ""
    return Failure(
        Code.DISK_TOO_FULL,
        f"cannot store the image: {path} has {free // MIB} MiB free, "
        f"it needs {int(needed) // MIB} MiB{kept}",
        "see: df -h, and: podman system df; what nobody uses goes with: podman image prune",
    )


def read_staged(temporary: str, before: frozenset[str]) -> tuple[int, ...]:
    """Sizes of the files that Podman has fetched into folders that were not there `before`."""
    return tuple(
        _size_of(file)
        for folder in list_staging(temporary) - before
        for file in _files(Path(temporary, folder))
    )


def _size_of(file: os.DirEntry[str]) -> int:
    """0 once Podman has removed it."""
    try:
        return file.stat(follow_symlinks=False).st_size
    except OSError:
        return 0


def list_staging(temporary: str) -> frozenset[str]:
    """Folders in which containers/image keeps layers of a pull: "storage..." (5.23, Podman 4.3),
    "container_images_storage..." (5.34, Podman 5.4)."""
    try:
        names = os.listdir(temporary)
    except OSError:
        return frozenset()
    prefixes = ("storage", "container_images_storage")
    return frozenset(name for name in names if name.startswith(prefixes))


def _files(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [one for one in entries if one.is_file(follow_symlinks=False)]
    except OSError:
        return []


def find_places(info: Mapping[str, object]) -> Places:
    """From what /libpod/info says; what it does not say is Podman's default."""
    store = info.get("store")
    known = store if isinstance(store, dict) else {}
    return Places(
        str(known.get("graphRoot") or "/var/lib/containers/storage"),
        str(known.get("imageCopyTmpDir") or "/var/tmp"),  # noqa: S108 - Podman's, not ours
    )
