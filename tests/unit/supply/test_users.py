# SPDX-License-Identifier: MulanPSL-2.0
"""Who uses a folder: by real processes, and where that cannot be, by a /proc that says so."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.supply.users import find_users

DEADLINE_S = 20.0
ASK = """
import sys
from pathlib import Path
from agent.supply.users import find_users
print(*find_users({Path(sys.argv[1]): ".store/8b/abc"}, Path(sys.argv[2])).values())
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A revision of a model."""
    found = tmp_path / "models/.store/8b/abc"
    found.mkdir(parents=True)
    (found / "weights").write_bytes(b"w")
    return found


@contextmanager
def process(*argv: str, needs: tuple[str, ...]) -> Iterator[int]:
    """Its pid, until it is left; it has written a line when it is up. Skips where `needs` fails."""
    if subprocess.run(needs, capture_output=True, check=False).returncode != 0:
        pytest.skip(f"not possible here: {' '.join(needs)}")
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        try:
            assert child.stdout.readline() == b"up\n"
            yield child.pid
        finally:
            child.kill()


def ask(folder: Path, pid: int, tmp_path: Path) -> str:
    """In a process of its own: what does not answer would hold up this one for ever."""
    proc = tmp_path / "proc"
    proc.mkdir()
    (proc / str(pid)).symlink_to(f"/proc/{pid}")
    argv = (sys.executable, "-c", ASK, str(folder), str(proc))
    done = subprocess.run(argv, capture_output=True, text=True, timeout=DEADLINE_S, check=True)
    return done.stdout.strip()


# A FUSE that says nothing is like an NFS whose server is gone: stat waits for ever.
FUSE = """
import ctypes, os, sys
place, state, model = sys.argv[1:]
fuse = os.open("/dev/fuse", os.O_RDWR)
owner = 1000 if state == "of another user" else 0
options = f"fd={fuse},rootmode=40000,user_id={owner},group_id={owner}"
if ctypes.CDLL(None).mount(b"x", place.encode(), b"fuse", 0, options.encode()) != 0:
    sys.exit("no FUSE")
held = os.open(place, os.O_PATH)
used = model and os.open(model, os.O_RDONLY)
if state == "gone":
    os.close(fuse)
print("up", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("state", ["silent", "gone", "of another user"])
@pytest.mark.parametrize("uses", [True, False])
def test_a_file_system_that_is_none_of_ours_is_not_looked_at(
    folder: Path, tmp_path: Path, state: str, uses: bool
) -> None:
    place = tmp_path / "fuse"
    place.mkdir()
    model = str(folder / "weights") if uses else ""
    argv = ("unshare", "-m", sys.executable, "-c", FUSE, str(place), state, model)
    needs = ("unshare", "-m", "sh", "-c", "exec 3<>/dev/fuse")
    with process(*argv, needs=needs) as pid:
        assert ask(folder, pid, tmp_path) == (f"process {pid}" if uses else "")


@pytest.mark.parametrize("use", ["exec 3<weights", "true"], ids=["opened", "entered"])
def test_a_container_that_sees_more_than_the_folder(folder: Path, tmp_path: Path, use: str) -> None:
    """It knows all models by another name."""
    other = tmp_path / "other"
    other.mkdir()
    left = "cd / &&" if use != "true" else ""
    script = f"mount --bind {folder.parents[1]} {other} && cd {other}/8b/abc && {use} && {left} "
    argv = ("unshare", "-rm", "bash", "-c", f"{script} echo up && exec sleep 60")
    with process(*argv, needs=("unshare", "-rm", "mount", "--bind", "/tmp", "/tmp")) as pid:
        assert ask(folder, pid, tmp_path) == f"process {pid}"


def test_a_folder_with_a_long_path_is_another_one(folder: Path, tmp_path: Path) -> None:
    """The kernel does not tell a path of more than a page: any user can go there."""
    script = """
import os, sys
os.chdir(sys.argv[1])
for _ in range(25):
    os.mkdir("x" * 200)
    os.chdir("x" * 200)
print("up", flush=True)
sys.stdin.read()
"""
    argv = (sys.executable, "-c", script, str(tmp_path))
    with process(*argv, needs=("true",)) as pid:
        assert ask(folder, pid, tmp_path) == ""


def make_process(proc: Path, pid: int, mounts: str, *, link: Path, number: int) -> None:
    """That has one file open."""
    process = proc / str(pid)
    for name in ("ns", "fd", "fdinfo"):
        (process / name).mkdir(parents=True)
    for name, target in (("ns/mnt", f"mnt:[{pid}]"), ("cwd", "/"), ("root", "/")):
        (process / name).symlink_to(target)
    (process / "fd/5").symlink_to(link)
    (process / "fdinfo/5").write_text(f"pos:\t0\nflags:\t0100000\nmnt_id:\t{number}\n")
    (process / "mountinfo").write_text(mounts)
    (process / "maps").touch()


def line(number: int, path: Path) -> str:
    """Of mountinfo, for the file system of `path`."""
    device = path.stat().st_dev
    return f"{number} 1 {os.major(device)}:{os.minor(device)} / /x rw - ext4 /dev/x rw\n"


@pytest.mark.parametrize(("number", "fails"), [(30, True), (31, False), (99, False)])
def test_only_what_may_be_ours_has_to_be_looked_at(
    folder: Path, tmp_path: Path, number: int, fails: bool
) -> None:
    """One that leads round in a circle, which nobody can look at."""
    proc = tmp_path / "proc"
    (tmp_path / "loop").symlink_to("loop")
    mounts = line(30, folder) + line(31, Path("/proc"))
    make_process(proc, 77, mounts, link=tmp_path / "loop", number=number)
    if fails:
        with pytest.raises(OSError, match="symbolic links"):
            find_users({folder: ".store/8b/abc"}, proc)
    else:
        assert find_users({folder: ".store/8b/abc"}, proc) == {}


def test_a_file_that_was_handed_over(folder: Path, tmp_path: Path) -> None:
    """It is mounted where another process lives, that is looked at later."""
    proc = tmp_path / "proc"
    make_process(proc, 77, "", link=folder / "weights", number=30)
    make_process(proc, 88, line(30, folder), link=tmp_path, number=30)
    assert find_users({folder: ".store/8b/abc"}, proc) == {folder: "process 77"}


def test_a_process_that_has_ended_meanwhile_is_none(tmp_path: Path) -> None:
    (tmp_path / "77").mkdir()
    (tmp_path / "self").symlink_to("/proc/self")
    assert find_users({tmp_path: "x"}, tmp_path) == {}


@pytest.mark.parametrize(
    ("device", "kind", "is_used"),
    [
        ("same", "ext4", True),
        # journald maps /run/systemd/journal/seqnum, inode 66 of a tmpfs, as long as it lives.
        ("other", "ext4", False),
        ("other", "btrfs", True),  # tells the device of the whole there, and of a subvolume to stat
        ("other", "", True),  # nobody knows what it is
    ],
)
def test_a_mapped_file_is_known_by_its_device_too(
    tmp_path: Path, device: str, kind: str, is_used: bool
) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "weights").touch()
    status = (folder / "weights").stat()
    major, minor = os.major(status.st_dev), os.minor(status.st_dev)
    process = tmp_path / "proc/77"
    for name in ("ns", "fd"):
        (process / name).mkdir(parents=True)
    for link in ("ns/mnt", "cwd", "root"):
        (process / link).symlink_to("/")
    (process / "mountinfo").touch()
    seen = major if device == "same" else major + 1
    mapped = f"7f00-7f01 r--s 00000000 {seen:02x}:{minor:02x} {status.st_ino} /model/weights\n"
    (process / "maps").write_text(mapped)
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        f"30 1 {major}:{minor} / /models rw shared:1 - {kind} /dev/x rw\n" * bool(kind)
    )
    found = find_users({folder: "models"}, tmp_path / "proc", mounts)
    assert found == ({folder: "process 77"} if is_used else {})
