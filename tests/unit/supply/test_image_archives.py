# SPDX-License-Identifier: MulanPSL-2.0
"""The import folder: which archive holds an image, and which cannot be used, and why."""

import gzip
import hashlib
import io
import json
import lzma
import os
import shutil
import stat
import subprocess
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from agent.supply.archive_search import NOTES_LIMIT, Search, find_archive
from agent.supply.archives import Kind, read_archive
from agent.supply.tars import NotWhole

NAME = "quay.io/ascend/vllm-ascend:v1"
LAYER = os.urandom(300_000)
LAYER_NAME = f"{'b' * 64}.tar"
CONFIG = "a" * 64
OLD = time.time() - 60


def docker_files(*names: str, **changes: object) -> dict[str, bytes]:
    entry = {"Config": f"{CONFIG}.json", "RepoTags": list(names), "Layers": [LAYER_NAME]}
    manifest = json.dumps([{**entry, **changes}]).encode()
    return {LAYER_NAME: LAYER, f"{CONFIG}.json": b"{}", "manifest.json": manifest}


def oci_files(*names: str) -> dict[str, bytes]:
    """One image for each name; an empty one has none."""
    files = {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}'}

    def blob(content: bytes) -> dict[str, object]:
        digest = hashlib.sha256(content).hexdigest()
        files[f"blobs/sha256/{digest}"] = content
        return {"digest": f"sha256:{digest}", "size": len(content)}

    entries = []
    for name in names:
        config = blob(json.dumps({"of": name}).encode())
        manifest = blob(json.dumps({"config": config, "layers": [blob(LAYER)]}).encode())
        annotations = {"org.opencontainers.image.ref.name": name} if name else {}
        entries.append({**manifest, "annotations": annotations})
    files["index.json"] = json.dumps({"manifests": entries}).encode()
    return files


def tar_of(files: Mapping[str, bytes]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return target.getvalue()


def put(folder: Path, name: str, content: bytes, changed_at: float = OLD) -> Path:
    path = folder / name
    path.write_bytes(content)
    os.utime(path, (changed_at, changed_at))
    return path


def put_layout(folder: Path, name: str, files: Mapping[str, bytes]) -> Path:
    root = folder / name
    for inner, content in files.items():
        (root / inner).parent.mkdir(parents=True, exist_ok=True)
        (root / inner).write_bytes(content)
    for path in (root, *root.rglob("*")):
        os.utime(path, (OLD, OLD))
    return root


def zstd(content: bytes) -> bytes:
    return subprocess.run(("zstd", "-qc"), input=content, capture_output=True, check=True).stdout


needs_zstd = pytest.mark.skipif(shutil.which("zstd") is None, reason="no zstd command here")
PACKED = [
    pytest.param("a.tar", lambda content: content, id="plain"),
    pytest.param("a.tar.gz", gzip.compress, id="gzip"),
    pytest.param("a.tgz", gzip.compress, id="tgz"),
    pytest.param("a.tar.xz", lzma.compress, id="xz"),
    pytest.param("a.tar.zst", zstd, id="zstd", marks=needs_zstd),
    pytest.param("gzip-that-is-called.tar", gzip.compress, id="wrong-name"),
]


@pytest.mark.parametrize(("name", "pack"), PACKED)
@pytest.mark.parametrize("kind", [Kind.DOCKER_ARCHIVE, Kind.OCI_ARCHIVE])
def test_an_archive_is_found(tmp_path: Path, name: str, pack, kind: Kind) -> None:  # type: ignore[no-untyped-def]
    files = docker_files(NAME) if kind is Kind.DOCKER_ARCHIVE else oci_files(NAME)
    put(tmp_path, name, pack(tar_of(files)))
    search = find_archive(tmp_path, NAME)
    assert search.image is not None
    assert (search.image.path, search.image.kind) == (str(tmp_path / name), kind)
    assert search.image.selector == ("@0" if kind is Kind.DOCKER_ARCHIVE else NAME)
    assert search.image.size == sum(len(content) for content in files.values())
    assert search.image.is_packed == (name != "a.tar")
    assert search.unusable == ()


def test_a_layout_is_found(tmp_path: Path) -> None:
    root = put_layout(tmp_path, "layout", oci_files(NAME))
    search = find_archive(tmp_path, NAME)
    assert search.image is not None
    assert (search.image.path, search.image.kind) == (str(root), Kind.OCI_LAYOUT)


def test_an_archive_of_others_is_left_alone(tmp_path: Path) -> None:
    path = put(tmp_path, "a.tar", tar_of(docker_files("quay.io/other/image:1")))
    before = path.read_bytes()
    search = find_archive(tmp_path, NAME)
    assert (search.image, search.unusable, search.is_settling) == (None, (), False)
    assert path.read_bytes() == before


def test_one_of_several_images(tmp_path: Path) -> None:
    files = docker_files(NAME)
    (ours,) = json.loads(files["manifest.json"])
    theirs = {**ours, "RepoTags": ["quay.io/x/y:1"]}
    files["manifest.json"] = json.dumps([theirs, ours]).encode()
    put(tmp_path, "a.tar", tar_of(files))
    found = find_archive(tmp_path, NAME).image
    assert found is not None
    assert found.selector == "@1"
    put(tmp_path, "a.tar", tar_of(oci_files("quay.io/x/y:1", NAME, "")))
    found = find_archive(tmp_path, NAME).image
    assert found is not None
    assert found.selector == NAME


def test_short_names_are_completed(tmp_path: Path) -> None:
    put(tmp_path, "a.tar", tar_of(docker_files("ubuntu:22.04")))
    assert find_archive(tmp_path, "docker.io/library/ubuntu:22.04").image is not None


@pytest.mark.parametrize("names", [(), ("latest",), ("no name at all",)])
def test_an_image_without_a_name_is_nobody_s(tmp_path: Path, names: tuple[str, ...]) -> None:
    put(tmp_path, "a.tar", tar_of(docker_files(*names)))
    put(tmp_path, "b.tar", tar_of(oci_files(*(names or ("",)))))
    assert find_archive(tmp_path, NAME).image is None
    assert find_archive(tmp_path, NAME).unusable == ()


def test_one_that_is_being_copied_is_waited_for(tmp_path: Path) -> None:
    put(tmp_path, "a.tar", tar_of(docker_files(NAME)), time.time())
    search = find_archive(tmp_path, NAME)
    assert (search.image, search.is_settling) == (None, True)
    assert find_archive(tmp_path, NAME, lambda: time.time() + 11).image is not None


@pytest.mark.parametrize("ahead_s", [60.0, 10 * 365 * 86_400.0])
def test_one_from_a_clock_that_was_ahead_is_taken(tmp_path: Path, ahead_s: float) -> None:
    put(tmp_path, "a.tar", tar_of(docker_files(NAME)), time.time() + ahead_s)
    search = find_archive(tmp_path, NAME)
    assert search.image is not None
    assert search.unusable == ()


def test_a_time_that_lies_ahead_hides_no_other(tmp_path: Path) -> None:
    layout = put_layout(tmp_path, "layout", oci_files(NAME))
    now, ahead = time.time(), time.time() + 86_400
    os.utime(layout / "index.json", (ahead, ahead))
    os.utime(layout / "blobs/sha256", (now, now))
    assert find_archive(tmp_path, NAME).is_settling


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    put(tmp_path, "elsewhere", tar_of(docker_files(NAME)))
    (tmp_path / "a.tar").symlink_to(tmp_path / "elsewhere")
    layout = put_layout(tmp_path, "layout", oci_files(NAME))
    for blob in (layout / "blobs/sha256").iterdir():
        if blob.stat().st_size == len(LAYER):
            shutil.move(blob, tmp_path / "blob")
            blob.symlink_to(tmp_path / "blob")
    os.utime(layout / "blobs/sha256", (OLD, OLD))
    search = find_archive(tmp_path, NAME)
    assert search.image is None
    assert len(search.unusable) == 1


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert find_archive(tmp_path / "missing", NAME).image is None


@pytest.mark.parametrize(("name", "pack"), PACKED)
@pytest.mark.parametrize("part", [0.01, 0.5, 0.9])
def test_half_an_archive_is_refused(tmp_path: Path, name: str, pack, part: float) -> None:  # type: ignore[no-untyped-def]
    content = pack(tar_of(docker_files(NAME)))
    put(tmp_path, name, content[: int(len(content) * part)])
    search = find_archive(tmp_path, NAME)
    assert search.image is None
    assert len(search.unusable) == 1
    assert search.unusable[0].startswith(f"{name}: ")


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
def test_a_flipped_bit_in_what_is_compressed_is_seen(tmp_path: Path, pack) -> None:  # type: ignore[no-untyped-def]
    content = bytearray(pack(tar_of(docker_files(NAME))))
    content[len(content) // 2] ^= 1
    put(tmp_path, "a.tar.gz", bytes(content))
    assert find_archive(tmp_path, NAME).image is None


@pytest.mark.parametrize("missing", [LAYER_NAME, f"{CONFIG}.json"])
def test_a_docker_archive_without_a_part_is_refused(tmp_path: Path, missing: str) -> None:
    files = docker_files(NAME)
    del files[missing]
    with pytest.raises(NotWhole, match="is missing"):
        read_archive(put(tmp_path, "a.tar", tar_of(files)))


def test_an_oci_archive_with_a_short_layer_is_refused(tmp_path: Path) -> None:
    files = {
        name: content[:-1] if content == LAYER else content
        for name, content in oci_files(NAME).items()
    }
    with pytest.raises(NotWhole, match="not as long"):
        read_archive(put(tmp_path, "a.tar", tar_of(files)))


@pytest.mark.parametrize(
    "manifest",
    [
        b"{}",
        b"7",
        b"[7]",
        b"[{}]",
        b'[{"Config": 7, "Layers": []}]',
        b'[{"Config": "../../etc/passwd", "Layers": []}]',
        b"[" * 100_000,
        b'[{"Config": "',
    ],
)
def test_a_hostile_manifest_is_refused(tmp_path: Path, manifest: bytes) -> None:
    files = {**docker_files(NAME), "manifest.json": manifest}
    put(tmp_path, "a.tar", tar_of(files))
    search = find_archive(tmp_path, NAME)
    assert search.image is None
    assert len(search.unusable) == 1


def test_a_digest_leads_out_of_no_folder(tmp_path: Path) -> None:
    files = oci_files(NAME)
    entry = {"digest": "sha256:../../../../etc/passwd", "size": os.stat("/etc/passwd").st_size}
    files["index.json"] = json.dumps({"manifests": [entry]}).encode()
    root = put_layout(tmp_path, "layout", files)
    with pytest.raises(NotWhole, match="no sha256"):
        read_archive(root)


def test_a_header_that_claims_a_huge_name_is_refused(tmp_path: Path) -> None:
    """tarfile would read it into memory: 8 GiB of a sparse file."""
    member = tarfile.TarInfo("x")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, 8 << 30
    path = put(tmp_path, "a.tar", member.tobuf(tarfile.GNU_FORMAT))
    with path.open("r+b") as stream:
        stream.truncate(9 << 30)
    with pytest.raises(NotWhole, match="entry of kind"):
        read_archive(path)


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE])
def test_a_strange_entry_is_refused(tmp_path: Path, kind: bytes) -> None:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        member = tarfile.TarInfo("dev/mem")
        member.type = kind
        tar.addfile(member)
    with pytest.raises(NotWhole, match="entry of kind"):
        read_archive(put(tmp_path, "a.tar", target.getvalue()))


def test_a_sparse_file_in_the_words_of_pax_is_refused(tmp_path: Path) -> None:
    member = tarfile.TarInfo("x")
    member.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
    with pytest.raises(NotWhole, match="sparse"):
        read_archive(put(tmp_path, "a.tar", member.tobuf(tarfile.PAX_FORMAT) + b"\0" * 1024))


@pytest.mark.parametrize("content", [b"", b"\0" * 20_000, b"no archive" * 1000, os.urandom(5000)])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    put(tmp_path, "a.tar", content)
    assert len(find_archive(tmp_path, NAME).unusable) == 1


OTHER = "quay.io/other/image:1"


@pytest.fixture
def packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An archive in a folder of its own, of a zstd command that writes down when it is called."""
    (tmp_path / "content").write_bytes(tar_of(docker_files(OTHER)))
    script = f"#!/bin/sh\necho >> {tmp_path}/runs\ncat {tmp_path}/content\nexit ${{STATUS:-0}}\n"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/zstd").write_text(script)
    (tmp_path / "bin/zstd").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    (tmp_path / "import").mkdir()
    return put(tmp_path / "import", "a.tar.zst", b"\x28\xb5\x2f\xfd" + bytes(8))


def runs(packed: Path) -> int:
    file = packed.parents[1] / "runs"
    return len(file.read_text()) if file.exists() else 0


def search_again(packed: Path, reference: str = NAME) -> Search:
    return find_archive(packed.parent, reference, notes=packed.parents[1] / "notes.json")


def test_an_archive_is_read_to_its_end_once(packed: Path) -> None:
    """One that does not fit lies there for months, and it is looked there every few minutes."""
    assert search_again(packed) == search_again(packed) == Search(None)
    found = search_again(packed, OTHER).image
    assert found is not None
    assert (found.path, found.kind, found.is_packed) == (str(packed), Kind.DOCKER_ARCHIVE, True)
    os.link(packed, packed.with_name("b.tar"))  # which changes the first one, too
    packed.unlink()
    assert runs(packed) == 1
    found = search_again(packed, OTHER).image
    assert found is not None
    assert (found.path, runs(packed)) == (str(packed.with_name("b.tar")), 2)


def test_one_that_has_changed_is_read_again(packed: Path) -> None:
    """Also where its size and its time are what they were, as after `rsync --times`."""
    assert search_again(packed).image is None
    (packed.parents[1] / "content").write_bytes(tar_of(docker_files(NAME)))
    before = packed.stat()
    packed.write_bytes(packed.read_bytes())
    os.utime(packed, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert search_again(packed).image is not None


@pytest.mark.parametrize(
    ("status", "times"), [("1", 1), ("37", 3)], ids=["damaged", "could not be read"]
)
def test_one_that_is_not_whole(
    packed: Path, monkeypatch: pytest.MonkeyPatch, status: str, times: int
) -> None:
    """Only what lies in the file itself is so the next time."""
    monkeypatch.setenv("STATUS", status)
    words = ("a.tar.zst: zstd cannot decompress it to its end",)
    assert [search_again(packed).unusable for _ in range(3)] == [words] * 3
    assert runs(packed) == times


def test_a_command_that_is_missing_may_be_installed(
    packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as without:
        without.setenv("PATH", "/nonexistent")
        assert "cannot run zstd" in search_again(packed).unusable[0]
    assert search_again(packed, OTHER).image is not None


@pytest.mark.parametrize(
    "text", [b"", b"\xff", b"{}", b'[{"file": 7}]', b'[{"file": [], "more": 1}]', b"[" * 100_000]
)
def test_notes_that_are_damaged_are_none(packed: Path, text: bytes) -> None:
    notes = packed.parents[1] / "notes.json"
    notes.write_bytes(text)
    assert search_again(packed) == search_again(packed) == Search(None)
    assert runs(packed) == 1
    assert stat.S_IMODE(notes.stat().st_mode) == 0o600


def test_notes_are_few_and_small(packed: Path) -> None:
    """Somebody's archives may be many, and name many images."""
    files = docker_files(OTHER)
    (ours,) = json.loads(files["manifest.json"])
    many = [{**ours, "RepoTags": [f"quay.io/{'x' * 400}/{i}:1"]} for i in range(100)]
    files["manifest.json"] = json.dumps(many).encode()
    put(packed.parent, "large.tar", tar_of(files))
    for i in range(NOTES_LIMIT + 5):
        put(packed.parent, f"{i}.tar", tar_of(docker_files(OTHER)))
    assert search_again(packed) == Search(None)
    notes = packed.parents[1] / "notes.json"
    assert len(json.loads(notes.read_bytes())) == NOTES_LIMIT
    assert notes.stat().st_size < NOTES_LIMIT * 1000


def test_where_nothing_can_be_noted_all_is_read(packed: Path) -> None:
    """By a person, with deepseekctl; or /run is full."""
    missing = packed.parents[1] / "missing"
    for _ in range(2):
        assert find_archive(packed.parent, OTHER, notes=missing / "notes.json").image is not None
    assert (runs(packed), missing.exists()) == (2, False)
