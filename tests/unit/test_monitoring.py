# SPDX-License-Identifier: MulanPSL-2.0
"""Alerts and dashboard: what they ask for is exposed, and each alert fires when it should.

The rules are run by Prometheus' own promtool.
"""

import json
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.status.metrics.exposition import PREFIX
from tests.metrics import PROMTOOL, build_broken, build_healthy, needs_promtool
from tests.unit.test_metrics import KINDS, MONITORING, NAMES, TREE, text_of
from tests.unit_files import read_unit

RULES = MONITORING / "deepseek-agent.rules.yml"
DASHBOARD = MONITORING / "deepseek-agent.json"
DOC = (TREE / "docs/monitoring.md").read_text(encoding="utf-8")
NAME = re.compile(rf"\b{PREFIX}[a-z_]+")
ALERTS = re.findall(r"^  - alert: (\w+)$", RULES.read_text(encoding="utf-8"), re.MULTILINE)
TARGET = 'instance="h",job="deepseek-agent"'


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return found


def expressions() -> list[str]:
    """All that the dashboard asks for, with its variables filled in."""
    asked = [target["expr"] for panel in panels() for target in panel.get("targets", ())]
    return [one.replace("$instance", "h").replace("$name", "8b") for one in asked]


# --- OnFailure= ----------------------------------------------------------------------------------


def test_whoever_is_called_by_a_failure_has_no_limit_of_starts() -> None:
    """What it did not tell within such a limit nobody hears of: a held model calls once."""
    unit = read_unit((MONITORING / "deepseek-notify@.service").read_text(encoding="utf-8"))
    assert ("StartLimitIntervalSec", "0") in unit["Unit"]
    assert {("Restart", "on-failure"), ("RestartSec", "60")} <= set(unit["Service"])


# --- in step with the code -----------------------------------------------------------------------


@pytest.mark.parametrize("file", [RULES, DASHBOARD], ids=["rules", "dashboard"])
def test_what_they_ask_for_is_exposed(file: Path) -> None:
    asked = set(NAME.findall(file.read_text(encoding="utf-8")))
    assert asked - set(NAMES) == set()
    assert len(asked) > 10


def test_panels() -> None:
    assert [panel["id"] for panel in panels()] == list(range(1, len(panels()) + 1))
    assert all(panel["title"] for panel in panels())
    assert all(panel["targets"] for panel in panels() if panel["type"] != "row")


def test_counters_are_never_shown_as_they_are() -> None:
    """They begin anew with their engine: only how they grow says something."""
    text = " ".join([*expressions(), RULES.read_text(encoding="utf-8")])
    counters = [PREFIX + name for name, kind in KINDS.items() if kind == "counter"]
    bare = [name for name in counters if re.search(rf"(?<!rate\()(?<!increase\(){name}\b", text)]
    assert bare == []


def test_every_metric_is_in_the_manual() -> None:
    told = re.findall(r"^\| `([a-z_]+)`", DOC, re.MULTILINE)
    assert [PREFIX + name for name in told] == NAMES


def test_every_alert_is_in_the_manual() -> None:
    assert re.findall(r"^\| `(Deepseek\w+)`", DOC, re.MULTILINE) == ALERTS


# --- the rules -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """`series` as promtool's test files write them, a value a minute; in minutes when the alert
    fires, and when it does not."""

    alert: str
    series: dict[str, str]
    fires: Sequence[int]
    quiet: Sequence[int]


def phase(word: str) -> str:
    return f'instance_phase{{name="8b",phase="{word}"}}'


def turns(*parts: tuple[float, int], times: int = 60) -> str:
    """A value for so many minutes, then the next, and all of it again."""
    return " ".join(f"{value:g}x{minutes - 1}" for _ in range(times) for value, minutes in parts)


def failure(code: str) -> str:
    return f'instance_failure{{name="8b",code="{code}",remedy="retry"}}'


def fetched(item: str = "model") -> str:
    return f'instance_fetch_done_bytes{{name="8b",item="{item}"}}'


MODEL = '{name="8b"}'
DOWN = {f"instance_wished{MODEL}": "1x700", f"instance_serving{MODEL}": "0x700"}
# A source that is asked once in six minutes, in vain. The first answer may take longer.
ASKING = {
    phase("fetching"): "1 1 " + turns((0, 5), (1, 1)),
    phase("backoff"): "0 0 " + turns((1, 5), (0, 1)),
    phase("held"): "0x700",
    failure("source-unreachable"): "_ _ 1x700",
    f"instance_failures{MODEL}": "0 0 " + " ".join(f"{n}x5" for n in range(1, 61)),
}
# It comes to its end, and what came is wrong; again and again.
IN_VAIN = {
    phase("fetching"): turns((1, 50), (0, 5)),
    failure("content-damaged"): "_x50 1x700",
    f"instance_failures{MODEL}": " ".join(f"{n}x54" for n in range(12)),
    fetched(): " ".join(["0+1000x49 stale _x3"] * 12),
}
# The source cuts each time, and it goes on from what is there.
BIT_BY_BIT = {
    phase("fetching"): turns((1, 20), (0, 5)),
    failure("source-unreachable"): "_x20 1x700",
    f"instance_failures{MODEL}": " ".join(f"{n}x24" for n in range(24)),
    fetched(): " ".join(f"0 {n * 18000}+1000x18 stale _x3" for n in range(24)),
}
# Read, then copied: the second time says nothing that the first one has not.
READ_AND_COPIED = {phase("fetching"): "1x700", fetched(): "0+1000x120 0+1000x120 120000x3"}
CHIP = '{npu="3"}'
REFUSED, WISHED = f"instance_refused{MODEL}", f"instance_wished{MODEL}"
SERVING, ON_HOLD = f"instance_serving{MODEL}", f"instance_on_hold{MODEL}"
CASES = [
    Case("DeepseekAgentUnreachable", {"up": "1 0x20"}, [6], [5]),
    Case(
        "DeepseekAgentRestarting",
        {"process_start_time_seconds": "1x9 2x9 3x9 4x9 5x200"},
        [40, 60],
        [35, 110],
    ),
    Case("DeepseekAgentStale", {"snapshot_timestamp_seconds": "0+60x3 180x20"}, [7, 20], [6]),
    Case("DeepseekConfigNotInForce", {"config_in_force": "1 0x20"}, [6], [5]),
    Case(
        "DeepseekProfileRefused",
        {"profiles_refused": "0 1x20", "fault_files_refused": "0x21"},
        [6],
        [5],
    ),
    Case(
        "DeepseekProfileRefused",
        {"profiles_refused": "0x21", "fault_files_refused": "0 1x20"},
        [6],
        [5],
    ),
    Case(
        "DeepseekObserving",
        {'mode{mode="observe"}': "1x1500", 'mode{mode="act"}': "0x1500"},
        [1441],
        [1430],
    ),
    Case("DeepseekSystemdUnseen", {"systemd_seen": "1 0x20"}, [3], [2]),
    Case("DeepseekModelHeld", {phase("held"): "0 1x20"}, [3], [2]),
    Case(
        "DeepseekModelHeld",
        {phase("held"): "1x20", f"instance_on_hold{MODEL}": "1x9 0x20"},
        [12],
        [9],
    ),
    Case("DeepseekModelRefused", {REFUSED: "0 1x20"}, [3, 20], [2]),
    Case(  # and started
        "DeepseekModelRefused",
        {REFUSED: "1x9 0x20", WISHED: "0x9 1x20"},
        [9, 15],
        [24],
    ),
    Case("DeepseekModelRefused", {REFUSED: "1x9 0x20", WISHED: "0x30"}, [9], [10]),  # given up
    Case("DeepseekModelRefused", {REFUSED: "1x20", ON_HOLD: "1x20"}, [], [9]),
    Case("DeepseekModelRefused", {REFUSED: "1x9 0x20", SERVING: "0x9 1x20"}, [9], [10]),
    Case("DeepseekModelOnHold", {f"instance_on_hold{MODEL}": "1x1500"}, [1441], [1430]),
    Case(
        "DeepseekModelNotServing",
        {
            f"instance_wished{MODEL}": "1x90",
            f"instance_serving{MODEL}": "1 0x90",
            phase("fetching"): "0x90",
            phase("held"): "0x90",
        },
        [31, 90],
        [30],
    ),
    Case(  # a loop of dying and loading
        "DeepseekModelNotServing",
        {
            f"instance_wished{MODEL}": "1x90",
            f"instance_serving{MODEL}": "0x90",
            phase("backoff"): "0 1 0 1 0 1x85",
            phase("loading"): "1 0 1 0 1 0x85",
        },
        [31],
        [],
    ),
    Case(
        "DeepseekModelNotServing",
        {f"instance_wished{MODEL}": "0x90", f"instance_serving{MODEL}": "0x90"},
        [],
        [60],
    ),
    Case(
        "DeepseekModelNotServing",
        {
            f"instance_wished{MODEL}": "1x90",
            f"instance_serving{MODEL}": "0x90",
            phase("fetching"): "1x90",
        },
        [],
        [60],
    ),
    Case(
        "DeepseekFetchStalled",
        {
            phase("fetching"): "1x90",
            'instance_fetch_done_bytes{name="8b",item="model"}': "0+100x20 2000x70",
        },
        [50],
        [20, 45],
    ),
    Case("DeepseekFetchStalled", {phase("fetching"): "1x90"}, [15], [14]),
    Case(  # a fetch stays one while its source is waited for
        "DeepseekFetchStalled",
        {**DOWN, **ASKING},
        [16, 17, 20, 30, 45, 60, 100, 300],
        [14],
    ),
    Case("DeepseekModelNotServing", {**DOWN, **ASKING}, [], [20, 31, 60, 300]),  # one is enough
    Case(  # as above, where what is there is found anew each time
        "DeepseekFetchStalled",
        {**DOWN, **ASKING, fetched(): "7x2 " + turns((0, 1), (7, 5))},
        [45, 60, 100, 300],
        [14],
    ),
    Case("DeepseekFetchStalled", {**DOWN, **IN_VAIN}, [300, 330, 600], [60, 150]),
    Case("DeepseekFetchStalled", {**DOWN, **BIT_BY_BIT}, [], [30, 60, 120, 300, 590]),
    Case("DeepseekModelNotServing", {**DOWN, **BIT_BY_BIT}, [], [30, 60, 120, 300, 590]),
    Case("DeepseekFetchStalled", {**DOWN, **READ_AND_COPIED}, [], [60, 120, 150, 180, 240]),
    Case("DeepseekModelNotServing", {**DOWN, **READ_AND_COPIED}, [], [60, 120, 150, 180, 240]),
    Case(  # loads for 25 minutes, serves for 5, dies
        "DeepseekModelNotServing",
        {
            f"instance_wished{MODEL}": "1x700",
            f"instance_serving{MODEL}": turns((0, 25), (1, 5), times=20),
            phase("loading"): turns((1, 25), (0, 5), times=20),
        },
        [40, 59, 120, 315, 590],
        [29],
    ),
    Case(  # what has been down serves again, and goes on
        "DeepseekModelNotServing",
        {f"instance_wished{MODEL}": "1x200", f"instance_serving{MODEL}": "0x40 1x200"},
        [31, 40],
        [51, 60, 150],
    ),
    Case(  # a long fetch, then a long start
        "DeepseekModelNotServing",
        {
            f"instance_wished{MODEL}": "1x200",
            f"instance_serving{MODEL}": "0x145 1x50",
            phase("fetching"): "1x119 0x90",
            fetched(): "0+1000x119 stale _x89",
        },
        [],
        [60, 119, 130, 145, 160],
    ),
    Case(  # held, then tried: whichever of the two it is, one of them is told
        "DeepseekModelNotServing|DeepseekModelHeld",
        {**DOWN, phase("held"): turns((1, 2), (0, 10)), phase("starting"): turns((0, 2), (1, 10))},
        [35, 60, 100, 123, 127, 300, 590],
        [],
    ),
    Case(  # systemd is not seen now and then, and then nothing of a model is
        "DeepseekModelNotServing",
        {
            f"instance_wished{MODEL}": " ".join(["1x7 stale _"] * 60),
            f"instance_serving{MODEL}": " ".join(["0x7 stale _"] * 60),
        },
        [42, 100, 300],
        [30],
    ),
    Case(
        "DeepseekModelNotServing",
        {**DOWN, f"instance_on_hold{MODEL}": "1x700", phase("held"): turns((1, 2), (0, 10))},
        [],
        [60, 300],
    ),
    Case("DeepseekModelTrouble", {f"instance_trouble{MODEL}": "0 1x20"}, [3], [2]),
    Case(
        "DeepseekModelRestarts",
        {f"instance_restarts_total{MODEL}": "7x30 8x9 9x9 10x90"},
        [51, 80],
        [20, 45, 120],
    ),
    Case(  # never three within an hour
        "DeepseekModelRestarts",
        {f"instance_restarts_total{MODEL}": " ".join(f"{n}x89" for n in range(17))},
        [600, 700],
        [30, 400],
    ),
    Case("DeepseekModelDegraded", {f"instance_degraded{MODEL}": "0 1x20"}, [11], [10]),
    Case("DeepseekUpdateUndone", {f"instance_update_undone{MODEL}": "0 1x20"}, [1], [0]),
    Case("DeepseekRestartPending", {f"instance_restart_pending{MODEL}": "1x1500"}, [1441], [1430]),
    Case(
        "DeepseekCertificateExpires",
        {f"instance_certificate_expiry_timestamp_seconds{MODEL}": "604860x9"},
        [2],
        [1],
    ),
    Case("DeepseekQueue", {f"engine_requests_waiting{MODEL}": "0x5 2x30 0x9"}, [21, 35], [15, 40]),
    Case(
        "DeepseekQueue", {f"engine_requests_waiting{MODEL}": turns((2, 9), (0, 1))}, [20, 50], [9]
    ),
    Case("DeepseekQueue", {f"engine_requests_waiting{MODEL}": turns((2, 5), (0, 5))}, [], [1, 30]),
    Case("DeepseekDriverNotReady", {'driver_state{state="ready"}': "1 0x20"}, [11], [10]),
    Case("DeepseekHostSuspected", {"host_suspected": "0 1x20"}, [1], [0]),
    Case(
        "DeepseekNpuFault",
        {'npu_fault{npu="3",code="80E18402",level="Separate"}': "_ 1x20"},
        [2],
        [1],
    ),
    Case("DeepseekNpuGone", {f"npu_present{CHIP}": "1 0x20"}, [3], [2]),
    Case("DeepseekNpuQuarantined", {f"npu_quarantined{CHIP}": "0 1x20"}, [6], [5]),
    Case(
        "DeepseekNpuUnknown",
        {'npu_health{npu="3",state="unknown"}': "0 1x20", f"npu_present{CHIP}": "1x21"},
        [16],
        [15],
    ),
    Case(
        "DeepseekNpuUnknown",
        {'npu_health{npu="3",state="unknown"}': "1x20", f"npu_present{CHIP}": "0x20"},
        [],
        [19],
    ),
    Case(
        "DeepseekNpuEcc",
        {
            'npu_ecc_errors_total{npu="3",bits="double"}': "1x10 2x10",
            'npu_ecc_errors_total{npu="3",bits="single"}': "0+9x20",
        },
        [12],
        [9],
    ),
    Case("DeepseekDiskLow", {'disk_low{path="/var/lib/deepseek"}': "0 1x20"}, [11], [10]),
]


# What comes and goes without end: (alert, series, values, minutes).
RESTLESS = [
    ("DeepseekAgentUnreachable", "up", turns((0, 4), (1, 3)), [30, 100]),
    (  # every 30 minutes
        "DeepseekAgentRestarting",
        "process_start_time_seconds",
        " ".join(f"{n}x29" for n in range(17)),
        [400, 500],
    ),
    ("DeepseekAgentStale", "snapshot_timestamp_seconds", "0+60x4 120x3 480+60x4 600x3", [7, 14]),
    ("DeepseekConfigNotInForce", "config_in_force", turns((0, 5), (1, 1)), [20, 100]),
    ("DeepseekSystemdUnseen", "systemd_seen", turns((0, 2), (1, 3)), [20, 100]),
    ("DeepseekModelHeld", phase("held"), turns((1, 2), (0, 3)), [21, 101]),
    ("DeepseekModelRefused", REFUSED, turns((1, 2), (0, 3)), [21, 101]),
    (
        "DeepseekModelWithoutProfile",
        f"instance_without_profile{MODEL}",
        " ".join(["1x2 stale _ _"] * 20),
        [21, 80],
    ),
    ("DeepseekModelTrouble", f"instance_trouble{MODEL}", turns((1, 1), (0, 7)), [50, 100]),
    ("DeepseekModelDegraded", f"instance_degraded{MODEL}", turns((1, 8), (0, 2)), [30, 100]),
    ("DeepseekDriverNotReady", 'driver_state{state="ready"}', turns((0, 8), (1, 2)), [30, 100]),
    (
        "DeepseekNpuFault",
        'npu_fault{npu="3",code="80E18402",level="Separate"}',
        " ".join(["1 stale _x19"] * 10),
        [60, 100],
    ),
    ("DeepseekNpuGone", f"npu_present{CHIP}", turns((0, 2), (1, 8)), [40, 100]),
    ("DeepseekNpuQuarantined", f"npu_quarantined{CHIP}", turns((1, 4), (0, 6)), [40, 100]),
    ("DeepseekDiskLow", 'disk_low{path="/var"}', turns((1, 9), (0, 6)), [40, 100]),
    # A scrape that fails now and then is no reason to be silent for good.
    ("DeepseekObserving", 'mode{mode="observe"}', " ".join(["1x600 stale"] * 3), [1500]),
    ("DeepseekModelOnHold", f"instance_on_hold{MODEL}", " ".join(["1x600 stale"] * 3), [1500]),
    (
        "DeepseekRestartPending",
        f"instance_restart_pending{MODEL}",
        " ".join(["1x600 stale"] * 3),
        [1500],
    ),
]
CASES += [Case(alert, {name: values}, when, []) for alert, name, values, when in RESTLESS]
CASES += [
    Case(
        "DeepseekProfileRefused",
        {"profiles_refused": "0x100", "fault_files_refused": turns((1, 5), (0, 1))},
        [20, 100],
        [],
    ),
    Case(
        "DeepseekNpuUnknown",
        {
            'npu_health{npu="3",state="unknown"}': turns((1, 12), (0, 3)),
            f"npu_present{CHIP}": "1x300",
        },
        [40, 200],
        [],
    ),
]


def test_every_alert_has_a_case_in_which_it_fires() -> None:
    assert [name for name in ALERTS if not any(c.alert == name and c.fires for c in CASES)] == []


def series_of(name: str) -> str:
    """With the labels that Prometheus itself adds."""
    bare, _, labels = name.partition("{")
    prefix = "" if bare == "up" else PREFIX
    return f"{prefix}{bare}{{{TARGET}{',' if labels else '}'}{labels}"


def firing(alert: str) -> str:
    return f'count by (alertname) (ALERTS{{alertname=~"{alert}",alertstate="firing"}})'


def expected(minute: int, alert: str, fires: dict[str, int]) -> dict[str, Any]:
    samples = [{"labels": f'{{alertname="{one}"}}', "value": n} for one, n in fires.items()]
    return {"expr": firing(alert), "eval_time": f"{minute}m", "exp_samples": samples}


def run_rules(folder: Path, series: dict[str, str], checks: list[dict[str, Any]]) -> str:
    """What promtool has against it; JSON is YAML."""
    inputs = [{"series": name, "values": values} for name, values in series.items()]
    test = {"interval": "1m", "input_series": inputs, "promql_expr_test": checks}
    long = any(int(check["eval_time"].removesuffix("m")) > 1000 for check in checks)
    every = "5m" if long else "1m"  # a day of minutes takes promtool many seconds
    document = {"rule_files": [str(RULES)], "evaluation_interval": every, "tests": [test]}
    file = folder / "rules.test.yml"
    file.write_text(json.dumps(document), encoding="utf-8")
    argv = [PROMTOOL, "test", "rules", str(file)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@needs_promtool
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.alert)
def test_an_alert(case: Case, tmp_path: Path) -> None:
    told = f"count({firing(case.alert)})"  # one of them, where a case names two
    one = [{"labels": "{}", "value": 1}]
    checks = [
        {"expr": told, "eval_time": f"{minute}m", "exp_samples": one} for minute in case.fires
    ]
    checks += [expected(minute, case.alert, {}) for minute in case.quiet]
    series = {series_of(name): values for name, values in case.series.items()}
    assert run_rules(tmp_path, series, checks) == ""


def steady(text: str, minutes: int) -> dict[str, str]:
    """Each series of `text` as it is for so long; the snapshot is a new one each minute."""
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            if name.endswith("snapshot_timestamp_seconds"):
                value = "0+60"
            found[series_of(name.removeprefix(PREFIX))] = f"{value}x{minutes}"
    return found


@needs_promtool
def test_a_healthy_host_raises_nothing(tmp_path: Path) -> None:
    series = {**steady(text_of(build_healthy()), 1500), series_of("up"): "1x1500"}
    checks = [expected(minute, ".*", {}) for minute in (1, 30, 1500)]
    assert run_rules(tmp_path, series, checks) == ""


@needs_promtool
def test_a_broken_host_raises_what_hurts(tmp_path: Path) -> None:
    raised = {
        "DeepseekConfigNotInForce": 1,
        "DeepseekProfileRefused": 1,
        "DeepseekObserving": 1,
        "DeepseekModelHeld": 1,
        "DeepseekModelRefused": 1,
        "DeepseekModelWithoutProfile": 1,
        "DeepseekModelOnHold": 1,
        "DeepseekFetchStalled": 1,
        "DeepseekModelTrouble": 1,
        "DeepseekModelDegraded": 1,
        "DeepseekUpdateUndone": 1,
        "DeepseekRestartPending": 1,
        "DeepseekHostSuspected": 1,
        "DeepseekNpuFault": 2,
        "DeepseekNpuGone": 1,
        "DeepseekNpuQuarantined": 1,
        "DeepseekDiskLow": 1,
    }
    series = steady(text_of(build_broken()), 1500)
    assert run_rules(tmp_path, series, [expected(1500, ".*", raised)]) == ""


@needs_promtool
def test_promtool_takes_the_rules_and_all_that_the_dashboard_asks_for(tmp_path: Path) -> None:
    rules = [{"record": "x", "expr": one} for one in dict.fromkeys(expressions())]
    file = tmp_path / "dashboard.yml"
    file.write_text(json.dumps({"groups": [{"name": "d", "rules": rules}]}), encoding="utf-8")
    for one in (RULES, file):
        argv = [PROMTOOL, "check", "rules", "--lint=none", str(one)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
