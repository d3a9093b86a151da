# SPDX-License-Identifier: MulanPSL-2.0
"""The real npud and memory that no process uses: told, reset, told to be over; by both sources."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.model import MEMORY_LEFT
from tests.fakes.dcmi.control import DcmiDouble
from tests.unit.npud.dcmi_driver import library
from tests.unit.npud.fake_smi import write_script
from tests.unit.npud.test_dcmi_process import Client
from tests.unit.npud.test_process import PLAIN_FILES, Message, Npud

DOUBLE = Path(__file__).parents[2] / "fakes" / "npu_smi" / "npu-smi"
LASTS_S = 1.0  # instead of a minute
QUICK = f"import agent.npud.left_memory\nagent.npud.left_memory.LASTS_S = {LASTS_S}{PLAIN_FILES}"
LEFT_MB = 20_000


@pytest.fixture
def npud(tmp_path: Path) -> Iterator[Npud]:
    it = Npud(tmp_path)
    it.nodes("davinci0", "davinci1", "davinci_manager")
    yield it
    it.close()


def codes(seen: Message) -> list[list[str]]:
    return [[fault["code"] for fault in npu["faults"]] for npu in seen["npus"]]


def told_and_reset(npud: Npud) -> None:
    npud.start("-c", QUICK, interval="0.4")
    seen = npud.await_inventory(lambda seen: MEMORY_LEFT in str(seen))
    assert codes(seen) == [[], [MEMORY_LEFT]]
    assert seen["npus"][1]["processes_told"]
    client = Client(npud.socket)
    try:
        client.ask(type="reset", logic_id=0, ring=[0], codes=[MEMORY_LEFT])
        assert client.next("reset")["detail"] == "its fault is gone"
        client.ask(type="reset", logic_id=1, ring=[1], codes=[MEMORY_LEFT])
        told = client.next("reset")
        assert (told["logic_id"], told["outcome"]) == (1, "ok")
    finally:
        client.close()
    seen = npud.await_inventory(lambda seen: seen["npus"][1]["memory_used_mib"] < LEFT_MB)
    assert codes(seen) == [[], []]


def test_by_libdcmi(npud: Npud, tmp_path: Path) -> None:
    double = DcmiDouble(tmp_path / "state" / "double")
    double.start(cards=2)
    double.set_processes(1, 0, {4711: LEFT_MB})
    double.end_process(1, 0, 4711)
    npud.dcmi.symlink_to(library())
    told_and_reset(npud)


def test_by_npu_smi(npud: Npud, tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    state.write_text(json.dumps({"chips": {"1": {"left_mb": LEFT_MB}}}))
    line = f'FAKE_NPU_STATE="{state}" FAKE_NPU_DEV="{npud.dev}" exec "{DOUBLE}" "$@"'
    write_script(npud.smi, line)
    told_and_reset(npud)
