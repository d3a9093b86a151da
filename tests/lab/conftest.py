# SPDX-License-Identifier: MulanPSL-2.0
"""Lab hosts for the tests: one for each flavour and module, thrown away afterwards."""

from collections.abc import Iterator

import pytest

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
