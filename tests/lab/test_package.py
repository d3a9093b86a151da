# SPDX-License-Identifier: MulanPSL-2.0
"""Installation, upgrade, downgrade and reinstallation by dnf: nothing of it disturbs the model.

What is upgraded to is this tree with a higher version (next_version.py). One host for all rows of
the table; each begins with the version that it needs, whatever the row before it has left.
"""

import pytest

from agent import __version__

from . import product
from .faults import read_status, wait_held
from .file_triggers import file_triggers
from .host import LabHost
from .models import hide_model, show_model
from .next_version import next_packages, next_version
from .process import Completed
from .product import ENGINE, FRONT
from .repo import add_packages
from .transactions import (
    AGENT,
    OURS,
    WARNING,
    asking,
    installed_version,
    invocation,
    last_reload,
    running,
    starting,
    transact,
    verify,
    wait_adopted,
    wait_loading,
    withdraw,
)

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

NEXT = next_version()
# Verb, version before, version after.
CHANGES = [
    pytest.param("upgrade", __version__, NEXT, id="upgrade"),
    pytest.param("downgrade", NEXT, __version__, id="downgrade"),
]
SETTINGS = "/etc/deepseek-agent/agent.toml.d/test.toml"
CONFIG = "/etc/deepseek-agent/agent.toml"
UNIT_FILE = "/usr/lib/systemd/system/deepseek@.service"


@pytest.fixture(scope="module")
def installation(bare_host: LabHost) -> Completed:
    """The first `dnf install` on this host."""
    return product.install(bare_host)


@pytest.fixture(scope="module")
def host(bare_host: LabHost, installation: Completed) -> LabHost:
    """With this version installed and the next one to be had."""
    add_packages(bare_host, next_packages(bare_host.flavour))
    bare_host.write(SETTINGS, "[limits]\nrecheck_held_s = 10\n")
    return bare_host


def have(host: LabHost, version: str) -> None:
    """The package in that version."""
    if installed_version(host) != version:
        transact(host, "upgrade" if version == NEXT else "downgrade")


def serve(host: LabHost) -> None:
    """Enabled and serving."""
    product.start(host, "enable", "--now")
    product.wait_serving(host)


def definition(host: LabHost) -> tuple[str, str]:
    """The front unit's description, as it is in force and as it stands in the file."""
    in_force = product.show(host, FRONT, "Description")["Description"]
    lines = host.read(UNIT_FILE).splitlines()
    (text,) = [line for line in lines if line.startswith("Description=")]
    return in_force, text.removeprefix("Description=").replace("%i", "8b")


def test_start_right_after_installation_has_nothing_to_say(
    host: LabHost, installation: Completed
) -> None:
    assert WARNING not in installation.stdout + installation.stderr
    assert verify(host) == ""
    done = product.start(host)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    assert product.ask(host) is not None


def test_tmpfiles_do_not_make_a_folder_look_like_a_booted_system(host: LabHost) -> None:
    """Where this exists, scriptlets of all packages believe that systemd runs: sd_booted(3)."""
    image, file = "/var/tmp/image", "/usr/lib/tmpfiles.d/deepseek-agent.conf"
    host.run(["install", "-D", file, f"{image}{file}"])
    host.run(["systemd-tmpfiles", "--create", f"--root={image}"])
    made = host.run(["find", image, "-type", "d"]).stdout.split()
    assert f"{image}/var/lib/deepseek/models" in made
    assert f"{image}/run/systemd/system" not in made


@pytest.mark.parametrize(
    ("verb", "before", "after"),
    [*CHANGES, pytest.param("reinstall", __version__, __version__, id="reinstall")],
)
def test_serving_goes_on(host: LabHost, verb: str, before: str, after: str) -> None:
    have(host, before)
    serve(host)
    same, agent, reloaded = running(host), invocation(host, AGENT), last_reload(host)
    with asking(host) as answers:
        transact(host, verb)
        wait_adopted(host, agent, after)
    assert (answers.failed, answers.asked > 1) == (0, True)
    assert running(host) == same
    assert host.run(["deepseekctl", "--version"]).stdout.split()[-1] == after
    # Only reinstallation brings the same unit files.
    assert (last_reload(host) == reloaded) is (verb == "reinstall")
    in_force, on_disk = definition(host)
    assert in_force == on_disk
    assert verify(host) == ""
    assert host.run(["sh", "-c", "ls /etc/deepseek-agent/*.rpm*"], check=False).stdout == ""


@pytest.mark.parametrize(("verb", "before", "after"), CHANGES)
def test_attach_of_the_other_version_goes_on(
    host: LabHost, verb: str, before: str, after: str
) -> None:
    """The old process holds the wish, and tells what the new agent has to tell."""
    have(host, before)
    serve(host)
    attach = product.show(host, FRONT, "MainPID")
    transact(host, verb)
    before_restart = product.container_started_at(host)
    product.set_engine(host, stall_loading=True)
    host.run(["deepseekctl", "restart", "8b"])
    product.wait_status(host, FRONT, "loading the model", limit_s=60)
    product.set_engine(host)
    product.wait_serving(host, other_than=before_restart)
    product.wait_status(host, FRONT, "serving")
    assert product.show(host, FRONT, "MainPID") == attach


def test_reloads_by_file_triggers_disturb_nothing(host: LabHost) -> None:
    """As on openEuler: systemd's package reloads in the midst of ours and once more at the end."""
    have(host, __version__)
    serve(host)
    same, reloaded = running(host), last_reload(host)
    with file_triggers(host), asking(host) as answers:
        for verb, version in (("upgrade", NEXT), ("downgrade", __version__)):
            agent = invocation(host, AGENT)
            transact(host, verb)
            wait_adopted(host, agent, version)
    assert (answers.failed, answers.asked > 1) == (0, True)
    assert running(host) == same
    assert last_reload(host) != reloaded


def test_loading_goes_on(host: LabHost) -> None:
    have(host, __version__)
    withdraw(host)
    product.set_engine(host, stall_loading=True)
    with starting(host) as start:
        try:
            wait_loading(host)
            same = running(host)
            transact(host, "upgrade")
            product.wait_status(host, FRONT, "loading the model")
            assert running(host) == same
            assert not start.done()
        finally:
            product.set_engine(host)
        done = start.result()
    assert done.returncode == 0, done.stderr
    assert product.ask(host) is not None
    assert product.container_started_at(host) == same["container"]
    assert len(host.run(["podman", "ps", "--all", "--quiet"]).stdout.split()) == 1
    assert read_status(host).snapshot["version"] == NEXT


def test_held_stays_held_until_the_cause_is_gone(host: LabHost) -> None:
    have(host, __version__)
    withdraw(host)
    hide_model(host)
    try:
        product.start(host, "enable", "--now")
        wait_held(host, "model-missing")
        front = invocation(host, FRONT)
        transact(host, "upgrade")
        wait_held(host, "model-missing")
        assert invocation(host, FRONT) == front
        assert host.run(["systemctl", "is-enabled", FRONT]).stdout.strip() == "enabled"
    finally:
        show_model(host)
    product.wait_state(host, FRONT, "active", limit_s=60)
    product.wait_serving(host)
    assert read_status(host).snapshot["version"] == NEXT


def test_what_is_stopped_and_disabled_stays_so(host: LabHost) -> None:
    have(host, __version__)
    withdraw(host)
    host.run(["systemctl", "stop", *OURS])
    transact(host, "upgrade")
    for unit in (FRONT, ENGINE, *OURS):
        assert product.active_state(host, unit) == "inactive", unit
    assert product.leftovers(host) == []
    assert host.run(["systemctl", "is-enabled", FRONT], check=False).stdout.strip() == "disabled"


def test_a_running_agent_that_has_nothing_to_do_starts_nothing(host: LabHost) -> None:
    have(host, __version__)
    withdraw(host)
    host.run(["systemctl", "restart", AGENT])
    transact(host, "upgrade")
    product.wait_state(host, AGENT, "active")
    assert read_status(host).snapshot["version"] == NEXT
    assert product.active_state(host, FRONT) == "inactive"
    assert product.leftovers(host) == []


def test_settings_of_the_operator_are_kept(host: LabHost) -> None:
    """The next version's file has another text, so it is put beside the edited one."""
    have(host, __version__)
    packaged = host.read(CONFIG)
    edited = packaged.replace("#start_wait_s = 1800", "start_wait_s = 1500")
    assert edited != packaged
    host.write(CONFIG, edited)
    try:
        transact(host, "reinstall")
        beside = host.run(["test", "-e", f"{CONFIG}.rpmnew"], check=False)
        assert (beside.returncode, host.read(CONFIG)) == (1, edited)
        transact(host, "upgrade")
        assert host.read(CONFIG) == edited
        assert host.read(f"{CONFIG}.rpmnew") != packaged
        shown = host.run(["deepseekctl", "config", "show"]).stdout
        assert "1500" in shown
    finally:
        host.run(["sh", "-c", f"mv {CONFIG}.rpmnew {CONFIG}"], check=False)


def test_after_a_reboot_it_serves_and_the_files_are_as_packaged(host: LabHost) -> None:
    have(host, NEXT)
    serve(host)
    host.reboot()
    product.ask_until_answered(host, limit_s=120)
    product.wait_serving(host)
    assert verify(host) == ""
    assert WARNING not in product.start(host, "restart").stderr
