# SPDX-License-Identifier: MulanPSL-2.0
"""The playbooks of etc/fleet, by Ansible from PyPI: twice is once, settings without a restart, and
the first host that is not well ends a roll.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from . import product
from .ansible import AnsibleNotHad, Played, ensure_ansible, play
from .faults import Told, ask_status, wait_told
from .host import LabHost
from .images import ENDS_AT_ONCE, add_changed_image
from .next_version import next_packages, next_version
from .repo import add_packages
from .test_model_updates import end_trial
from .test_updates import on_trial

pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.timeout(900)]

SETTINGS = product.OFFLINE
PROFILE = product.SMALLER_NEEDS
KEY = "0123456789abcdef" * 2
KEY_FILE = "/etc/deepseek-agent/spare.key"
BROKEN, GOOD = "localhost/broken:1", "localhost/good:1"
NEXT = "next-host"  # nobody can reach it
ETC = "/etc/deepseek-agent"
FLEET_FILE = f"{ETC}/agent.toml.d/50-fleet.toml"
STAGED = "/run/deepseek-fleet"
CONFIG_API = (
    *("curl", "-sS", "--max-time", "5", "--unix-socket", "/run/deepseek-agent/agent.sock"),
    "http://agent/v1/config",
)
AS_TEXT = '["8b"]'  # what -e deepseek_update='["8b"]' gives


@pytest.fixture(scope="module", autouse=True)
def _ansible() -> None:
    try:
        ensure_ansible()
    except AnsibleNotHad as error:
        pytest.skip(f"Ansible: NOT RUN: {error}")


def install(
    host: LabHost, folder: Path, settings: str = SETTINGS, profile: str = PROFILE, key: str = KEY
) -> Played:
    return play(
        host,
        "install.yml",
        folder,
        deepseek_models=["8b"],
        deepseek_settings=settings,
        deepseek_profiles={"8b": profile},
        deepseek_keys={"spare": key},
        deepseek_wait_s=120,
    )


@pytest.fixture(scope="module")
def installed(bare_host: LabHost, tmp_path_factory: pytest.TempPathFactory) -> Played:
    """The first run, on a host that has nothing of ours."""
    return install(bare_host, tmp_path_factory.mktemp("first"))


@pytest.fixture
def host(bare_host: LabHost, installed: Played, tmp_path: Path) -> Iterator[LabHost]:
    """Stands in for the fixture of conftest.py: as that run leaves it, also after each test."""
    assert installed.done.returncode == 0, installed.output
    yield bare_host
    bare_host.run(["deepseekctl", "release", "8b"], check=False)
    assert install(bare_host, tmp_path).done.returncode == 0
    assert play(bare_host, "restart.yml", tmp_path).done.returncode == 0


def has_answered_on_trial(told: Told) -> bool:
    return bool((told.instance["update"] or {}).get("trial_until"))


def in_force(host: LabHost, key: str) -> object:
    """Of the settings that the agent goes by, whatever is in the files."""
    told = json.loads(host.run(CONFIG_API).stdout)
    return next(one["value"] for one in told["settings"] if one["key"] == key)


def files_of(host: LabHost) -> str:
    """All of the configuration, and that nothing of a run is left."""
    assert host.run(["test", "-e", STAGED], check=False).returncode != 0
    listed = f"find {ETC} -printf '%p %M %u %y\\n' | sort; grep -rs '' {ETC} | sort"
    return host.run(["sh", "-c", listed]).stdout


def test_one_run_installs_and_serves(host: LabHost, installed: Played) -> None:
    recap = installed.recaps[host.name]
    assert (recap.failed, recap.unreachable) == (0, 0)
    assert recap.changed > 3
    assert product.ask(host) is not None
    assert host.read(KEY_FILE) == f"{KEY}\n"
    assert host.run(["stat", "--format=%U %a", KEY_FILE]).stdout == "root 600\n"
    assert KEY not in installed.output
    assert host.run(["systemctl", "is-enabled", product.FRONT]).stdout.strip() == "enabled"
    print(f"\n{host.flavour}: the first run took {installed.done.seconds:.0f} s, {recap}")


def test_a_second_run_changes_nothing(host: LabHost, tmp_path: Path) -> None:
    container = product.container_started_at(host)
    again = install(host, tmp_path)
    assert again.done.returncode == 0, again.output
    assert again.recaps[host.name].changed == 0, again.output
    assert product.container_started_at(host) == container
    print(f"\n{host.flavour}: the second run took {again.done.seconds:.0f} s")


def test_new_settings_are_in_force_and_nothing_is_restarted(host: LabHost, tmp_path: Path) -> None:
    container = product.container_started_at(host)
    changed = install(host, tmp_path, f"{SETTINGS}[limits]\nrecheck_held_s = 77\n")
    assert changed.done.returncode == 0, changed.output
    assert changed.recaps[host.name].changed == 2  # the file, the reload
    assert in_force(host, "limits.recheck_held_s") == 77
    assert product.container_started_at(host) == container


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"settings": f'{SETTINGS}[metrics]\nlisten = "9834"\n'}, "metrics.listen"),
        ({"profile": "port = 0\n"}, "port"),
        ({"settings": f"{SETTINGS}[limits]\nrecheck_held_s = 55\n", "key": "{{ gone }}"}, "keys"),
    ],
    ids=["settings", "profile", "key"],
)
def test_wrong_ones_end_the_run_and_the_files_stay(
    host: LabHost, tmp_path: Path, wrong: dict[str, str], words: str
) -> None:
    """Also after the agent's next start, which a power cut may bring."""
    container, files = product.container_started_at(host), files_of(host)
    refused = install(host, tmp_path, **wrong)
    assert refused.recaps[host.name].failed == 1, refused.output
    assert words in refused.output
    assert files_of(host) == files
    host.run(["systemctl", "restart", "deepseek-agent"])
    wait_told(host, "all is well", lambda told: told.returncode == 0)
    assert product.container_started_at(host) == container


def test_what_a_run_that_was_cut_has_written_is_put_in_force(host: LabHost, tmp_path: Path) -> None:
    """It was cut before the agent was told: the files are right, and nothing is left to write."""
    settings = f"{SETTINGS}[limits]\nrecheck_held_s = 66\n"
    host.write(FLEET_FILE, settings)
    host.run(["mkdir", STAGED])
    assert in_force(host, "limits.recheck_held_s") != 66
    again = install(host, tmp_path, settings)
    assert again.done.returncode == 0, again.output
    assert in_force(host, "limits.recheck_held_s") == 66
    assert again.recaps[host.name].changed == 2, again.output  # what was left, the reload
    assert install(host, tmp_path, settings).recaps[host.name].changed == 0


def test_a_changed_profile_waits_for_restart_yml(host: LabHost, tmp_path: Path) -> None:
    container = product.container_started_at(host)
    changed = install(host, tmp_path, profile=f"drain_s = 1\n{PROFILE}")
    assert changed.done.returncode == 0, changed.output
    assert product.container_started_at(host) == container
    restarted = play(host, "restart.yml", tmp_path)
    assert restarted.done.returncode == 0, restarted.output
    assert restarted.recaps[host.name].changed == 1
    assert product.container_started_at(host) != container
    assert play(host, "restart.yml", tmp_path).recaps[host.name].changed == 0


def test_a_broken_update_ends_the_roll(host: LabHost, tmp_path: Path) -> None:
    add_changed_image(host, BROKEN, ENDS_AT_ONCE)
    image = product.image_id(host)
    rolled = play(
        host,
        "update.yml",
        tmp_path,
        others=[NEXT],
        deepseek_update=["8b"],
        deepseek_image=BROKEN,
        deepseek_trial_s=120,
    )
    assert rolled.done.returncode != 0
    assert rolled.recaps[host.name].failed == 1, rolled.output
    assert rolled.asked == {host.name}, rolled.output
    product.wait_serving(host)
    inspect = ["podman", "container", "inspect", "--format={{.Image}}", product.CONTAINER]
    assert host.run(inspect).stdout.strip().removeprefix("sha256:") == image
    assert "the engine ended" in rolled.output  # the reason is told
    print(f"\n{host.flavour}: {rolled.output}")


def test_a_good_update_is_waited_for_over_a_restart_of_the_agent(
    host: LabHost, tmp_path: Path
) -> None:
    add_changed_image(host, GOOD, "LABEL lab=good")
    wanted = {"deepseek_update": AS_TEXT, "deepseek_image": GOOD}
    with ThreadPoolExecutor(1) as pool:
        rolled = pool.submit(lambda: play(host, "update.yml", tmp_path, **wanted))
        told = wait_told(host, "on trial, and has answered", has_answered_on_trial, 120)
        end_trial(host)
        done = rolled.result(timeout=120)
    assert done.done.returncode == 0, done.output
    assert done.recaps[host.name].changed == 1
    running = ask_status(host).instance["update"]["current"]["image_id"]
    assert running == on_trial(told.instance)


def test_a_model_that_is_not_to_serve_is_not_updated(host: LabHost, tmp_path: Path) -> None:
    """Its trial would wait for its next start, and the roll for its trial."""
    add_changed_image(host, GOOD, "LABEL lab=good")
    host.run(["deepseekctl", "stop", "8b"])
    wait_told(host, "it is idle", lambda told: told.phase == "idle")
    rolled = play(
        host,
        "update.yml",
        tmp_path,
        deepseek_update=AS_TEXT,
        deepseek_image=GOOD,
        deepseek_trial_s=20,
    )
    assert rolled.done.returncode == 0, rolled.output
    assert rolled.recaps[host.name].changed == 0
    assert "systemctl start deepseek@8b" in rolled.output  # what to do is told
    assert not on_trial(ask_status(host).instance)


def test_a_host_that_is_not_well_is_not_updated(host: LabHost, tmp_path: Path) -> None:
    host.run(["deepseekctl", "hold", "8b"])
    wait_told(host, "it is held", lambda told: told.phase == "held")
    rolled = play(host, "update.yml", tmp_path, others=[NEXT])
    assert rolled.recaps[host.name].failed == 1, rolled.output
    assert "Package; what serves" not in rolled.output
    assert rolled.asked == {host.name}


def test_a_newer_package_comes_and_what_serves_goes_on(host: LabHost, tmp_path: Path) -> None:
    container = product.container_started_at(host)
    add_packages(host, next_packages(host.flavour))
    rolled = play(host, "update.yml", tmp_path)
    assert rolled.done.returncode == 0, rolled.output
    assert rolled.recaps[host.name].changed == 1
    assert next_version() in host.run(["rpm", "-q", "deepseek-agent"]).stdout
    assert product.container_started_at(host) == container
    assert play(host, "update.yml", tmp_path).recaps[host.name].changed == 0


def test_who_cannot_be_reached_ends_the_roll(host: LabHost, tmp_path: Path) -> None:
    """The second of three is away; the third one is not asked."""
    rolled = play(host, "update.yml", tmp_path, others=[NEXT, "third-host"])
    assert rolled.recaps[NEXT].unreachable == 1, rolled.output
    assert rolled.asked == {host.name, NEXT}
