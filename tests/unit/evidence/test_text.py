# SPDX-License-Identifier: MulanPSL-2.0
"""What stands in an evidence file: no secrets, fair shares of its length, processes by /proc."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from agent.evidence.processes import command_line, describe_process, pid_inside
from agent.evidence.redact import REMOVED, redact
from agent.evidence.report import FRAME_BYTES, LIMIT_BYTES, Section, compose, fair_shares

KEY = "dGhpcyBpcyBhIHNlY3JldA"

# --- secrets -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {KEY}",
        f"headers: {{'authorization': 'Bearer other-{KEY}'}}",
        f"got bearer x{KEY}== from 10.0.0.1",
        f"VLLM_API_KEY=x{KEY}",
        f"HF_TOKEN='x{KEY} with blanks'",
        f"vllm serve --api-key x{KEY} --port 8000",
        f"vllm serve --hf-token=x{KEY}",
        f'{{"password": "x{KEY}", "user": "me"}}',
        f"db_password=x{KEY};",
        f"aws.secret=x{KEY}",
        f"https://me:x{KEY}@registry.example/v2",
        f"hf_{KEY}",
        f"sk-{KEY}",
    ],
)
def test_secrets_are_removed(text: str) -> None:
    cleaned = redact(text)
    assert KEY not in cleaned
    assert REMOVED in cleaned


def test_a_known_secret_is_removed_wherever_it_stands() -> None:
    assert redact(f"it is {KEY}: /x/{KEY}", [KEY]) == f"it is {REMOVED}: /x/{REMOVED}"


@pytest.mark.parametrize(
    "text",
    [
        "max_num_batched_tokens=2048, eos_token_id=2, prompt_tokens: 12",
        'vllm:generation_tokens_total{engine="0",model_name="deepseek-r1:8b"} 5.0',
        "keyword=1 monkey business --tokenizer-mode auto --enable-tokens",
        "[<0>] key_wait+0x1/0x2 https://example.org/path?a=b",
        "waiting for the token of EngineCore",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text, ["", KEY]) == text


def test_what_stands_beside_a_secret_stays() -> None:
    text = f"a=1 API_KEY={KEY} b=2\nAuthorization: Bearer {KEY}\nnext"
    assert redact(text) == f"a=1 API_KEY={REMOVED} b=2\nAuthorization: {REMOVED}\nnext"


# --- shares --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "limit", "shares"),
    [
        ([], 100, []),
        ([10, 20], 100, [10, 20]),
        ([10, 200, 50], 100, [10, 45, 45]),
        ([300, 300, 10], 110, [50, 50, 10]),
        ([5, 5], 0, [0, 0]),
        ([5, 5], -7, [0, 0]),
    ],
)
def test_fair_shares(sizes: list[int], limit: int, shares: list[int]) -> None:
    assert fair_shares(sizes, limit) == shares


def test_long_sections_are_cut_and_say_so() -> None:
    sections = [
        Section("short", "all of it"),
        Section("head", "".join(f"{number}\n" for number in range(200_000))),
        Section("tail", "".join(f"{number}\n" for number in range(200_000)), keep_end=True),
    ]
    text = compose(sections)
    assert len(text.encode()) <= LIMIT_BYTES
    assert len(text.encode()) > LIMIT_BYTES - 4 * FRAME_BYTES
    _, short, head, tail = text.split("== ")
    assert short.endswith("==\nall of it\n\n")
    assert head.startswith("head ==\n0\n1\n")
    assert "bytes are cut here, of 1288890]" in head.splitlines()[-2]
    assert "bytes are cut here, of 1288890]" in tail.splitlines()[1]
    assert tail.rstrip().endswith("199999")


def test_a_cut_never_splits_a_character() -> None:
    text = compose([Section("odd", "é" * 1000)], limit_bytes=FRAME_BYTES + 101)
    assert "é" * 50 in text
    text.encode().decode()


# --- processes -----------------------------------------------------------------------------------


def test_a_stopped_process() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        child.send_signal(19)
        stat = Path(f"/proc/{child.pid}/stat")
        while stat.read_text().rpartition(")")[2].split()[0] != "T":
            time.sleep(0.005)
        try:
            text = "\n".join(describe_process(child.pid))
        finally:
            child.kill()
    assert f"process {child.pid} (sleep): state T, stopped" in text
    assert "1 threads" in text
    if os.geteuid() == 0:
        assert "wchan do_signal_stop" in text


def test_threads_in_the_same_place_stand_together(tmp_path: Path) -> None:
    add_process(tmp_path, 7, {7: ("S", "futex", "[<0>] futex_wait\n"), 8: ("R", "0", "")})
    for thread in range(100, 120):
        add_thread(tmp_path, 7, thread, ("S", "futex", "[<0>] futex_wait\n"))
    lines = list(describe_process(7, tmp_path))
    assert lines[0] == "process 7 (a) b): state S, sleeping"
    assert lines[2].startswith("  state S, wchan futex: 7 (a) b), 100 (a) b), ")
    assert lines[2].endswith(" and 13 more")
    assert lines[3:] == ["    [<0>] futex_wait", "  state R, wchan 0: 8 (a) b)"]


def test_a_thread_that_ends_meanwhile_is_passed_over(tmp_path: Path) -> None:
    add_process(tmp_path, 7, {7: ("S", "futex", "")})
    (tmp_path / "7/task/9").mkdir()
    assert len(list(describe_process(7, tmp_path))) == 3


def test_command_line_and_number_inside(tmp_path: Path) -> None:
    add_process(tmp_path, 7, {7: ("S", "0", "")})
    (tmp_path / "7/cmdline").write_bytes(b"vllm\0serve\0/models/a b\0")
    (tmp_path / "7/status").write_text("Name:\ta\nNSpid:\t7\t3\n")
    assert command_line(7, tmp_path) == "vllm serve /models/a b"
    assert pid_inside(7, tmp_path) == 3
    (tmp_path / "7/status").write_text("Name:\ta\n")
    assert pid_inside(7, tmp_path) == 7


def add_process(proc: Path, pid: int, threads: dict[int, tuple[str, str, str]]) -> None:
    for number, thread in threads.items():
        add_thread(proc, pid, number, thread)
    (proc / f"{pid}/stat").write_text((proc / f"{pid}/task/{pid}/stat").read_text())


def add_thread(proc: Path, pid: int, number: int, thread: tuple[str, str, str]) -> None:
    state, wchan, stack = thread
    folder = proc / f"{pid}/task/{number}"
    folder.mkdir(parents=True)
    (folder / "stat").write_text(f"{number} (a) b) {state} " + "0 " * 40 + "\n")
    (folder / "wchan").write_text(wchan)
    (folder / "stack").write_text(stack)
