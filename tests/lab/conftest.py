# SPDX-License-Identifier: MulanPSL-2.0
"""Lab hosts for the tests: one for each flavour and module, thrown away afterwards."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import product
from .host import LabHost
from .machine import prepare_machine
from .rootfs import Flavour


@pytest.fixture(scope="module", params=list(Flavour), ids=lambda flavour: flavour.value)
def bare_host(request: pytest.FixtureRequest) -> Iterator[LabHost]:
    """Booted, with NPUs, image and model, and a repository that has the package; not installed."""
    prepare_machine()
    flavour: Flavour = request.param
    # Not below /tmp: Podman's storage needs a real file system, and half a gigabyte of it.
    with (
        tempfile.TemporaryDirectory(prefix="deepseek-lab-", dir="/var/tmp") as folder,
        product.create_host(flavour, f"test-{flavour.value}", Path(folder)) as host,
    ):
        product.supply(host)
        product.add_repository(host)
        yield host


@pytest.fixture(scope="module")
def host(bare_host: LabHost) -> LabHost:
    """With deepseek-agent installed by dnf."""
    product.install(bare_host)
    return bare_host
