# SPDX-License-Identifier: MulanPSL-2.0
"""A bundle that has a certain model: in a folder and a manifest, out what reads a file of it."""

from collections.abc import Callable
from pathlib import Path

from agent.supplies import Manifest
from agent.supply.bundle.opened import Take, open_bundle, read_named_part, require_whole
from agent.supply.manifest import sort_files


def match_bundle(folder: Path, manifest: Manifest) -> Callable[[str, Take], None] | None:
    """Gives away the file of that path, each part checked. None when the bundle has other files,
    wherever they came from. Both raise AgentError."""
    opened = open_bundle(folder)
    model = opened.bundle.model
    if model is None or sort_files(model.manifest).files != manifest.files:
        return None
    contents = {content.path: content for content in model.contents}

    def read(path: str, take: Take) -> None:
        parts = contents[path].parts
        require_whole(opened, parts)
        for part in parts:
            read_named_part(folder, part, take)

    return read
