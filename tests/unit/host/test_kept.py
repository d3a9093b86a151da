# SPDX-License-Identifier: MulanPSL-2.0
"""Files of the agent's own: whole over anything, damage is set aside, a full disk is no end."""

import asyncio
import errno
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.errors import Code, Failure
from agent.host import kept as kept_module
from agent.host.atomic import write_atomically
from agent.host.kept import KeptFile
from tests.scenario.world import until


def decode(text: str) -> dict[str, int]:
    """json.JSONDecodeError is a ValueError."""
    found: dict[str, int] = json.loads(text)
    return found


def write(path: Path, *texts: str, told: list[Failure | None] | None = None) -> None:
    async def scenario() -> None:
        kept = KeptFile(path)
        running = asyncio.create_task(kept.run((told if told is not None else []).append))
        for text in texts:
            kept.offer(text)
            await until(lambda text=text: path.exists() and path.read_text() == text)  # type: ignore[misc]
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(scenario())


def test_the_newest_is_written_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    assert KeptFile(path).load(decode) is None
    write(path, '{"a": 1}', '{"a": 2}')
    assert KeptFile(path).load(decode) == {"a": 2}
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["state.json"]


def test_the_same_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text('{"a": 1}')
    before = path.stat().st_ino

    async def scenario() -> None:
        kept = KeptFile(path)
        kept.load(decode)
        running = asyncio.create_task(kept.run(lambda failure: None))
        kept.offer('{"a": 1}')
        await asyncio.sleep(0.1)
        assert path.stat().st_ino == before
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(scenario())


@pytest.mark.parametrize("content", [b"", b'{"a": ', b"\xff\xfe", b"\0" * 4096, b" " * 5_000_000])
def test_what_is_damaged_is_set_aside_and_said(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(content)
    (tmp_path / "state.json.damaged").write_text("an older one")
    failure = KeptFile(path).load(decode)
    assert isinstance(failure, Failure)
    assert failure.code is Code.STATE_DAMAGED
    assert "set aside as" in failure.hint
    assert not path.exists()
    assert (tmp_path / "state.json.damaged").read_bytes() == content
    assert KeptFile(path).load(decode) is None


def test_what_a_power_cut_left_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text('{"a": 1}')
    (tmp_path / ".state.json.new").write_text('{"a": ')
    assert KeptFile(path).load(decode) == {"a": 1}
    assert os.listdir(tmp_path) == ["state.json"]


def test_what_cannot_be_read_at_all_is_said(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.symlink_to(path)
    failure = KeptFile(path).load(decode)
    assert isinstance(failure, Failure)
    assert "cannot read" in failure.message


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_file_is_set_aside(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "state.json"
    make(path)
    failure = KeptFile(path).load(decode)
    assert isinstance(failure, Failure)
    assert "it is no regular file" in failure.message
    assert KeptFile(path).load(decode) is None
    assert os.listdir(tmp_path) == ["state.json.damaged"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.ETIMEDOUT])
def test_a_full_disk_leaves_the_old_one_and_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Or a network file system that is mounted with softerr: for Python that is a TimeoutError."""
    path = tmp_path / "state.json"
    write(path, "old")
    full = [True]

    def writing(target: Path, text: str, mode: int) -> None:
        if full[0]:
            raise OSError(number, os.strerror(number))
        write_atomically(target, text, mode)

    monkeypatch.setattr(kept_module, "write_atomically", writing)
    monkeypatch.setattr(kept_module, "AGAIN_S", 0.02)

    async def scenario() -> list[Failure | None]:
        told: list[Failure | None] = []
        kept = KeptFile(path)
        running = asyncio.create_task(kept.run(told.append))
        kept.offer("new")
        await asyncio.sleep(0.2)
        assert path.read_text() == "old"
        full[0] = False
        await until(lambda: path.read_text() == "new")
        await until(lambda: len(told) == 2)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return told

    first, second = asyncio.run(scenario())
    assert first is not None
    assert first.code is Code.FILE_NOT_WRITTEN
    assert os.strerror(number) in first.message
    assert second is None


def test_a_disk_that_hangs_is_told_and_the_newest_is_written_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.json"
    released = threading.Event()
    told: list[Failure | None] = []

    def hang(*words: object) -> None:
        released.wait(10)
        write_atomically(*words)  # type: ignore[arg-type]

    async def scenario() -> None:
        kept = KeptFile(path)
        running = asyncio.create_task(kept.run(told.append))
        kept.offer("1")
        await until(lambda: bool(told))
        assert told[0] is not None
        assert told[0].message == f"cannot write {path}: no answer within 0.1 s"
        kept.offer("2")
        released.set()
        await until(lambda: told[-1] is None)
        assert path.read_text() == "2"
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    monkeypatch.setattr(kept_module, "write_atomically", hang)
    monkeypatch.setattr(kept_module, "WRITE_DEADLINE_S", 0.1)
    asyncio.run(scenario())


def test_what_was_before_a_failed_try_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The try may have replaced the file before it failed."""
    path = tmp_path / "state.json"

    def fail_late(target: Path, text: str, mode: int) -> None:
        write_atomically(target, text, mode)
        if text == "new":
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(kept_module, "write_atomically", fail_late)

    async def scenario() -> None:
        told: list[Failure | None] = []
        kept = KeptFile(path)
        running = asyncio.create_task(kept.run(told.append))
        kept.offer("old")
        await until(lambda: path.exists())
        kept.offer("new")
        await until(lambda: bool(told))
        assert path.read_text() == "new"
        kept.offer("old")
        await until(lambda: told[-1] is None)
        assert path.read_text() == "old"
        kept.offer("new")
        await until(lambda: told[-1] is not None)
        kept.offer("old")
        running.cancel()  # before it comes to that
        await asyncio.gather(running, return_exceptions=True)
        assert path.read_text() == "new"
        await kept.close()

    asyncio.run(scenario())
    assert path.read_text() == "old"


def test_the_end_writes_what_was_not_written_yet(tmp_path: Path) -> None:
    path = tmp_path / "state.json"

    async def scenario() -> None:
        kept = KeptFile(path)
        running = asyncio.create_task(kept.run(lambda failure: None))
        kept.offer("1")
        await until(lambda: path.exists() and path.read_text() == "1")
        kept.offer("2")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert path.read_text() == "1"
        await kept.close()

    asyncio.run(scenario())
    assert path.read_text() == "2"
