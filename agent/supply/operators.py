# SPDX-License-Identifier: MulanPSL-2.0
"""A model that an operator has put there: looked at, never changed. In the folder (or a link to
one, an NFS mount), out its manifest, or an AgentError that says what is wrong with it."""

from pathlib import Path

from agent.errors import AgentError, Code
from agent.supplies import Manifest, Stage
from agent.supply.disk import writing
from agent.supply.manifest import make_manifest, read_manifest
from agent.supply.meter import Count, Meter
from agent.supply.verify import find_problems
from agent.supply.whole import find_lacking, name_some


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
    with writing(f"read {folder}"):
        lacking = find_lacking(folder)
    if lacking:
        raise _invalid(folder, lacking)
    return make_manifest(folder, count.add)


def _invalid(folder: Path, problems: list[str]) -> AgentError:
    return AgentError(
        Code.MODEL_INVALID,
        f"cannot use {folder}: {name_some(problems)}",
        f"it was not fetched by the agent, so it is not replaced: copy it anew, or move {folder} "
        "away and it is fetched",
    )
