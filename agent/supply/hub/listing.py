# SPDX-License-Identifier: MulanPSL-2.0
"""What a hub offers, checked: no path leads out of a folder, no size is nonsense. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import quote

from agent.errors import AgentError, Code
from agent.supplies import MANIFEST_NAME

# Far above every model: DeepSeek-R1 has 163 shards of 4 GB.
FILES_LIMIT = 5_000
FILE_LIMIT_BYTES = 2**42
PATH_LIMIT_BYTES = 1024
NAME_LIMIT_BYTES = 200  # 255 of the file system, less what we append

COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?")

WEIGHTS = (".safetensors",)
# The same weights in other formats; fetched only where there are no safetensors.
OTHER_WEIGHTS = (".bin", ".pth", ".pt", ".h5", ".msgpack", ".onnx", ".gguf", ".ckpt")
CONFIG = "config.json"


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file that a hub offers. Without a checksum only its size can be checked."""

    path: str
    size: int
    url: str
    sha256: str = ""
    git_sha1: str = ""  # of the git blob: what Hugging Face tells of files that are not in LFS


@dataclass(frozen=True, slots=True)
class Listing:
    """What a repository consists of."""

    revision: str  # the commit; empty when the hub tells none
    files: tuple[RemoteFile, ...]


def listing_refused(host: str, why: str) -> AgentError:
    return AgentError(
        Code.CONTENT_DAMAGED,
        f"cannot use the list of files of {host}: {why}",
        "something else than the hub may have answered; another source may be right",
    )


def check_repo(repo: str, revision: str) -> None:
    """Both become part of an address."""
    if not REPO.fullmatch(repo) or not revision or not quote(revision, safe="").isascii():
        raise AgentError(
            Code.SOURCE_NOT_FOUND,
            f"cannot look up {repo!r} at {revision!r}: that is no name of a repository",
            "it is written OWNER/NAME, the revision is a branch, tag or commit",
        )


def check_listing(listing: Listing, host: str) -> Listing:
    """Raises AgentError. What is read from a hub is hostile until it has been here."""
    if trouble := files_trouble((file.path, file.size) for file in listing.files):
        raise listing_refused(host, trouble)
    return listing


def files_trouble(files: Iterable[tuple[str, int]]) -> str:
    """Why these paths and sizes are no model's; empty when they may be. It holds for what a hub
    offers, for a manifest and for a bundle: what one lets pass, none of the others refuses."""
    names: set[str] = set()
    folders: set[str] = set()
    for path, size in files:
        if len(names) >= FILES_LIMIT:
            return f"more than {FILES_LIMIT} files"
        if why := path_trouble(path):
            return f"{why}: {path[:200]!r}"
        if not 0 <= size <= FILE_LIMIT_BYTES:
            return f"size {size} of {path}"
        if path in names:
            return f"{path} is there twice"
        names.add(path)
        folders.update(str(parent) for parent in PurePosixPath(path).parents)
    both = names & folders
    return f"{min(both)} is a file and a folder" if both else ""


def path_trouble(path: str) -> str:
    """Why this is no path below a folder; empty when it is one."""
    try:
        size = len(path.encode())
    except UnicodeEncodeError:  # JSON can hold half a surrogate pair
        return "a path that is no text"
    if not path or size > PATH_LIMIT_BYTES:
        return "a path that is empty or too long"
    if not path.isprintable() or "\\" in path:
        return "a path with control characters"
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts):
        return "a path that leads elsewhere"
    if any(len(part.encode()) > NAME_LIMIT_BYTES for part in parts):
        return "a name that is too long"
    return ""


def choose_files(files: Iterable[RemoteFile], host: str) -> tuple[RemoteFile, ...]:
    """What of a repository is fetched, sorted by path. Raises AgentError when it is no model."""
    offered = [file for file in files if _is_wanted(file.path)]
    if any(file.path.endswith(WEIGHTS) for file in offered if not _is_original(file.path)):
        offered = [
            file
            for file in offered
            if not file.path.lower().endswith(OTHER_WEIGHTS) and not _is_original(file.path)
        ]
    missing = [] if any(file.path == CONFIG for file in offered) else [CONFIG]
    if not any(file.path.lower().endswith(WEIGHTS + OTHER_WEIGHTS) for file in offered):
        missing.append("weights")
    if missing:
        raise AgentError(
            Code.SOURCE_NOT_FOUND,
            f"cannot find a model on {host}: there is no {' and no '.join(missing)}",
            "is it the right repository, and is this revision complete?",
        )
    return tuple(sorted(offered, key=lambda file: file.path))


def _is_wanted(path: str) -> bool:
    return path != MANIFEST_NAME and not any(part.startswith(".git") for part in path.split("/"))


def _is_original(path: str) -> bool:
    """Meta's own format, beside that of transformers."""
    return path.startswith("original/")


# --- fields of JSON ------------------------------------------------------------------------------


def field(value: object, name: str) -> object:
    """None when it is not there, or `value` is no object."""
    return value.get(name) if isinstance(value, dict) else None


def text_field(value: object, name: str) -> str:
    found = field(value, name)
    return found if isinstance(found, str) else ""


def size_field(value: object, name: str) -> int:
    """-1, which `check_listing` refuses, when it is no number."""
    found = field(value, name)
    return found if isinstance(found, int) and not isinstance(found, bool) else -1


def checksum(text: str, shape: re.Pattern[str]) -> str:
    """Empty when it is none."""
    text = text.lower()
    return text if shape.fullmatch(text) else ""
