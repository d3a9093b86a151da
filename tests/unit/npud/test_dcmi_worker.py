# SPDX-License-Identifier: MulanPSL-2.0
"""Workers as processes: what they leave behind, what they said last, and signals."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.npud.dcmi import workers
from agent.npud.dcmi.faults import RAISED
from agent.npud.dcmi.link import encode
from agent.npud.dcmi.messages import FaultTold
from agent.npud.dcmi.process import MAX_MESSAGES_AT_ONCE, WorkerProcess, kill_process
from agent.npud.log import Log
from tests.unit.npud.dcmi_driver import Reading, library


@pytest.fixture
def reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reading]:
    monkeypatch.setattr(workers, "RESPAWN_S", 0.05)
    it = Reading(tmp_path)
    yield it
    it.close()


def test_what_a_worker_said_before_it_died_is_heard(reading: Reading) -> None:
    """Events: nothing else would tell of a one-off one."""
    reading.start(cards=1)
    worker = reading.worker
    assert worker is not None
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    reading.selector.unregister(worker.link)
    worker.link.close()
    worker.link = ours
    ours.setblocking(False)
    count = 40 + MAX_MESSAGES_AT_ONCE
    for number in range(count):
        theirs.send(encode(FaultTold(number, 0, 0, RAISED, 0, "", time.monotonic())))
    theirs.close()
    kill_process(worker.pid)
    while not worker.has_ended():
        time.sleep(0.01)
    reading.source.tick(time.monotonic())
    assert reading.worker is not worker
    assert len(reading.npu(0).faults) == count


def test_many_replacements_leave_nothing(reading: Reading) -> None:
    """`tests.bench.workers` does it a thousand times."""
    crew = workers.Workers(reading.selector, Log(), kill_process, lambda _worker: None)
    reading.double.start(cards=1)
    files = os.listdir("/proc/self/fd")
    maps = len(Path("/proc/self/maps").read_text(encoding="ascii").splitlines())
    for _ in range(60):
        assert crew.fork(library(), time.monotonic()) is not None
        crew.doom(None, time.monotonic())
        while reading.children():
            crew.reap(time.monotonic())
    assert os.listdir("/proc/self/fd") == files
    assert len(Path("/proc/self/maps").read_text(encoding="ascii").splitlines()) < maps + 20
    assert not reading.selector.get_map()
    crew.close()


def test_a_signal_to_a_worker_is_none_to_npud(reading: Reading) -> None:
    """Until it has set its own handlers it has npud's, which write into npud's pipe."""
    reading.double.start(cards=1)
    read_end, write_end = os.pipe2(os.O_NONBLOCK)
    before = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    handler = signal.signal(signal.SIGTERM, lambda _number, _frame: None)
    try:
        for _ in range(20):
            worker = WorkerProcess(library())
            os.kill(worker.pid, signal.SIGTERM)
            end = time.monotonic() + 2
            while not worker.has_ended() and time.monotonic() < end:
                time.sleep(0.001)
            worker.close()
            worker.kill()
            assert worker.ended
            assert worker.how_it_ended() == "by signal 15"
        with pytest.raises(BlockingIOError):
            os.read(read_end, 1)
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
    finally:
        signal.set_wakeup_fd(before)
        signal.signal(signal.SIGTERM, handler)
        os.close(read_end)
        os.close(write_end)
