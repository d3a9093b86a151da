# SPDX-License-Identifier: MulanPSL-2.0
"""A disk that is full, on a small file system of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

from agent.errors import AgentError
from agent.supplies import ImageOrder, ImageSource
from agent.supply.disk import MIB, check_room, free_bytes
from agent.supply.image_room import bytes_beside, measure_image
from tests.unit.supply.hubs import BIG, Bringing
from tests.unit.supply.test_image_archives import OLD, docker_files, put, tar_of

pytestmark = pytest.mark.timeout(60)
TREE = Path(__file__).parents[3]
NAMESPACE = ("unshare", "--map-root-user", "--mount", "--propagation", "private")
FETCH = """
import os, sys
from agent.errors import AgentError
from agent.supplies import Hub, ModelOrder, ModelSource, Stage
from agent.supply.model import bring_model
endpoint, repo, models, filler_bytes, keep_free_mib = sys.argv[1:]
def tell(progress):
    if progress.stage is Stage.FETCHING and not os.path.exists(models + "/filler"):
        with open(models + "/filler", "wb") as stream:
            stream.write(bytes(int(filler_bytes)))
source = ModelSource(Hub.HUGGINGFACE, endpoint, repo, "main")
try:
    bring_model(ModelOrder(models + "/small", (source,)), 1, int(keep_free_mib), tell)
except AgentError as error:
    print(error.failure.code, error.failure.message, error.failure.hint, sep="|")
print(os.path.lexists(models + "/small"))
"""
FETCH_BOTH = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
from agent.errors import AgentError
from agent.supplies import Hub, ModelOrder, ModelSource
from agent.supply.model import bring_model
endpoint, repo, models, _, keep_free_mib = sys.argv[1:]
source = ModelSource(Hub.HUGGINGFACE, endpoint, repo, "main")
def bring(name):
    order = ModelOrder(models + "/" + name, (source,))
    try:
        bring_model(order, 1, int(keep_free_mib), lambda progress: None)
    except AgentError as error:
        return error.failure.message
    return "whole"
with ThreadPoolExecutor() as pool:
    print(*pool.map(bring, ("8b", "14b")), sep="\\n")
"""

WITH_SPARE = (
    """
import os, sys
spare = sys.argv[3] + "/.incoming/small/sha256-" + "0" * 64 + ".part"
os.makedirs(os.path.dirname(spare))
with open(spare, "wb") as stream:
    stream.write(bytes(2**21))
"""
    + FETCH
    + "print(os.path.exists(spare))"
)
COPY = """
import os, sys
from pathlib import Path
import agent.supply.room
from agent.errors import AgentError
from agent.supply.folders import copy_model
_, source, models, filler_bytes, keep_free_mib = sys.argv[1:]
agent.supply.room.LOOK_EVERY_S = 0.0
def tell(progress):
    with open(models + "/filler", "wb") as stream:
        stream.write(bytes(int(filler_bytes)))
try:
    copy_model(
        Path(source), models + "/small", int(keep_free_mib), tell,
        within=Path(source), settled_s=0.0,
    )
except AgentError as error:
    print(error.failure.code, error.failure.message, error.failure.hint, sep="|")
print(os.path.lexists(models + "/small"))
"""


def fetch_into(
    bringing: Bringing,
    size_kib: int,
    filler_bytes: int = 0,
    keep_free_mib: int = 0,
    script: str = FETCH,
    repo: str = "",
) -> list[str]:
    if subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no namespaces here")
    bringing.models.mkdir(exist_ok=True)
    source, models = bringing.source(), str(bringing.models)
    mount = f"mount -t tmpfs -o size={size_kib}k none {models}"
    words = (source.endpoint, repo or source.repo, models, str(filler_bytes), str(keep_free_mib))
    inside = (*NAMESPACE, "sh", "-c", f'{mount} && exec "$@"', "sh")
    done = subprocess.run(
        [*inside, sys.executable, "-c", script, *words],
        cwd=TREE,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_too_small_at_first(bringing: Bringing) -> None:
    failure, seen = fetch_into(bringing, 2000)
    assert failure.startswith("disk-too-full|cannot fetch the model: needed 0.0 GiB, there are")
    assert seen == "False"
    assert bringing.fetched() == []


def test_model_and_image_are_added_up(tmp_path: Path) -> None:
    needs = ((str(tmp_path), 7), ("/proc", 5), (str(tmp_path / "none"), 3), (str(tmp_path), 1))
    beside = bytes_beside(tmp_path / "not/yet", needs)
    assert beside == 8
    free_mib = free_bytes(tmp_path) // MIB
    check_room("fetch the model", {tmp_path: MIB}, free_mib // 2)
    with pytest.raises(AgentError, match=r"0\.0 GiB and .* GiB for the image and .* to stay free"):
        check_room("fetch it", {tmp_path: MIB}, free_mib // 2, image_bytes=free_mib * MIB)


def test_two_folders_of_one_disk_need_the_sum(tmp_path: Path) -> None:
    most = free_bytes(tmp_path) * 2 // 3
    check_room("x", {tmp_path / "a": most}, 0)
    with pytest.raises(AgentError, match="needed"):
        check_room("x", {tmp_path / "a": most, tmp_path / "b": most}, 0)


@pytest.mark.parametrize(
    ("said", "needs"),
    [
        ('{"answer": {"needs": {"/a": 5, "/b": 6}}}', (("/a", 5), ("/b", 6))),
        ('{"answer": {"needs": {"/a": "5"}}}', ()),
        ('{"answer": {"needs": [1]}}', ()),
        ('{"error": {"code": "podman-unavailable", "message": "m", "hint": ""}}', ()),
        ("nonsense", ()),
        ("", ()),
    ],
)
def test_what_an_image_needs(tmp_path: Path, said: str, needs: object) -> None:
    order = ImageOrder(
        "quay.io/a/b:1", (ImageSource("m.example/a/b:1"), ImageSource("quay.io/a/b:1"))
    )
    script = f"import sys; assert sys.argv[1:] == ['measure']; print({said!r})"
    assert measure_image(order, str(tmp_path), (sys.executable, "-c", script)) == needs


@pytest.mark.parametrize("signed", [False, True])
def test_an_archive_that_is_not_taken_needs_nothing(tmp_path: Path, signed: bool) -> None:
    put(tmp_path, "a.tar", tar_of(docker_files("quay.io/a/b:1")), OLD)
    signers = tmp_path / "bundle-signers"
    if signed:
        signers.touch()
    script = """import json, sys; print(json.dumps({"answer": {"needs": {k: 1 for k in
        json.load(sys.stdin)}}}))"""
    order = ImageOrder("quay.io/a/b:1", (ImageSource("quay.io/a/b:1"),))
    needs = measure_image(order, str(tmp_path), (sys.executable, "-c", script), signers)
    assert needs == (("source" if signed else "archive", 1),)


def test_filled_by_somebody_else_meanwhile(bringing: Bringing) -> None:
    bringing.hub.spoil({"kind": "slow", "rate": 3_000_000, "match": "Signature", "times": -1})
    failure, seen = fetch_into(bringing, 4000, 2_500_000)
    assert failure.startswith("disk-too-full|cannot write ")
    assert "make room" in failure
    assert seen == "False"


def test_it_ends_before_the_disk_is_full(bringing: Bringing) -> None:
    """Of 20 MiB that are to stay free somebody else takes 15."""
    bringing.hub.spoil({"kind": "slow", "rate": 300_000, "match": "Signature", "times": -1})
    failure, seen = fetch_into(bringing, 40 * 1024, 35 * MIB, keep_free_mib=20)
    assert failure.startswith("disk-too-full|cannot fetch the model: needed 0.0 GiB and 0.0 GiB")
    assert seen == "False"
    assert any(one.endswith(BIG) for one in bringing.fetched())


def test_a_copy_ends_before_the_disk_is_full(bringing: Bringing, tmp_path: Path) -> None:
    folder = tmp_path / "usb"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"weights!" * MIB)
    failure, seen = fetch_into(
        bringing, 40 * 1024, 28 * MIB, keep_free_mib=20, script=COPY, repo=str(folder)
    )
    assert failure.startswith(f"disk-too-full|cannot copy {folder}: needed 0.0 GiB and 0.0 GiB")
    assert seen == "False"


def test_the_last_of_it_still_comes(bringing: Bringing) -> None:
    """A model that lacks its last file helps nobody: half of what is to stay free is left."""
    bringing.hub.spoil({"kind": "slow", "rate": 600_000, "match": "Signature", "times": -1})
    assert fetch_into(bringing, 40 * 1024, 21 * MIB, keep_free_mib=20) == ["True"]


def test_what_another_source_has_begun_makes_way(bringing: Bringing) -> None:
    """It is kept where it would not help, too."""
    assert fetch_into(bringing, 8000, script=WITH_SPARE) == ["True", "False"]
    assert fetch_into(bringing, 4500, script=WITH_SPARE) == ["True", "False"]
    failure, seen, kept = fetch_into(bringing, 4500, keep_free_mib=2, script=WITH_SPARE)
    assert failure.startswith("disk-too-full|cannot fetch the model: needed 0.0 GiB")
    assert (seen, kept) == ("False", "True")


def test_two_at_once_leave_each_other_their_room(bringing: Bringing) -> None:
    """Each fits, and both do not: one of them comes, as if it had been alone."""
    bringing.hub.spoil({"kind": "slow", "rate": 800_000, "match": "Signature", "times": -1})
    told = fetch_into(bringing, 5500, keep_free_mib=2, script=FETCH_BOTH)
    assert "whole" in told
    failure = next(one for one in told if one != "whole")
    assert "GiB for what else is being brought" in failure


def test_large_enough(bringing: Bringing) -> None:
    assert fetch_into(bringing, 6000) == ["True"]
