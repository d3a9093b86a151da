# SPDX-License-Identifier: MulanPSL-2.0
"""What happens to disks on their way: it is found, and the file is named."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import AgentError, Code, Remedy
from agent.supplies import MANIFEST_NAME
from agent.supply.bundle.archive import require_archive_of
from agent.supply.bundle.files import open_for_writing, write_all
from agent.supply.bundle.find import find_bundles
from agent.supply.bundle.format import BUNDLE_NAME, SIGNATURE_NAME, Bundle, Part
from agent.supply.bundle.opened import open_bundle, read_part, verify
from agent.supply.disk import writing
from tests.fakes.podman_images import make_archive, pack

from .bundle_scene import MODEL, REFERENCE, Scene, content_of, put_image, put_model
from .test_bundle_signing import allow, make_key

pytestmark = pytest.mark.timeout(120)  # every file is synced, on a disk that may be busy
WEIGHTS = "model/model-00001-of-000002.safetensors.001"


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    made = Scene(tmp_path)
    made.prepare()
    return made


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Scene, Bundle]:
    """One that every example damages and mends."""
    made = Scene(tmp_path_factory.mktemp("signed"))
    made.prepare()
    key = make_key(made.root, "depot")
    allow(made, key)
    return made, made.create(key=key)


@contextmanager
def flipped(path: Path, bit: int) -> Iterator[None]:
    before = path.read_bytes()
    after = bytearray(before)
    after[bit // 8] ^= 1 << bit % 8
    path.write_bytes(after)
    try:
        yield
    finally:
        path.write_bytes(before)


def failure(raised: pytest.ExceptionInfo[AgentError]) -> tuple[Code, str]:
    return raised.value.failure.code, raised.value.failure.message


# --- one bit -------------------------------------------------------------------------------------


@given(st.data())
@settings(max_examples=30)
def test_one_bit_of_the_content_is_found_and_named(
    signed: tuple[Scene, Bundle], data: st.DataObject
) -> None:
    scene, bundle = signed
    part = data.draw(st.sampled_from([part for part in bundle.parts if part.size]))
    bit = data.draw(st.integers(0, part.size * 8 - 1))
    opened = open_bundle(scene.output, scene.signers)
    with flipped(scene.output / part.name, bit), pytest.raises(AgentError) as raised:
        verify(opened, scene.told.append)
    code, message = failure(raised)
    assert code is Code.BUNDLE_DAMAGED
    assert part.name in message


@given(st.data())
@settings(max_examples=20)
def test_one_bit_of_a_signed_list_is_found(
    signed: tuple[Scene, Bundle], data: st.DataObject
) -> None:
    scene, _ = signed
    path = scene.output / BUNDLE_NAME
    bit = data.draw(st.integers(0, path.stat().st_size * 8 - 1))
    with flipped(path, bit), pytest.raises(AgentError) as raised:
        open_bundle(scene.output, scene.signers)
    assert raised.value.failure.code is Code.BUNDLE_UNTRUSTED


@given(st.data())
@settings(max_examples=20)
def test_one_bit_of_a_signature_lets_nothing_else_pass(
    signed: tuple[Scene, Bundle], data: st.DataObject
) -> None:
    """A few bits of its text mean nothing; then it is the same signature."""
    scene, bundle = signed
    path = scene.output / SIGNATURE_NAME
    bit = data.draw(st.integers(0, path.stat().st_size * 8 - 1))
    with flipped(path, bit):
        try:
            found: Bundle | Code = open_bundle(scene.output, scene.signers).bundle
        except AgentError as error:
            found = error.failure.code
    assert found in (bundle, Code.BUNDLE_UNTRUSTED)


@pytest.mark.parametrize(
    "name",
    ["image.tar.000", "image.tar.002", "model/config.json.000", WEIGHTS],
)
def test_nothing_damaged_is_brought_and_the_rest_goes_on(scene: Scene, name: str) -> None:
    scene.create()
    with flipped(scene.output / name, 9), pytest.raises(AgentError) as raised:
        scene.bring()
    code, message = failure(raised)
    assert (code, raised.value.failure.remedy) == (Code.BUNDLE_DAMAGED, Remedy.CHANGE)
    assert name in message
    assert os.listdir(scene.models_dir) == [".incoming"]
    if name.startswith("image"):
        assert os.listdir(scene.root / "host/images") == []
    scene.bring()
    assert content_of(scene.models_dir / "small") == MODEL


# --- not whole -----------------------------------------------------------------------------------


def test_a_part_that_is_missing_is_named(scene: Scene) -> None:
    scene.create()
    (scene.output / WEIGHTS).unlink()
    with pytest.raises(AgentError) as raised:
        scene.bring()
    code, message = failure(raised)  # it was made just now: it may still be coming
    assert code is Code.SOURCE_UNREACHABLE
    total = sum(1 for path in scene.output.rglob("*.0*") if path.is_file())
    assert f"not whole yet: {total} of {total + 1} files" in message


@pytest.mark.parametrize("fault", ["missing", "short", "pipe", "folder", "link", "long"])
def test_a_part_that_is_wrong_is_named(scene: Scene, fault: str) -> None:
    scene.create()
    path = scene.output / WEIGHTS
    content = path.read_bytes()
    path.unlink()
    match fault:
        case "short":
            path.write_bytes(content[:-1])
        case "long":
            path.write_bytes(content + b"x")
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "link":
            (scene.root / "elsewhere").write_bytes(content)
            path.symlink_to(scene.root / "elsewhere")
        case _:
            assert fault == "missing"
    opened = open_bundle(scene.output, scene.signers)
    for check in (
        lambda: scene.bring(copying_s=0.0),  # as if it had been copied long ago
        lambda: verify(opened, scene.told.append, copying_s=0.0),
    ):
        with pytest.raises(AgentError) as raised:
            check()
        code, message = failure(raised)
        assert code is Code.BUNDLE_DAMAGED
        assert WEIGHTS in message
    assert os.listdir(scene.models_dir) == []


def test_a_folder_that_leads_elsewhere(scene: Scene) -> None:
    """The names are right, but one of the folders on the way is a link."""
    scene.create()
    (scene.output / "model").rename(scene.root / "model")
    (scene.output / "model").symlink_to(scene.root / "model")
    with pytest.raises(AgentError, match="not whole yet"):
        scene.bring()


def test_a_disk_that_fails_is_named() -> None:
    """Address 0 of a process reads with EIO, like a bad block."""
    handle = os.open("/proc/self/mem", os.O_RDONLY)
    try:
        with pytest.raises(AgentError) as raised:
            read_part(handle, Part("model/x.002", 10, "a" * 64), lambda _: None)
    finally:
        os.close(handle)
    code, message = failure(raised)
    assert code is Code.BUNDLE_DAMAGED
    assert "model/x.002: cannot read it: Input/output error" in message


@pytest.mark.parametrize("kind", ["nothing", "still being made"])
def test_a_folder_that_is_no_bundle(scene: Scene, kind: str) -> None:
    if kind == "still being made":
        (scene.model / "config.json").unlink()
        with pytest.raises(AgentError):
            scene.create()
    with pytest.raises(AgentError) as raised:
        scene.bring()
    code, message = failure(raised)
    assert code is Code.SOURCE_NOT_FOUND
    assert (kind in message) is (kind != "nothing")


# --- another image than it says ------------------------------------------------------------------


CONFIG = b'{"architecture": "arm64"}'


def test_an_archive_that_would_take_other_names(tmp_path: Path, scene: Scene) -> None:
    image = scene.create().image
    assert image is not None
    wrong_name = make_archive("registry.example/another:1", b"x" * 10)[1]
    good = {"a.tar": b"layer", "c.json": CONFIG}
    two = b'[{"Config": "c.json", "RepoTags": []}, {"Config": "c.json", "RepoTags": ["x"]}]'
    for archive in (
        wrong_name,
        make_archive(REFERENCE, b"other content")[1],
        pack({**good, "manifest.json": two}),
        pack({**good, "manifest.json": b"[]"}),
        pack({**good, "manifest.json": b"["}),
        pack({**good, "manifest.json": b'[{"Config": "../c.json"}]'}),
        pack({**good, "manifest.json": b'[{"Config": "c.json", "RepoTags": "x"}]'}),
        pack(good),
        b"rubbish" * 1000,
        b"",
    ):
        path = tmp_path / "archive"
        path.write_bytes(archive)
        with pytest.raises(ValueError, match=r"."):
            require_archive_of(path, image)


def test_an_image_for_another_machine(scene: Scene) -> None:
    put_image(scene.root / "maker/images", architecture="amd64")
    scene.create()
    with pytest.raises(AgentError, match="for amd64, this host is arm64") as raised:
        scene.bring()
    assert raised.value.failure.code is Code.IMAGE_MISSING
    assert "deepseekctl bundle create 8b --arch arm64" in raised.value.failure.hint
    assert os.listdir(scene.models_dir) == []
    assert os.listdir(scene.root / "host/images") == []


# --- what is there already -----------------------------------------------------------------------


def test_a_folder_of_the_operator_is_left_alone(scene: Scene) -> None:
    scene.create()
    (scene.models_dir / "small").mkdir()
    (scene.models_dir / "small/mine").touch()
    with pytest.raises(AgentError) as raised:
        scene.bring()
    assert raised.value.failure.code is Code.MODEL_INVALID
    assert os.listdir(scene.models_dir / "small") == ["mine"]


def test_another_revision_is_placed_beside_the_one_before(scene: Scene, tmp_path: Path) -> None:
    scene.create()
    scene.bring()
    first = (scene.models_dir / "small").resolve()
    put_model(scene.model, {**MODEL, "config.json": b"{}"})  # the same revision, other content
    second = tmp_path / "second"
    scene.create(output=second)
    scene.bring(second)
    assert (scene.models_dir / "small/config.json").read_bytes() == b"{}"
    assert content_of(first) == MODEL
    scene.bring()  # back, without copying
    assert (scene.models_dir / "small").resolve() == first
    assert len(os.listdir(scene.models_dir / ".store/small")) == 2


def test_what_another_bundle_has_left_is_not_taken_for_this_one(
    scene: Scene, tmp_path: Path
) -> None:
    """Half of one, then half of another with files of the same names and sizes, then the first."""
    last = "model/tokenizer/%E8%AF%8D%E8%A1%A8.json.000"
    scene.create()
    other = {name: bytes(len(content)) for name, content in MODEL.items()} | {"more": b"x"}
    put_model(scene.model, other)
    second = tmp_path / "second"
    scene.create(output=second)
    for folder in (scene.output, second, scene.output, second):
        with flipped(folder / last, 0), pytest.raises(AgentError):
            scene.bring(folder)
    scene.bring()
    assert content_of(scene.models_dir / "small") == MODEL


def test_kept_parts_that_rotted_are_read_again(scene: Scene) -> None:
    scene.create()
    last = "model/model-00001-of-000002.safetensors.002"
    with flipped(scene.output / last, 0), pytest.raises(AgentError):
        scene.bring()
    staged = scene.models_dir / ".incoming/.bundle-8b/model/model-00001-of-000002.safetensors"
    with open(staged, "r+b") as stream:
        stream.write(b"rot")
    scene.bring()
    assert content_of(scene.models_dir / "small") == MODEL


def test_placed_but_not_yet_seen(scene: Scene) -> None:
    """The power went between the last two steps."""
    scene.create()
    scene.bring()
    (scene.models_dir / "small").unlink()
    for part in scene.output.rglob("model/*.0*"):  # nothing has to be copied
        part.unlink()
    scene.bring()
    assert content_of(scene.models_dir / "small") == MODEL
    assert len(os.listdir(scene.models_dir / ".store/small")) == 1


def test_what_is_no_longer_needed_is_tidied(scene: Scene) -> None:
    """An import was killed, and its `podman load` went on."""
    scene.create()
    scene.bring()
    left = scene.models_dir / ".incoming/.bundle-8b"
    (left / "model").mkdir(parents=True)
    (left / "model/config.json").write_bytes(b"{")
    (left / "image.tar").write_bytes(b"x")
    scene.bring()
    assert scene.leftovers() == []


# --- room ----------------------------------------------------------------------------------------


def test_room_is_looked_at_first(scene: Scene) -> None:
    scene.create()
    with pytest.raises(AgentError) as raised:
        scene.bring(keep_free_mib=2**40)
    code, message = failure(raised)
    assert code is Code.DISK_TOO_FULL
    assert message.startswith("cannot import the bundle: needed ")
    assert "there are" in message
    assert not list(scene.models_dir.rglob("*.safetensors"))


def test_podman_writes_the_layers_twice(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[Path, int] = {}
    monkeypatch.setattr(
        "agent.supply.bundle.bring.check_room",
        lambda what, needed, keep_free_mib: asked.update(needed),
    )
    archive = scene.create().image
    assert archive is not None
    monkeypatch.setenv("TMPDIR", str(scene.root))
    scene.bring()
    assert asked[scene.root] == archive.archive.size
    assert asked[scene.root / "host/images"] == archive.archive.size


def fill() -> None:
    """/dev/full answers as a full disk does."""
    with writing("write model/x"):
        handle = open_for_writing(Path("/dev/full"))
        try:
            write_all(handle, memoryview(b"x"))
        finally:
            os.close(handle)


def test_no_room_while_it_is_written() -> None:
    with pytest.raises(AgentError) as raised:
        fill()
    assert raised.value.failure.code is Code.DISK_TOO_FULL


def test_no_room_while_a_part_is_copied_is_not_the_bundle_s_fault(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.create()
    with open("/dev/full", "wb", buffering=0) as full:
        monkeypatch.setattr(
            "agent.supply.bundle.copying.write_all",
            lambda handle, chunk: write_all(full.fileno(), chunk),
        )
        with pytest.raises(AgentError) as raised:
            scene.bring()
    code, message = failure(raised)
    assert (code, message.split(":")[0].split("/")[0]) == (Code.DISK_TOO_FULL, "cannot write ")


# --- finding -------------------------------------------------------------------------------------


def test_bundles_are_found_one_level_deeper(tmp_path: Path) -> None:
    for name in ("8b", "usb/32b", "usb/deep/er/70b", ".hidden/x", "8b/model/inner"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / BUNDLE_NAME).touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    assert find_bundles(tmp_path) == (tmp_path / "8b", tmp_path / "usb/32b")
    assert find_bundles(tmp_path / "8b") == (tmp_path / "8b",)
    assert find_bundles(tmp_path / "nothing") == ()


def test_the_manifest_of_a_model_is_not_part_of_it(scene: Scene) -> None:
    made = scene.create()
    assert all(MANIFEST_NAME not in part.name for part in made.parts)
    listed = subprocess.run(
        ["sha256sum", "-c", "-"],
        input="".join(f"{part.sha256}  {part.name}\n" for part in made.parts),
        cwd=scene.output,
        capture_output=True,
        text=True,
        check=False,
    )
    assert listed.returncode == 0, listed.stdout
