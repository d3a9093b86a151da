# SPDX-License-Identifier: MulanPSL-2.0
"""Which names a bundle may hold, and how its own files are called. Pure.

In: names of others, hostile ones among them. Out: why they are refused; names that are the same
file on FAT32, exFAT and ext4. A reader computes the names of parts, so that none can lead out of
the folder whatever is written in the bundle.
"""

import re
from collections import Counter
from collections.abc import Iterable

from agent.supplies import MANIFEST_NAME
from agent.supply.hub.listing import path_trouble

IMAGE_STEM = "image.tar"
MODEL_FOLDER = "model"
COMPONENT_BYTES = 255  # NAME_MAX of Linux; FAT counts UTF-16 units, of ASCII the same
# Letters of which every file system says the same, whatever character set it was mounted with.
_PLAIN = re.compile(rb"[A-Za-z0-9._+=@,()-]")
# Devices of Windows, also with an ending (learn.microsoft.com, "Naming Files, Paths").
_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE | re.DOTALL)


def path_refusal(path: str) -> str | None:
    """Why a model may not have a file of this name; None when it may."""
    if trouble := path_trouble(path):
        return trouble
    if path.split("/")[0] == MANIFEST_NAME:
        return "the manifest is written by the agent"
    return None


def folder_refusal(name: str) -> str | None:
    """Why a folder of ours may not be called so; None when it may."""
    if "/" in name or name.startswith("."):
        return "it is no name of a folder"
    return path_refusal(name)


def stem_refusal(stems: Iterable[str]) -> str | None:
    """Why these cannot be in one folder of FAT32, where "A" and "a" are the same."""
    stems = tuple(stems)
    for stem in stems:
        if any(len(part) > COMPONENT_BYTES - len(".0000") for part in stem.split("/")):
            return f"{stem} is too long"
    twice = sorted(stem for stem, n in Counter(stem.lower() for stem in stems).items() if n > 1)
    return f"{twice[0]} would be there twice on a disk that ignores case" if twice else None


def model_stem(path: str) -> str:
    """What the parts of a model's file are called, without their number."""
    return "/".join((MODEL_FOLDER, *(_on_fat(component) for component in path.split("/"))))


def part_name(stem: str, index: int) -> str:
    return f"{stem}.{index:03d}"


def _on_fat(component: str) -> str:
    """Bytes that are not the same everywhere as %XX, as in an address."""
    letters = [
        chr(byte) if _PLAIN.fullmatch(bytes((byte,))) else f"%{byte:02X}"
        for byte in component.encode()
    ]
    if _DEVICE.fullmatch(component):
        letters[0] = f"%{ord(component[0]):02X}"
    if letters[-1] == ".":  # Windows drops it
        letters[-1] = "%2E"
    return "".join(letters)
