# SPDX-License-Identifier: MulanPSL-2.0
"""A model that an operator has put there: looked at, never changed. In the folder (or a link to
one, an NFS mount), out its manifest, or an AgentError that says what is wrong with it."""

import re
from pathlib import Path

from agent.errors import AgentError, Code
from agent.host.reading import read_regular
from agent.json_text import load_json
from agent.supplies import Manifest, Stage
from agent.supply.hub.listing import CONFIG, OTHER_WEIGHTS, WEIGHTS, field
from agent.supply.manifest import make_manifest, read_manifest
from agent.supply.meter import Count, Meter
from agent.supply.verify import find_problems

INDEX = "model.safetensors.index.json"
INDEX_LIMIT_BYTES = 64 * 2**20
# transformers 4.x, modeling_utils.py: model-00001-of-00002.safetensors
SHARD = re.compile(r"(.+)-(\d{1,9})-of-(\d{1,9})(\.[a-z]+)")
NAMED_LIMIT = 5  # files in one message
SHARDS_LIMIT = 10_000


def look_at_operators(folder: Path, meter: Meter) -> Manifest:
    """Every byte is read. Without a manifest it counts as whole when nothing is missing that it
    names itself. Raises AgentError."""
    if not folder.is_dir():
        raise _invalid(folder, ["it is no folder, or leads nowhere"])
    manifest = read_manifest(folder)
    count = Count(meter, Stage.CHECKING, str(folder), manifest.size if manifest else 0)
    if manifest is not None:
        if problems := find_problems(folder, manifest, count.add):
            raise _invalid(folder, [str(problem) for problem in problems])
        return manifest
    if missing := _missing(folder):
        raise _invalid(folder, [f"{name}: missing" for name in missing])
    return make_manifest(folder, count.add)


def _invalid(folder: Path, problems: list[str]) -> AgentError:
    named = "; ".join(problems[:NAMED_LIMIT])
    more = f"; and {len(problems) - NAMED_LIMIT} more" if len(problems) > NAMED_LIMIT else ""
    return AgentError(
        Code.MODEL_INVALID,
        f"cannot use {folder}: {named}{more}",
        f"it was not fetched by the agent, so it is not replaced: copy it anew, or move {folder} "
        "away and it is fetched",
    )


def _missing(folder: Path) -> list[str]:
    names = {path.name for path in folder.iterdir() if path.is_file()}
    wanted = {CONFIG, *_indexed(folder)}
    for name in names:
        if (shard := SHARD.fullmatch(name)) and int(shard[3]) <= SHARDS_LIMIT:
            stem, width, count, end = shard[1], len(shard[2]), shard[3], shard[4]
            wanted |= {
                f"{stem}-{number:0{width}}-of-{count}{end}" for number in range(1, int(count) + 1)
            }
    if not any(name.endswith(WEIGHTS + OTHER_WEIGHTS) for name in names | wanted):
        wanted.add("weights")
    return sorted(wanted - names)


def _indexed(folder: Path) -> set[str]:
    try:
        value = load_json(read_regular(folder / INDEX, INDEX_LIMIT_BYTES))
    except FileNotFoundError:
        return set()
    except (OSError, ValueError) as error:
        raise _invalid(folder, [f"{INDEX}: {error}"]) from error
    weights = field(value, "weight_map")
    return {str(name) for name in weights.values()} if isinstance(weights, dict) else set()
