# SPDX-License-Identifier: MulanPSL-2.0
"""A small model behind the double of a hub, and what brings it."""

import hashlib
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from agent.errors import AgentError
from agent.supplies import MANIFEST_NAME, Hub, Manifest, ModelOrder, ModelSource, Progress
from agent.supply.mend import mend_model
from agent.supply.model import bring_model
from agent.supply.patience import Patience
from tests.fakes.hub import HubDouble
from tests.fakes.hub.repos import COMMITS

REPO = "deepseek-ai/small"
BRANCH = {Hub.HUGGINGFACE: "main", Hub.MODELSCOPE: "master"}
# Waits as short as can be: what is tested is the order of things, not the clock.
QUICK = Patience(tries=4, first_wait_s=0.01, longest_wait_s=0.02, silence_s=2.0)
BIG = "model-00001-of-00002.safetensors"
BIG_BYTES = 3_000_000
NOT_FETCHED = (".gitattributes", "pytorch_model.bin", "original/params.json")


def make_repo(folder: Path, seed: int = 1) -> Path:
    """What a hub has: wanted files, and some that are not."""
    dice = random.Random(seed)  # noqa: S311
    root = folder / REPO
    contents = {
        "config.json": b'{"model_type": "llama"}',
        "tokenizer/\u8bcd\u8868 +&#?.json": dice.randbytes(5000),
        "empty.txt": b"",
        BIG: dice.randbytes(BIG_BYTES),
        "model-00002-of-00002.safetensors": dice.randbytes(70_001),
        **dict.fromkeys(NOT_FETCHED, b"x" * 10),
    }
    for path, content in contents.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return root


def keep_commit(hub: Path, commit: str) -> None:
    """The hub goes on showing what its branches are now, when they have moved on."""
    shutil.copytree(hub / REPO, hub / COMMITS / commit / REPO)


def wanted(root: Path) -> dict[str, bytes]:
    """Path -> content of what has to be there in the end."""
    paths = [path for path in root.rglob("*") if path.is_file()]
    found = {str(path.relative_to(root)): path.read_bytes() for path in paths}
    return {path: content for path, content in found.items() if path not in NOT_FETCHED}


@dataclass
class Bringing:
    """One model on one host."""

    hub: HubDouble
    root: Path  # of the repository
    models: Path
    told: list[Progress] = field(default_factory=list)

    @property
    def link(self) -> Path:
        return self.models / "small"

    @property
    def staging(self) -> Path:
        return self.models / ".incoming" / "small"

    @property
    def proc(self) -> Path:
        """Of all processes only this one, and those that a test adds: others may not be looked at,
        unless by root."""
        folder = self.models.parent / "proc"
        if not folder.exists():
            folder.mkdir()
            (folder / str(os.getpid())).symlink_to("/proc/self")
        return folder

    def source(self, hub: Hub = Hub.HUGGINGFACE, **changes: object) -> ModelSource:
        words = {"endpoint": self.hub.endpoint, "repo": REPO, "revision": BRANCH[hub], **changes}
        return ModelSource(hub, **words)  # type: ignore[arg-type]

    def bring(
        self,
        *sources: ModelSource,
        patience: Patience = QUICK,
        parallel: int = 3,
        keep_free_mib: int = 0,
        tell: Callable[[Progress], None] | None = None,
    ) -> Manifest:
        order = ModelOrder(str(self.link), sources or (self.source(),))
        heard = tell or self.told.append
        return bring_model(order, parallel, keep_free_mib, heard, patience=patience)

    def mend(self, *sources: ModelSource, revision: str = "") -> Manifest:
        """An engine cannot read it, or the plan."""
        order = ModelOrder(str(self.link), sources or (self.source(),), True, revision)
        told = self.told.append
        return mend_model(order, 3, 0, told, patience=QUICK, proc=self.proc).manifest

    def fail(self, *sources: ModelSource, **options: object) -> AgentError:
        """It has to fail, and nothing may be seen."""
        try:
            self.bring(*sources, **options)  # type: ignore[arg-type]
        except AgentError as error:
            assert not os.path.lexists(self.link)
            return error
        raise AssertionError("it did not fail")

    def assert_whole(self, manifest: Manifest) -> None:
        contents = wanted(self.root)
        assert wanted(self.link.resolve()).keys() == {*contents, MANIFEST_NAME}
        for path, content in contents.items():
            assert (self.link / path).read_bytes() == content, path
        listed = {file.path: (file.size, file.sha256) for file in manifest.files}
        assert listed == {
            path: (len(content), hashlib.sha256(content).hexdigest())
            for path, content in contents.items()
        }
        assert not self.staging.exists()

    def fetched(self) -> list[str]:
        """Addresses of contents that were asked for."""
        return [one["path"] for one in self.hub.asked() if "/api/models/" not in one["path"]]
