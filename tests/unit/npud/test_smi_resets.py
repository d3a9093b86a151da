# SPDX-License-Identifier: MulanPSL-2.0
"""Resets through the double of npu-smi: judged by its words, and by another look."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from selectors import DefaultSelector
from typing import Any

import pytest

from agent.model import MEMORY_LEFT, Inventory, NpuHealth, ResetOutcome
from agent.npud.requests import Reset
from agent.npud.smi_reset import SmiReset, judge_words
from agent.npud.smi_source import NpuSmi
from agent.npud.source import ResetLimits
from tests.own_children import OwnChildren
from tests.unit.npud.fake_smi import write_script
from tests.unit.npud.nodes import OPENABLE, make_node, opener

DOUBLE = Path(__file__).parents[2] / "fakes" / "npu_smi" / "npu-smi"
SICK = {"health": "Critical", "codes": ["80C98001"]}
USED = {"processes": [{"pid": 4711, "name": "VLLMEngineCore", "memory_mb": 56630}]}
LIMITS = ResetLimits(reset_s=2.0, boot_s=3.0, look_s=0.1)
OK, FAILED, BUSY, REFUSED = (
    ResetOutcome.OK,
    ResetOutcome.FAILED,
    ResetOutcome.BUSY,
    ResetOutcome.REFUSED,
)
Ended = tuple[ResetOutcome, str]


class Host:
    """An NpuSmi over four chips in /dev."""

    def __init__(self, folder: Path) -> None:
        self.children = OwnChildren()
        self.state = folder / "state.json"
        self.calls = folder / "calls"
        self.calls.touch()
        dev = self.dev = folder / "dev"
        dev.mkdir()
        for name in ("davinci0", "davinci1", "davinci2", "davinci3", "davinci_manager"):
            (dev / name).touch()
        self.script = write_script(
            folder / "npu-smi",
            f'echo "$@" >> "{self.calls}"\n'
            f'FAKE_NPU_STATE="{self.state}" FAKE_NPU_DEV="{dev}" exec "{DOUBLE}" "$@"',
        )
        self.selector = DefaultSelector()
        self.told: list[Inventory] = []
        self.source = self.make(LIMITS)

    def make(self, limits: ResetLimits) -> NpuSmi:
        places = (str(self.script),)
        self.source = NpuSmi(
            self.selector, self.told.append, places, 5.0, limits=limits, folder=str(self.dev)
        )
        return self.source

    def set(self, **state: object) -> None:
        self.state.write_text(json.dumps(state))

    def chips(self) -> dict[str, dict[str, Any]]:
        chips: dict[str, dict[str, Any]] = json.loads(self.state.read_text())["chips"]
        return chips

    def resets(self) -> list[str]:
        return [line for line in self.calls.read_text().splitlines() if line.startswith("set")]

    def begin_reset(self, logic_id: int, *mates: int, codes: tuple[str, ...] = ()) -> list[Ended]:
        ended: list[Ended] = []
        request = Reset(logic_id, tuple(sorted({logic_id, *mates})), codes)
        self.source.reset(
            request, lambda outcome, why: ended.append((outcome, why)), time.monotonic()
        )
        return ended

    def reset(self, logic_id: int, *mates: int, codes: tuple[str, ...] = ()) -> Ended:
        ended = self.begin_reset(logic_id, *mates, codes=codes)
        self.run(lambda: bool(ended))
        return ended[0]

    def run(self, is_done: Callable[[], bool]) -> None:
        end = time.monotonic() + 10
        while not is_done():
            assert time.monotonic() < end, f"waited too long: {self.told[-1:]}"
            for key, mask in self.selector.select(0.02):
                key.data(mask)
            self.source.tick(time.monotonic())

    def close(self) -> None:
        self.source.close()
        self.selector.close()
        self.children.collect()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    it = Host(tmp_path)
    yield it
    it.close()


def test_a_reset_that_works(host: Host) -> None:
    host.set(chips={"1": SICK, "2": SICK}, boot_s=2.5)  # a busy machine asks once a second
    assert host.reset(1, codes=("80C98001",)) == (OK, "health ok")
    assert host.resets() == ["set -t reset -i 1 -c 0"]
    assert [npu.health.value for npu in host.told[-1].npus] == ["ok", "ok", "critical", "ok"]
    assert host.chips()["1"]["resets"] == 1
    reasons = [seen.npus[1].reason for seen in host.told]
    assert reasons == ["reset under way"] * (len(reasons) - 1) + [""]
    assert len(reasons) > 2  # it was looked at again and again while it booted


def test_there_is_no_reading_while_npu_smi_resets(host: Host) -> None:
    host.set(chips={"1": SICK}, reset_s=0.8)
    ended = host.begin_reset(1)
    host.run(lambda: bool(host.resets()))
    calls = host.calls.read_text()
    host.source.begin(time.monotonic())
    time.sleep(0.3)
    assert host.calls.read_text() == calls
    assert host.begin_reset(2) == [(BUSY, "another reset is under way")]
    told = len(host.told)
    host.run(lambda: bool(ended))
    assert ended[0][0] is OK
    assert len(host.told) > told


@pytest.mark.parametrize("hccs", [False, True])
def test_with_hccs_the_ring_goes_together(host: Host, hccs: bool) -> None:
    host.set(chips={"1": SICK, "3": USED}, hccs=hccs)
    if hccs:
        assert host.reset(1, 0, 2, 3) == (BUSY, "NPU 3 is in use by process 4711")
        assert host.resets() == []
    else:
        assert host.reset(1)[0] is OK
    host.set(chips={"1": SICK}, hccs=hccs)
    assert host.reset(1, 0, 2, 3)[0] is OK


@pytest.mark.parametrize("asked", [2, 3])
def test_a_duo_is_reset_through_chip_0(host: Host, asked: int) -> None:
    host.set(layout="310p", chips={str(asked): SICK})
    assert host.reset(asked)[0] is OK
    assert host.resets() == ["set -t reset -i 2 -c 0"]
    assert [host.chips()[key]["resets"] for key in "0123"] == [0, 0, 1, 1]


@pytest.mark.parametrize("layout", ["a3", "310p"])
def test_the_other_chip_of_a_card_counts_though_nobody_named_it(host: Host, layout: str) -> None:
    host.set(layout=layout, chips={"2": SICK, "3": USED})
    assert host.reset(2) == (BUSY, "NPU 3 is in use by process 4711")
    assert host.resets() == []


def test_the_brother_card_of_an_a3_counts(host: Host) -> None:
    for number in range(4, 12):
        (host.dev / f"davinci{number}").touch()
    host.set(layout="a3", chips={"2": SICK, "10": USED})
    assert host.reset(2, 3) == (BUSY, "NPU 10 is in use by process 4711")


def test_a_chip_of_an_a3_that_is_not_listed_may_be_the_brother(host: Host) -> None:
    host.set(layout="a3", chips={"2": SICK})
    host.source.begin(time.monotonic())
    host.run(lambda: bool(host.told))
    reset = SmiReset(Reset(2, (2, 3), ()), lambda _outcome, _why: None, LIMITS)
    reset.look_begins()
    nodes = frozenset({0, 1, 2, 3, 10})
    told = "the driver does not say on which card NPU 10 is"
    assert reset.after_look(host.told[-1], True, nodes, 0.0) == (BUSY, told)
    assert reset.after_look(host.told[-1], True, nodes - {10}, 0.0) is None
    assert reset.is_to_be_run()


def test_a_process_that_came_since_the_last_reading(host: Host) -> None:
    host.set(chips={"1": SICK})
    host.source.begin(time.monotonic())
    host.run(lambda: bool(host.told))
    host.set(chips={"1": SICK | USED})
    assert host.reset(1) == (BUSY, "NPU 1 is in use by process 4711")


def test_a_reading_that_began_before_does_not_count(host: Host) -> None:
    host.set(chips={"1": SICK}, mode="slow", slow_s=0.4)
    host.source.begin(time.monotonic())
    ended = host.begin_reset(1)
    time.sleep(0.1)
    host.run(lambda: bool(host.told))  # of the one that began before
    assert (ended, host.resets()) == ([], [])
    host.set(chips={"1": SICK | USED})
    host.run(lambda: bool(ended))
    assert ended == [(BUSY, "NPU 1 is in use by process 4711")]


def test_a_fault_that_is_gone(host: Host) -> None:
    host.set(chips={"1": {"health": "OK"}})
    assert host.reset(1, codes=("80C98001",)) == (BUSY, "its fault is gone")
    assert host.reset(1)[0] is OK  # nobody asked for one


def test_a_chip_that_the_table_leaves_out(host: Host) -> None:
    host.set(chips={"1": {"health": "ABSENT"}})
    assert host.reset(1) == (BUSY, "npu-smi does not say who uses NPU 1")
    assert host.reset(1, codes=("40F84E00",))[0] is OK


def test_a_chip_that_is_not_there(host: Host) -> None:
    host.set(chips={})
    assert host.reset(1, 7) == (BUSY, "npu-smi knows no NPU 7 now")


def test_a_driver_that_does_not_answer(host: Host) -> None:
    host.set(mode="not-loaded")
    outcome, detail = host.reset(1)
    assert outcome is BUSY
    assert "ret is -8005" in detail


def test_a_table_without_processes_is_no_proof(host: Host) -> None:
    body = host.script.read_text().partition("\n")[2].replace("exec ", "")
    write_script(host.script, f"({body}) | sed '/Process id/,$d'")
    host.set(chips={"1": SICK})
    assert host.reset(1) == (BUSY, "npu-smi does not say who uses the chips")


def test_somebody_else_resets(host: Host) -> None:
    host.set(chips={"1": SICK}, reset_by_others=True)
    outcome, detail = host.reset(1)
    assert outcome is BUSY
    assert "Another user is resetting" in detail


def test_a_product_that_cannot(host: Host) -> None:
    host.set(chips={"1": SICK}, reset_unsupported=True)
    told = "npu-smi: This device does not support setting reset."
    assert host.reset(1) == (REFUSED, told)


def test_no_npu_smi(host: Host) -> None:
    host.script.unlink()
    assert host.reset(1) == (REFUSED, "there is neither libdcmi nor npu-smi")


def test_a_reset_that_fails(host: Host) -> None:
    host.set(chips={"1": SICK | {"reset_fails": True}})
    outcome, detail = host.reset(1)
    assert outcome is FAILED
    assert "Failed to reset server" in detail
    assert "Are you sure" not in detail
    host.run(lambda: host.told[-1].npus[1].health is NpuHealth.CRITICAL)
    assert host.told[-1].npus[1].reason == ""


def test_the_exit_status_says_nothing(host: Host) -> None:
    body = host.script.read_text().partition("\n")[2].replace("exec ", "")
    write_script(host.script, f"{body}\nexit 0")
    host.set(chips={"1": SICK | {"reset_fails": True}})
    assert host.reset(1)[0] is FAILED
    write_script(host.script, f"{body}\nexit 211")
    host.set(chips={"1": SICK})
    assert host.reset(1)[0] is OK


def test_a_chip_that_does_not_come_back(host: Host) -> None:
    host.make(ResetLimits(reset_s=2.0, boot_s=0.5, look_s=0.1))
    host.set(chips={"1": SICK}, boot_s=60)
    assert host.reset(1) == (FAILED, "NPU 1: no health after 0.5 s")


def test_a_reset_that_hangs(host: Host) -> None:
    host.make(ResetLimits(reset_s=0.5, boot_s=0.5, look_s=0.1))
    host.set(chips={"1": SICK}, reset_s=60)
    outcome, detail = host.reset(1)
    assert outcome is FAILED
    assert detail.startswith("npu-smi hangs since ")
    told = len(host.told)
    host.run(lambda: len(host.told) > told)
    assert host.told[-1].npus[1].reason == ""


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("\tStatus : OK\n\tMessage : Reset chip successfully.\n", None),
        ("\tMessage : resetting ...\n", FAILED),  # it ended in the middle
        ("", FAILED),
        ("Segmentation fault", FAILED),
        ("SMP mode only support reset chip 0.", FAILED),
    ],
)
def test_words(text: str, outcome: ResetOutcome | None) -> None:
    ended = judge_words(text)
    assert (ended[0] if ended is not None else None) is outcome


# --- memory that is left -------------------------------------------------------------------------


def test_memory_that_is_left_is_a_fault_as_long_as_it_is_there(host: Host) -> None:
    host.set(chips={"1": {"left_mb": 20000}})
    assert host.reset(0, codes=(MEMORY_LEFT,)) == (BUSY, "its fault is gone")
    assert host.resets() == []
    assert host.reset(1, codes=(MEMORY_LEFT,)) == (OK, "health ok")
    assert host.told[-1].npus[1].memory_used_mib == 3445
    assert host.reset(1, codes=(MEMORY_LEFT,)) == (BUSY, "its fault is gone")
    assert len(host.resets()) == 1


def test_a_chip_that_is_ill_is_not_reset_for_memory_that_is_not_left(host: Host) -> None:
    host.set(chips={"1": SICK})
    assert host.reset(1, codes=(MEMORY_LEFT,)) == (BUSY, "its fault is gone")


def test_memory_of_a_process_is_not_left(host: Host) -> None:
    host.set(chips={"1": USED | {"left_mb": 20000}})
    assert host.reset(1, codes=(MEMORY_LEFT,)) == (BUSY, "NPU 1 is in use by process 4711")


def test_a_node_that_is_open(host: Host) -> None:
    """In a process that npu-smi does not list."""
    host.set(chips={"1": SICK})
    make_node(host.dev, 1, OPENABLE)
    with opener(host.dev / "davinci1") as pid:
        host.told.clear()
        assert host.reset(1, codes=("80C98001",)) == (
            BUSY,
            f"NPU 1 is open in process {pid} (sleep)",
        )
        assert host.told[-1].npus[1].reason == ""
        assert host.resets() == []
    assert host.reset(1, codes=("80C98001",)) == (OK, "health ok")
