# SPDX-License-Identifier: MulanPSL-2.0
"""What a bundle consists of, as values (docs/bundle.md)."""

from dataclasses import dataclass

from agent.supplies import SCHEMA, Manifest

BUNDLE_NAME = "deepseek-bundle.json"
SIGNATURE_NAME = "deepseek-bundle.json.sig"
RECORDS_NAME = "deepseek-bundle.records"  # of a bundle that is being made
# FAT32 has no file of 4 GiB; and what was damaged or interrupted is read again as a whole part.
PART_BYTES = 2 * 1024**3
MAX_PART_BYTES = 2**32 - 1
# An archive of Podman's that both 4.3 and 5.4 write into a pipe and load with its name.
ARCHIVE_FORMAT = "docker-archive"


@dataclass(frozen=True, slots=True)
class Part:
    """A file of the bundle."""

    name: str  # below the bundle's folder, with "/"
    size: int
    sha256: str  # 64 hex digits


@dataclass(frozen=True, slots=True)
class Content:
    """A file that is cut into parts."""

    path: str  # below the model's folder; `names.IMAGE_STEM` for the image
    size: int
    sha256: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class BundledImage:
    """The image, as an archive."""

    reference: str
    image_id: str  # 64 hex digits
    digest: str  # of its manifest in the registry: "sha256:..."; empty: unknown
    architecture: str  # as images say it: "arm64"
    product_line: str  # of Ascend: "A2"; empty: not told
    archive: Content


@dataclass(frozen=True, slots=True)
class BundledModel:
    """The model, with what its manifest will say."""

    directory: str  # the name of its folder below models_dir
    manifest: Manifest
    contents: tuple[Content, ...]  # in the order of the manifest's files


@dataclass(frozen=True, slots=True)
class Bundle:
    """What stands in `BUNDLE_NAME`."""

    instance: str
    created: str  # "2026-11-29T12:00:00Z"
    made_by: str  # "deepseek-agent 0.1.0"
    image: BundledImage | None
    model: BundledModel | None
    schema: int = SCHEMA

    @property
    def contents(self) -> tuple[Content, ...]:
        """In the order in which they are written and read."""
        image = () if self.image is None else (self.image.archive,)
        return image + (() if self.model is None else self.model.contents)

    @property
    def parts(self) -> tuple[Part, ...]:
        return tuple(part for content in self.contents for part in content.parts)

    @property
    def size(self) -> int:
        return sum(content.size for content in self.contents)
