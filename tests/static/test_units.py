# SPDX-License-Identifier: MulanPSL-2.0
"""What the unit files say that no other test would miss: orders at boot and shutdown."""

import re
from pathlib import Path

import pytest

from tests.unit_files import read_unit

TREE = Path(__file__).parents[2]


def unit_values(unit: str, section: str, key: str) -> list[str]:
    """All words of a key."""
    text = (TREE / "units" / unit).read_text(encoding="utf-8")
    pairs = read_unit(text)[section]
    return [word for name, value in pairs if name == key for word in value.split()]


@pytest.mark.parametrize("unit", ["deepseek-agent.service", "deepseek-supply@.service"])
def test_a_model_on_nfs_is_mounted_before_it_is_missed(unit: str) -> None:
    """An order only: it serves also when a server is away."""
    assert "remote-fs.target" in unit_values(unit, "Unit", "After")
    for key in ("Requires", "Wants", "BindsTo", "RequiresMountsFor"):
        assert "remote-fs.target" not in unit_values(unit, "Unit", key)


@pytest.mark.parametrize("unit", ["deepseek-agent.socket", "deepseek@.service"])
def test_what_is_asked_at_boot_does_not_wait_for_it(unit: str) -> None:
    after = unit_values(unit, "Unit", "After")
    assert {"remote-fs.target", "deepseek-agent.service"} & set(after) == set()


def test_a_shutdown_leaves_the_scopes_of_engines_to_their_units() -> None:
    """A stop of their slice would end them at once (cgroup v1)."""
    assert unit_values("deepseek.slice", "Unit", "DefaultDependencies") == ["no"]
    assert unit_values("deepseek.slice", "Unit", "Conflicts") == []


def test_no_folder_that_somebody_may_remove_keeps_the_agent_down() -> None:
    """The first is there as long as the socket is, the last as long as systemd is."""
    paths = unit_values("deepseek-agent.service", "Service", "ReadWritePaths")
    needed = [path for path in paths if not path.startswith("-")]
    assert needed == ["/run/deepseek-agent", "/run/systemd/system"]


def test_such_a_folder_is_made_again() -> None:
    paths = unit_values("deepseek-agent.service", "Service", "ReadWritePaths")
    _, *made = unit_values("deepseek-agent.service", "Service", "ExecStartPre")
    prefixes = [word.partition("=")[2] for word in made if word.startswith("--prefix=")]
    folders = (TREE / "units/tmpfiles.d/deepseek-agent.conf").read_text(encoding="utf-8")
    for path in (path.lstrip("-") for path in paths if path != "/run/systemd/system"):
        assert re.search(rf"^d {path} ", folders, re.MULTILINE)
        assert any(path.startswith(f"{prefix}/") for prefix in prefixes)
