# SPDX-License-Identifier: MulanPSL-2.0
"""A model that comes without a manifest: in its folder, out what it names itself and does not have.

What cannot be shown to lack something counts as whole: there are shapes that nobody knows here.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

from agent.host.reading import read_regular
from agent.json_text import load_json
from agent.supply.hub.listing import CONFIG, OTHER_WEIGHTS, WEIGHTS, field, path_trouble

# model.safetensors.index.json, pytorch_model.bin.index.json
INDEXES = tuple(f"{end}.index.json" for end in WEIGHTS)
OTHER_INDEXES = tuple(f"{end}.index.json" for end in OTHER_WEIGHTS)
INDEX_LIMIT_BYTES = 64 * 2**20
# transformers 4.x, modeling_utils.py: model-00001-of-00002.safetensors
SHARD = re.compile(r"(.+)-(\d{1,9})-of-(\d{1,9})(\.[a-z]+)")
SHARDS_LIMIT = 10_000
NAMED_LIMIT = 5  # files in one message
# What training leaves beside them (vLLM, filter_files_not_needed_for_inference).
_OF_TRAINING = ("training_args.bin", "optimizer.bin", "optimizer.pt", "scheduler.pt", "scaler.pt")
_POINTER = b"version https://git-lfs"
# Far above every header that is written; what says more may be no safetensors at all.
_HEADER_LIMIT_BYTES = 32 * 2**20
# PKZIP's APPNOTE, 4.3.16: the record at the end, and the longest comment behind it.
_ZIP, _ZIP_END, _ZIP_END_BYTES = b"PK\x03\x04", b"PK\x05\x06", 22 + 2**16


def is_weights(name: str) -> bool:
    return name.lower().endswith(WEIGHTS + OTHER_WEIGHTS) and name not in _OF_TRAINING


def find_lacking(folder: Path) -> list[str]:
    """ "NAME: missing", "NAME: 5 bytes, not 10". Raises OSError."""
    names = {path.name for path in folder.iterdir() if path.is_file()}
    wanted, unread = _find_indexed(folder, names)
    wanted |= {CONFIG, *_find_numbered(names)}
    missing = {name for name in wanted - names if not (folder / name).is_file()}
    if not any(is_weights(name) for name in names | wanted):
        missing.add("weights")
    lacking = [f"{name}: missing" for name in sorted(missing)] + unread
    cut = (_why_cut(folder / name) for name in sorted(filter(is_weights, names)))
    return lacking + [why for why in cut if why]


def name_some(problems: Sequence[str]) -> str:
    """For a message."""
    named = "; ".join(problems[:NAMED_LIMIT])
    more = len(problems) - NAMED_LIMIT
    return f"{named}; and {more} more" if more > 0 else named


# --- names ---------------------------------------------------------------------------------------


def _find_numbered(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        if (shard := SHARD.fullmatch(name)) and int(shard[3]) <= SHARDS_LIMIT:
            stem, width, count, end = shard[1], len(shard[2]), shard[3], shard[4]
            for number in range(1, int(count) + 1):
                yield f"{stem}-{number:0{width}}-of-{count}{end}"


def _find_indexed(folder: Path, names: set[str]) -> tuple[set[str], list[str]]:
    """What indexes name, and which of them cannot be read. The same weights in another format may
    have been left out where there are safetensors, and their index not."""
    wanted, unread = _read_indexes(folder, (one for one in names if one.endswith(INDEXES)))
    if any(one.endswith(WEIGHTS) for one in names | wanted):
        return wanted, unread
    others, unread_others = _read_indexes(
        folder, (one for one in names if one.endswith(OTHER_INDEXES))
    )
    return wanted | others, unread + unread_others


def _read_indexes(folder: Path, names: Iterable[str]) -> tuple[set[str], list[str]]:
    wanted: set[str] = set()
    unread: list[str] = []
    for name in sorted(names):
        try:
            value = load_json(read_regular(folder / name, INDEX_LIMIT_BYTES))
            weights = field(value, "weight_map")
            wanted |= set(map(_checked, weights.values())) if isinstance(weights, dict) else set()
        except (OSError, ValueError) as error:
            unread.append(f"{name}: {error}")
    return wanted, unread


def _checked(path: object) -> str:
    """Raises ValueError for what leads out of the folder."""
    if not isinstance(path, str) or (trouble := path_trouble(path)):
        raise ValueError(trouble if isinstance(path, str) else "it names no files")
    return path


# --- content -------------------------------------------------------------------------------------


def _why_cut(path: Path) -> str:
    """Why it cannot be all of it; empty when nothing says so."""
    name, size = path.name, path.stat().st_size
    with path.open("rb") as stream:
        begin = stream.read(len(_POINTER))
        if not begin:
            return f"{name}: it is empty"
        if not any(begin):
            return f"{name}: it begins with zeros"  # room that was taken beforehand
        if begin == _POINTER:
            return f"{name}: a pointer of git-lfs, without the content"
        if name.endswith(WEIGHTS):
            return _why_cut_tensors(name, stream, size)
        if begin.startswith(_ZIP):  # as torch.save writes it since 1.6
            stream.seek(max(size - _ZIP_END_BYTES, 0))
            return "" if _ZIP_END in stream.read() else f"{name}: {size} bytes, without its end"
    return ""


def _why_cut_tensors(name: str, stream: IO[bytes], size: int) -> str:
    """safetensors, its README: 8 bytes length of the header, the header in JSON, the data."""
    stream.seek(0)
    length = int.from_bytes(stream.read(8), "little")
    if length > _HEADER_LIMIT_BYTES and size >= 8:
        return ""
    header = stream.read(length) if size >= 8 else b""
    if len(header) < length or size < 8:
        return f"{name}: {size} bytes, not even its header"
    try:
        value = load_json(header)
    except ValueError:
        return f"{name}: its header cannot be read"
    expected = 8 + length + max(_ends(value), default=0)
    return f"{name}: {size} bytes, not {expected}" if size < expected else ""


def _ends(header: object) -> Iterator[int]:
    """Of each tensor, counted from the end of the header."""
    for tensor in header.values() if isinstance(header, dict) else ():
        match field(tensor, "data_offsets"):
            case [_, int(end)]:
                yield end
            case _:
                pass  # its metadata
