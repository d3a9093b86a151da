# SPDX-License-Identifier: MulanPSL-2.0
"""A host with the double of libdcmi: 910B3, no faults."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.dcmi import build
from tests.unit.dcmi.host import Host


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("libdcmi"))


@pytest.fixture
def host(tmp_path: Path, library: Path) -> Iterator[Host]:
    host = Host(tmp_path, library)
    host.double.start()
    yield host
    host.close()
