# SPDX-License-Identifier: MulanPSL-2.0
"""The engine's log, by a program in the place of journalctl: how it is called, bounds, its end."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path

import pytest

from agent.errors import HostError
from agent.host import logs
from agent.host.logs import JournalLog

INVOCATION = "0471fa296fff483cbb9ca9b942262ac2"


def journal(folder: Path, script: str) -> JournalLog:
    program = folder / "journalctl"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return JournalLog(str(program))


def follow(log: JournalLog, count: int = 1 << 30) -> list[str]:
    async def whole() -> list[str]:
        found: list[str] = []
        async with aclosing(log.follow("8b", INVOCATION)) as pieces:
            async for lines in pieces:
                found += lines
                if len(found) >= count:
                    break
        return found

    return asyncio.run(whole())


def tail(log: JournalLog) -> Sequence[str]:
    return asyncio.run(log.tail(INVOCATION))


def test_it_follows_this_start_of_this_container(tmp_path: Path) -> None:
    found = follow(journal(tmp_path, 'printf "%s\\n" "$@"'))
    assert "--follow" in found
    assert "--output=cat" in found
    assert found[-2:] == [
        f"_SYSTEMD_INVOCATION_ID={INVOCATION}",
        "CONTAINER_NAME=deepseek-vllm-8b",
    ]


def test_lines_come_as_they_are_printed(tmp_path: Path) -> None:
    began = time.monotonic()
    assert follow(journal(tmp_path, "echo one; echo two; exec sleep 60"), 2) == ["one", "two"]
    assert time.monotonic() - began < 5.0


def test_a_bar_that_is_drawn_anew_is_many_lines(tmp_path: Path) -> None:
    bar = "printf '\\r 10%%|# | 1/10 [\\r 20%%|## | 2/10 [\\n\\n'; echo end"
    assert follow(journal(tmp_path, bar)) == [" 10%|# | 1/10 [", " 20%|## | 2/10 [", "end"]


def test_a_line_without_an_end_is_bounded(tmp_path: Path) -> None:
    script = "head -c 3000000 /dev/zero | tr '\\0' x; printf '\\nlast\\n'"
    found = follow(journal(tmp_path, script))
    assert found == ["x" * logs.LINE_LIMIT, "last"]


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    assert follow(journal(tmp_path, "printf 'a\\377b\\n'")) == ["a\N{REPLACEMENT CHARACTER}b"]


def test_who_is_slow_makes_it_wait(tmp_path: Path) -> None:
    """A debug log is endless: only what is read has been printed."""
    log = journal(tmp_path, "exec yes line")

    async def whole() -> int:
        count = 0
        async with aclosing(log.follow("8b", INVOCATION)) as pieces:
            async for lines in pieces:
                count += len(lines)
                if count > 100_000:
                    break
                await asyncio.sleep(0.001)
        return count

    assert asyncio.run(whole()) < 150_000


def test_it_ends_when_the_program_does(tmp_path: Path) -> None:
    assert follow(journal(tmp_path, "echo one; exit 1")) == ["one"]


def test_no_journalctl() -> None:
    with pytest.raises(HostError):
        follow(JournalLog("/nowhere/journalctl"))
    with pytest.raises(HostError):
        tail(JournalLog("/nowhere/journalctl"))


def test_last_words(tmp_path: Path) -> None:
    found = tail(journal(tmp_path, 'echo; printf "%s\\n" "$@"'))
    assert f"_SYSTEMD_INVOCATION_ID={INVOCATION}" in found
    assert not any(one.startswith("CONTAINER") for one in found)  # Podman's own words, too
    assert "" not in found


def test_last_words_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tail(journal(tmp_path, "echo no such; exit 1")) == []
    monkeypatch.setattr(logs, "TAIL_DEADLINE_S", 0.3)
    assert tail(journal(tmp_path, "echo one; exec sleep 60")) == []
