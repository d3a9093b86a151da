# SPDX-License-Identifier: MulanPSL-2.0
"""A machine that makes a bundle and a host that gets it, in a folder: real files, and a `podman`
that is the stand-in of `tests/fakes/podman_images.py`."""

import hashlib
import os
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent.supplies import MANIFEST_NAME, Manifest, ModelFile, Progress
from agent.supply.bundle.bring import Imported, Target, import_bundle
from agent.supply.bundle.create import Wanted, create
from agent.supply.bundle.format import Bundle
from agent.supply.bundle.images import PodmanImages
from agent.supply.manifest import write_manifest
from tests.fakes import podman_images

REFERENCE = "registry.example:5000/ascend/vllm-ascend:v0.18.0-openeuler"
PART_BYTES = 4096
MODEL = {
    "config.json": b'{"model_type": "llama"}\n',
    "empty.txt": b"",
    "model-00001-of-000002.safetensors": os.urandom(5 * PART_BYTES // 2),
    "model-00002-of-000002.safetensors": os.urandom(2 * PART_BYTES),
    "tokenizer/词表.json": b'{"a": 1}',
}
IMAGE_CONTENT = os.urandom(3 * PART_BYTES)


def podman_in(folder: Path) -> PodmanImages:
    """A Podman with a storage of its own."""
    store = folder / "images"
    store.mkdir(parents=True, exist_ok=True)
    program = folder / "podman"
    program.write_text(
        f"#!/bin/sh\nPODMAN_IMAGES='{store}' exec '{sys.executable}' -S"
        f" '{podman_images.__file__}' \"$@\"\n",
        encoding="utf-8",
    )
    program.chmod(0o755)
    return PodmanImages(str(program))


def put_image(
    images: Path,
    content: bytes = IMAGE_CONTENT,
    architecture: str = "arm64",
    reference: str = REFERENCE,
) -> str:
    """As if it had been pulled; its id."""
    image_id, archive = podman_images.make_archive(reference, content, architecture)
    (images / image_id).write_bytes(archive)
    (images / "names.json").write_text(f'{{"{reference}": "{image_id}"}}', encoding="utf-8")
    return image_id


def put_model(folder: Path, files: dict[str, bytes] = MODEL, revision: str = "abc123") -> Manifest:
    rows = []
    for name, content in sorted(files.items()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        rows.append(ModelFile(name, len(content), hashlib.sha256(content).hexdigest()))
    manifest = Manifest("modelscope", "deepseek-ai/small", revision, tuple(rows))
    write_manifest(folder, manifest)
    return manifest


def content_of(folder: Path) -> dict[str, bytes]:
    """Every file below it but the manifest."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != MANIFEST_NAME
    }


@dataclass(slots=True)
class Scene:
    """Everything in one folder."""

    root: Path
    told: list[Progress] = field(default_factory=list)

    @property
    def model(self) -> Path:
        return self.root / "maker/models/small"

    @property
    def output(self) -> Path:
        return self.root / "stick/bundle"

    @property
    def models_dir(self) -> Path:
        return self.root / "host/models"

    def leftovers(self) -> list[str]:
        """What is staged; locks stay."""
        staged = (self.models_dir / ".incoming").iterdir()
        return [one.name for one in staged if one.is_dir()]

    @property
    def signers(self) -> Path:
        return self.root / "host/bundle-signers"

    def prepare(self) -> str:
        """The id of the image."""
        put_model(self.model)
        podman_in(self.root / "maker")
        podman_in(self.root / "host")
        self.models_dir.mkdir()
        return put_image(self.root / "maker/images")

    def wanted(self, **changed: object) -> Wanted:
        values: dict[str, object] = {
            "instance": "8b",
            "image": REFERENCE,
            "product_line": "A2",
            "model": self.model,
            "output": self.output,
            "part_bytes": PART_BYTES,
        }
        return Wanted(**(values | changed))  # type: ignore[arg-type]

    def create(self, **changed: object) -> Bundle:
        return create(self.wanted(**changed), podman_in(self.root / "maker"), self.told.append)

    @property
    def target(self) -> Target:
        images = podman_in(self.root / "host")
        return Target(self.models_dir, images, signers=self.signers, machine="aarch64")

    def bring(self, folder: Path | None = None, **changed: float | Path) -> Imported:
        target = replace(self.target, **changed)  # type: ignore[arg-type]
        return import_bundle(folder or self.output, target, self.told.append)
