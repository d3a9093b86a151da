# SPDX-License-Identifier: MulanPSL-2.0
"""Resets through the double of libdcmi: what goes together, what forbids one, how one ends."""

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.model import MEMORY_LEFT, NpuHealth, ResetOutcome
from agent.npud.dcmi.process import kill_process
from agent.npud.source import RESET_LIMITS
from tests.unit.npud.dcmi_driver import LIMITS, Reading
from tests.unit.npud.nodes import OPENABLE, UNUSED_MINORS, make_node, opener

CODE = "80C98001"
OTHER = "80E18005"
OK, FAILED, BUSY, REFUSED = (
    ResetOutcome.OK,
    ResetOutcome.FAILED,
    ResetOutcome.BUSY,
    ResetOutcome.REFUSED,
)


@pytest.fixture
def reading(tmp_path: Path) -> Iterator[Reading]:
    it = Reading(tmp_path)
    yield it
    it.close()


def reset_calls(reading: Reading) -> list[str]:
    return [call.chip for call in reading.double.calls("set_device_reset")]


def start_a3(reading: Reading, cards: int) -> None:
    """With as many device nodes as chips."""
    for number in range(2 * cards, 16):
        (reading.dev / f"davinci{number}").unlink()
    reading.start("Ascend910", cards)


def test_the_limits() -> None:
    assert (RESET_LIMITS.reset_s, RESET_LIMITS.boot_s) == (260, 150)


# --- one that works ------------------------------------------------------------------------------


def test_a_reset_that_works(reading: Reading) -> None:
    reading.start(cards=2)
    reading.double.raise_fault(1, 0, CODE)
    reading.run(lambda: reading.npu(1).health is NpuHealth.CRITICAL)
    assert reading.reset(1, codes=(CODE,)) == (OK, "boot status 16")
    reading.run(lambda: reading.npu(1).health is NpuHealth.OK)
    assert reading.npu(1).faults == ()
    reading.run(lambda: len(reading.children()) == 1)


def test_what_was_known_before_is_not_told_after(reading: Reading) -> None:
    """Else a decision would be made about a chip as it was before its reset."""
    reading.start(cards=2)
    reading.double.raise_fault(1, 0, CODE)
    reading.run(lambda: reading.npu(1).health is NpuHealth.CRITICAL)
    reading.news.clear()
    reading.reset(1)
    reading.run(lambda: bool(reading.news) and reading.npu(1).health is NpuHealth.OK)
    told = [next(npu for npu in seen.npus if npu.logic_id == 1) for seen in reading.news]
    assert {npu.health for npu in told} <= {NpuHealth.OK, NpuHealth.UNKNOWN}


def test_the_others_are_watched_while_a_reset_takes_long(reading: Reading) -> None:
    reading.start(cards=3)
    reading.double.set_reset(1, 0, "works", seconds=1.5)
    ended = reading.begin_reset(1)
    reading.run(lambda: reading.npu(1).reason == "reset under way")
    reading.double.raise_fault(0, 0, CODE)
    reading.run(lambda: reading.npu(0).health is NpuHealth.CRITICAL)
    assert ended == []
    assert reading.begin_reset(2) == [(BUSY, "another reset is under way")]
    assert reading.begin_reset(1) == [(BUSY, "another reset is under way")]
    reading.run(lambda: bool(ended))
    reading.run(lambda: reading.npu(1).reason == "")
    assert reset_calls(reading) == ["1.0"]


def test_chips_of_the_ring_are_left_out_and_not_asked(reading: Reading) -> None:
    reading.double.start(cards=4)
    reading.double.set_option("hccs", "on")
    reading.double.set_reset(1, 0, "works", seconds=3)
    reading.read()
    ended = reading.begin_reset(1, 0, 2, 3)
    worker = reading.worker
    assert worker is not None
    reading.double.set_option("log", "calls")
    asked = len(reading.double.calls())
    reading.read()  # in the middle of it
    assert ended == []
    assert {npu.reason for npu in reading.last.npus} == {"reset under way"}
    new = [call for call in reading.double.calls()[asked:] if call.pid == worker.pid]
    assert {call.chip for call in new} == {"-"}  # the list of cards, no chip
    reading.run(lambda: bool(ended))
    assert ended[0][0] is OK
    reading.run(lambda: {npu.health for npu in reading.last.npus} == {NpuHealth.OK})


def test_an_answer_from_before_is_no_card_drop(reading: Reading) -> None:
    """A reading was under way when the reset began: the chip answers -8012, since it boots."""
    reading.double.start(cards=3)
    reading.double.set_option("boot-time", "0.6")
    reading.read()
    reading.double.hang("get_device_health", 0)
    reading.source.begin(time.monotonic())
    worker = reading.worker
    assert worker is not None
    reading.run(lambda: worker.note.under_way() is not None)
    ended = reading.begin_reset(2)
    reading.run(lambda: bool(reset_calls(reading)))
    reading.double.release("get_device_health", 0)
    reading.run(lambda: bool(ended))
    reading.run(lambda: reading.npu(2).health is NpuHealth.OK)
    assert all(not npu.faults for seen in reading.news for npu in seen.npus)


def test_a_call_that_hangs_meanwhile_does_not_end_the_rest(reading: Reading) -> None:
    """The old reading hangs on the chip: the new worker still leaves it out."""
    reading.start(cards=2)
    reading.double.hang("get_device_temperature", 1)
    reading.source.begin(time.monotonic())
    worker = reading.worker
    assert worker is not None
    reading.run(lambda: (call := worker.note.under_way()) is not None and call.card == 1)
    reading.double.set_reset(1, 0, "works", seconds=1.0)
    ended = reading.begin_reset(1)
    reading.run(lambda: reading.worker not in (None, worker))
    assert ended == []
    assert reading.npu(1).reason == "reset under way"
    reading.double.release("get_device_temperature", 1)
    reading.run(lambda: bool(ended))
    assert ended[0][0] is OK
    reading.run(lambda: reading.npu(1).health is NpuHealth.OK)


def test_a_driver_that_goes_meanwhile_does_not_end_the_rest(reading: Reading) -> None:
    reading.start(cards=2)
    reading.double.set_reset(1, 0, "works", seconds=3)
    ended = reading.begin_reset(1)
    reading.run(lambda: reading.npu(1).reason == "reset under way")
    reading.double.fail("get_card_list", -8005)
    reading.read()
    reading.double.unfail("get_card_list")
    reading.read()
    assert ended == []
    assert [npu.reason for npu in reading.last.npus] == [""]  # 1 is not even listed
    reading.run(lambda: bool(ended))
    reading.run(lambda: [npu.health for npu in reading.last.npus] == [NpuHealth.OK] * 2)


# --- what goes together --------------------------------------------------------------------------


@pytest.mark.parametrize("asked", [6, 7])
def test_a_duo_is_reset_through_device_0(reading: Reading, asked: int) -> None:
    """Logic ids 6 and 7 are the chips of card 5."""
    reading.start("310P3")
    reading.double.raise_fault(5, asked - 6, CODE)
    ended = reading.begin_reset(asked, codes=(CODE,))
    assert [npu.reason for npu in reading.last.npus[6:]] == ["reset under way"] * 2
    reading.run(lambda: bool(ended))
    assert ended == [(OK, "boot status 16")]
    assert reset_calls(reading) == ["5.0"]


def test_a_duo_whose_chip_has_dropped_is_known_by_its_twin(reading: Reading) -> None:
    reading.double.start("310P3", cards=1)
    reading.double.drop(1, 1)
    reading.read()
    assert reading.reset(1, codes=("40F84E00",)) == (OK, "boot status 16")
    assert reset_calls(reading) == ["1.0"]


def test_a3_dies_are_reset_in_pairs(reading: Reading) -> None:
    start_a3(reading, cards=3)
    reading.double.set_reset(1, 1, "works", seconds=0.3)
    ended = reading.begin_reset(3, 2)
    reasons = [npu.reason for npu in reading.last.npus]
    assert reasons == ["", "", "reset under way", "reset under way", "", ""]
    reading.run(lambda: bool(ended))
    assert ended == [(OK, "boot status 16")]
    assert reset_calls(reading) == ["1.1"]


@pytest.mark.parametrize("product", ["Ascend910", "310P3"])
def test_the_other_chip_of_a_card_counts_though_nobody_named_it(
    reading: Reading, product: str
) -> None:
    reading.start(product)
    card = reading.npu(2).card_id
    reading.double.set_processes(card, 1, {4711: 100})
    assert reading.reset(2) == (BUSY, f"chip {card}.1 is in use by process 4711")
    assert reset_calls(reading) == []


# --- nothing is done -----------------------------------------------------------------------------


def test_a_chip_in_use(reading: Reading) -> None:
    reading.start(cards=1)
    reading.double.set_processes(0, 0, {os.getpid(): 100})  # since the last reading
    assert reading.reset(0) == (BUSY, f"chip 0.0 is in use by process {os.getpid()}")
    assert reset_calls(reading) == []
    assert reading.npu(0).reason in ("", "not read yet")


def test_a_mate_in_use(reading: Reading) -> None:
    reading.start(cards=4)
    reading.double.set_processes(3, 0, {4711: 100, 4712: 5})
    assert reading.reset(1, 0, 2, 3) == (BUSY, "chip 3.0 is in use by process 4711, 4712")
    assert reset_calls(reading) == []


@pytest.mark.parametrize("mate", [False, True])
def test_a_chip_that_may_be_in_use(reading: Reading, mate: bool) -> None:
    reading.start(cards=2)
    reading.double.fail("get_device_resource_info", -8010, int(mate))
    told = f"the driver does not say what uses chip {int(mate)}.0"
    assert reading.reset(0, 1) == (BUSY, told)
    assert reset_calls(reading) == []


def test_without_the_symbol_nobody_says_who_uses_a_chip(reading: Reading) -> None:
    reading.make(missing=["dcmi_get_device_resource_info"])
    reading.start(cards=1)
    assert reading.reset(0)[0] is BUSY


@pytest.mark.parametrize("mate", [False, True])
def test_a_chip_that_nobody_knows(reading: Reading, mate: bool) -> None:
    reading.start(cards=1)
    ended = reading.reset(0, 7) if mate else reading.reset(7)
    assert ended == (BUSY, "libdcmi knows no NPU 7 now")


def test_a_chip_whose_probe_hangs(reading: Reading) -> None:
    reading.start(cards=2)
    reading.double.hang("get_device_health", 1)
    reading.source.begin(time.monotonic())
    reading.run(lambda: reading.npu(1).reason != "")
    told = (BUSY, "chip 1.0: probe hangs: get_device_health")
    assert (reading.reset(1), reading.reset(0, 1)) == (told, told)


def test_a_driver_that_does_not_answer(reading: Reading) -> None:
    reading.start(cards=1)
    reading.double.driver_absent()
    assert reading.reset(0) == (BUSY, "the driver does not answer: dcmi_init: -8005 (INNER_ERR)")
    reading.read()
    assert reading.reset(0)[0] is BUSY


# --- the fault that it is for --------------------------------------------------------------------


def test_a_fault_that_is_gone(reading: Reading) -> None:
    reading.start(cards=2)
    reading.double.set_option("events", "off")
    reading.double.raise_fault(1, 0, CODE)
    reading.read()
    reading.double.clear_fault(1, 0, CODE)
    reading.double.raise_fault(1, 0, OTHER)
    reading.double.raise_fault(0, 0, CODE)  # of another chip
    assert reading.reset(1, 0, codes=(CODE,)) == (BUSY, "its fault is gone")
    assert reset_calls(reading) == []
    assert reading.reset(1, codes=(CODE, OTHER))[0] is OK  # one is enough


def test_a_dropped_chip(reading: Reading) -> None:
    """It cannot say who uses it, and nobody can."""
    reading.start(cards=2)
    reading.double.drop(1, 0)
    reading.double.fail("get_device_resource_info", -8012, 1)
    reading.read()
    assert reading.reset(1, codes=(CODE,)) == (BUSY, "its fault is gone")
    assert reading.reset(1, codes=("40F84E00",)) == (OK, "boot status 16")
    reading.run(lambda: reading.npu(1).health is NpuHealth.OK)
    assert reading.npu(1).faults == ()


def test_a_drop_that_is_over(reading: Reading) -> None:
    reading.start(cards=1)
    assert reading.reset(0, codes=("40F84E00",)) == (BUSY, "its fault is gone")


def test_codes_that_are_not_told(reading: Reading) -> None:
    reading.start(cards=1)
    reading.double.fail("get_device_errorcode_v2", -8010, 0)
    told = "the driver does not say which faults are there"
    assert reading.reset(0, codes=(CODE,)) == (BUSY, told)
    assert reading.reset(0)[0] is OK


def test_without_the_symbol_events_are_believed(reading: Reading) -> None:
    reading.make(missing=["dcmi_get_device_errorcode_v2"])
    reading.start(cards=1)
    reading.double.raise_fault(0, 0, CODE)
    reading.run(lambda: bool(reading.npu(0).faults))
    assert reading.reset(0, codes=(CODE,))[0] is OK


# --- memory that is left -------------------------------------------------------------------------


def test_memory_that_is_left_is_a_fault_as_long_as_it_is_there(reading: Reading) -> None:
    reading.start(cards=2)
    reading.double.leave_memory(1, 0, 20_000)
    assert reading.read().npus[1].has_memory_left()
    assert reading.reset(0, codes=(MEMORY_LEFT,)) == (BUSY, "its fault is gone")  # of another chip
    assert reading.reset(1, codes=(MEMORY_LEFT,)) == (OK, "boot status 16")
    assert not reading.read().npus[1].has_memory_left()
    assert reading.reset(1, codes=(MEMORY_LEFT,)) == (BUSY, "its fault is gone")
    assert reset_calls(reading) == ["1.0"]


def test_memory_from_before_is_not_told_after(reading: Reading) -> None:
    """Not even for the moment between its health and its memory."""
    reading.start(cards=1)
    reading.double.leave_memory(0, 0, 20_000)
    reading.read()
    reading.news.clear()
    reading.reset(0)
    reading.run(lambda: bool(reading.news) and reading.npu(0).processes_told)
    assert not any(seen.npus[0].has_memory_left() for seen in reading.news)


def test_memory_of_a_process_is_not_left(reading: Reading) -> None:
    reading.start(cards=1)
    reading.double.leave_memory(0, 0, 20_000)
    reading.double.set_processes(0, 0, {4711: 100})
    told = (BUSY, "chip 0.0 is in use by process 4711")
    assert reading.reset(0, codes=(MEMORY_LEFT,)) == told


@pytest.mark.parametrize("left_mb", [0, 20_000])
def test_one_fault_of_several_is_enough(reading: Reading, left_mb: int) -> None:
    reading.start(cards=1)
    reading.double.leave_memory(0, 0, left_mb)
    reading.double.raise_fault(0, 0, OTHER)
    assert reading.reset(0, codes=(CODE, MEMORY_LEFT))[0] is (OK if left_mb else BUSY)
    assert reading.reset(0, codes=(OTHER, MEMORY_LEFT))[0] is (BUSY if left_mb else OK)


def test_memory_of_a_duo_is_its_ddr(reading: Reading) -> None:
    reading.start("310P3")
    reading.double.leave_memory(5, 1, 20_000)
    assert reading.reset(6, 7, codes=(MEMORY_LEFT,)) == (BUSY, "its fault is gone")
    assert reading.reset(7, 6, codes=(MEMORY_LEFT,))[0] is OK


# --- device nodes --------------------------------------------------------------------------------


def test_a_node_that_is_open(reading: Reading) -> None:
    """In a process that the driver does not list."""
    reading.start(cards=2)
    with opener(make_node(reading.dev, 1, OPENABLE)) as pid:
        told = (BUSY, f"NPU 1 is open in process {pid} (sleep)")
        assert (reading.reset(1), reading.reset(0, 1)) == (told, told)
        assert reset_calls(reading) == []
        assert reading.reset(0)[0] is OK
    assert reading.reset(1)[0] is OK


def test_a_node_of_the_other_chip_of_the_card(reading: Reading) -> None:
    reading.start("310P3")
    with opener(make_node(reading.dev, 7, OPENABLE)) as pid:
        assert reading.reset(6) == (BUSY, f"NPU 7 is open in process {pid} (sleep)")


def test_the_brother_card_of_an_a3(reading: Reading) -> None:
    """The driver resets it, too, whoever uses it."""
    start_a3(reading, cards=5)
    reading.double.set_processes(4, 0, {4711: 5})
    assert reading.reset(0, 1) == (BUSY, "chip 4.0 is in use by process 4711")
    reading.double.set_processes(4, 0, {})
    assert reading.reset(0, 1)[0] is OK
    assert reading.reset(2, 3)[0] is OK  # card 5 does not exist


def test_a_chip_of_an_a3_that_is_not_listed_may_be_the_brother(reading: Reading) -> None:
    """A model may serve on it, and nobody could say so."""
    start_a3(reading, cards=3)
    make_node(reading.dev, 8, UNUSED_MINORS + 8)
    told = "the driver does not say on which card NPU 8 is"
    assert reading.begin_reset(0, 1) == [(BUSY, told)]
    (reading.dev / "davinci8").unlink()
    assert reading.reset(0, 1)[0] is OK


def test_a_node_behind_a_chip_that_did_not_come_up(reading: Reading) -> None:
    reading.double.start(cards=3)
    reading.double.remove_card(0, at_boot=True)
    reading.read()
    with opener(make_node(reading.dev, 2, OPENABLE)) as pid:
        assert reading.reset(2) == (BUSY, f"NPU 2 is open in process {pid} (sleep)")
        assert reading.reset(1)[0] is OK
    assert reading.reset(2)[0] is OK
    assert reset_calls(reading) == ["1.0", "2.0"]
    assert reading.begin_reset(0) == [(BUSY, "libdcmi knows no NPU 0 now")]


def test_a_node_that_npud_itself_has_open(reading: Reading) -> None:
    """By the driver's library, in the worker that goes on reading, for one."""
    reading.start(cards=1)
    with opener(make_node(reading.dev, 0, OPENABLE), of_npud=True):
        assert reading.reset(0)[0] is OK


def test_the_node_of_a_chip_that_dropped(reading: Reading) -> None:
    """Nobody can use it, whoever has it open."""
    reading.start(cards=2)
    reading.double.drop(1, 0)
    reading.read()
    with opener(make_node(reading.dev, 1, OPENABLE)):
        assert reading.reset(1, codes=("40F84E00",))[0] is OK


def test_a_chip_that_dcmi_init_leaves_out_cannot_be_reset(reading: Reading) -> None:
    """Each reset is a process of its own, which begins when the chip has dropped off."""
    reading.double.start(cards=2)
    reading.double.set_option("init-asks", "on")
    reading.read()
    reading.double.drop(1, 0)
    reading.read()
    told = (BUSY, "a new process of libdcmi does not list chip 1.0")
    assert reading.reset(1, codes=("40F84E00",)) == told
    assert reset_calls(reading) == []
    reading.double.undrop(1, 0)
    assert reading.reset(1)[0] is OK


# --- it never will -------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [-8002, -8255])
def test_a_driver_that_forbids_it(reading: Reading, code: int) -> None:
    reading.start(cards=1)
    reading.double.fail("set_device_reset", code)
    outcome, detail = reading.reset(0)
    assert outcome is REFUSED
    assert detail.startswith(f"dcmi_set_device_reset: {code} (")


def test_a_library_that_cannot(reading: Reading) -> None:
    reading.make(missing=["dcmi_set_device_reset"])
    reading.start(cards=1)
    assert reading.reset(0) == (
        REFUSED,
        "dcmi_set_device_reset: -99998 (not in this libdcmi)",
    )


def test_neither_libdcmi_nor_npu_smi(reading: Reading) -> None:
    reading.make(path=str(reading.folder / "none.so"))
    reading.read()
    assert reading.reset(0) == (REFUSED, "there is neither libdcmi nor npu-smi")


# --- it does not work ----------------------------------------------------------------------------


def test_a_reset_that_fails(reading: Reading) -> None:
    reading.start(cards=1)
    reading.double.set_reset(0, 0, "fails")
    assert reading.reset(0) == (FAILED, "dcmi_set_device_reset: -8015 (RESET_FAIL)")
    reading.run(lambda: reading.npu(0).health is NpuHealth.OK)


def test_a_chip_that_does_not_boot(reading: Reading) -> None:
    reading.start(cards=2)
    reading.double.set_reset(1, 0, "stuck")
    started = time.monotonic()
    assert reading.reset(1) == (FAILED, "boot status after 1 s: 1.0: 2")
    assert time.monotonic() - started >= LIMITS.boot_s


def test_a_mate_that_does_not_boot(reading: Reading) -> None:
    start_a3(reading, cards=1)
    reading.double.set_option("boot-time", "30")
    ended = reading.begin_reset(0, 1)
    reading.run(lambda: bool(reset_calls(reading)))
    reading.double._drop("chip 0.0 booting")  # that one is up
    reading.run(lambda: bool(ended))
    assert ended == [(FAILED, "boot status after 1 s: 0.1: 0")]


def test_a_reset_that_hangs(reading: Reading) -> None:
    reading.make(limits=replace(LIMITS, reset_s=0.6, boot_s=0.4))
    reading.start(cards=2)
    reading.double.hang("set_device_reset", 1)
    started = time.monotonic()
    assert reading.reset(1) == (FAILED, "it hangs in set_device_reset")
    assert time.monotonic() - started >= 1.0  # and not after the deadline of a query
    reading.run(lambda: reading.npu(1).health is NpuHealth.OK)
    reading.run(lambda: len(reading.children()) == 1)


def test_a_look_before_the_reset_that_hangs(reading: Reading) -> None:
    reading.make(limits=replace(LIMITS, reset_s=100.0))
    reading.start(cards=1)
    reading.double.hang("get_device_resource_info", 0)
    started = time.monotonic()
    assert reading.reset(0) == (FAILED, "it hangs in get_device_resource_info")
    assert time.monotonic() - started < 3
    assert reset_calls(reading) == []


def test_a_reset_that_cannot_be_killed_is_not_tried_again(reading: Reading) -> None:
    spared: list[int] = []
    reading.make(limits=replace(LIMITS, reset_s=0.5, boot_s=0.5), kill=spared.append)
    reading.double.start(cards=2)
    reading.double.set_option("boot-time", "0.05")
    reading.read()
    reading.double.hang("set_device_reset", 1)
    assert reading.reset(1) == (FAILED, "it hangs in set_device_reset")
    reading.read()
    assert reading.reset(1) == (BUSY, "an earlier reset hangs, and cannot be killed")
    assert reading.reset(0)[0] is OK
    reading.double.release("set_device_reset", 1)
    kill_process(spared[0])
    reading.run(lambda: len(reading.children()) == 1)
    reading.run(lambda: reading.reset(1)[0] is OK)  # as soon as what it held is free again


def test_a_watcher_that_dies(reading: Reading) -> None:
    reading.start(cards=1)
    (worker,) = reading.children()
    reading.double.set_reset(0, 0, "works", seconds=5)
    ended = reading.begin_reset(0)
    (watcher,) = set(reading.children()) - {worker}
    os.kill(watcher, signal.SIGKILL)
    reading.run(lambda: bool(ended))
    assert ended == [(FAILED, "its process ended by signal 9")]


def test_a_watcher_that_talks_nonsense(reading: Reading) -> None:
    """It is ended at once, not after the seven minutes that a reset may take."""
    reading.start(cards=1)
    reading.double.set_reset(0, 0, "works", seconds=30)
    ended = reading.begin_reset(0)
    reset = reading.source._resets._reset
    assert reset is not None
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    reading.selector.unregister(reset.worker.link)
    real, reset.worker.link = reset.worker.link, ours
    ours.setblocking(False)
    reading.selector.register(ours, 1, lambda _mask: reading.source._resets._take(reset))
    theirs.send(b"What?\n")
    reading.run(lambda: bool(ended))
    assert ended[0][0] is FAILED
    assert ended[0][1].startswith("it said what is no message: ")
    reading.run(lambda: len(reading.children()) == 1)
    real.close()
    theirs.close()


def test_close_ends_the_watcher(reading: Reading) -> None:
    reading.start(cards=1)
    reading.double.set_reset(0, 0, "works", seconds=30)
    ended = reading.begin_reset(0)
    children = reading.children()
    assert len(children) == 2
    reading.source.close()
    assert not reading.selector.get_map()
    for pid in children:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)  # does not wait for ever
    assert ended == []
