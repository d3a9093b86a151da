# SPDX-License-Identifier: MulanPSL-2.0
"""Lab hosts for the tests: one for each flavour and module, thrown away afterwards."""

import re
from collections.abc import Iterator

import pytest
from _pytest.terminal import TerminalReporter

from . import product
from .host import LabHost
from .rootfs import Flavour


@pytest.fixture(scope="module", params=list(Flavour), ids=lambda flavour: flavour.value)
def bare_host(request: pytest.FixtureRequest) -> Iterator[LabHost]:
    """Booted, with NPUs, image and model, and a repository that has the package; not installed."""
    flavour: Flavour = request.param
    with product.supplied_host(flavour, f"test-{flavour.value}") as host:
        yield host


@pytest.fixture(scope="module")
def host(bare_host: LabHost) -> LabHost:
    """With deepseek-agent installed by dnf."""
    product.install(bare_host)
    return bare_host


# What hardly depends on the flavour, or is seen by others too, is done on one in `make test`:
# modules, and a test that takes its time.
LONG_ON = {
    "test_stop_of_an_engine_that_ignores_sigterm": Flavour.LEGACY,
    "test_bus": Flavour.MODERN,
    "test_containers": Flavour.MODERN,
    "test_cuts": Flavour.MODERN,
    "test_cycles": Flavour.MODERN,
    "test_doctor": Flavour.MODERN,
    "test_drain": Flavour.LEGACY,
    "test_evidence": Flavour.MODERN,
    "test_fault_table": Flavour.MODERN,
    "test_fronts": Flavour.MODERN,
    "test_kills": Flavour.MODERN,
    "test_liveness": Flavour.MODERN,
    "test_metrics": Flavour.MODERN,
    "test_notify": Flavour.MODERN,
    "test_npus": Flavour.MODERN,
    "test_package": Flavour.MODERN,
    "test_podman": Flavour.MODERN,
    "test_removal": Flavour.MODERN,
    "test_rendered": Flavour.MODERN,
    "test_sandbox": Flavour.MODERN,
    "test_settings": Flavour.MODERN,
    "test_rights": Flavour.MODERN,
    "test_starts": Flavour.MODERN,
    "test_state": Flavour.MODERN,
    "test_supply": Flavour.MODERN,
    "test_updates": Flavour.LEGACY,
    "test_users": Flavour.MODERN,
    "test_values": Flavour.MODERN,
    "test_vllm": Flavour.LEGACY,
}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """On the other one they are among the long ones."""
    for item in items:
        flavour = LONG_ON.get(item.path.stem) or LONG_ON.get(item.name.partition("[")[0])
        if flavour is not None and re.search(rf"[\[-]{flavour}[\]-]", item.name):
            item.add_marker(pytest.mark.long)


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """What could not be tried on this machine is not to look like what was."""
    skipped = terminalreporter.stats.get("skipped", [])
    texts = {one.longrepr[2] for one in skipped if isinstance(one.longrepr, tuple)}
    for text in sorted(text for text in texts if "NOT RUN" in text):
        terminalreporter.section(text.removeprefix("Skipped: "), sep="!", red=True)
