# SPDX-License-Identifier: MulanPSL-2.0
"""Notes, names, the folder, and the whole program on this machine, without an engine."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.disks import EVIDENCE_LIMIT_BYTES
from agent.evidence.__main__ import main
from agent.evidence.files import KEPT, Notes, api_key, file_name, make_room, read_notes, save

NAME = "8b-20261125T150102Z.txt"
KEY = "0123456789abcdef0123456789abcdef"


# An instance that no lab host on this machine has: their processes are in this /proc, too.
PROGRAM_NAME = "unit-test-20261125T150102Z.txt"


def write_notes(run: Path, notes: object) -> None:
    (run / "evidence").mkdir(exist_ok=True)
    text = notes if isinstance(notes, str) else json.dumps(notes)
    for instance in ("8b", "unit-test"):
        (run / f"evidence/{instance}.json").write_text(text)


def test_notes(tmp_path: Path) -> None:
    write_notes(tmp_path, {"file": NAME, "reason": "hung", "metrics": "a 1", "more": 1})
    assert read_notes("8b", tmp_path) == Notes(NAME, "hung", metrics="a 1")


@pytest.mark.parametrize("notes", ["", "{", "[]", '{"reason": 5, "file": null}', '"text"'])
def test_notes_that_make_no_sense(tmp_path: Path, notes: str) -> None:
    write_notes(tmp_path, notes)
    assert read_notes("8b", tmp_path).file == ""


def test_no_notes(tmp_path: Path) -> None:
    assert "no notes" in read_notes("8b", tmp_path).reason


@pytest.mark.parametrize(
    "wanted",
    [
        "",
        "../8b-20261125T150102Z.txt",
        "/etc/passwd",
        "8b/20261125T150102Z.txt",
        "7b-20261125T150102Z.txt",
        "8b-x-20261125T150102Z.txt",
        "8b-20261125T150102Z.txt\n",
        "8b-20261125T150102Z.sh",
        "8b-20261125T1501022Z.txt",
    ],
)
def test_a_name_that_is_none_of_the_instance_is_replaced(wanted: str) -> None:
    name = file_name("8b", wanted)
    assert name != wanted
    assert re.fullmatch(r"8b-\d{8}T\d{6}Z\.txt", name)
    assert file_name("8b", NAME) == NAME


def test_dots_in_an_instance_are_dots() -> None:
    assert file_name("1.5b", "1x5b-20261125T150102Z.txt").startswith("1.5b-")


def test_the_api_key(tmp_path: Path) -> None:
    assert api_key("8b", tmp_path) == ""
    (tmp_path / "env").mkdir()
    (tmp_path / "env/8b.env").write_text(f"VLLM_API_KEY={KEY}==\n")
    assert api_key("8b", tmp_path) == f"{KEY}=="


def test_saving_is_private_and_replaces(tmp_path: Path) -> None:
    for text in ("one", "two"):
        save(tmp_path, NAME, text, durably=text == "two")
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert (tmp_path / NAME).read_text() == "two"
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o600


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    names = [f"8b-20261125T15{minute:02}00Z.txt" for minute in range(15)]
    others = ["7b-20251125T150000Z.txt", "8b-x-20251125T150000Z.txt", "notes.txt"]
    for name in (*names, *others, f".{names[3]}.new"):
        (tmp_path / name).write_text("some")
    make_room(tmp_path, "8b")
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == sorted([*names[-KEPT:], *others])


def test_what_a_power_cut_has_emptied_goes(tmp_path: Path) -> None:
    """It is not durable until all is gathered."""
    names = [f"8b-20261125T15000{second}Z.txt" for second in range(3)]
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / names[1]).write_text("some")
    make_room(tmp_path, "8b", names[2])
    assert sorted(path.name for path in tmp_path.iterdir()) == names[1:]


def test_all_evidence_together_has_a_limit(tmp_path: Path) -> None:
    names = [f"{one}-20261125T15010{at}Z.txt" for at, one in enumerate(("8b", "7b", "8b", "9b"))]
    for name in names:
        with (tmp_path / name).open("wb") as stream:
            stream.truncate(EVIDENCE_LIMIT_BYTES // 2)  # a hole, and counted as if it were none
    (tmp_path / "other.txt").write_text("mine")
    make_room(tmp_path, "8b")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names[2:], "other.txt"])
    with (tmp_path / names[3]).open("wb") as stream:
        stream.truncate(2 * EVIDENCE_LIMIT_BYTES)
    make_room(tmp_path, "7b")
    assert sorted(path.name for path in tmp_path.iterdir()) == [names[3], "other.txt"]


def test_files_from_the_future_do_not_push_out_what_is_written_now(tmp_path: Path) -> None:
    """The host has lost its time, and has no network yet that would tell it."""
    ahead = [f"8b-9026112{day}T150000Z.txt" for day in range(KEPT)]
    names = [*ahead, "8b-20000101T000000Z.txt", "8b-20000101T000500Z.txt"]
    for name in names:
        (tmp_path / name).write_text("some")
        make_room(tmp_path, "8b", name)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*ahead[2:], *names[-2:]])


def test_what_was_just_written_stays_whatever_its_name_says(tmp_path: Path) -> None:
    """The clock was set back, or ahead, meanwhile."""
    earlier = [f"8b-2020112{day}T150000Z.txt" for day in range(KEPT)]
    for name in earlier:
        with (tmp_path / name).open("wb") as stream:
            stream.truncate(EVIDENCE_LIMIT_BYTES // KEPT)
    for written in ("8b-90261125T150000Z.txt", "8b-20000101T000000Z.txt"):
        (tmp_path / written).write_text("why it died")
        make_room(tmp_path, "8b", written)
        assert (tmp_path / written).exists()
        assert len(list(tmp_path.iterdir())) == KEPT


# --- the program ---------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [[], ["../etc"], ["8b", "7b"], ["-x"]])
def test_what_is_no_instance_is_refused(tmp_path: Path, words: list[str]) -> None:
    assert main(words, tmp_path, tmp_path / "evidence") == 2
    assert list(tmp_path.iterdir()) == []


def start(run: Path, folder: Path, path: Path) -> "subprocess.Popen[str]":
    """`path` holds the doubles of systemctl and so on."""
    script = (
        "import sys; from pathlib import Path; from agent.evidence.__main__ import main; "
        f"sys.exit(main(['unit-test'], Path({str(run)!r}), Path({str(folder)!r})))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "PATH": f"{path}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        text=True,
    )


def add_program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def doubles(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    add_program(folder, "systemctl", f"echo Id=x; echo InvocationID={'ab' * 16}")
    add_program(folder, "journalctl", f'echo "asked for $*"; echo API_KEY={KEY}')
    return folder


def test_a_container_that_is_gone(tmp_path: Path, doubles: Path) -> None:
    folder = tmp_path / "state"
    notes = {
        "file": PROGRAM_NAME,
        "reason": "hung",
        "container_id": "0" * 64,
        "npus": f"Bearer {KEY}",
    }
    write_notes(tmp_path, notes)
    with start(tmp_path, folder, doubles) as child:
        output, _ = child.communicate(timeout=30)
    assert child.returncode == 0
    assert output == f"{folder / PROGRAM_NAME}\n"
    assert folder.stat().st_mode & 0o777 == 0o700
    text = (folder / PROGRAM_NAME).read_text()
    assert "== reason ==\nhung\n" in text
    assert "(none: the container is gone)" in text
    assert f"_SYSTEMD_INVOCATION_ID={'ab' * 16}" in text
    assert "== NPUs ==\nBearer [removed]\n" in text
    assert KEY not in text


def test_all_that_hangs_costs_only_itself(tmp_path: Path, doubles: Path) -> None:
    folder = tmp_path / "state"
    write_notes(tmp_path, {"file": PROGRAM_NAME, "reason": "hung", "metrics": "a 1"})
    for name in ("systemctl", "journalctl"):
        add_program(doubles, name, f"echo {name} says; exec sleep 60")
    began = time.monotonic()
    with start(tmp_path, folder, doubles) as child:
        child.communicate(timeout=30)
    assert time.monotonic() - began < 4
    text = (folder / PROGRAM_NAME).read_text()
    assert "systemctl says\n\n(no more within 0.8 s)" in text
    assert "journalctl says\n(no more within 1.5 s)" in text
    assert "== metrics of the engine ==\na 1\n" in text


def test_sigterm_leaves_what_there_is(tmp_path: Path, doubles: Path) -> None:
    folder = tmp_path / "state"
    write_notes(tmp_path, {"file": PROGRAM_NAME, "reason": "hung"})
    add_program(doubles, "systemctl", "exec sleep 60")
    with start(tmp_path, folder, doubles) as child:
        while not (folder / PROGRAM_NAME).exists():  # the processes have been looked at
            time.sleep(0.01)
        child.send_signal(signal.SIGTERM)
        child.communicate(timeout=30)
    assert child.returncode == 0
    text = (folder / PROGRAM_NAME).read_text()
    assert "== reason ==\nhung\n" in text
    assert "== journal of the engine ==\n(not gathered in time)" in text
