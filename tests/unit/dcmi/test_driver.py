# SPDX-License-Identifier: MulanPSL-2.0
"""The double of libdcmi as a driver: absent, refusing, failing, hanging; its file, its log."""

from pathlib import Path

import pytest

from tests.fakes.dcmi import build
from tests.fakes.dcmi.control import MAJOR, NOT_SUPPORTED, OCCUPIED
from tests.unit.dcmi.calls import INBAND, INNER_ERROR, OK, codes, health
from tests.unit.dcmi.host import Host


def test_without_a_driver_there_is_none(host: Host) -> None:
    host.double.path.unlink()
    client = host.load()
    assert client.call("init") == INNER_ERROR
    host.double.start()
    assert health(client, 0)[0] == INNER_ERROR  # nobody has called dcmi_init with success
    assert client.call("init") == OK
    assert health(client, 0) == (OK, 0)


def test_the_driver_goes_and_comes_back(host: Host) -> None:
    client = host.client()
    host.double.driver_absent()
    assert (health(client, 0)[0], host.load().call("init")) == (INNER_ERROR, INNER_ERROR)
    host.double.driver_back()
    assert health(client, 0) == (OK, 0)


@pytest.mark.parametrize("refusal", [OCCUPIED, NOT_SUPPORTED])
def test_an_init_that_is_refused(host: Host, refusal: int) -> None:
    client = host.client()
    host.double.set_init(refusal)
    assert host.load().call("init") == refusal
    assert health(client, 0) == (OK, 0)  # who has the driver keeps it


def test_a_function_that_fails_for_one_chip_or_for_all(host: Host) -> None:
    client, double = host.client(), host.double
    double.fail("get_device_health", -8010, 3)
    assert (health(client, 3)[0], health(client, 2)) == (-8010, (OK, 0))
    double.fail("get_device_health", -8009)
    assert health(client, 2)[0] == -8009
    double.unfail("get_device_health")
    double.unfail("get_device_health", 3)
    assert health(client, 3) == (OK, 0)


def test_a_missing_symbol(host: Host, tmp_path: Path) -> None:
    library = build(tmp_path, missing={"dcmi_get_device_chip_info_v2"})
    client = host.client(library)
    assert client.call("get_device_chip_info_v2", 0, 0, "chip") == -99998
    assert client.call("get_device_chip_info", 0, 0, "chip")[0] == OK


@pytest.mark.parametrize("function", ["get_device_health", "*"])
def test_a_call_hangs_until_it_is_released(host: Host, function: str) -> None:
    client, other = host.client(), host.client()
    host.double.hang(function, 3)
    client.send("get_device_health", 3, 0, "uint")
    with pytest.raises(TimeoutError):
        client.answer(0.2)
    assert health(other, 2) == (OK, 0)  # only that chip
    host.double.release(function, 3)
    assert client.answer() == (OK, 0)


def test_init_hangs(host: Host) -> None:
    host.double.hang("init")
    client = host.load()
    client.send("init")
    with pytest.raises(TimeoutError):
        client.answer(0.2)
    host.double.release("init")
    assert client.answer() == OK


def test_the_log_says_who_called(host: Host) -> None:
    clients = [host.client(), host.client()]
    assert [call.pid for call in host.double.calls("init")] == [client.pid for client in clients]
    assert health(clients[0], 3) == (OK, 0)
    assert host.double.calls("get_device_health") == ()
    host.double.set_option("log", "calls")
    assert health(clients[1], 3) == (OK, 0)
    (call,) = host.double.calls("get_device_health")
    assert (call.pid, call.chip, call.result) == (clients[1].pid, "3.0", OK)


def test_the_driver_side_and_a_reset_do_not_undo_each_other(host: Host) -> None:
    client = host.client()
    host.double.set_option("boot-time", "0.001")
    client.send("set_device_reset", 3, 0, INBAND)
    for n in range(40):
        client.send("set_device_reset", 3, 0, INBAND)
        host.double.raise_fault(4, 0, f"80C980{n:02X}", curable=False)
    assert {client.answer() for _ in range(41)} == {OK}
    assert len(codes(client, 4)) == 40


def test_changes_of_one_size_in_one_moment_are_all_seen(host: Host) -> None:
    client = host.client()
    for n in range(50):
        host.double.raise_fault(3, 0, f"80E018{n:02X}", MAJOR)
        assert codes(client, 3) == [f"80E018{n:02X}"]
        host.double.clear_fault(3, 0, f"80E018{n:02X}")
