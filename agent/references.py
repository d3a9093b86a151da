# SPDX-License-Identifier: MulanPSL-2.0
"""Names of images: in come references as people and archives write them, out come their parts.

Pure. The rules are those of distribution/reference, as Podman and Docker read them.
"""

import re
from dataclasses import dataclass

DOCKER_HUB = "docker.io"
_HOST = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?")
_PART = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
# Podman knows more kinds than registries use. An image of such a name may be in its storage.
_OTHER_DIGEST = re.compile(r"sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}")
LONGEST = 512
# A reference by digest cannot be a tag; with one of the same name Podman finds it by its digest.
PINNED = "deepseek-agent"


@dataclass(frozen=True, slots=True)
class Reference:
    """An image at a registry: by tag, by digest, or by both."""

    registry: str  # "quay.io", "mirror.example:5000"
    path: str  # "ascend/vllm-ascend"
    tag: str  # empty: there is a digest
    digest: str  # "sha256:...", or empty

    @property
    def name(self) -> str:
        return f"{self.registry}/{self.path}"

    @property
    def given_tag(self) -> str:
        """By which an image is named that came under another name."""
        return self.tag or PINNED

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}{f'@{self.digest}' if self.digest else ''}"


def parse_reference(text: str) -> Reference | None:
    """With what a short name leaves out. None for what is no reference."""
    if len(text) > LONGEST:
        return None
    rest, _, digest = text.partition("@")
    head, slash, tail = rest.rpartition("/")
    tail, colon, tag = tail.partition(":")
    registry, path = _split(f"{head}{slash}{tail}")
    if (
        not _HOST.fullmatch(registry)
        or not all(_PART.fullmatch(part) for part in path.split("/"))
        or (colon and not _TAG.fullmatch(tag))
        or ("@" in text and not _DIGEST.fullmatch(digest))
    ):
        return None
    return Reference(registry, path, tag or ("" if digest else "latest"), digest)


def carried_name(text: str) -> str:
    """Of ours, for an image by its digest that came in a bundle: Podman gives what it loads a
    manifest of its own, so by that digest it finds nothing (podman#18809), and it takes no digest
    as a name. Empty for a reference without one."""
    _, _, digest = text.partition("@")
    if not _DIGEST.fullmatch(digest) and not _OTHER_DIGEST.fullmatch(digest):
        return ""
    return f"localhost/deepseek-agent/carried/{digest}"


def is_image_name(text: str) -> bool:
    """Whether Podman can have an image of that name, or id: those look like names too."""
    name, _, digest = text.partition("@")
    known = name if _OTHER_DIGEST.fullmatch(digest) else text
    return parse_reference(known) is not None


def _split(name: str) -> tuple[str, str]:
    """Registry and path: what comes first is a host when it looks like one."""
    first, slash, rest = name.partition("/")
    if slash and (first == "localhost" or "." in first or ":" in first):
        return first, rest if first != DOCKER_HUB or "/" in rest else f"library/{rest}"
    return DOCKER_HUB, name if slash else f"library/{name}"
