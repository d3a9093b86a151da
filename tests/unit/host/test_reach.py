# SPDX-License-Identifier: MulanPSL-2.0
"""Whether an address answers: the real process, a server that says what a test wants."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial

import pytest

from agent.doctor.looks import Reached
from agent.host import reach as module
from agent.host.reach import Address, reach_all
from tests.trickling import answered, trickle

NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")


@contextmanager
def answering(words: bytes) -> Iterator[int]:
    """A port that answers so to each connection; with b"" it says nothing at all."""
    listener = socket.create_server(("127.0.0.1", 0))
    kept: list[socket.socket] = []

    def serve() -> None:
        with suppress(OSError):
            while True:
                connected, _ = listener.accept()
                kept.append(connected)
                connected.settimeout(5)
                connected.recv(65536)
                if words:
                    connected.sendall(words)
                    connected.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for one in kept:
            one.close()
        thread.join(5)


def trickling() -> AbstractContextManager[int]:
    """A port that is never silent and never answers."""
    return answered(partial(trickle, head=b"HTTP/1.1 200 OK\r\nx: "))


def ask(*addresses: str, proxies: dict[str, str] | None = None) -> tuple[Reached, ...]:
    asked = [Address(one) for one in addresses]
    return asyncio.run(reach_all(asked, proxies or {}))


def status(code: int) -> bytes:
    return f"HTTP/1.1 {code} Whatever\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode()


def test_any_answer_counts_but_a_server_in_trouble() -> None:
    with (
        answering(status(200)) as well,
        answering(status(401)) as asks,
        answering(status(503)) as ill,
    ):
        found = ask(*(f"http://127.0.0.1:{port}/v2/" for port in (well, asks, ill)))
    assert [one.problem for one in found] == ["", "", "it answers with status 503"]
    assert {one.host for one in found} == {"127.0.0.1"}


def test_several_that_do_not_answer_hide_no_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are waited for together: who asks has one deadline for all."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(module, "DEADLINE_S", 3.0)
    with trickling() as port, answering(status(200)) as well:
        began = time.monotonic()
        urls = [f"http://127.0.0.1:{port}/{number}" for number in range(4)]
        asked = [{"url": one} for one in (*urls, f"http://127.0.0.1:{well}/")]
        assert module.main([json.dumps(asked)]) == 0
        assert time.monotonic() - began < 6
    found = json.loads(capsys.readouterr().out)
    silent = "it does not answer within 3 s"
    assert [one["problem"] for one in found] == [silent] * 4 + [""]


def test_nobody_is_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    (found,) = ask(f"http://127.0.0.1:{port}/")
    assert "onnection refused" in found.problem
    assert not found.lookup_problem


def test_a_name_that_nobody_knows() -> None:
    (found,) = ask("https://nobody.invalid/")
    assert found.host == "nobody.invalid"
    assert found.lookup_problem
    assert not found.problem


def test_a_proxy_is_named_without_its_password() -> None:
    with answering(status(200)) as port:
        proxies = {"http_proxy": f"http://user:secret@127.0.0.1:{port}"}
        (found,) = ask("http://hub.invalid/", proxies=proxies)
    assert (found.proxy, found.problem) == (f"127.0.0.1:{port}", "")


def test_a_proxy_of_whoever_asks_counts_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A person's shell has one, the unit that fetches has none."""
    with answering(status(200)) as port, answering(status(503)) as ours:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{ours}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        (found,) = ask(f"http://127.0.0.1:{port}/")
    assert (found.proxy, found.problem) == ("", "")


def test_a_proxy_that_is_no_url_is_not_quoted() -> None:
    """Part of it may be of the password."""
    (found,) = ask("http://hub.invalid/", proxies={"http_proxy": "http://me:s3cr/et@proxy:3128"})
    assert (found.proxy, found.problem) == ("proxy:3128", "its proxy, or NO_PROXY, is no URL")


def test_a_certificate_file_that_is_not_there() -> None:
    address = Address("https://127.0.0.1:1/", ca_file="/nonexistent/ca.pem")
    (found,) = asyncio.run(reach_all([address], {}))
    assert "No such file" in found.problem
