# SPDX-License-Identifier: MulanPSL-2.0
"""Doubles leave no socket to the garbage collector, which would complain in another test."""

import asyncio
import gc
import socket
import warnings
from pathlib import Path

import pytest

from tests.fakes.npud import FakeNpud
from tests.fakes.podman_api import FakePodmanApi


@pytest.mark.parametrize("double", [FakeNpud, FakePodmanApi])
@pytest.mark.parametrize("turns", range(6))
def test_a_double_that_ends_while_somebody_connects(
    tmp_path: Path, double: type[FakeNpud | FakePodmanApi], turns: int
) -> None:
    """`turns` of the loop after it."""

    async def scenario() -> None:
        fake = double(tmp_path / "socket")
        await fake.start()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "socket"))
        for _ in range(turns):
            await asyncio.sleep(0)
        await fake.close()

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        asyncio.run(scenario())
        gc.collect()
    assert [str(one.message) for one in seen] == []
