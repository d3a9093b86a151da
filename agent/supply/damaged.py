# SPDX-License-Identifier: MulanPSL-2.0
"""What is the matter with a revision in the store: in goes its name, out a `Damaged`. Reads it, and
changes nothing.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from agent.errors import AgentError
from agent.supplies import MANIFEST_NAME, Manifest, ModelSource, Stage
from agent.supply.manifest import read_manifest
from agent.supply.meter import Count, Meter
from agent.supply.place import Home
from agent.supply.verify import Wrong, find_problems, look_at

_OF_COMMIT = re.compile(r"(?P<commit>[0-9a-f]{40})(\.[0-9]+)?")  # name of a folder in the store


@dataclass(frozen=True, slots=True)
class Damaged:
    """The revision that an engine got, or would."""

    name: str  # of its folder
    folder: Path
    manifest: Manifest | None  # None: that is damaged as well
    problems: tuple[str, ...]  # as far as was looked; empty: nothing is the matter with it
    wrong: frozenset[str] = frozenset()  # paths, when it was read to its end

    def came_from(self, source: ModelSource) -> bool:
        """Whether its commit is one of that repository; without a manifest anybody may know it."""
        one = self.manifest
        return one is None or (
            one.revision != "" and (one.hub, one.repo) == (source.hub.value, source.repo)
        )

    @property
    def commit(self) -> str:
        """Empty when it is unknown."""
        if self.manifest is not None:
            return self.manifest.revision
        named = _OF_COMMIT.fullmatch(self.name)
        return named["commit"] if named is not None else ""


def look(home: Home, name: str, meter: Meter) -> Damaged:
    """Content is read only where names and sizes are right."""
    folder = home.store / name
    try:
        manifest = read_manifest(folder)
    except AgentError as error:
        return Damaged(name, folder, None, (error.failure.message,))
    if manifest is None:
        return Damaged(name, folder, None, (f"{MANIFEST_NAME}: {Wrong.MISSING}",))
    seen = [str(one) for file in manifest.files if (one := look_at(folder, file)) is not None]
    if seen:
        return Damaged(name, folder, manifest, tuple(seen))
    found = read_all(folder, manifest, meter)
    return Damaged(name, folder, manifest, tuple(found.values()), frozenset(found))


def read_all(folder: Path, manifest: Manifest, meter: Meter) -> dict[str, str]:
    """Paths of what is wrong, and what is."""
    count = Count(meter, Stage.CHECKING, str(folder), manifest.size)
    problems = find_problems(folder, manifest, count.add)
    return {problem.path: str(problem) for problem in problems}
