# SPDX-License-Identifier: MulanPSL-2.0
"""One double of a hub for all tests here; each test sets its faults anew."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.hub import HubDouble
from tests.unit.supply.hubs import REPO, Bringing, make_repo


@pytest.fixture(scope="session")
def shared_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubDouble]:
    folder = tmp_path_factory.mktemp("hub")
    make_repo(folder)
    with HubDouble(folder) as hub:
        yield hub


@pytest.fixture
def bringing(shared_hub: HubDouble, tmp_path: Path) -> Bringing:
    """The repository is shared: tests do not change it."""
    shared_hub.spoil()
    return Bringing(shared_hub, shared_hub.folder / REPO, tmp_path / "models")
