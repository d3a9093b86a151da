# SPDX-License-Identifier: MulanPSL-2.0
"""What a command of Podman has unpacked when it is cut: real processes, a script for `podman`."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.host.podman_folder import PREFIX, YOUNG_S, OwnFolder, own_folder, remove_left
from agent.supply.bundle.images import PodmanImages
from tests.unit.npud.fake_smi import write_script

# As Podman does on SIGTERM: it ends at once, and puts nothing away.
UNPACKS = """
mkdir -p "$TMPDIR/storage1"
echo layer >"$TMPDIR/storage1/1"
"""
LOADS = """
import signal, sys
from agent.host.image_load import load
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
load(*sys.argv[1:5], lambda done, total: None, sys.argv[5])
"""


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    (tmp_path / "var-tmp").mkdir()
    return tmp_path / "var-tmp"


def age(folder: Path) -> None:
    at = time.time() - YOUNG_S - 5
    os.utime(folder, (at, at))


def left(temporary: Path) -> list[str]:
    return sorted(str(one.relative_to(temporary)) for one in temporary.rglob("*"))


def wait_for_layer(temporary: Path) -> Path:
    deadline = time.monotonic() + 20
    while not (found := [*temporary.rglob("storage1/1")]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found[0].parents[1]


@contextmanager
def loading(temporary: Path, podman: str = "exec sleep 600") -> Iterator[subprocess.Popen[bytes]]:
    """A load that goes on until it is cut, with what it has started."""
    archive = temporary.parent / "archive.tar"
    archive.write_bytes(b"")
    program = write_script(temporary.parent / "podman", UNPACKS + podman)
    argv = (sys.executable, "-c", LOADS, str(archive), "oci-archive", "", str(temporary))
    child = subprocess.Popen(
        (*argv, str(program)),
        env={**os.environ, "PYTHONPATH": os.getcwd(), "TMPDIR": str(temporary)},
        start_new_session=True,
    )
    try:
        yield child
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def test_a_load_that_is_ended_leaves_nothing(temporary: Path) -> None:
    with loading(temporary) as child:
        wait_for_layer(temporary)
        os.killpg(child.pid, signal.SIGTERM)
        child.wait(10)
    assert left(temporary) == []


def test_one_that_does_not_hear_is_killed(temporary: Path) -> None:
    with loading(temporary, "trap '' TERM; sleep 600 & wait; wait") as child:
        wait_for_layer(temporary)
        child.terminate()
        child.wait(10)
        os.killpg(child.pid, signal.SIGKILL)  # what the script has started
    assert left(temporary) == []


def test_what_a_kill_or_a_power_cut_has_left_goes_before_the_next(temporary: Path) -> None:
    with loading(temporary) as child:
        folder = wait_for_layer(temporary)
        os.killpg(child.pid, signal.SIGKILL)
        child.wait(10)
    assert left(temporary) != []
    age(folder)
    with own_folder(str(temporary)) as own:
        assert not folder.exists()
        assert Path(own.environment["TMPDIR"]).parent == temporary
    assert left(temporary) == []


def test_what_is_in_use_stays(temporary: Path) -> None:
    with loading(temporary):
        folder = wait_for_layer(temporary)
        age(folder)
        remove_left(str(temporary))
        assert (folder / "storage1/1").exists()


def test_also_when_only_podman_is_left(temporary: Path) -> None:
    with loading(temporary) as child:
        folder = wait_for_layer(temporary)
        child.kill()
        child.wait(10)
        age(folder)
        remove_left(str(temporary))
        assert (folder / "storage1/1").exists()
        os.killpg(child.pid, signal.SIGKILL)


def test_what_others_have_made_stays(temporary: Path) -> None:
    (temporary / "storage1").mkdir()
    (temporary / f"{PREFIX}file").touch()
    (temporary / "target").mkdir()
    (temporary / f"{PREFIX}link").symlink_to("target")
    (temporary / f"{PREFIX}young").mkdir()
    for one in temporary.iterdir():
        if not one.name.endswith("young"):
            age(one)
    before = left(temporary)
    remove_left(str(temporary))
    assert left(temporary) == before


def test_where_none_can_be_made_podman_does_it_by_itself(tmp_path: Path) -> None:
    with own_folder(str(tmp_path / "none")) as own:
        assert own == OwnFolder({**os.environ}, ())


def test_a_save_that_is_cut_leaves_nothing(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(temporary))
    save = f"{UNPACKS}echo part; exec sleep 600"
    podman = write_script(
        temporary.parent / "podman", f'[ "$1" = info ] && {{ echo "{{}}"; exit; }}\n{save}'
    )
    with PodmanImages(str(podman)).save("quay.io/a/b:1") as stream:
        assert stream.read_into(memoryview(bytearray(9))) > 0
        folder = wait_for_layer(temporary)
        assert folder.parent == temporary
        assert folder.name.startswith(PREFIX)
    assert left(temporary) == []
