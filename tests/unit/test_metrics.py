# SPDX-License-Identifier: MulanPSL-2.0
"""What monitoring reads: whole texts against tests/golden, and what must hold in any of them."""

import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from agent.facts import OwnProcess
from agent.model import DriverState
from agent.status.metrics.agent import AGENT, PROCESS
from agent.status.metrics.exposition import PREFIX, Family, Kind, Sample, expose, sample
from agent.status.metrics.instances import INSTANCES
from agent.status.metrics.npus import NPUS
from agent.status.metrics.page import render_process, render_snapshot
from agent.status.snapshot import Snapshot
from tests.build import build_inventory, build_snapshot, build_view
from tests.metrics import (
    OWN,
    PROMTOOL,
    build_blind,
    build_broken,
    build_healthy,
    needs_promtool,
)

TREE = Path(__file__).resolve().parents[2]
GOLDEN = TREE / "tests/golden/metrics"
MONITORING = TREE / "etc/monitoring"
CASES = {"healthy": build_healthy, "broken": build_broken, "blind": build_blind}
NAMES = [
    *(PREFIX + family.name for family in AGENT),
    *(PREFIX + family.name for family in INSTANCES),
    *(PREFIX + family.name for family in NPUS),
    *(PREFIX + family.name for family in PROCESS),
]
KINDS = {family.name: family.kind for part in (AGENT, INSTANCES, NPUS, PROCESS) for family in part}
LINE = re.compile(r'([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)+)\})? (\S+)')


def text_of(snapshot: Snapshot) -> str:
    return render_snapshot(snapshot) + render_process(OWN)


def series(text: str) -> list[str]:
    return [line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")]


def value(text: str, name: str) -> float:
    (found,) = (line for line in text.splitlines() if line.startswith(f"{PREFIX}{name} "))
    return float(found.split()[-1])


@pytest.mark.parametrize("case", CASES)
def test_golden(case: str, request: pytest.FixtureRequest) -> None:
    file, text = GOLDEN / f"{case}.prom", text_of(CASES[case]())
    if request.config.getoption("--update-golden"):
        GOLDEN.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    assert file.read_text(encoding="utf-8") == text


def test_no_golden_file_is_left_over() -> None:
    assert {file.stem for file in GOLDEN.iterdir()} == set(CASES)


# --- the format ----------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_every_line_is_of_the_format_and_no_series_comes_twice(case: str) -> None:
    text = text_of(CASES[case]())
    samples = [line for line in text.splitlines() if not line.startswith("#")]
    assert [line for line in samples if LINE.fullmatch(line) is None] == []
    assert [one for one, times in Counter(series(text)).items() if times > 1] == []
    heads = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")]
    assert len(heads) == len(set(heads))


@pytest.mark.parametrize("name", KINDS)
def test_names_say_what_they_are(name: str) -> None:
    assert (KINDS[name] is Kind.COUNTER) == name.endswith("_total")
    assert not re.search(r"_(percent|mib|celcius|ms|count|sum|bucket)(_|$)", name)


def test_every_family_is_in_one_of_the_texts() -> None:
    """Else nobody has seen it, and no golden file holds it."""
    texts = "".join(text_of(build()) for build in CASES.values())
    assert [name for name in NAMES if f"# TYPE {name} " not in texts] == []


def test_labels_and_help_are_escaped() -> None:
    odd: Family[str] = Family(
        "x", Kind.GAUGE, "a\\b\nc", lambda text: [Sample(1, {"name": text, "b": "2"})]
    )
    assert list(expose(odd, odd.read('a"\\\nä'))) == [
        "# HELP deepseek_agent_x a\\\\b\\nc",
        "# TYPE deepseek_agent_x gauge",
        'deepseek_agent_x{name="a\\"\\\\\\nä",b="2"} 1',
    ]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (True, "1"),
        (0.1, "0.1"),
        (1_700_000_090.25, "1700000090.25"),
        (2**70, str(2**70)),
        (1e22, "10000000000000000000000"),
        (-3, "-3"),
    ],
)
def test_numbers(number: float, text: str) -> None:
    one: Family[None] = Family("x", Kind.GAUGE, "x", lambda seen: sample(number))
    assert list(expose(one, one.read(None)))[-1] == f"deepseek_agent_x {text}"


@pytest.mark.parametrize("number", [None, float("nan"), float("inf")])
def test_what_is_no_number_is_no_series_and_no_head(number: float | None) -> None:
    one: Family[None] = Family("x", Kind.GAUGE, "x", lambda seen: sample(number))
    assert list(expose(one, one.read(None))) == []


# --- missing is not zero -------------------------------------------------------------------------


def test_without_systemd_nothing_is_told_of_instances() -> None:
    text = text_of(build_blind())
    assert value(text, "systemd_seen") == 0
    assert "_instance_" not in text
    assert "engine_" not in text


def test_a_silent_npud_is_no_host_without_npus() -> None:
    text = text_of(build_blind())
    assert f"{PREFIX}npus " not in text
    assert "npu_present" not in text  # nobody knows
    assert "npu_usable" not in text
    assert "npu_memory" not in text  # what was read before is old
    assert f'{PREFIX}npu_health{{npu="0",state="unknown"}} 1' in text


def test_an_npu_that_the_driver_lost_is_not_there() -> None:
    assert f'{PREFIX}npu_present{{npu="1"}} 0' in text_of(build_broken())


def test_a_host_without_a_driver_has_no_npus() -> None:
    nothing = build_inventory([], driver=DriverState.ABSENT)
    assert value(text_of(build_snapshot(inventory=nothing)), "npus") == 0


def test_readings_that_the_driver_does_not_tell_are_missing() -> None:
    text = text_of(build_snapshot())
    missing = ("temperature", "power", "utilization", "ecc_errors", "isolated_pages")
    assert [name for name in missing if f"npu_{name}" in text] == []


def test_an_engine_that_does_not_say_has_no_figures() -> None:
    assert "engine_" not in text_of(build_snapshot(build_view()))


def test_nobody_has_looked_at_disks_yet() -> None:
    text = text_of(build_snapshot())
    assert "disk_" not in text
    assert "prunable" not in text


def test_the_process() -> None:
    text = render_process(OwnProcess(0.25, 4096))
    assert value(text, "process_cpu_seconds_total") == 0.25
    assert value(text, "process_resident_memory_bytes") == 4096


# --- Prometheus' own word ------------------------------------------------------------------------


@needs_promtool
@pytest.mark.parametrize("case", CASES)
def test_promtool_takes_it(case: str) -> None:
    done = subprocess.run(
        [PROMTOOL, "check", "metrics"],
        input=text_of(CASES[case]()),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
