# SPDX-License-Identifier: MulanPSL-2.0
"""A hub that trickles is cut as one that is silent; a line that is slow and honest is not."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from agent.errors import Code
from agent.supplies import Hub, ModelSource
from agent.supply import net
from agent.supply.net import HubClient
from agent.supply.pace import Pace
from agent.supply.patience import Patience
from tests.fakes.hub import Kind
from tests.trickling import answered, trickle
from tests.unit.supply.hubs import REPO, Bringing

pytestmark = pytest.mark.timeout(60)
WINDOW_S = 120.0
SHORT = Patience(tries=3, first_wait_s=0.01, longest_wait_s=0.02, silence_s=0.25)
HUGGINGFACE_FILE = "resolve-cache/.*tokenizer"


def come(bytes_per_s: float, connections: int, seconds: int = 600, every_s: float = 1.0) -> None:
    pace = Pace(WINDOW_S, connections)
    for _ in range(int(seconds / every_s)):
        pace.count(int(bytes_per_s * every_s), every_s)


@pytest.mark.parametrize("connections", [1, 4, 16])
def test_two_kib_a_second_that_all_share_are_enough(connections: int) -> None:
    come(2048 / connections, connections)


@pytest.mark.parametrize("connections", [1, 4, 16])
def test_a_quarter_of_that_is_not(connections: int) -> None:
    with pytest.raises(TimeoutError):
        come(512 / connections, connections)


def test_a_byte_before_each_silence_would_end() -> None:
    with pytest.raises(TimeoutError):
        come(1 / 29, 16, every_s=29)


def test_what_is_left_may_be_less_than_a_window_has_to_bring() -> None:
    come(1, 1, seconds=100)


def test_time_in_which_our_disk_is_slow_is_not_the_sources() -> None:
    for _ in Pace(0.05).timed(iter([b"x"] * 5)):
        time.sleep(0.03)


def test_a_source_that_trickles_is_left_for_the_next(bringing: Bringing) -> None:
    """A file of 5000 bytes, of which 100 come each second."""
    bringing.hub.spoil({"kind": Kind.SLOW, "rate": 100, "times": -1, "match": HUGGINGFACE_FILE})
    failure = bringing.fail(patience=SHORT).failure
    assert failure.code is Code.SOURCE_UNREACHABLE
    assert "it stands still" in failure.message
    bringing.assert_whole(
        bringing.bring(bringing.source(), bringing.source(Hub.MODELSCOPE), patience=SHORT)
    )


@contextmanager
def leading() -> Iterator[str]:
    """Leads to another page, and trickles the text that tells so."""
    head = b"HTTP/1.1 302 Found\r\nlocation: /there\r\ncontent-length: 9999\r\n\r\n"
    page = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n[]"

    def answer(client: socket.socket, over: threading.Event) -> None:
        if b"/there" in client.recv(65536):
            client.sendall(page)
        else:
            trickle(client, over, head)

    with answered(answer) as port:
        yield f"http://127.0.0.1:{port}"


def test_the_text_of_a_redirect_that_trickles_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(net, "REDIRECT_BODY_S", 0.3)
    monkeypatch.setenv("NO_PROXY", "*")
    with leading() as endpoint:
        client = HubClient(ModelSource(Hub.HUGGINGFACE, endpoint, REPO, "main"), 1)
        try:
            began = time.monotonic()
            assert client.get_json(f"{endpoint}/here").value == []
        finally:
            client.close()
    assert time.monotonic() - began < 10
