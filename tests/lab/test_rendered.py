# SPDX-License-Identifier: MulanPSL-2.0
"""The rendered unit file while its unit runs: without it, or with another, systemd does not know
how to stop the engine, nor whose it is. The agent puts it back, and touches no engine.
"""

import time
from collections.abc import Iterator

import pytest

from agent.render.workload import STOP_TIMEOUT_S

from . import product
from .faults import (
    HELD,
    agent_away,
    ask_status,
    find_payloads,
    start_fresh,
    stop_leaves_nothing,
    wait_event,
    wait_told,
)
from .host import LabHost
from .process import LabError
from .product import ENGINE, FRONT
from .rootfs import Flavour

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

QUADLET = "/run/containers/systemd/deepseek-vllm-8b.container"
UNIT = "/run/systemd/system/deepseek-vllm-8b.service"
PATHS = {Flavour.MODERN: QUADLET, Flavour.LEGACY: UNIT}
# Changed in place, as an editor or a careless script would; both files end with [Service].
DAMAGES = {
    "deleted": "rm {path}",
    "edited": "echo Environment=LAB=1 >> {path}",
    "emptied": ": > {path}",
    "invalid": r"sed -i 's/^\[Container\]/&\nNoSuchKey=1/; s/^Type=notify/Type=nonsense/' {path}",
    "garbage": "head -c 2000 /dev/urandom > {path}",
}
RESTORED = "unit-file-restored"
RESTORED_S = 30.0

SETTINGS = "/etc/deepseek-agent/agent.toml.d/lab.toml"
LOOK_AGAIN = "[limits]\nrecheck_held_s = 10\n"
IN_FORCE = "/var/lib/deepseek-agent/config.json"

FOREIGN = f"/etc/systemd/system/{ENGINE}"
FOREIGN_UNIT = "[Service]\nExecStart=/bin/sleep infinity\n"
SHADOWED = "unit-shadowed"


@pytest.fixture(scope="module", autouse=True)
def _enabled(host: LabHost) -> None:
    host.write(SETTINGS, LOOK_AGAIN)
    assert product.start(host, "enable", "--now").returncode == 0


@pytest.fixture(autouse=True)
def container(host: LabHost) -> Iterator[str]:
    """The one in which 8b serves when the test begins."""
    yield start_fresh(host)
    host.run(["rm", "-f", FOREIGN])
    host.run(["systemctl", "daemon-reload"])
    set_renderer(host, "auto")
    host.run(["systemctl", "reset-failed", "deepseek*"], check=False)


def damage(host: LabHost, name: str, reload: bool) -> None:
    host.run(["sh", "-c", DAMAGES[name].format(path=PATHS[host.flavour])])
    if reload:
        host.run(["systemctl", "daemon-reload"])


def is_whole(host: LabHost, text: str, container: str, since: float) -> None:
    """The file is back, systemd has read it, that was said, and the engine knows nothing of it."""
    wait_event(host, RESTORED, since, RESTORED_S)
    assert host.read(PATHS[host.flavour]) == text
    known = product.show(host, ENGINE, "LoadState", "NeedDaemonReload", "PartOf", "ExecStopPost")
    assert (known["LoadState"], known["NeedDaemonReload"]) == ("loaded", "no")
    assert FRONT in known["PartOf"].split()
    assert known["ExecStopPost"]
    assert list(find_payloads(host)) == [container]
    assert ask_status(host).returncode == 0
    assert product.ask(host) is not None


@pytest.mark.parametrize("reload", [False, True], ids=["", "and-reload"])
@pytest.mark.parametrize("name", DAMAGES)
def test_the_file_is_restored(host: LabHost, container: str, name: str, reload: bool) -> None:
    text, since = host.read(PATHS[host.flavour]), time.time()
    damage(host, name, reload)
    is_whole(host, text, container, since)
    stop_leaves_nothing(host, STOP_TIMEOUT_S)


@pytest.mark.parametrize("reload", [False, True], ids=["", "and-reload"])
@pytest.mark.parametrize("name", ["deleted", "edited"])
def test_the_file_is_restored_by_a_later_agent(
    host: LabHost, container: str, name: str, reload: bool
) -> None:
    text, since = host.read(PATHS[host.flavour]), time.time()
    with agent_away(host):
        damage(host, name, reload)
    is_whole(host, text, container, since)
    stop_leaves_nothing(host, STOP_TIMEOUT_S)


def test_a_file_that_nobody_restores_does_not_keep_from_stopping(host: LabHost) -> None:
    """With the agent dead nothing is left but what systemd remembers; ExecStop= is gone with the
    file. The agent clears what that left when it is back."""
    with agent_away(host):
        damage(host, "deleted", reload=True)
        assert product.start(host, "stop", timeout_s=280).returncode == 0
    wait_told(host, "nothing lives", lambda _: find_payloads(host) == {}, limit_s=90)
    wait_told(host, "nothing is left", lambda _: product.leftovers(host) == [], limit_s=90)
    assert product.start(host).returncode == 0


# --- another renderer ----------------------------------------------------------------------------


def set_renderer(host: LabHost, renderer: str) -> None:
    """In force when this returns."""
    host.write(SETTINGS, f'renderer = "{renderer}"\n{LOOK_AGAIN}')
    host.run(["systemctl", "reload", "deepseek-agent"])
    deadline = time.monotonic() + 30
    while f'"renderer":"{renderer}"' not in host.read(IN_FORCE):
        if time.monotonic() > deadline:
            raise LabError(f"not in force: {host.read(IN_FORCE)}")
        time.sleep(0.2)


def rendered(host: LabHost) -> list[str]:
    """Which of the two files are there."""
    found = host.run(["ls", QUADLET, UNIT], check=False)
    return found.stdout.split()


@pytest.mark.parametrize("by", ["deepseekctl", pytest.param("systemctl", marks=pytest.mark.long)])
def test_another_renderer_waits_for_the_next_start(host: LabHost, container: str, by: str) -> None:
    """Where quadlets cannot work (legacy) the plain unit stays, whatever is asked for."""
    asked, then = {Flavour.MODERN: ("unit", UNIT), Flavour.LEGACY: ("quadlet", UNIT)}[host.flavour]
    before = PATHS[host.flavour]
    for renderer, path in ((asked, then), ("auto", before)):
        now = rendered(host)
        set_renderer(host, renderer)
        serves_on(host, container, for_s=15)
        assert rendered(host) == now
        container = restart(host, container, by)
        assert rendered(host) == [path]
        known = product.show(host, ENGINE, "FragmentPath", "SourcePath", "NeedDaemonReload")
        assert path in (known["FragmentPath"], known["SourcePath"])
        assert known["NeedDaemonReload"] == "no"
    stop_leaves_nothing(host, STOP_TIMEOUT_S)


def restart(host: LabHost, container: str, by: str) -> str:
    """Returns the new container."""
    if by == "systemctl":
        assert product.start(host, "restart", timeout_s=120).returncode == 0
    else:
        host.run(["deepseekctl", "restart", "8b"])

    def is_new() -> bool:
        living = find_payloads(host)
        return bool(living) and container not in living

    wait_told(host, "serving anew", lambda told: is_new() and told.phase == "serving", 60)
    (new,) = find_payloads(host)
    return new


def serves_on(host: LabHost, container: str, for_s: float) -> None:
    """Longer than the agent lets pass between two looks at a file."""
    deadline = time.monotonic() + for_s
    while time.monotonic() < deadline:
        assert ask_status(host).phase == "serving"
        assert product.ask(host) is not None
        time.sleep(0.5)
    assert list(find_payloads(host)) == [container]


# --- a foreign file ------------------------------------------------------------------------------


def test_a_foreign_unit_in_front_of_ours_is_held_and_told(host: LabHost) -> None:
    product.start(host, "stop")
    host.write(FOREIGN, FOREIGN_UNIT)
    host.run(["systemctl", "daemon-reload"])
    assert product.start(host).returncode == 1
    front = product.show(host, FRONT, "StatusText", "ExecMainStatus")
    assert front["ExecMainStatus"] == HELD
    assert FOREIGN in front["StatusText"]
    told = ask_status(host)
    assert (told.code, told.returncode) == (SHADOWED, 1)
    assert FOREIGN in told.message
    assert product.active_state(host, ENGINE) == "inactive"
    host.run(["rm", FOREIGN])
    host.run(["systemctl", "daemon-reload"])
    wait_told(host, "serving", lambda told: told.phase == "serving", 60)
    product.wait_state(host, FRONT, "active")
    assert product.ask(host) is not None


def test_a_foreign_unit_that_comes_while_it_serves_is_told(host: LabHost, container: str) -> None:
    since = time.time()
    host.write(FOREIGN, FOREIGN_UNIT)
    host.run(["systemctl", "daemon-reload"])
    wait_event(host, SHADOWED, since, RESTORED_S)
    serves_on(host, container, for_s=15)
    assert len(ask_status(host).events(SHADOWED, since)) == 1
    host.run(["rm", FOREIGN])
    host.run(["systemctl", "daemon-reload"])
    serves_on(host, container, for_s=15)
    known = product.show(host, ENGINE, "LoadState", "PartOf", "NeedDaemonReload")
    assert known == {"LoadState": "loaded", "PartOf": FRONT, "NeedDaemonReload": "no"}
    stop_leaves_nothing(host, STOP_TIMEOUT_S)
