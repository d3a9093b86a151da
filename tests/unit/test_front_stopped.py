# SPDX-License-Identifier: MulanPSL-2.0
"""units/front-stopped, as systemd runs it: in its environment, beside a systemctl of ours."""

import os
import subprocess
from pathlib import Path

import pytest

from agent import exits
from agent.host.unit_status import STOP_WAS_ASKED
from agent.model import UnitActive
from agent.policy.wish import has_crashed
from tests.build import build_front

SCRIPT = Path(__file__).resolve().parents[2] / "units/front-stopped"
FRONT, ENGINE = "deepseek@8b.service", "deepseek-vllm-8b.service"
SYSTEMCTL = """#!/bin/sh
case "$1" in
list-jobs) printf '%s' "$JOBS" ;;
*) echo "$*" >> "$CALLS" ;;
esac
"""
STOPPED = [f"stop {ENGINE}"]
# All that systemd runs ExecStopPost= after; "start-limit-hit" is not among them.
RESULTS = (
    "success",
    "protocol",
    "timeout",
    "exit-code",
    "signal",
    "core-dump",
    "watchdog",
    "exec-condition",
    "oom-kill",
    "resources",
)
STATUSES = (1, 2, exits.HELD, exits.LATER, exits.PERSON, 120, 203, 226)


def run(folder: Path, jobs: str = "", **environment: str) -> tuple[int, list[str]]:
    """Its exit status, and what it asked of systemd."""
    systemctl, calls = folder / "systemctl", folder / "calls"
    systemctl.write_text(SYSTEMCTL)
    systemctl.chmod(0o755)
    path = f"{folder}:{os.environ['PATH']}"
    given = {"PATH": path, "CALLS": str(calls), "JOBS": jobs, **environment}
    done = subprocess.run(["sh", SCRIPT, "8b"], env=given, check=False)
    return done.returncode, calls.read_text().splitlines() if calls.exists() else []


@pytest.mark.parametrize("result", RESULTS)
@pytest.mark.parametrize("status", [None, 0, *STATUSES])
def test_the_engine_is_left_alone_when_policy_has_the_front_started_again(
    tmp_path: Path, result: str, status: int | None
) -> None:
    """Else a healthy engine is stopped; or one goes on that nobody wishes, with the agent dead."""
    ended = {} if status is None else {"EXIT_CODE": "exited", "EXIT_STATUS": str(status)}
    code, calls = run(tmp_path, SERVICE_RESULT=result, **ended)
    front = build_front(UnitActive.FAILED, result, status or 0)
    # What ended with 0 was stopped; agent/host/systemd.py sees that by itself.
    crashed = has_crashed(front) and status != 0
    assert (code, calls) == (0, [] if crashed else STOPPED)


@pytest.mark.parametrize("result", ["signal", "core-dump", "oom-kill"])
def test_the_engine_is_left_alone_when_attach_was_killed(tmp_path: Path, result: str) -> None:
    killed = {"EXIT_CODE": "killed", "EXIT_STATUS": "KILL"}
    assert run(tmp_path, SERVICE_RESULT=result, **killed) == (0, [])


@pytest.mark.parametrize("result", ["success", "protocol"])
def test_sigterm_is_a_stop_also_before_attach_hears_it(tmp_path: Path, result: str) -> None:
    killed = {"EXIT_CODE": "killed", "EXIT_STATUS": "TERM"}
    assert run(tmp_path, SERVICE_RESULT=result, **killed) == (0, STOPPED)


@pytest.mark.parametrize(
    ("result", "ended"),
    [
        ("signal", {"EXIT_CODE": "killed", "EXIT_STATUS": "KILL"}),
        ("exit-code", {"EXIT_CODE": "exited", "EXIT_STATUS": "1"}),
        ("exit-code", {"EXIT_CODE": "exited", "EXIT_STATUS": "203"}),
        ("resources", {}),
    ],
)
@pytest.mark.parametrize(
    ("job", "code", "calls"),
    [
        ("stop", STOP_WAS_ASKED, STOPPED),
        ("restart", STOP_WAS_ASKED, STOPPED),
        ("start", 0, []),
        ("verify-active", 0, []),
    ],
)
def test_in_the_middle_of_a_stop_that_was_asked_for(
    tmp_path: Path, result: str, ended: dict[str, str], job: str, code: int, calls: list[str]
) -> None:
    jobs = f"4711 {FRONT} {job} running\n"
    assert run(tmp_path, jobs, SERVICE_RESULT=result, **ended) == (code, calls)
