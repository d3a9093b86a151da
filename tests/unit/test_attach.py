# SPDX-License-Identifier: MulanPSL-2.0
"""attach as the process that it is: between a fake agent and a real notify socket."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from agent import exits
from agent.errors import Code, Failure
from agent.model import Phase
from agent.notify import notify, watchdog_interval_s
from agent.status.api.app import build_app
from agent.status.api.attach import AttachLine
from agent.status.api.metrics import MetricsText
from agent.status.api.peer import SocketServer
from agent.status.snapshot import Board
from tests.build import build_snapshot, build_view
from tests.fakes.control import FakeControl
from tests.unit.conftest import DEADLINE_S, Connection, FakeAgent

TREE = Path(__file__).resolve().parents[2]
# `attach.main` takes no socket and no times yet; nothing else is changed.
DRIVER = """
import functools, sys
from agent import attach
attach.SILENCE_S = float(sys.argv.pop(1))
attach.stream = functools.partial(attach.stream, path=sys.argv.pop(1))
sys.exit(attach.main())
"""


class Systemd:
    """The receiving end of $NOTIFY_SOCKET."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self.heard: list[str] = []

    def next(self, deadline_s: float = DEADLINE_S) -> str:
        self._socket.settimeout(deadline_s)
        self.heard.append(self._socket.recv(65536).decode())
        return self.heard[-1]

    def until(self, text: str, deadline_s: float = DEADLINE_S) -> str:
        """The first message that contains `text`."""
        end = time.monotonic() + deadline_s
        while text not in (message := self.next(max(0.01, end - time.monotonic()))):
            pass
        return message

    def quiet(self) -> None:
        """Takes in what is there already."""
        self._socket.setblocking(False)
        try:
            while True:
                self.heard.append(self._socket.recv(65536).decode())
        except BlockingIOError:
            pass

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    receiver = Systemd(tmp_path / "notify.sock")
    yield receiver
    receiver.close()


class Attach:
    """The running process."""

    def __init__(
        self,
        agent: FakeAgent,
        systemd: Systemd,
        silence_s: float = 20.0,
        instances: tuple[str, ...] = ("8b",),
        stderr: int = subprocess.PIPE,
    ) -> None:
        argv = [sys.executable, "-c", DRIVER, str(silence_s), str(agent.path), *instances]
        environment = {**os.environ, "NOTIFY_SOCKET": str(systemd.path)}
        self.process = subprocess.Popen(argv, cwd=TREE, env=environment, stderr=stderr, text=True)

    def ended(self) -> tuple[int, str]:
        """Exit status, and what it wrote for the journal."""
        _, journal = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, journal or ""

    def stop(self) -> int:
        self.process.terminate()
        return self.ended()[0]

    def runs(self) -> bool:
        return self.process.poll() is None


@pytest.fixture
def attach(agent_socket: FakeAgent, systemd: Systemd) -> Iterator[Attach]:
    running = Attach(agent_socket, systemd)
    yield running
    end(running)


def end(running: Attach) -> None:
    running.process.kill()
    running.process.communicate()


PROGRESS = {Phase.WAITING: 1, Phase.STARTING: 2, Phase.LOADING: 3, Phase.SERVING: 4}


def line(
    status: str = "loading the model, 8 s",
    phase: Phase = Phase.LOADING,
    *,
    start_wait_s: float = 1800.0,
    leave: int | None = None,
) -> AttachLine:
    ready, progress = phase is Phase.SERVING, PROGRESS.get(phase, 0)
    return AttachLine(phase, status, ready, progress, start_wait_s, leave)


SERVING = line("serving", Phase.SERVING)


def say(connection: Connection, value: AttachLine) -> None:
    """As the agent encodes it."""
    connection.send(msgspec.json.encode(value) + b"\n")


def connect(agent: FakeAgent, deadline_s: float = DEADLINE_S) -> Connection:
    connection = agent.accept(deadline_s)
    connection.head()
    return connection


# --- the usual way -------------------------------------------------------------------------------


def test_it_asks_for_its_instance(agent_socket: FakeAgent, attach: Attach) -> None:
    assert agent_socket.accept().request == "GET /v1/instances/8b/attach?resumed=0 HTTP/1.0"


def test_it_is_ready_when_the_model_serves(
    agent_socket: FakeAgent, systemd: Systemd, attach: Attach
) -> None:
    connection = connect(agent_socket)
    say(connection, line("starting the container, 0 s", Phase.STARTING))
    assert systemd.next() == "STATUS=starting the container, 0 s"
    say(connection, line("loading the model, 1 s"))
    say(connection, line("loading the model, 2 s"))
    assert systemd.next() == "STATUS=loading the model, 1 s"
    assert systemd.next() == "STATUS=loading the model, 2 s"
    say(connection, SERVING)
    assert [systemd.next(), systemd.next()] == ["READY=1", "STATUS=serving"]
    assert attach.runs()


def test_the_journal_has_each_phase_once(
    agent_socket: FakeAgent, systemd: Systemd, attach: Attach
) -> None:
    connection = connect(agent_socket)
    for second in range(3):
        say(connection, line(f"loading the model, {second} s"))
    say(connection, SERVING)
    systemd.until("STATUS=serving")
    attach.process.terminate()
    status, journal = attach.ended()
    assert status == 0
    assert journal.splitlines() == ["<6>loading the model, 0 s", "<6>serving"]


def test_the_same_status_is_told_once(
    agent_socket: FakeAgent, systemd: Systemd, attach: Attach
) -> None:
    connection = connect(agent_socket)
    for _ in range(5):
        say(connection, SERVING)
    say(connection, line("trying again in 1 s: it died", Phase.BACKOFF))
    systemd.until("trying again")
    assert systemd.heard == ["READY=1", "STATUS=serving", "STATUS=trying again in 1 s: it died"]


def test_after_ready_the_trouble_of_the_engine_is_only_told(
    agent_socket: FakeAgent, systemd: Systemd, attach: Attach
) -> None:
    connection = connect(agent_socket)
    say(connection, SERVING)
    say(connection, line("trying again in 4 s: cannot keep serving", Phase.BACKOFF))
    systemd.until("cannot keep serving")
    say(connection, SERVING)
    systemd.until("STATUS=serving")
    assert systemd.heard.count("READY=1") == 1
    assert attach.runs()


def test_unicode_goes_through(agent_socket: FakeAgent, systemd: Systemd, attach: Attach) -> None:
    say(connect(agent_socket), line("正在加载模型"))
    assert systemd.next() == "STATUS=正在加载模型"


# --- leaving -------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [69, 78])
def test_it_leaves_with_the_status_that_the_agent_names(
    agent_socket: FakeAgent, systemd: Systemd, attach: Attach, status: int
) -> None:
    """69: the agent holds; 78: only a person can mend it."""
    say(connect(agent_socket), line("held: the image is not there", Phase.HELD, leave=status))
    assert systemd.next() == "STATUS=held: the image is not there"
    assert attach.ended() == (status, "<3>held: the image is not there\n")
    systemd.quiet()
    assert "READY=1" not in systemd.heard


@pytest.mark.parametrize("code", [400, 403, 404, 409, 422])
def test_what_the_agent_refuses_is_for_a_person(
    agent_socket: FakeAgent, systemd: Systemd, attach: Attach, code: int
) -> None:
    connection = agent_socket.accept()
    connection.head(code)
    connection.line({"schema": 1, "error": {"code": "x", "message": "cannot y", "hint": "do z"}})
    connection.close()
    assert systemd.next() == "STATUS=cannot y (do z)"
    assert attach.ended() == (78, "<3>cannot y (do z)\n")


@pytest.mark.parametrize("arguments", [[], ["8b", "extra"]])
def test_wrong_usage(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "agent.attach", *arguments],
        cwd=TREE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 78
    assert done.stderr.startswith("<3>usage:")


def test_sigterm_before_ready(agent_socket: FakeAgent, systemd: Systemd, attach: Attach) -> None:
    say(connect(agent_socket), line())
    systemd.next()
    assert attach.stop() == 0
    assert systemd.next() == "STOPPING=1\nSTATUS=stopping"


def test_sigterm_while_serving(agent_socket: FakeAgent, systemd: Systemd, attach: Attach) -> None:
    say(connect(agent_socket), SERVING)
    systemd.until("STATUS=serving")
    assert attach.stop() == 0
    assert systemd.next() == "STOPPING=1\nSTATUS=stopping"


def test_sigterm_while_the_agent_is_away(
    agent_socket: FakeAgent, systemd: Systemd, attach: Attach
) -> None:
    agent_socket.close()
    systemd.until("does not answer")
    assert attach.stop() == 0


def test_sigterm_before_an_answer(
    agent_socket: FakeAgent, systemd: Systemd, attach: Attach
) -> None:
    agent_socket.accept()
    assert attach.stop() == 0


# --- a journal that takes nothing ----------------------------------------------------------------


@pytest.fixture(params=["gone", "full"])
def deaf_journal(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    """What stderr is while journald has lost its streams, and while it hangs."""
    stream, journald = socket.socketpair()
    with stream, journald:
        if request.param == "gone":
            journald.close()
        else:
            stream.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    stream.send(b"x" * 256)
            stream.setblocking(True)
        yield stream


def test_a_journal_that_takes_nothing_does_not_end_what_serves(
    agent_socket: FakeAgent, systemd: Systemd, deaf_journal: socket.socket
) -> None:
    """And STATUS=, READY=1 and the exit status are what they would be."""
    running = Attach(agent_socket, systemd, stderr=deaf_journal.fileno())
    try:
        connection = connect(agent_socket)
        say(connection, line())
        systemd.until("STATUS=loading")
        say(connection, SERVING)
        systemd.until("STATUS=serving")
        assert "READY=1" in systemd.heard
        connection.close()
        systemd.until("does not answer")
        connection = connect(agent_socket)
        say(connection, SERVING)
        systemd.until("STATUS=serving")
        say(connection, line("held: cannot run it", Phase.HELD, leave=exits.HELD))
        systemd.until("STATUS=held")
        assert running.ended()[0] == exits.HELD
    finally:
        end(running)


def test_a_stop_with_a_journal_that_takes_nothing(
    agent_socket: FakeAgent, systemd: Systemd, deaf_journal: socket.socket
) -> None:
    running = Attach(agent_socket, systemd, stderr=deaf_journal.fileno())
    try:
        say(connect(agent_socket), SERVING)
        systemd.until("STATUS=serving")
        assert running.stop() == 0
    finally:
        end(running)


def test_a_wrong_call_with_a_journal_that_takes_nothing(
    agent_socket: FakeAgent, systemd: Systemd, deaf_journal: socket.socket
) -> None:
    running = Attach(agent_socket, systemd, instances=(), stderr=deaf_journal.fileno())
    try:
        assert running.ended()[0] == exits.PERSON
    finally:
        end(running)


# --- the agent comes and goes --------------------------------------------------------------------


def test_it_waits_for_an_agent_that_is_not_there_yet(tmp_path: Path, systemd: Systemd) -> None:
    agent = FakeAgent(tmp_path / "late.sock")
    running = Attach(agent, systemd)
    try:
        assert "does not answer, trying again" in systemd.next()
        agent.listen()
        say(connect(agent), SERVING)
        systemd.until("STATUS=serving")
    finally:
        end(running)
        agent.close()


def test_an_agent_that_restarts_changes_nothing(
    agent_socket: FakeAgent, systemd: Systemd, attach: Attach
) -> None:
    say(connect(agent_socket), SERVING)
    systemd.until("STATUS=serving")
    agent_socket.close()
    systemd.until("does not answer")
    agent_socket.listen()
    say(connect(agent_socket), line("loading the model, 0 s"))
    systemd.until("loading")
    assert attach.runs()
    assert systemd.heard.count("READY=1") == 1


def test_the_loss_of_the_agent_stands_in_the_journal_once(
    agent_socket: FakeAgent, systemd: Systemd, attach: Attach
) -> None:
    say(connect(agent_socket), SERVING)
    systemd.until("STATUS=serving")
    agent_socket.close()
    systemd.until("does not answer")
    time.sleep(1.0)  # several tries
    attach.process.terminate()
    journal = attach.ended()[1].splitlines()
    assert [one[:3] for one in journal if "does not answer" in one][:1] == ["<4>"]
    assert len(journal) <= 3


def test_it_is_back_within_a_second(agent_socket: FakeAgent, attach: Attach) -> None:
    connection = connect(agent_socket)
    say(connection, SERVING)
    connection.close()
    say(connect(agent_socket, deadline_s=1.0), SERVING)


def test_it_does_not_storm_an_agent_that_hangs_up(agent_socket: FakeAgent, attach: Attach) -> None:
    began, count = time.monotonic(), 0
    while time.monotonic() - began < 3.0:
        agent_socket.accept().close()
        count += 1
    assert 3 <= count <= 9


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"HTTP/1.1",
        b"HTTP/1.1 abc\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 503 Busy\r\n\r\n{}\n",
        b"HTTP/1.1 500 Broken\r\n\r\nInternal Server Error",
        b"HTTP/1.1 404 Not Found\r\n\r\nNot Found",  # of something that is not the agent
        b"HTTP/1.1 200 OK\r\nserver: x",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nnonsense\n",
        b'HTTP/1.1 200 OK\r\n\r\n{"status": "loading", "ready": false, "prog',
        b"HTTP/1.1 200 OK\r\n\r\n\xff\xfe\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 300_000 + b"\n",
    ],
)
def test_it_survives_what_is_cut_off_or_no_answer(
    agent_socket: FakeAgent, systemd: Systemd, attach: Attach, garbage: bytes
) -> None:
    connection = agent_socket.accept()
    connection.send(garbage)
    connection.close()
    say(connect(agent_socket), SERVING)
    systemd.until("STATUS=serving")
    assert "READY=1" in systemd.heard


@pytest.mark.parametrize(
    "answer",
    [
        b'HTTP/1.1 200 OK\r\n\r\n{"state": "serving"}\n',
        b'HTTP/1.1 200 OK\r\n\r\n["serving"]\n',
        b'HTTP/1.1 200 OK\r\n\r\n{"status":"x","ready":false,"progress":"x","start_wait_s":1}\n',
        b'HTTP/1.1 200 OK\r\n\r\n{"status":"x","ready":false,"progress":1,"start_wait_s":null}\n',
        b'HTTP/1.1 503 Busy\r\n\r\n["busy"]\n',
        b'HTTP/1.1 503 Busy\r\n\r\n{"error": "busy"}\n',
    ],
)
def test_it_survives_an_agent_of_another_version(
    agent_socket: FakeAgent, systemd: Systemd, attach: Attach, answer: bytes
) -> None:
    connection = agent_socket.accept()
    connection.send(answer)
    connection.close()
    say(connect(agent_socket, deadline_s=2.0), SERVING)
    systemd.until("STATUS=serving")


def test_a_bad_configuration_does_not_end_what_serves(
    agent_socket: FakeAgent, systemd: Systemd, attach: Attach
) -> None:
    """A new agent that cannot read its files answers 422. If attach left then, systemd would stop
    the engine (ExecStopPost=): disturbed by the restart of an agent (design, section 7)."""
    connection = connect(agent_socket)
    say(connection, SERVING)
    systemd.until("STATUS=serving")
    connection.close()
    refusing = agent_socket.accept()
    refusing.head(422)
    refusing.line({"error": {"code": "config-invalid", "message": "cannot use x", "hint": "mend"}})
    refusing.close()
    systemd.until("cannot use x")
    say(connect(agent_socket, deadline_s=3.0), SERVING)
    assert attach.runs()


def test_an_agent_that_hangs_is_left(agent_socket: FakeAgent, systemd: Systemd) -> None:
    running = Attach(agent_socket, systemd, silence_s=0.3)
    try:
        say(connect(agent_socket), SERVING)
        systemd.until("STATUS=serving")
        assert "timed out" in systemd.until("does not answer")
        say(connect(agent_socket), SERVING)
        systemd.until("STATUS=serving")
    finally:
        end(running)


# --- start_wait ----------------------------------------------------------------------------------


def tick(
    connection: Connection, systemd: Systemd, phase: Phase, start_wait_s: float, count: int = 4
) -> None:
    """`count` lines, a tenth of a second apart, all heard."""
    for index in range(count):
        say(connection, line(f"{phase}, {index} s", phase, start_wait_s=start_wait_s))
        systemd.until(f"{phase}, {index} s")
        time.sleep(0.1)


def test_a_start_job_does_not_wait_for_ever(
    agent_socket: FakeAgent, systemd: Systemd, attach: Attach
) -> None:
    tick(connect(agent_socket), systemd, Phase.LOADING, 0.35, count=6)
    told = systemd.heard[systemd.heard.index("READY=1") + 1]
    assert told.startswith("STATUS=not serving yet, retrying: loading")
    assert attach.runs()


def test_progress_prolongs_the_wait(
    agent_socket: FakeAgent, systemd: Systemd, attach: Attach
) -> None:
    connection = connect(agent_socket)
    for phase in (Phase.WAITING, Phase.STARTING, Phase.LOADING):
        tick(connection, systemd, phase, 0.8)
    assert "READY=1" not in systemd.heard


def test_dying_and_starting_again_is_no_progress(
    agent_socket: FakeAgent, systemd: Systemd, attach: Attach
) -> None:
    connection = connect(agent_socket)
    for phase in (Phase.LOADING, Phase.BACKOFF, Phase.STARTING, Phase.LOADING, Phase.BACKOFF):
        tick(connection, systemd, phase, 0.8)
    assert systemd.heard.count("READY=1") == 1


def test_the_status_goes_on_saying_that_it_does_not_serve(
    agent_socket: FakeAgent, systemd: Systemd, attach: Attach
) -> None:
    tick(connect(agent_socket), systemd, Phase.LOADING, 0.35, count=8)
    after = systemd.heard[systemd.heard.index("READY=1") + 1 :]
    assert len(after) > 1
    assert all(message.startswith("STATUS=not serving yet") for message in after)


def test_a_start_job_does_not_wait_for_ever_for_a_dead_agent(
    agent_socket: FakeAgent, systemd: Systemd, attach: Attach
) -> None:
    connection = connect(agent_socket)
    say(connection, line(start_wait_s=0.5))
    systemd.next()
    agent_socket.close()
    systemd.until("READY=1", deadline_s=4.0)


def test_a_status_that_was_lost_is_told_again(
    agent_socket: FakeAgent, systemd: Systemd, attach: Attach
) -> None:
    """systemd is busy, its queue is full; the agent says the same again every few seconds."""
    connection = connect(agent_socket)
    for second in range(200):
        say(connection, line(f"loading the model, {second} s"))
    time.sleep(0.5)  # all are read; the queue of a datagram socket holds far fewer
    systemd.quiet()
    assert "STATUS=loading the model, 199 s" not in systemd.heard
    say(connection, line("loading the model, 199 s"))
    systemd.until("STATUS=loading the model, 199 s", deadline_s=2.0)


# --- with the real server ------------------------------------------------------------------------


@pytest.mark.skipif(os.getuid() != 0, reason="only root may attach")
@pytest.mark.parametrize(("code", "status"), [(Code.IMAGE_MISSING, 69), (Code.CONFIG_INVALID, 78)])
def test_with_the_real_server(tmp_path: Path, systemd: Systemd, code: Code, status: int) -> None:
    agent = FakeAgent(tmp_path / "real.sock")

    async def serve() -> None:
        view = build_view(Phase.LOADING, status="loading the model, 1 s")
        board, control = Board(build_snapshot(view)), FakeControl()
        server = SocketServer(build_app(board, control, MetricsText(board, lambda: None)))
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(agent.path))
        await server.start(listener)
        running = Attach(agent, systemd)
        try:
            assert await asyncio.to_thread(systemd.next) == "STATUS=loading the model, 1 s"
            assert control.calls == [("attach", "8b")]
            board.put(build_snapshot(build_view(Phase.SERVING, status="serving")))
            assert await asyncio.to_thread(systemd.next) == "READY=1"
            failure = Failure(code, "cannot run it")
            held = build_view(Phase.HELD, status="held: cannot run it", failure=failure)
            board.put(build_snapshot(held))
            ended = await asyncio.to_thread(running.ended)
            assert ended == (
                status,
                "<6>loading the model, 1 s\n<6>serving\n<3>held: cannot run it\n",
            )
        finally:
            end(running)
            board.close()
            await server.close()

    asyncio.run(serve())


# --- what all of our processes tell systemd with -------------------------------------------------


def test_notify_sends_one_datagram(systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(systemd.path))
    assert notify("READY=1", "STATUS=a\nREADY=0") is True
    assert systemd.next() == "READY=1\nSTATUS=a READY=0"


def test_notify_knows_the_abstract_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"deepseek-agent-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"\0{name}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        assert notify("READY=1") is True
        assert receiver.recv(100) == b"READY=1"


def test_notify_says_when_it_could_not(
    systemd: Systemd, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    assert notify("READY=1") is False
    monkeypatch.setenv("NOTIFY_SOCKET", str(systemd.path))
    sent = [notify(f"STATUS={index}") for index in range(10_000)]
    assert sent[0] is True
    assert sent[-1] is False  # the queue is full, and nobody was held up


def test_notify_without_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert notify("READY=1") is True


@pytest.mark.parametrize(
    ("usec", "pid", "interval"),
    [
        ("30000000", None, 30.0),
        pytest.param("30000000", os.getpid(), 30.0, id="own"),
        ("30000000", 1, None),
        ("", None, None),
        ("0", None, None),
        ("soon", None, None),
    ],
)
def test_the_watchdog_interval(
    monkeypatch: pytest.MonkeyPatch, usec: str, pid: int | None, interval: float | None
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    if pid is not None:
        monkeypatch.setenv("WATCHDOG_PID", str(pid))
    assert watchdog_interval_s() == interval
