# SPDX-License-Identifier: MulanPSL-2.0
"""Podman's own quadlet generator over every golden case, on a host that has one."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cases import CASES
from tests.unit_files import check_generated

from . import product, table
from .host import LabHost
from .machine import prepare_machine
from .process import CommandFailed
from .rootfs import Flavour

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def modern() -> Iterator[LabHost]:
    """Nothing of ours is on it."""
    prepare_machine()
    with (
        tempfile.TemporaryDirectory(prefix="deepseek-lab-", dir="/var/tmp") as folder,
        product.create_host(Flavour.MODERN, "generator", Path(folder)) as host,
    ):
        yield host


@pytest.mark.parametrize("case", table.quadlets())
def test_the_generator_makes_the_same_command_of_it(modern: LabHost, case: str) -> None:
    check_generated(table.generate(modern, case, table.quadlets()[case]), CASES[case])


def test_an_unknown_key_would_have_been_seen(modern: LabHost) -> None:
    """That the test above can fail: this Podman has no such key, and then there is no unit."""
    file = table.quadlets()["8b-auto"]
    text = file.text.replace("[Container]\n", "[Container]\nStopTimeOut=1\n")
    modern.write(f"{table.FOLDER}/wrong/{file.path.name}", text)
    with pytest.raises(CommandFailed, match="StopTimeOut"):
        modern.run(["env", f"QUADLET_UNIT_DIRS={table.FOLDER}/wrong", table.GENERATOR, "--dryrun"])
