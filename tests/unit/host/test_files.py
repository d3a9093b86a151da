# SPDX-License-Identifier: MulanPSL-2.0
"""Rendered files: whole or not at all, whatever happens to the writer; the generator's word."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path, PurePosixPath

import pytest

from agent.errors import Code, HostError
from agent.host.atomic import write_atomically
from agent.host.files import RenderedFiles

FILE = "deepseek-vllm-8b.container"
SERVICE = "deepseek-vllm-8b.service"


def test_write_read_remove(tmp_path: Path) -> None:
    files, path = RenderedFiles(), PurePosixPath(tmp_path / "a" / "b" / FILE)
    assert files.read(path) is None
    files.write(path, "[Container]\nImage=模型\n")  # the parents are made
    assert files.read(path) == "[Container]\nImage=模型\n"
    files.write(path, "second")
    assert files.read(path) == "second"
    assert os.listdir(path.parent) == [FILE]
    files.remove(path)
    files.remove(path)
    assert files.read(path) is None


def test_mode_does_not_depend_on_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_atomically(tmp_path / FILE, "x")
        write_atomically(tmp_path / "other", "x", 0o600)
    finally:
        os.umask(before)
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "other").stat().st_mode & 0o777 == 0o600


def test_bytes_that_are_no_text_read_as_no_file(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"\xff\xfe\x00")
    assert RenderedFiles().read(PurePosixPath(tmp_path / FILE)) is None


@pytest.mark.parametrize("kind", ["endless", "pipe", "folder", "device"])
def test_what_we_cannot_have_written_reads_as_no_file(tmp_path: Path, kind: str) -> None:
    """Read as it is, the first fills the memory and the second waits for ever."""
    path = make_strange(tmp_path / FILE, kind)
    assert RenderedFiles().read(PurePosixPath(path)) is None
    with pytest.raises(HostError) as raised:
        RenderedFiles().read_public(str(path))
    assert raised.value.failure.code is Code.FILE_UNUSABLE


def make_strange(path: Path, kind: str) -> Path:
    match kind:
        case "endless":
            path.touch()
            os.truncate(path, 2**40)
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case _:
            return Path("/dev/zero")
    return path


def test_a_parent_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    path = PurePosixPath(tmp_path / "file" / FILE)
    assert RenderedFiles().read(path) is None
    RenderedFiles().remove(path)
    with pytest.raises(HostError) as raised:
        RenderedFiles().write(path, "x")
    assert raised.value.failure.code is Code.FILE_NOT_WRITTEN
    assert raised.value.failure.hint


def test_a_place_that_is_a_directory(tmp_path: Path) -> None:
    path = PurePosixPath(tmp_path / FILE)
    Path(path).mkdir()
    assert RenderedFiles().read(path) is None
    with pytest.raises(HostError):
        RenderedFiles().remove(path)
    with pytest.raises(HostError):
        RenderedFiles().write(path, "x")
    assert os.listdir(tmp_path) == [FILE]  # no temporary file is left


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    """The size limit of a child stands in for the disk: write(2) fails half way."""
    (tmp_path / FILE).write_text("old")
    program = """
import resource, signal, sys
from pathlib import Path, PurePosixPath
from agent.errors import HostError
from agent.host.files import RenderedFiles
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    RenderedFiles().write(PurePosixPath(sys.argv[1]), "n" * 1_000_000)
except HostError as error:
    sys.exit(7)
"""
    done = subprocess.run(
        (sys.executable, "-c", program, str(tmp_path / FILE)),
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        check=False,
    )
    assert done.returncode == 7
    assert (tmp_path / FILE).read_text() == "old"
    assert os.listdir(tmp_path) == [FILE]


WRITER = """
import itertools, sys
from pathlib import Path
from agent.host.atomic import write_atomically
print("ready", flush=True)
for number in itertools.count():
    text = chr(ord("a") + number % 26)
    write_atomically(Path(sys.argv[1]), text * 50_000 + "\\n")
"""


def test_a_writer_that_is_killed_never_leaves_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / FILE
    write_atomically(path, "a" * 50_000 + "\n")
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    for turn in range(12):
        argv = (sys.executable, "-S", "-c", WRITER, str(path))
        with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.readline()
            deadline = time.monotonic() + 0.01 + turn * 0.0013
            while time.monotonic() < deadline:  # a reader sees the old or the new one meanwhile
                assert_whole(path)
            child.send_signal(signal.SIGKILL)
        assert_whole(path)
    # What the killed writers left has no name that quadlet or systemd would take for a unit.
    left = [name for name in os.listdir(tmp_path) if name != FILE]
    assert all(name.startswith(".") and not name.endswith(".container") for name in left)


def assert_whole(path: Path) -> None:
    text = path.read_text()
    assert len(text) == 50_001
    assert set(text) == {text[0], "\n"}


# --- the generator -------------------------------------------------------------------------------

OK = f"cat $QUADLET_UNIT_DIRS/{FILE} >&2; echo '---{SERVICE}---'; cat $QUADLET_UNIT_DIRS/{FILE}"
GENERATORS = {
    "ok": (OK, None),
    "refuses": ("echo 'unsupported key Foo' >&2; exit 1", "unsupported key Foo"),
    "swallows the error (4.9.4)": ("echo 'bad key' >&2; exit 0", "bad key"),
    "fails without a word": ("exit 3", "exit status 3"),
    "prints the unit, and fails": (f"echo '---{SERVICE}---'; exit 1", SERVICE),
    "dies": ("kill -9 $$", "exit status -9"),
    "talks without end": ("yes no | head -c 100000 >&2; exit 1", "no"),
}


@pytest.mark.parametrize("kind", GENERATORS)
def test_generator(tmp_path: Path, kind: str) -> None:
    script, refusal = GENERATORS[kind]
    generator = tmp_path / "generator"
    generator.write_text(f'#!/bin/sh\n[ "$1" = --dryrun ] || exit 9\n{script}\n')
    generator.chmod(0o755)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    files = RenderedFiles((str(tmp_path / "missing"), str(generator)), str(scratch))
    answer = asyncio.run(files.generator_refusal(FILE, "[Container]\nImage=x\n"))
    assert list(scratch.iterdir()) == []
    if refusal is None:
        assert answer is None
    else:
        assert answer is not None
        assert refusal in answer
        assert len(answer) <= 500


def test_no_generator() -> None:
    answer = asyncio.run(RenderedFiles(generators=()).generator_refusal(FILE, ""))
    assert answer == "this host has no quadlet generator"


def test_a_generator_that_is_no_program(tmp_path: Path) -> None:
    """ENOEXEC from execve(2) is a refusal like any other: the plain unit is there for it."""
    broken = tmp_path / "generator"
    broken.write_bytes(b"\x7fELF nonsense")
    broken.chmod(0o755)
    files = RenderedFiles((str(broken),), str(tmp_path))
    assert asyncio.run(files.generator_refusal(FILE, "x"))


def test_what_a_killed_agent_has_left_does_not_stay(tmp_path: Path) -> None:
    """One folder for each file: they would pile up, or be in the way."""
    generator = tmp_path / "generator"
    generator.write_text(
        f'#!/bin/sh\n[ -e "$QUADLET_UNIT_DIRS/old.container" ] || echo {SERVICE}\n'
    )
    generator.chmod(0o755)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    files = RenderedFiles((str(generator),), str(scratch))
    for _ in range(2):
        left = scratch / f".generate-{FILE}"
        left.mkdir()
        (left / "old.container").write_text("[Container]\n")
        assert asyncio.run(files.generator_refusal(FILE, "x")) is None
        assert list(scratch.iterdir()) == []


def test_no_room_for_the_generator_s_folder(tmp_path: Path) -> None:
    """/run is full, or the folder gone: trouble that passes, as a HostError, not an OSError."""
    generator = tmp_path / "generator"
    generator.write_text("#!/bin/sh\n")
    generator.chmod(0o755)
    files = RenderedFiles(generators=(str(generator),), scratch=str(tmp_path / "gone"))
    with pytest.raises(HostError):
        asyncio.run(files.generator_refusal(FILE, "x"))
