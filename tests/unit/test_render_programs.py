# SPDX-License-Identifier: MulanPSL-2.0
"""Rendered files before the programs that will read them: systemd, and the quadlet generator."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from agent.config.values import RendererChoice
from agent.render.render import RenderedFile, render
from tests.cases import CASES, TREE
from tests.unit_files import check_generated

AUTO, UNIT = RendererChoice.AUTO, RendererChoice.UNIT

ANALYZE = shutil.which("systemd-analyze")
# The lab's hosts have a real one; DEEPSEEK_QUADLET names another for a run by hand.
GENERATORS = (os.environ.get("DEEPSEEK_QUADLET", ""), "/usr/libexec/podman/quadlet")
GENERATOR = next((path for path in GENERATORS if path and os.access(path, os.X_OK)), None)
UNIT_CASES = [case for case, plan in CASES.items() if render(plan, AUTO).renderer is UNIT]
QUADLET_CASES = [case for case in CASES if case not in UNIT_CASES]


def verify(folder: Path, file: RenderedFile) -> str:
    """What systemd-analyze says, in a root that holds nothing but what the unit names."""
    units = folder / "usr/lib/systemd/system"
    units.mkdir(parents=True)
    for target in ("sysinit", "basic", "shutdown"):
        (units / f"{target}.target").write_text(f"[Unit]\nDescription={target}\n", encoding="utf-8")
    for name in ("deepseek@.service", "deepseek.slice"):
        shutil.copy(TREE / "units" / name, units)
    helpers = "usr/libexec/deepseek-agent"
    ours = (f"{helpers}/{name}" for name in ("attach", "front-is-up", "front-stopped"))
    for program in ("usr/bin/podman", "bin/rm", *ours):
        path = folder / program
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n", encoding="utf-8")
        path.chmod(0o755)
    path = folder / file.path.relative_to("/")
    path.parent.mkdir(parents=True)
    path.write_text(file.text, encoding="utf-8")
    done = subprocess.run(
        [str(ANALYZE), "verify", "--man=no", f"--root={folder}", path.name],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr if done.stderr or done.returncode == 0 else f"status {done.returncode}"


@pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("case", UNIT_CASES)
def test_systemd_accepts_the_plain_unit(case: str, tmp_path: Path) -> None:
    assert verify(tmp_path, render(CASES[case], AUTO)) == ""


@pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")
def test_systemd_would_have_said_so(tmp_path: Path) -> None:
    """That the test above can fail."""
    file = render(CASES["podman-4.3.1-cgroup1"], AUTO)
    wrong = RenderedFile(file.renderer, file.path, file.text.replace("Slice=", "Slize="), file.unit)
    assert "Slize" in verify(tmp_path, wrong)


@pytest.mark.skipif(GENERATOR is None, reason="no quadlet generator here; the lab runs one")
@pytest.mark.parametrize("case", QUADLET_CASES)
def test_the_generator_makes_the_same_command_of_it(case: str, tmp_path: Path) -> None:
    """Whatever its version: none of our options is lost, and the command is the workload's."""
    file = render(CASES[case], AUTO)
    (tmp_path / file.path.name).write_text(file.text, encoding="utf-8")
    done = subprocess.run(
        [str(GENERATOR), "--dryrun"],
        env={"QUADLET_UNIT_DIRS": str(tmp_path), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    check_generated(done.stdout, CASES[case])
