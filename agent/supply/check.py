# SPDX-License-Identifier: MulanPSL-2.0
"""Reads a model that lies in place against its manifest: `deepseekctl verify`. Changes nothing."""

from pathlib import Path

from agent.errors import AgentError, Code
from agent.supplies import Stage
from agent.supply.manifest import read_manifest
from agent.supply.meter import Count, Meter, Tell
from agent.supply.verify import find_problems
from agent.wording import size

NAMED_LIMIT = 5  # files in one message


def check_model(folder: Path, tell: Tell) -> str:
    """What was found, in words. Raises AgentError that names what is not as it was."""
    if not folder.is_dir():
        raise AgentError(
            Code.MODEL_MISSING,
            f"cannot verify {folder}: it is not there",
            "fetch it with: deepseekctl pull INSTANCE",
        )
    manifest = read_manifest(folder)
    if manifest is None:
        raise AgentError(
            Code.MODEL_INVALID,
            f"cannot verify {folder}: it has no manifest, as it was not brought by the agent",
            "compare it with where it came from",
        )
    count = Count(Meter(tell), Stage.CHECKING, str(folder), manifest.size)
    problems = find_problems(folder, manifest, count.add)
    if problems:
        named = "; ".join(str(problem) for problem in problems[:NAMED_LIMIT])
        more = f"; and {len(problems) - NAMED_LIMIT} more" if problems[NAMED_LIMIT:] else ""
        raise AgentError(
            Code.MODEL_INVALID,
            f"cannot trust {folder}: {named}{more}",
            "an engine that cannot read it has it brought again by itself; to do so now, "
            "remove the damaged files, then: deepseekctl restart INSTANCE",
        )
    revision = f", revision {manifest.revision}" if manifest.revision else ""
    return f"{len(manifest.files)} files, {size(manifest.size)}, all as they were{revision}"
