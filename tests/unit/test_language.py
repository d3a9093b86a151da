# SPDX-License-Identifier: MulanPSL-2.0
"""Chinese: all of it is there, nothing is left over, no value is lost, columns stand."""

import argparse
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from string import Formatter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import cells
from agent.chinese.help import HELP
from agent.chinese.meanings import CHECKS, CODES, KINDS
from agent.chinese.tables import CHINESE
from agent.chinese.words import WORDS
from agent.config.values import Mode
from agent.disks import Kind
from agent.doctor.checks import CHECKS as HOST_CHECKS
from agent.doctor.checks import MODEL_CHECKS
from agent.doctor.show import show as show_findings
from agent.doctor.verdict import Finding, Group, Status, error
from agent.errors import Code, Failure
from agent.language import Language, choose_language, meaning, speak, tr, translate, word
from agent.model import DriverState, FaultSeverity, NpuHealth, Phase
from agent.status.events import show_events
from agent.status.show import show
from agent.status.snapshot import EventView
from tests.build import build_snapshot, build_view
from tests.language.found import hints, kinds, templates, texts

TREE = Path(__file__).resolve().parents[2]
NOW = 1_700_000_090.0
CHINESE_MARK = re.compile(r"[\u4e00-\u9fff]")
# Names and units that Chinese has as they are.
SAME = {
    *(
        "NPU",
        "HBM",
        "AI core",
        "NPUs",
        "Podman",
        "the agent",
        "the NPUs",
        "; ",
        ": ",
        ", ",
        " and ",
    ),
    *(" for {architecture}", "{0} (ACL {1})", "{file}: {bundle}, {signed}"),
    *("check selinux", "check cpu", "a quadlet ({0})"),
    *(" ({done} of {total})", "{share} % ({done} of {total})"),
    "journalctl -b -u deepseek-agent; systemctl restart deepseek-agent",
}
STATES: tuple[type[StrEnum], ...] = (
    *(Phase, NpuHealth, DriverState, FaultSeverity, Mode, Kind, Status, Group),
)


@pytest.fixture(autouse=True)
def _chinese() -> Iterator[None]:
    speak(Language.CHINESE)
    yield
    speak(Language.ENGLISH)


# --- what is there -------------------------------------------------------------------------------


def test_every_text_is_there_and_none_is_left_over() -> None:
    argparse_says = {key for key in HELP if repr(key)[1:-1] in inspect.getsource(argparse)}
    assert texts() - set(CHINESE.texts) == set()
    assert set(CHINESE.texts) - texts() - argparse_says == set()


def test_argparse_has_the_words_that_are_translated() -> None:
    source = inspect.getsource(argparse)
    assert "_('usage: ')" in source
    assert "_('show this help message and exit')" in source


def test_every_message_is_there_and_none_is_left_over() -> None:
    wanted = templates() | hints()
    assert wanted - set(CHINESE.templates) == set()
    assert set(CHINESE.templates) - wanted == set()


def test_every_state_has_a_word() -> None:
    states = {str(state) for kind in STATES for state in kind}
    assert states == set(WORDS)


def test_every_failure_code_has_a_meaning() -> None:
    assert {str(code) for code in Code} == set(CODES)


def test_every_kind_of_event_has_a_meaning() -> None:
    assert kinds() | {str(phase) for phase in Phase} == set(KINDS) | (set(CODES) & kinds())


def test_every_check_has_a_title() -> None:
    assert {f"check {one.id}" for one in (*HOST_CHECKS, *MODEL_CHECKS)} == set(CHECKS)


ALL = {**CHINESE.texts, **CHINESE.words, **CHINESE.meanings, **CHINESE.templates}


@pytest.mark.parametrize("english", ALL)
def test_it_is_chinese_and_has_all_values(english: str) -> None:
    chinese = ALL[english]
    assert _values(chinese) == _values(english)
    assert _commands(chinese) == _commands(english)
    assert CHINESE_MARK.search(chinese) or english in SAME


def _commands(text: str) -> set[str]:
    found = re.finditer(r"\b(systemctl|deepseekctl|podman|dnf) (?!of\b)[\w@.-]+", text, re.ASCII)
    return {one.group() for one in found}


def _values(text: str) -> list[str]:
    percent = re.findall(r"%\(?\w*\)?[sr]", text)
    try:
        named = [name for _, name, _, _ in Formatter().parse(text) if name is not None]
    except ValueError:
        named = []
    return sorted([*percent, *named])


def test_no_text_stands_in_two_tables_with_two_meanings() -> None:
    assert set(HELP) & (set(CHINESE.texts) - set(HELP)) == set()
    assert set(CODES) & set(KINDS) <= {"npu-lost"}


# --- how it is found -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({}, Language.ENGLISH),
        ({"LANG": "zh_CN.UTF-8"}, Language.CHINESE),
        ({"LANG": "zh_CN.GB18030"}, Language.CHINESE),
        ({"LANG": "zh"}, Language.CHINESE),
        ({"LANG": "ZH_tw"}, Language.CHINESE),
        ({"LANG": "zhx"}, Language.ENGLISH),
        ({"LANG": "en_US.UTF-8"}, Language.ENGLISH),
        ({"LANG": "C"}, Language.ENGLISH),
        ({"LANG": "zh_CN.UTF-8", "LC_MESSAGES": "en_US.UTF-8"}, Language.ENGLISH),
        ({"LANG": "en_US.UTF-8", "LC_MESSAGES": "zh_CN"}, Language.CHINESE),
        ({"LC_ALL": "C", "LC_MESSAGES": "zh_CN"}, Language.ENGLISH),
        ({"LC_ALL": "", "LC_MESSAGES": "", "LANG": "zh_CN"}, Language.CHINESE),
    ],
)
def test_the_locale_tells_the_language(environment: dict[str, str], language: Language) -> None:
    assert choose_language(environment) is language


def test_a_message_is_found_by_its_template_and_so_is_what_is_in_it() -> None:
    said = translate("cannot see an NPU driver: no /dev/davinci* devices")
    assert said == "未发现 NPU 驱动：没有 /dev/davinci* 设备"
    said = translate("cannot serve 8b: the disk has a hole, and it is not fetched by itself (x)")
    assert said == "无法提供 8b：the disk has a hole，且不会自动下载（x）"


def test_what_nobody_knows_stays() -> None:
    speak(Language.CHINESE)
    assert (tr("new"), word("new"), meaning("new"), translate("new {0}")) == (
        *("new", "new", "", "new {0}"),
    )


@given(st.text())
def test_any_message_can_be_translated(message: str) -> None:
    speak(Language.CHINESE)
    assert translate(f"cannot reach the agent at {message}: {message}")
    assert translate(message) or not message


# --- pages ---------------------------------------------------------------------------------------


def test_the_status_in_chinese() -> None:
    failure = Failure(Code.ENGINE_DIED, "cannot keep serving: it ended", "see the journal")
    view = build_view(Phase.HELD, failure=failure)
    events = (EventView(NOW - 65, "8b", "held", failure.message),)
    lines = show(build_snapshot(view, events=events), NOW).splitlines()
    assert lines[:6] == [
        "有故障：8b 未提供服务，需要人工处理",
        "",
        "○ 8b       已停住，等待人工处理，已停 1 分 30 秒",
        "    原因      推理引擎意外退出",
        "              无法继续提供服务：it ended [engine-died]",
        "    建议      see the journal",
    ]
    assert "     1 分 5 秒前  8b held 已停住，等待人工处理：无法继续提供服务：it ended" in lines
    head, *npus = lines[lines.index("NPU 驱动 24.1.rc2：就绪") + 1 :][:9]
    assert cells.width(head[: head.index("健康")]) == cells.width(npus[0][: npus[0].index("正常")])


def test_events_in_chinese() -> None:
    shown = show_events([EventView(NOW, "8b", "engine-hung", "cannot keep it")])
    assert shown.endswith("8b engine-hung 推理引擎挂起，不再产出 token：cannot keep it")


def test_findings_stand_in_columns_in_chinese() -> None:
    found = [
        Finding(one.id, one.group, "", error("cannot be told: see podman", "see: dmesg"))
        for one in HOST_CHECKS
    ]
    lines = [one for one in show_findings(found, colored=False).splitlines() if "：见" in one]
    assert len(lines) == len(HOST_CHECKS)
    assert len({cells.width(one[: one.index("无法判断")]) for one in lines}) == 1


# --- the process ---------------------------------------------------------------------------------


def ctl(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    outer = {key: os.environ[key] for key in ("PATH", "HOME", "PYTHONPATH") if key in os.environ}
    return subprocess.run(
        [sys.executable, "-m", "agent.cli", *words],
        env={**outer, "PYTHONUTF8": "1", "COLUMNS": "80", **environment},
        cwd=TREE,
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_and_errors_are_chinese() -> None:
    shown = ctl("--help", LANG="zh_CN.UTF-8")
    assert shown.stdout.startswith("用法：deepseekctl [-h]")
    assert "查看并管理本机的 DeepSeek 模型。" in shown.stdout
    assert max(map(cells.width, shown.stdout.splitlines())) <= 80
    assert {"位置参数:", "选项:"} <= set(shown.stdout.splitlines())
    below = ctl("logs", "--help", LANG="zh_CN.UTF-8").stdout.splitlines()
    assert {"位置参数:", "选项:"} <= set(below)
    failed = ctl("--socket", "/nowhere/x", "status", LANG="zh_CN.UTF-8")
    assert failed.returncode == 3
    assert failed.stderr.startswith("deepseekctl: 无法连接 deepseek-agent\n  无法通过 /nowhere/x")
    assert "  建议：systemctl start deepseek-agent.socket" in failed.stderr
    wrong = ctl("hold", LANG="zh_CN.UTF-8")
    assert (wrong.returncode, "缺少参数：instance" in wrong.stderr) == (2, True)


def test_commands_in_hints_name_an_instance() -> None:
    """Without one these verbs refuse to do anything."""
    asks = re.compile(
        r"deepseekctl (logs|pull|replan|restart|rollback|start|stop|update|verify)"
        r"(?! (INSTANCE|实例名|\{\d\}))"
    )
    said = (text for pair in CHINESE.templates.items() for text in pair)
    assert [text for text in said if asks.search(text)] == []


def test_english_is_what_all_others_get() -> None:
    english = ctl("--help").stdout
    assert english.startswith("usage: deepseekctl")
    assert ctl("--help", LANG="de_DE.UTF-8").stdout == english
    assert CHINESE_MARK.search(english) is None


def test_a_terminal_that_cannot_show_chinese_gets_something() -> None:
    shown = ctl("--help", LANG="zh_CN", PYTHONUTF8="0", PYTHONIOENCODING="ascii")
    assert (shown.returncode, shown.stderr) == (0, "")


# --- cells ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "cells_wide"),
    [("abc", 3), ("昇腾", 4), ("● 8b", 4), ("，", 2), ("e\u0301", 1), ("", 0)],
)
def test_a_chinese_character_has_two_cells(text: str, cells_wide: int) -> None:
    assert cells.width(text) == cells_wide


@given(st.text(alphabet="ab 昇腾，（）。"), st.integers(8, 30))
def test_wrapping_keeps_all_and_fits(text: str, wide: int) -> None:
    lines = cells.wrap(text, wide)
    assert "".join("".join(lines).split()) == "".join(text.split())
    longest = max(map(cells.width, cells.PIECES.findall(text)), default=0)
    assert all(cells.width(line) <= max(wide, longest) for line in lines)


def test_no_line_begins_with_a_mark_that_ends_something() -> None:
    lines = cells.wrap("模型权重不完整，请重新下载。" * 4, 14)
    assert all(line[0] not in "，。" for line in lines)
    assert max(map(cells.width, lines)) <= 16


def test_kinds_are_found_in_the_sources() -> None:
    """The search itself: it finds what is written in each of the ways."""
    assert {"asked", "npu-fault", "unit-file-restored", "updated", "metrics-served"} <= kinds()
