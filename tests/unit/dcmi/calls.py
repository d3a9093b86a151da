# SPDX-License-Identifier: MulanPSL-2.0
"""What a program asks of the library, as functions; the words in which the tests say it."""

import time
from pathlib import Path
from typing import Any

from tests.unit.dcmi.host import Client, Host

OK, NOT_PERMITTED, INNER_ERROR, NOT_READY, RESET_FAILED = 0, -8002, -8005, -8012, -8015
INVALID, NOT_EXIST = -8001, -8008
NOT_STARTED = 0xFFFFFFFF
RECOVER, OCCUR, ONE_OFF = 0, 1, 2
EVERYTHING = (-1, -1, 0, 0, 0, 0)
HBM_ECC, HBM_ROWS, AICORE = "80E01801", "80E18402", "80C98008"
INBAND, OUTBAND = 1, 0


def chip_count(client: Client, cards: list[int]) -> list[int]:
    return [client.call("get_device_num_in_card", card, "int")[1] for card in cards]


def logic_ids(client: Client, places: list[tuple[int, int]]) -> list[int]:
    return [client.call("get_device_logic_id", "int", *place)[1] for place in places]


def health(client: Client, card: int, chip: int = 0) -> tuple[int, int]:
    result, value = client.call("get_device_health", card, chip, "uint")
    return result, value


def codes(client: Client, card: int, chip: int = 0) -> list[str]:
    result, count, found = client.call(
        "get_device_errorcode_v2", card, chip, "int", "uint 128", 128
    )
    assert result == OK
    return [f"{code:08X}" for code in found[:count]]


def boot(client: Client, card: int, chip: int = 0) -> int:
    result, status = client.call("get_device_boot_status", card, chip, "int")
    assert result == OK
    return int(status)


def reset(client: Client, card: int, chip: int = 0, channel: int = INBAND) -> int:
    return int(client.call("set_device_reset", card, chip, channel))


def wait_for_boot(client: Client, card: int, chip: int = 0) -> list[int]:
    """The boot states on the way to 16, each once; a busy machine may hide some."""
    seen = [boot(client, card, chip)]
    deadline = time.monotonic() + 5
    while seen[-1] != 16:
        assert time.monotonic() < deadline, seen
        time.sleep(0.002)
        status = boot(client, card, chip)
        seen += [] if status == seen[-1] else [status]
    return seen


def subscriber(host: Host, *wanted: int, library: Path | None = None) -> Client:
    client = host.client(library)
    assert client.call("subscribe", *(wanted or EVERYTHING)) == OK
    return client


def summary(event: dict[str, Any]) -> tuple[str, int, int]:
    return f"{event['code']:08X}", event["device"], event["assertion"]
