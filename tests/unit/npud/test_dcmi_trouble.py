# SPDX-License-Identifier: MulanPSL-2.0
"""Drivers that refuse, calls that hang, workers that die, cannot be killed, or talk nonsense."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.model import DriverState, Inventory, NpuHealth
from agent.npud import dcmi_source
from agent.npud.dcmi import left_out, places, workers
from agent.npud.dcmi.link import Garbage, decode
from agent.npud.dcmi.process import kill_process
from agent.npud.log import Log
from tests.fakes.dcmi import run_compiler
from tests.fakes.dcmi.control import DRIVER_GONE, NOT_SUPPORTED, OCCUPIED
from tests.unit.npud.dcmi_driver import DEADLINE_S, Reading, library

CODE = "80E01801"


@pytest.fixture
def reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reading]:
    """With short pauses; each is looked at once, by `test_the_ladder`."""
    monkeypatch.setattr(workers, "KILL_GRACE_S", 0.2)
    monkeypatch.setattr(workers, "RESPAWN_S", 0.1)
    monkeypatch.setattr(left_out, "RETRY_S", 0.4)
    it = Reading(tmp_path)
    yield it
    it.close()


def test_the_ladder() -> None:
    assert dcmi_source.DEADLINE_S == 5
    assert dcmi_source.DEADLINE_S + dcmi_source.DEADLINE_S <= 10  # noticed at the second check
    assert workers.MAX_LOST == 4


def healths(seen: Inventory) -> str:
    return " ".join(npu.health.value for npu in seen.npus)


# --- refusals, and npu-smi instead ---------------------------------------------------------------


def test_a_driver_that_is_not_loaded_and_comes(reading: Reading) -> None:
    reading.double.start(cards=1)
    reading.double.driver_absent()
    seen = reading.read()
    assert (seen.driver, seen.source) == (DriverState.FAILED, "dcmi")
    assert seen.detail == "libdcmi: dcmi_init: ret is -8005 (INNER_ERR)"
    reading.double.driver_back()
    assert reading.read().driver is DriverState.READY


def test_a_driver_that_goes_while_it_is_watched(reading: Reading) -> None:
    reading.start(cards=2)
    reading.double.driver_absent()
    seen = reading.read()
    assert (seen.driver, seen.npus) == (DriverState.FAILED, ())
    assert f"ret is {DRIVER_GONE}" in seen.detail
    reading.double.driver_back()
    assert healths(reading.read()) == "ok ok"


def test_an_occupied_chip_is_explained(reading: Reading) -> None:
    reading.double.start()
    reading.double.set_init(OCCUPIED)
    seen = reading.read()
    assert seen.driver is DriverState.FAILED
    assert "ret is -8020 (RESOURCE_OCCUPIED)" in seen.detail
    assert "another mount namespace" in seen.detail


def test_without_library_npu_smi_is_asked(reading: Reading) -> None:
    reading.with_npu_smi()
    reading.make(path=str(reading.folder / "none.so"))
    assert reading.read().source == "npu-smi"
    assert reading.log == []


@pytest.mark.parametrize("kind", ["not a library", "no dcmi_init", "another generation"])
def test_a_library_of_no_use(reading: Reading, kind: str) -> None:
    reading.with_npu_smi()
    reading.double.start()
    match kind:
        case "not a library":
            path = reading.folder / "libdcmi.so"
            path.write_text("text")
            reading.make(path=str(path))
        case "no dcmi_init":
            reading.make(missing=["dcmi_init"])
        case _:
            reading.double.set_init(NOT_SUPPORTED)
    assert reading.read().source == "npu-smi"
    assert "npu-smi is asked instead" in "".join(reading.log)
    reading.run(lambda: reading.children() == [])
    forks = len(reading.log)
    assert reading.read().source == "npu-smi"  # without another try
    assert len(reading.log) == forks


def test_a_library_that_is_replaced_is_tried_again(reading: Reading) -> None:
    reading.with_npu_smi()
    reading.double.start(cards=1)
    path = reading.folder / "libdcmi.so"
    path.write_text("text")
    reading.make(path=str(path))
    assert reading.read().source == "npu-smi"
    path.unlink()
    path.symlink_to(library())
    assert reading.read().source == "dcmi"


# --- hangs ---------------------------------------------------------------------------------------


def test_a_hang_is_told_and_the_others_go_on(reading: Reading) -> None:
    reading.start(cards=4)
    reading.double.hang("get_device_temperature", 1)
    reading.source.begin(time.monotonic())
    started = time.monotonic()
    reading.run(lambda: reading.npu(1).reason != "")
    assert time.monotonic() - started < 2 * DEADLINE_S + 0.5
    npu = reading.npu(1)
    assert (npu.health, npu.reason) == (NpuHealth.UNKNOWN, "probe hangs: get_device_temperature")
    before = len(reading.accounts)
    reading.run(lambda: len(reading.accounts) > before)
    assert healths(reading.last) == "ok unknown ok ok"
    reading.double.raise_fault(2, 0, CODE)
    reading.run(lambda: reading.npu(2).health is NpuHealth.CRITICAL)
    assert reading.npu(1).reason == "probe hangs: get_device_temperature"


def test_a_chip_that_answers_again_is_well_again(reading: Reading) -> None:
    reading.start(cards=2)
    reading.double.hang("*", 1)
    reading.source.begin(time.monotonic())
    reading.run(lambda: reading.npu(1).reason == "probe hangs: get_device_type")
    reading.run_for(1.5)  # it is tried again, and hangs again
    assert reading.npu(1).reason.startswith("probe hangs: ")
    assert reading.npu(0).health is NpuHealth.OK
    reading.double.release("*", 1)
    reading.run(lambda: reading.npu(1).health is NpuHealth.OK)
    assert reading.npu(1).reason == ""


def test_a_hang_at_the_first_look(reading: Reading) -> None:
    reading.double.start(cards=3)
    reading.double.hang("get_device_health", 0)
    seen = reading.read()
    assert healths(seen) == "unknown ok ok"
    assert seen.npus[0].reason == "probe hangs: get_device_health"


def test_events_of_a_hanging_chip_are_told(reading: Reading) -> None:
    reading.start(cards=2)
    reading.double.hang("get_device_health", 1)
    reading.source.begin(time.monotonic())
    reading.run(lambda: reading.npu(1).reason != "")
    reading.read()  # by the next worker, which has asked for events by now
    reading.double.raise_fault(1, 0, CODE)
    reading.run(lambda: [fault.code for fault in reading.npu(1).faults] == [CODE], 15)
    assert reading.npu(1).health is NpuHealth.UNKNOWN


@pytest.mark.parametrize("function", ["init", "subscribe_fault_event", "get_card_list"])
def test_a_hang_that_is_about_no_chip(reading: Reading, function: str) -> None:
    reading.double.start(cards=1)
    reading.double.hang(function)
    seen = reading.read()
    assert (seen.driver, seen.detail) == (DriverState.UNKNOWN, f"probe hangs: {function}")
    reading.double.release(function)
    assert reading.read().driver is DriverState.READY


def test_a_library_that_hangs_while_it_is_loaded(reading: Reading) -> None:
    source = reading.folder / "slow.c"
    source.write_text(
        "#include <unistd.h>\n"
        "__attribute__((constructor)) static void wait_long(void) { sleep(60); }\n"
        "int dcmi_init(void) { return 0; }\n"
    )
    path = reading.folder / "libdcmi.so"
    run_compiler("-shared", "-fPIC", "-o", str(path), str(source))
    reading.make(path=str(path))
    seen = reading.read()
    assert (seen.driver, seen.detail) == (DriverState.UNKNOWN, "probe hangs: dlopen")


def test_workers_that_cannot_be_killed(reading: Reading) -> None:
    """As in D state: SIGKILL changes nothing until the driver lets go."""
    spared: list[int] = []
    reading.make(kill=spared.append)
    reading.start(cards=6)
    for card in range(2):
        reading.double.hang("get_device_health", card)
    reading.source.begin(time.monotonic())
    reading.run(lambda: healths(reading.last) == "unknown unknown ok ok ok ok")
    reading.run(lambda: "cannot be killed" in "".join(reading.log))
    reading.run_for(1.5)  # RETRY_S is over, and yet nobody calls where one hangs already
    assert len(spared) == 2
    assert len(reading.children()) == 3
    assert reading.source.next_at() > time.monotonic()  # and the loop has its rest
    assert reading.npu(0).reason == "probe hangs: get_device_health"
    reading.double.release("get_device_health", 0)
    kill_process(spared[0])
    reading.run(lambda: reading.npu(0).health is NpuHealth.OK)
    assert reading.npu(1).health is NpuHealth.UNKNOWN


def test_four_lost_workers_are_enough(reading: Reading) -> None:
    spared: list[int] = []
    reading.make(kill=spared.append)
    reading.start(cards=6)
    for card in range(6):
        reading.double.hang("get_device_health", card)
    reading.source.begin(time.monotonic())
    reading.run(lambda: reading.last.driver is DriverState.UNKNOWN)
    assert reading.last.detail.startswith("probe hangs: get_device_health; processes ")
    assert reading.last.detail.endswith(" cannot be killed")
    assert len(set(spared)) == 4
    reading.read()  # asked again: the same
    assert len(reading.children()) == 4
    for card in range(6):
        reading.double.release("get_device_health", card)
    for pid in spared:
        kill_process(pid)
    reading.run(lambda: reading.last.driver is DriverState.READY)
    reading.run(lambda: healths(reading.last) == "ok ok ok ok ok ok")


# --- workers that end by themselves --------------------------------------------------------------


def test_a_killed_worker_is_replaced_and_nothing_is_forgotten(reading: Reading) -> None:
    reading.start(cards=2)
    reading.double.raise_fault(1, 0, CODE, severity=2)
    reading.run(lambda: reading.npu(1).health is NpuHealth.ALARM)
    known = reading.npu(1).faults
    reading.news.clear()
    (pid,) = reading.children()
    os.kill(pid, signal.SIGKILL)
    reading.run(lambda: "by signal 9" in "".join(reading.log))
    reading.news.clear()
    reading.run(lambda: pid not in reading.children() and bool(reading.news))
    assert reading.npu(1).faults == known  # with severity and time, which only the event told
    assert healths(reading.last) == "ok alarm"
    reading.double.raise_fault(0, 0, CODE)
    reading.run(lambda: bool(reading.npu(0).faults))


def test_pauses_grow_while_workers_die(reading: Reading, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real processes, a clock of ours."""
    monkeypatch.undo()
    reading.double.start(cards=1)
    crew = workers.Workers(reading.selector, Log(), kill_process, lambda _worker: None)
    pauses, now = [], 1000.0
    for _ in range(9):
        assert crew.fork(library(), now) is not None
        now += 1
        crew.doom_for_a_fault(now)
        assert crew.fork(library(), now + 0.9) is None
        pauses.append(crew.fork_at - now)
        now = crew.fork_at
        reading.run(lambda: reading.children() == [] or crew.reap(0) != [])
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert crew.fork(library(), now) is not None
    crew.doom_for_a_fault(now + 121)
    assert crew.fork_at == now + 122  # that one had lived well
    crew.close()


def test_a_worker_that_dies_before_it_has_told_anything_is_said(reading: Reading) -> None:
    reading.double.start(cards=1)
    reading.double.hang("init")
    reading.source.begin(time.monotonic())
    (pid,) = reading.children()
    worker = reading.worker
    assert worker is not None
    reading.run(lambda: (call := worker.note.under_way()) is not None and call.name == "init")
    kill_process(pid)
    reading.run(lambda: bool(reading.news))
    first = reading.news[0]
    assert first.driver is DriverState.UNKNOWN
    assert first.detail == "libdcmi's process fails: it ended by signal 9 in init"
    reading.double.release("init")
    reading.run(lambda: reading.last.driver is DriverState.READY)


def test_a_library_that_crashes_again_and_again_is_given_up(
    reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an upgrade of the driver, in a reading that nobody needs: no NPU was known any more,
    and npu-smi never asked."""
    monkeypatch.setattr(places, "UNUSABLE_FOR_S", 1.0)
    reading.with_npu_smi()
    reading.start(cards=2)
    reading.double.crash("get_device_ecc_info", 1)
    assert reading.read().source == "npu-smi"
    assert reading.last.driver is DriverState.READY
    assert "fails again and again: it ended by signal 9 in get_device_ecc_info" in reading.log[-1]
    reading.run(lambda: reading.children() == [])
    reading.run_for(1.0)
    tries = len(reading.double.calls("init"))
    assert reading.read().source == "npu-smi"
    assert len(reading.double.calls("init")) == tries + 1  # and not five more
    assert reading.last.driver is DriverState.READY
    reading.double.uncrash("get_device_ecc_info", 1)
    reading.run_for(1.0)
    assert reading.read().source == "dcmi"


def test_a_worker_that_is_stopped_is_replaced(reading: Reading) -> None:
    reading.start(cards=1)
    (pid,) = reading.children()
    os.kill(pid, signal.SIGSTOP)
    reading.source.begin(time.monotonic())
    reading.run(lambda: "stands still" in "".join(reading.log))
    reading.run(lambda: healths(reading.last) == "ok" and reading.children() not in ([], [pid]))


GARBAGE = {
    "no JSON": b"What?\n",
    "no line": b'{"type":"Done"}',
    "no object": b"[]\n",
    "no type": b"{}\n",
    "an unknown type": b'{"type":"Hello"}\n',
    "no text": b"\xff\xfe\n",
    "a field missing": b'{"type":"State","chip":[0,0]}\n',
    "a field of another kind": b'{"type":"Refused","call":"x","code":"y"}\n',
    "a boolean for a number": b'{"type":"Refused","call":"x","code":true}\n',
    "a chip that cannot be": b'{"type":"Listed","chips":[[0,0,99999]],"driver_version":""}\n',
    "deep": b"[" * 60000 + b"\n",
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_is_no_message(kind: str) -> None:
    if kind != "no line":
        with pytest.raises(Garbage):
            decode(GARBAGE[kind])


@pytest.mark.parametrize("kind", GARBAGE)
def test_a_worker_that_talks_nonsense_is_replaced(reading: Reading, kind: str) -> None:
    reading.start(cards=1)
    worker = reading.worker
    assert worker is not None
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    reading.selector.unregister(worker.link)
    real, worker.link = worker.link, ours
    ours.setblocking(False)
    reading.selector.register(ours, 1, lambda _mask: reading.source._asking._take(worker))
    theirs.send(GARBAGE[kind])
    reading.run(lambda: "what is no message" in "".join(reading.log))
    before = len(reading.accounts)
    reading.run(lambda: len(reading.accounts) > before)
    assert healths(reading.last) == "ok"
    real.close()
    theirs.close()
