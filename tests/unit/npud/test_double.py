# SPDX-License-Identifier: MulanPSL-2.0
"""npud's reading of the project's own double of npu-smi, which was written by somebody else."""

import json
import time
from pathlib import Path
from selectors import DefaultSelector
from typing import Any

import pytest

from agent.model import DriverState, Inventory, NpuHealth, NpuProcess
from agent.npud.devices import read_devices
from agent.npud.inventory import with_devices
from agent.npud.smi_source import NpuSmi
from tests.unit.npud.fake_smi import write_script
from tests.unit.npud.test_devices import accept_any

DOUBLE = Path(__file__).parents[2] / "fakes" / "npu_smi" / "npu-smi"
pytestmark = pytest.mark.skipif(not DOUBLE.exists(), reason="the double is not there")


def read(folder: Path, state: dict[str, Any], deadline_s: float = 5.0) -> Inventory:
    """One reading of the double in this state, with four chips in /dev."""
    dev = folder / "dev"
    dev.mkdir()
    for name in ("davinci0", "davinci1", "davinci2", "davinci3", "davinci_manager"):
        (dev / name).touch()
    (folder / "state.json").write_text(json.dumps(state))
    script = write_script(
        folder / "npu-smi",
        f'FAKE_NPU_STATE="{folder}/state.json" FAKE_NPU_DEV="{dev}" exec "{DOUBLE}" "$@"',
    )
    told: list[Inventory] = []
    with DefaultSelector() as selector:
        source = NpuSmi(selector, told.append, (str(script),), deadline_s)
        source.begin(time.monotonic())
        end = time.monotonic() + 8
        while not told and time.monotonic() < end:
            for key, mask in selector.select(0.02):
                key.data(mask)
            source.tick(time.monotonic())
        source.close()
    return with_devices(told[0], read_devices(str(dev), accept_any))


@pytest.mark.parametrize("layout", ["910b", "a3", "wide", "310p"])
def test_layouts(tmp_path: Path, layout: str) -> None:
    processes = [{"pid": 4711, "name": "VLLMEngineCore", "memory_mb": 20000}]
    worse = {"health": "Critical", "used_mb": 20123, "processes": processes}
    seen = read(tmp_path, {"layout": layout, "chips": {"3": worse, "1": {"health": "ABSENT"}}})
    assert (seen.driver, seen.driver_version) == (DriverState.READY, "25.5.1")
    assert [npu.health for npu in seen.npus] == [
        NpuHealth.OK,
        NpuHealth.UNKNOWN,
        NpuHealth.OK,
        NpuHealth.CRITICAL,
    ]
    assert all(npu.device_present and npu.product for npu in seen.npus)
    assert seen.npus[3].memory_used_mib == 20123
    assert seen.npus[3].memory_mib in (65536, 44280)
    assert seen.npus[3].processes == (NpuProcess(4711, "VLLMEngineCore", 20000),)
    assert seen.npus[2].processes == ()


@pytest.mark.parametrize(
    ("mode", "driver", "words"),
    [
        ("garbage", DriverState.UNKNOWN, "not understood"),
        ("not-loaded", DriverState.FAILED, "-8005"),
        ("occupied", DriverState.FAILED, "-8020"),
        ("hang", DriverState.UNKNOWN, "npu-smi hangs since"),
    ],
)
def test_modes(tmp_path: Path, mode: str, driver: DriverState, words: str) -> None:
    seen = read(tmp_path, {"mode": mode}, deadline_s=1.0 if mode == "hang" else 5.0)
    assert seen.driver is driver
    assert words in seen.detail
    assert [npu.health for npu in seen.npus] == [NpuHealth.UNKNOWN] * 4
