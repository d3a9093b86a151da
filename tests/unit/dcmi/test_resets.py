# SPDX-License-Identifier: MulanPSL-2.0
"""Resets by the double of libdcmi: works, fails, takes long, and what goes together."""

import tempfile
import time
from pathlib import Path

import pytest

from tests.fakes.dcmi.control import MAJOR, NOT_SUPPORTED
from tests.unit.dcmi.calls import (
    AICORE,
    HBM_ROWS,
    INBAND,
    INVALID,
    NOT_PERMITTED,
    NOT_READY,
    NOT_STARTED,
    OCCUR,
    OK,
    OUTBAND,
    RECOVER,
    RESET_FAILED,
    boot,
    codes,
    health,
    reset,
    subscriber,
    summary,
    wait_for_boot,
)
from tests.unit.dcmi.host import Host


def test_a_reset_that_works(host: Host) -> None:
    client = subscriber(host)
    host.double.set_option("boot-time", "1")
    host.double.raise_fault(3, 0, AICORE)
    host.double.raise_fault(3, 0, HBM_ROWS, MAJOR, curable=False)
    assert [summary(client.event())[2] for _ in range(2)] == [OCCUR, OCCUR]
    assert reset(client, 3) == OK
    assert health(client, 3) == (OK, NOT_STARTED)
    seen = wait_for_boot(client, 3)
    assert seen == sorted(set(seen) & {0, 1, 2, 16})
    assert codes(client, 3) == [HBM_ROWS]
    assert summary(client.event()) == (AICORE, 3, RECOVER)
    assert health(client, 2) == (OK, 0)


def test_a_reset_that_fails_leaves_all_as_it_was(host: Host) -> None:
    client = host.client()
    host.double.raise_fault(3, 0, AICORE)
    host.double.set_reset(3, 0, "fails")
    assert reset(client, 3) == RESET_FAILED
    assert (boot(client, 3), codes(client, 3)) == (16, [AICORE])


def test_a_reset_that_takes_long(host: Host) -> None:
    client, other = host.client(), host.client()
    host.double.set_option("boot-time", "0.1")
    host.double.set_reset(3, 0, "works", 0.4)
    started_at = time.monotonic()
    client.send("set_device_reset", 3, 0, INBAND)
    with pytest.raises(TimeoutError):
        client.answer(0.2)
    assert (boot(other, 3), health(other, 2)) == (0, (OK, 0))
    assert client.answer() == OK
    assert time.monotonic() - started_at >= 0.4
    assert wait_for_boot(client, 3)[-1] == 16


def test_a_reset_after_which_the_fault_is_still_there(host: Host) -> None:
    client = host.client()
    host.double.set_option("boot-time", "0.05")
    host.double.raise_fault(3, 0, AICORE)
    host.double.set_reset(3, 0, "keeps")
    assert reset(client, 3) == OK
    wait_for_boot(client, 3)
    assert codes(client, 3) == [AICORE]


@pytest.mark.parametrize(
    ("outcome", "left_mb"), [("works", 0), ("stuck", 0), ("keeps", 20_000), ("fails", 20_000)]
)
def test_a_reset_gives_back_memory_that_was_left(host: Host, outcome: str, left_mb: int) -> None:
    client = host.client()
    host.double.set_option("boot-time", "0.05")
    host.double.leave_memory(3, 0, 20_000)
    host.double.leave_memory(2, 0, 20_000)
    host.double.set_reset(3, 0, outcome)
    assert reset(client, 3) == (RESET_FAILED if outcome == "fails" else OK)
    host.double.set_value(3, 0, "boot", 16)
    assert wait_for_boot(client, 3)[-1] == 16
    assert client.call("get_device_hbm_info", 3, 0, "hbm")[1]["used"] == 3445 + left_mb
    assert client.call("get_device_hbm_info", 2, 0, "hbm")[1]["used"] == 3445 + 20_000
    (call,) = host.double.calls("set_device_reset")
    assert call.busy == 0


def test_a_reset_after_which_it_does_not_boot(host: Host) -> None:
    client = host.client()
    host.double.set_reset(3, 0, "stuck")
    assert (reset(client, 3), boot(client, 3)) == (OK, 2)
    host.double.set_reset(3, 0, "works")
    assert reset(client, 3) == OK
    assert wait_for_boot(client, 3)[-1] == 16


def test_a_reset_hangs(host: Host) -> None:
    client = host.client()
    host.double.hang("set_device_reset", 3)
    client.send("set_device_reset", 3, 0, INBAND)
    with pytest.raises(TimeoutError):
        client.answer(0.2)
    host.double.release("set_device_reset", 3)
    assert client.answer() == OK


def test_a_reset_of_a_dropped_chip(host: Host) -> None:
    client = host.client()
    host.double.drop(3, 0)
    host.double.drop(4, 0, curable=False)
    assert (reset(client, 3), reset(client, 4)) == (OK, NOT_READY)
    assert wait_for_boot(client, 3)[-1] == 16
    assert health(client, 3) == (OK, 0)


def test_a_busy_chip_is_not_reset_and_the_try_is_on_record(host: Host) -> None:
    client = host.client()
    host.double.raise_fault(3, 0, AICORE)
    host.double.set_processes(3, 0, {4711: 100, 4712: 100})
    assert (reset(client, 3), codes(client, 3)) == (RESET_FAILED, [AICORE])
    (call,) = host.double.calls("set_device_reset")
    assert (call.pid, call.chip, call.result, call.busy) == (client.pid, "3.0", RESET_FAILED, 2)


def test_a_reset_wants_the_in_band_channel(host: Host) -> None:
    client = host.client()
    assert reset(client, 3, channel=OUTBAND) == NOT_SUPPORTED
    assert reset(client, 3, channel=7) == INVALID
    assert boot(client, 3) == 16


def test_only_root_resets(library: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        host = Host(Path(folder), library)
        host.double.start()
        client = host.client()
        client.send("become", 65534)
        assert (health(client, 3), reset(client, 3)) == ((OK, 0), NOT_PERMITTED)
        assert boot(client, 3) == 16
        host.close()


def test_a3_dies_reset_in_pairs(host: Host) -> None:
    host.double.start("Ascend910")
    host.double.set_option("boot-time", "1")
    client = host.client()
    host.double.raise_fault(3, 0, AICORE)
    assert reset(client, 3, 1) == OK
    assert [boot(client, 3, 0) == 16, boot(client, 3, 1) == 16] == [False, False]
    assert (boot(client, 2), boot(client, 4)) == (16, 16)
    assert wait_for_boot(client, 3)[-1] == 16
    assert codes(client, 3) == []
    host.double.set_processes(3, 0, {4711: 100})
    assert reset(client, 3, 1) == RESET_FAILED  # its twin is busy


def test_a_duo_resets_through_chip_0_only(host: Host) -> None:
    host.double.start("310P3")
    host.double.set_option("boot-time", "60")
    client = host.client()
    assert reset(client, 4, 1) == NOT_SUPPORTED
    assert reset(client, 4, 0) == OK
    assert health(client, 4, 1) == (OK, NOT_STARTED)
    assert health(client, 5, 0) == (OK, 0)


def test_with_hccs_all_chips_reset_together(host: Host) -> None:
    host.double.set_option("hccs", "on")
    host.double.set_option("boot-time", "60")
    client = host.client()
    host.double.set_processes(7, 0, {4711: 100})
    assert reset(client, 3) == RESET_FAILED
    host.double.set_processes(7, 0, {})
    assert reset(client, 3) == OK
    assert {health(client, card)[1] for card in range(8)} == {NOT_STARTED}
