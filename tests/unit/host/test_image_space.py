# SPDX-License-Identifier: MulanPSL-2.0
"""Room for an image, and how far Podman is with it."""

import json
import os
from pathlib import Path

import pytest

from agent.errors import Code
from agent.host import image_space
from agent.host.image_space import (
    MIB,
    UNPACKED,
    Places,
    find_places,
    list_staging,
    read_present,
    read_staged,
    why_no_room_to_load,
    why_too_full,
)
from agent.host.layers import Layers
from agent.host.registry import Layer

FIRST, SECOND = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(str(tmp_path), str(tmp_path))


def free_bytes(path: Path) -> int:
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


def test_a_small_image_fits(places: Places) -> None:
    assert why_too_full([Layer(FIRST, 1000)], frozenset(), places, 0) is None


def test_what_storage_and_staging_need_together_is_counted(tmp_path: Path, places: Places) -> None:
    """One file system has to hold both: the same layer alone would fit into what is free."""
    size = int(free_bytes(tmp_path) / (UNPACKED + 0.5))
    failure = why_too_full([Layer(FIRST, size)], frozenset(), places, 0)
    assert failure is not None
    assert failure.code is Code.DISK_TOO_FULL
    assert f"it needs {int(size * (UNPACKED + 1)) // MIB} MiB" in failure.message
    assert str(tmp_path) in failure.message


def test_layers_that_are_there_need_no_room(places: Places) -> None:
    layers = [Layer(FIRST, 1 << 49), Layer(SECOND, 1)]
    assert why_too_full(layers, frozenset([FIRST]), places, 0) is None
    assert why_too_full(layers, frozenset([FIRST, SECOND]), places, 1 << 40) is None


def test_what_is_to_stay_free_is_counted(places: Places) -> None:
    failure = why_too_full([Layer(FIRST, 1)], frozenset(), places, 1 << 40)
    assert failure is not None
    assert "are to stay free" in failure.message


@pytest.mark.parametrize(
    ("kind", "packed", "factor"),
    [
        ("docker-archive", False, 2.0),
        ("docker-archive", True, 3.0),
        ("oci-archive", True, UNPACKED + 2),
        ("oci", False, UNPACKED + 1),
    ],
)
def test_an_archive_needs_room_by_its_kind(
    tmp_path: Path, places: Places, kind: str, packed: bool, factor: float
) -> None:
    size = int(free_bytes(tmp_path) / factor)
    assert why_no_room_to_load(int(size * 0.8), kind, packed, places, 0) is None
    assert why_no_room_to_load(int(size * 1.2), kind, packed, places, 0) is not None


def test_layers_in_storage(tmp_path: Path) -> None:
    (tmp_path / "overlay-layers").mkdir()
    rows = [{"id": "x", "compressed-diff-digest": FIRST, "diff-digest": SECOND}, {"id": "y"}, 7]
    (tmp_path / "overlay-layers/layers.json").write_text(json.dumps(rows), encoding="utf-8")
    assert read_present(str(tmp_path)) == {FIRST, SECOND}


@pytest.mark.parametrize("content", [None, "", "{}", "[7]"])
def test_a_storage_that_cannot_be_read_has_none(tmp_path: Path, content: str | None) -> None:
    (tmp_path / "overlay-layers").mkdir()
    if content is not None:
        (tmp_path / "overlay-layers/layers.json").write_text(content, encoding="utf-8")
    assert read_present(str(tmp_path)) == frozenset()


def test_what_podman_has_fetched_into_new_folders(tmp_path: Path) -> None:
    for name in ("storage1", "container_images_storage2", "systemd-private-3"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1").write_bytes(b"x" * 10)
    before = list_staging(str(tmp_path))
    assert before == {"storage1", "container_images_storage2"}
    assert read_staged(str(tmp_path), before) == ()
    assert read_staged(str(tmp_path), frozenset()) == (10, 10)


def test_a_file_that_goes_while_it_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who tells how far it is goes on telling."""
    (tmp_path / "storage1").mkdir()
    for name in ("1", "2"):
        (tmp_path / "storage1" / name).write_bytes(b"x" * 10)
    listed = image_space._files

    def remove_one(folder: Path) -> list[os.DirEntry[str]]:
        found = listed(folder)
        (folder / "1").unlink()
        return found

    monkeypatch.setattr(image_space, "_files", remove_one)
    assert sum(read_staged(str(tmp_path), frozenset())) == 10


def test_places() -> None:
    store = {"graphRoot": "/data/storage", "imageCopyTmpDir": "/data/tmp"}
    assert find_places({"store": store}) == Places("/data/storage", "/data/tmp")
    assert find_places({}) == Places("/var/lib/containers/storage", "/var/tmp")


# --- how far it is -------------------------------------------------------------------------------


def line(status: str, layer: str, current: int | None = None, total: int = 0) -> dict[str, object]:
    detail = {} if current is None else {"current": current, "total": total}
    return {"status": status, "id": layer, "progressDetail": detail}


A, B = "a" * 12, "b" * 12


def test_bytes_of_known_layers() -> None:
    layers = Layers([Layer(FIRST, 100), Layer(SECOND, 50)])
    assert (layers.done, layers.total, layers.is_fetched) == (0, 150, False)
    layers.take(line("Already exists", A))
    layers.take(line("Pulling fs layer", B))
    layers.take(line("Downloading", B, 20, 50))
    assert (layers.done, layers.has_bytes, layers.is_fetched) == (120, True, False)
    layers.take(line("Download complete", B))
    layers.take(line("Pulling fs layer", "c" * 12))  # the configuration
    assert (layers.done, layers.total, layers.is_fetched) == (150, 150, True)


def test_a_layer_that_is_fetched_again() -> None:
    layers = Layers([Layer(FIRST, 100)])
    layers.take(line("Downloading", A, 100, 100))
    layers.take(line("Downloading", A, 10, 100))
    assert layers.done == 10


def test_without_a_manifest_the_total_is_unknown() -> None:
    layers = Layers(None)
    layers.take(line("Pulling fs layer", A))
    layers.take(line("Downloading", A, 10, 100))
    assert (layers.done, layers.total) == (10, 0)
    layers.take(line("Download complete", A))
    assert layers.done == 100


def test_lines_without_bytes_and_strange_lines_are_nothing() -> None:
    layers = Layers(None)
    for one in ({"stream": "Copying blob sha256:aa\n"}, {}, {"status": 7}, line("Downloading", A)):
        layers.take(one)
    layers.take({"status": "Downloading", "id": A, "progressDetail": {"current": "x"}})
    assert (layers.done, layers.has_bytes, layers.is_fetched) == (0, False, False)


# --- the registry or the disk: what is waited for ------------------------------------------------

THIRD = f"sha256:{'c' * 64}"
C = "c" * 12
IMAGE = [Layer(FIRST, 100), Layer(SECOND, 50), Layer(THIRD, 70)]


def begun(layers: Layers, *names: str) -> Layers:
    for one in names:
        layers.take(line("Pulling fs layer", one))
    return layers


def test_all_bytes_are_here_though_podman_has_told_of_no_layer_that_it_is_complete() -> None:
    """The last second of each is not told before it is unpacked, nor are small layers."""
    layers = begun(Layers(IMAGE), A, B, C)
    layers.take(line("Downloading", A, 90, 100))
    assert not layers.has_come((90, 50, 70))
    assert layers.has_come((100, 50, 70))
    assert layers.count((100, 50, 70)) == 220
    assert layers.has_come((100, 50, 70, 3))  # and the configuration


def test_what_is_in_storage_does_not_come() -> None:
    """Before Podman 4.8 nothing is told: a pull that goes on, an update with the same base."""
    layers = Layers(IMAGE, frozenset([SECOND]))
    assert not layers.has_come(())
    assert not layers.has_come((100, 69))
    assert layers.count((100, 69)) == 219
    assert layers.has_come((100, 70))
    assert layers.count((100, 70)) == 220


def test_what_podman_fetches_again_comes() -> None:
    layers = begun(Layers(IMAGE, frozenset([FIRST, SECOND])), A)
    assert not layers.has_come((99, 70))
    layers.take(line("Already exists", A))
    assert layers.has_come((70, 1))


def test_others_wait_for_what_is_unpacked() -> None:
    """The storage is locked meanwhile, and Podman asks for no further layer."""
    assert begun(Layers(IMAGE), A, B).has_come((100, 50))
    assert not begun(Layers(IMAGE), A, B).has_come((100, 49))
    assert not begun(Layers(IMAGE), A, B, C).has_come((100, 50, 0))  # one that has just begun


def test_without_a_manifest_the_layers_that_have_begun_count() -> None:
    layers = begun(Layers(None), A, B)
    layers.take(line("Downloading", A, 90, 100))
    assert not layers.has_come((100, 50))  # how long B is nobody has told
    layers.take(line("Downloading", B, 10, 50))
    assert not layers.has_come((100, 49))
    assert layers.has_come((100, 50))
    begun(layers, C)
    assert not layers.has_come((100, 50, 70))
    assert Layers(None).has_come((10,))  # text alone, before Podman 4.8
