# SPDX-License-Identifier: MulanPSL-2.0
"""The socket: who may listen, who is dropped, and what becomes of an old file."""

import os
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from selectors import DefaultSelector

import pytest

from agent.npud.log import Log
from agent.npud.requests import Refresh, Request, Reset
from agent.npud.server import (
    ACCEPT_PAUSE_S,
    MAX_CLIENTS,
    MAX_STALL_S,
    Answer,
    Server,
    SocketTaken,
    listen,
)
from tests.unit.npud.descriptors import few_descriptors


class Serving:
    """A server with a clock of its own."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "npu.sock"
        self.selector = DefaultSelector()
        self.said: list[str] = []
        self.now = 100.0
        self.greeting = b"hello\n"
        self.asked: list[tuple[Request, Answer]] = []
        self.clients: list[socket.socket] = []
        self.server = Server(
            str(self.path),
            self.selector,
            Log(self.said.append),
            lambda: self.greeting,
            lambda request, answer: self.asked.append((request, answer)),
            lambda: self.now,
        )

    def turn(self) -> None:
        for _ in range(20):
            for key, mask in self.selector.select(0):
                current = self.selector.get_map().get(key.fd)
                if current is not None and current.data is key.data:
                    key.data(mask)

    def connect(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(2)
        client.connect(str(self.path))
        self.clients.append(client)
        self.turn()
        return client

    def open_clients(self) -> int:
        return len(self.selector.get_map()) - 1

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self.server.close()
        self.selector.close()


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serving]:
    it = Serving(tmp_path)
    yield it
    it.close()


def test_greeting_then_news(serving: Serving) -> None:
    client = serving.connect()
    serving.server.publish(b"news\n")
    assert client.recv(100) == b"hello\nnews\n"


def test_only_root_may_open_the_file(serving: Serving) -> None:
    assert stat.S_IMODE(serving.path.stat().st_mode) == 0o600
    assert [path.name for path in serving.path.parent.iterdir()] == ["npu.sock"]


def test_what_a_client_says_means_nothing(serving: Serving) -> None:
    client = serving.connect()
    client.sendall(b'{"reset": 0}\n' * 1000)
    serving.turn()
    serving.server.publish(b"news\n")
    assert client.recv(100) == b"hello\nnews\n"
    assert serving.said == []


def test_a_client_that_leaves_is_forgotten(serving: Serving) -> None:
    serving.connect().close()
    serving.turn()
    assert serving.open_clients() == 0


def test_a_client_that_left_with_news_under_way(serving: Serving) -> None:
    serving.connect().close()
    serving.server.publish(b"news\n")
    assert serving.open_clients() == 0


def test_a_slow_client_is_dropped_and_the_others_are_not(serving: Serving) -> None:
    slow, quick = serving.connect(), serving.connect()
    for _ in range(100):
        serving.server.publish(b"x" * 20_000)
        serving.turn()
        quick.recv(1_000_000)
    assert serving.open_clients() == 1
    assert "too slow" in serving.said[0]
    slow.close()


def test_what_a_client_could_not_take_comes_later_and_whole(serving: Serving) -> None:
    client = serving.connect()
    sent = b"hello\n"
    for number in range(30):  # more than the kernel takes, less than would drop the client
        message = str(number).encode() * 5_000 + b"\n"
        serving.server.publish(message)
        sent += message
    got = b""
    while len(got) < len(sent):
        got += client.recv(65536)
        serving.turn()
    assert got == sent
    assert serving.open_clients() == 1


def test_a_client_that_takes_nothing_does_not_keep_its_place(serving: Serving) -> None:
    serving.connect()
    for _ in range(20):
        serving.server.publish(b"x" * 20_000)
    assert serving.open_clients() == 1
    serving.server.tick(serving.now + MAX_STALL_S - 1)
    assert serving.open_clients() == 1
    serving.server.tick(serving.now + MAX_STALL_S + 1)
    assert serving.open_clients() == 0


def test_no_more_than_so_many(serving: Serving) -> None:
    for _ in range(MAX_CLIENTS):
        serving.connect()
    assert serving.connect().recv(100) == b""
    assert serving.open_clients() == MAX_CLIENTS
    serving.clients[0].close()
    serving.turn()
    assert serving.connect().recv(100) == b"hello\n"


def test_without_descriptors_the_loop_rests_and_the_others_are_served(serving: Serving) -> None:
    """Whoever waits at the door keeps it readable, for as long as he is not let in."""
    there, late = serving.connect(), socket.socket(socket.AF_UNIX)
    serving.clients.append(late)
    late.settimeout(2)
    assert there.recv(100) == b"hello\n"
    late.connect(str(serving.path))
    with few_descriptors():
        serving.turn()
        assert len(serving.said) == 1
        assert "Too many open files" in serving.said[0]
        assert serving.selector.select(0) == []
        serving.server.publish(b"news\n")
        assert there.recv(100) == b"news\n"
        assert serving.server.next_at() == serving.now + ACCEPT_PAUSE_S
        serving.now += ACCEPT_PAUSE_S
        serving.server.tick(serving.now)
        serving.turn()
        assert len(serving.said) == 1  # once, until it is over
        assert serving.selector.select(0) == []
    serving.server.tick(serving.now + ACCEPT_PAUSE_S / 2)
    assert serving.selector.select(0) == []
    serving.server.tick(serving.now + ACCEPT_PAUSE_S)
    assert serving.server.next_at() == float("inf")
    serving.turn()
    assert late.recv(100) == b"hello\n"


def test_it_can_end_while_it_rests(tmp_path: Path) -> None:
    serving = Serving(tmp_path)
    with socket.socket(socket.AF_UNIX) as late:
        late.connect(str(serving.path))
        with few_descriptors():
            serving.turn()
            serving.close()
    assert not serving.path.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_another_user_is_turned_away(serving: Serving, tmp_path: Path) -> None:
    script = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.settimeout(5);"
        "s.connect(sys.argv[1]); import os; os.write(1, s.recv(100) or b'closed'); s.close()"
    )
    # Both the mode and the uid keep others out; here it is the uid's turn.
    serving.path.chmod(0o666)
    ours = tmp_path
    while ours != Path(tempfile.gettempdir()).resolve() and ours != ours.parent:
        ours.chmod(0o755)
        ours = ours.parent
    argv = [sys.executable, "-c", script, str(serving.path)]
    python = Path(sys.executable).resolve()
    if not os.access(python, os.X_OK) or str(python).startswith("/root"):
        argv[0] = "/usr/bin/python3"
    with subprocess.Popen(argv, user=65534, stdout=subprocess.PIPE) as other:
        end = time.monotonic() + 5
        while other.poll() is None and time.monotonic() < end:
            serving.turn()
            time.sleep(0.01)
        assert other.communicate(timeout=10)[0] == b"closed"
    assert "uid 65534" in serving.said[0]


def test_a_stale_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "npu.sock"
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(path))
    with listen(str(path)), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_somebody_alive_is_not_replaced(serving: Serving) -> None:
    with pytest.raises(SocketTaken, match="another npud"):
        listen(str(serving.path))
    assert serving.connect().recv(100) == b"hello\n"


def test_a_file_that_is_not_a_socket_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "npu.sock"
    path.write_text("mine")
    with pytest.raises(SocketTaken, match="not a socket"):
        listen(str(path))
    assert path.read_text() == "mine"


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        listen(str(tmp_path / "none" / "npu.sock"))


def test_close_removes_only_its_own_file(tmp_path: Path) -> None:
    first = Serving(tmp_path)
    first.path.unlink()
    with listen(str(first.path)):
        first.close()
        assert first.path.exists()


def test_what_clients_may_ask_for(serving: Serving) -> None:
    client = serving.connect()
    assert client.recv(100) == b"hello\n"
    client.send(b'{"type":"refresh"}\n{"type":"reset","logic_id":3}\n{"type":"ref')
    serving.turn()
    assert [request for request, _answer in serving.asked] == [Refresh(), Reset(3, (3,))]
    client.send(b'resh"}\n')
    serving.turn()
    assert [request for request, _answer in serving.asked][2:] == [Refresh()]


def test_an_answer_goes_to_who_asked(serving: Serving) -> None:
    one, other = serving.connect(), serving.connect()
    one.send(b'{"type":"refresh"}\n')
    serving.turn()
    serving.asked[0][1](b"answer\n")
    assert one.recv(100) == b"hello\nanswer\n"
    assert other.recv(100) == b"hello\n"
    one.close()
    serving.turn()
    serving.asked[0][1](b"too late\n")
    assert serving.open_clients() == 1


NONSENSE = {
    "no JSON": b"refresh\n",
    "no object": b"[1]\n",
    "another type": b'{"type":"reboot"}\n',
    "no chip": b'{"type":"reset"}\n',
    "a chip that cannot be": b'{"type":"reset","logic_id":-1}\n',
    "no number": b'{"type":"reset","logic_id":true}\n',
    "no text": b"\xff\xfe\n",
    "deep": b"[" * 3000 + b"\n",
    "no end": b"x" * 20000,
}


@pytest.mark.parametrize("kind", NONSENSE)
def test_nonsense_is_passed_over(serving: Serving, kind: str) -> None:
    client = serving.connect()
    client.send(NONSENSE[kind])
    serving.turn()
    client.send(b'\n{"type":"refresh"}\n')
    serving.turn()
    assert [request for request, _answer in serving.asked] == [Refresh()]
    assert serving.open_clients() == 1
