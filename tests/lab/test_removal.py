# SPDX-License-Identifier: MulanPSL-2.0
"""Removal by dnf, whatever the model is doing: nothing of ours is left but what the operator has
made, and after another installation it serves again.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from . import product
from .faults import wait_held
from .file_triggers import file_triggers
from .host import LabHost
from .models import MODEL_8B, MODELS_DIRECTORY, hide_model, show_model
from .product import SMALLER_NEEDS
from .transactions import (
    AGENT,
    OURS,
    PACKAGE,
    starting,
    transact,
    wait_loading,
    withdraw,
)

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

CONFIG = "/etc/deepseek-agent/agent.toml"
SETTINGS = "/etc/deepseek-agent/agent.toml.d/test.toml"
PROFILE = "/etc/deepseek-agent/models.d/8b.toml"
MODEL = f"{MODELS_DIRECTORY}/{MODEL_8B}/config.json"
# Where unit files, their links and what is rendered could be left.
UNIT_FOLDERS = (
    *("/etc/systemd/system", "/run/systemd/system", "/run/systemd/generator"),
    *("/run/containers/systemd", "/etc/containers/systemd"),
)
DROP_IN = f"/run/systemd/system/{AGENT}.d"
# The engine, its monitor, our own daemons; not the shell that looks for them.
PROCESSES = "[v]llm|[c]onmon|[l]ibexec/deepseek-agent"


@pytest.fixture(autouse=True)
def _installed(host: LabHost) -> None:
    """Whatever the row before has left."""
    if host.run(["rpm", "--query", PACKAGE], check=False).returncode != 0:
        transact(host, "install")


@contextmanager
def serving(host: LabHost) -> Iterator[None]:
    product.start(host, "enable", "--now")
    product.wait_serving(host)
    yield


@contextmanager
def loading(host: LabHost) -> Iterator[None]:
    withdraw(host)
    product.set_engine(host, stall_loading=True)
    try:
        with starting(host, "enable", "--now") as start:
            wait_loading(host)
            yield
            assert start.result().returncode != 0
    finally:
        product.set_engine(host)


@contextmanager
def stopped(host: LabHost) -> Iterator[None]:
    with serving(host):
        product.start(host, "stop")
        yield


@contextmanager
def held(host: LabHost) -> Iterator[None]:
    """Enabled, so that the agent would start it again."""
    withdraw(host)
    hide_model(host)
    try:
        product.start(host, "enable", "--now")
        wait_held(host, "model-missing")
        yield
    finally:
        show_model(host)


@contextmanager
def without_agent(host: LabHost) -> Iterator[None]:
    """It serves; the agent was killed when it was to stop, so its unit has failed."""
    with serving(host):
        host.write(f"{DROP_IN}/lab.conf", "[Service]\nKillSignal=SIGKILL\n")
        host.run(["systemctl", "daemon-reload"])
        host.run(["systemctl", "stop", *OURS], check=False)
        product.wait_state(host, AGENT, "failed")
        host.run(["rm", "-r", DROP_IN])
        yield


@contextmanager
def without_podman_socket(host: LabHost) -> Iterator[None]:
    with serving(host):
        host.run(["systemctl", "stop", "podman.socket", "podman.service"])
        yield


@contextmanager
def with_file_triggers(host: LabHost) -> Iterator[None]:
    with file_triggers(host), serving(host):
        yield


STATES = (
    *(serving, loading, stopped, held),
    *(without_agent, without_podman_socket, with_file_triggers),
)


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_removal_leaves_nothing(
    host: LabHost, state: Callable[[LabHost], AbstractContextManager[None]]
) -> None:
    packaged = host.read(CONFIG)
    host.write(CONFIG, f"{packaged}# by the operator\n")
    host.write(SETTINGS, "[limits]\nrecheck_held_s = 10\nstart_wait_s = 1500\n")
    with state(host):
        transact(host, "remove")
    assert leftovers(host) == []
    assert host.read(f"{CONFIG}.rpmsave") == f"{packaged}# by the operator\n"
    assert host.read(PROFILE) == SMALLER_NEEDS
    host.run(["test", "-e", MODEL])
    transact(host, "install")
    assert product.start(host, "enable", "--now").returncode == 0
    assert product.ask(host) is not None
    assert "1500" in host.run(["deepseekctl", "config", "show"]).stdout


def leftovers(host: LabHost) -> list[str]:
    """One line for each thing that is there and should not be."""
    units = ["systemctl", "list-units", "--all", "--plain", "--no-legend", "*deepseek*"]
    script = (
        f"find {' '.join(UNIT_FOLDERS)} -name '*deepseek*' 2>/dev/null;"
        "find /run -maxdepth 1 -name '*deepseek*';"
        f"pgrep --list-full '.*' | grep --extended-regexp '{PROCESSES}';"
        "systemctl show --property=NeedDaemonReload sockets.target | grep yes"
    )
    return [
        *product.leftovers(host),
        *host.run(units).stdout.splitlines(),
        *host.run(["sh", "-c", script], check=False).stdout.splitlines(),
    ]
