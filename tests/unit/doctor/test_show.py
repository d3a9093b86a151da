# SPDX-License-Identifier: MulanPSL-2.0
"""Findings as a person and as a program read them."""

import json
from dataclasses import replace
from pathlib import Path

from agent.doctor.checks import CHECKS, MODEL_CHECKS, examine
from agent.doctor.looks import Unseen, Why
from agent.doctor.show import is_well, show, to_json
from tests.unit.doctor.well import build_checkup, build_patient

PAGE = Path(__file__).resolve().parents[3] / "docs/doctor.md"
SILENT = Unseen(Why.SILENT, "cannot look at systemd: no answer", "see: dmesg")
WELL = examine(build_checkup())
ILL = examine(replace(build_checkup(), systemd=SILENT, podman=(0, 0, 0), python=(3, 12, 1)))


def test_groups_columns_and_a_last_line() -> None:
    text = show(ILL, colored=False)
    assert text.startswith("the host\n  error    systemd ")
    assert "\n\nNPUs\n  ok       npu-driver      driver 24.1.rc2, 8 NPUs (a2)\n" in text
    assert "\n\nmodel 8b\n  ok       profile         deepseek-r1:8b, on a2, a3\n" in text
    hint = next(line for line in text.splitlines() if "->" in line)
    assert hint == f"{'':27}-> see: dmesg"
    last = text.splitlines()[-1]
    assert last.startswith("2 errors, ")
    assert last.endswith("; to mend: systemd, podman")
    assert "\x1b" not in text


def test_nothing_to_mend() -> None:
    assert show(WELL, colored=False).splitlines()[-1] == "0 errors, 33 ok, 2 skipped"
    assert is_well(WELL)
    assert not is_well(ILL)


def test_colours() -> None:
    text = show(ILL, colored=True)
    assert "\x1b[31merror  \x1b[0m  systemd" in text
    assert "\x1b[31m2 errors\x1b[0m, " in text


def test_without_a_model_it_says_how_to_name_one() -> None:
    findings = examine(replace(build_checkup(), patients=()))
    assert "\nno model was looked at: none is enabled; name one: deepseekctl doctor 8b\n" in show(
        findings, colored=False
    )


def test_json() -> None:
    told = json.loads(to_json(ILL, "0.1.0"))
    assert (told["schema"], told["version"]) == (1, "0.1.0")
    assert told["counts"]["error"] == 2
    assert sum(told["counts"].values()) == len(told["checks"]) == len(ILL)
    assert told["checks"][0] == {
        "id": "systemd",
        "instance": "",
        "status": "error",
        "message": "cannot look at systemd: no answer",
        "hint": "see: dmesg",
    }
    assert {one["instance"] for one in told["checks"]} == {"", "8b"}


def test_two_models_are_told_apart() -> None:
    both = (build_patient(), replace(build_patient(), name="7b"))
    text = show(examine(build_checkup(*both)), colored=False)
    assert text.count("\nmodel 8b\n") == text.count("\nmodel 7b\n") == 1


def test_the_page_explains_each_check_and_no_other() -> None:
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:3] == "| `"]
    explained = [row.split("`")[1] for row in rows]
    assert explained == [one.id for one in (*CHECKS, *MODEL_CHECKS)]
    assert all(len(row.split("|")) == 5 and row.split("|")[3].strip() for row in rows)
