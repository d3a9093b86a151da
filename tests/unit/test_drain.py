# SPDX-License-Identifier: MulanPSL-2.0
"""Drain: when it waits, for how long, and that it always comes to an end."""

import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent import drain as module
from agent.drain import Order, count_requests, drain, main, parse_metrics, parse_order
from agent.render.workload import DRAIN_MARGIN_S
from tests.fakes.engine.certificate import make_certificate
from tests.fakes.engine.contract import Target
from tests.fakes.engine.runner import RunningEngine

TREE = Path(__file__).parents[2]
ORDER = Order("8b", 30.0, 8000)


class Engine:
    """Its counts, look by look (the last one stays), on a clock that only sleeping moves."""

    def __init__(self, counts: Sequence[int | None]) -> None:
        self.counts = list(counts)
        self.looks = 0
        self.now = 0.0
        self.refused_at: float | None = None

    def look(self) -> int | None:
        self.looks += 1
        return self.counts.pop(0) if len(self.counts) > 1 else self.counts[0]

    def refuse(self) -> None:
        assert self.refused_at is None
        self.refused_at = self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def drain(self, order: Order = ORDER) -> str:
        return drain(order, self.look, self.refuse, clock=lambda: self.now, sleep=self.sleep)


@pytest.fixture(autouse=True)
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "nodrain").mkdir()
    monkeypatch.setattr(module, "RUN", tmp_path)
    monkeypatch.setattr("signal.alarm", lambda _seconds: 0)
    return tmp_path


def test_an_idle_engine_is_not_waited_for() -> None:
    engine = Engine([0])
    assert engine.drain() == ""
    assert (engine.looks, engine.now, engine.refused_at) == (2, 0.2, None)


def test_running_requests_are_waited_for_and_new_ones_refused() -> None:
    engine = Engine([2, 2, 1, 0, 0])
    assert engine.drain() == "all requests are answered"
    assert engine.refused_at == 0.0
    assert engine.now == pytest.approx(1.7)


def test_a_request_that_was_not_counted_yet_is_seen_by_the_second_look() -> None:
    engine = Engine([0, 1, 1, 0, 0])
    assert engine.drain() == "all requests are answered"
    assert engine.refused_at == 0.2


def test_requests_that_never_end_are_cut_off_in_time() -> None:
    engine = Engine([3])
    assert engine.drain() == "3 requests are cut off"
    assert engine.now == 30.0


def test_an_answer_that_is_late_once_is_forgiven() -> None:
    assert Engine([1, None, 1, None, 1, 0, 0]).drain() == "all requests are answered"


@pytest.mark.parametrize("counts", [[None], [1, 1, None], [1, None, 1, None, None]])
def test_an_engine_that_does_not_answer_is_not_waited_for(counts: list[int | None]) -> None:
    engine = Engine(counts)
    assert engine.drain() == "the engine does not answer"
    assert engine.now <= 1.0


def test_the_agent_can_end_it(run_folder: Path) -> None:
    engine = Engine([1])

    def agent_acts(_seconds: float) -> None:
        (run_folder / "nodrain/8b").touch()

    why = drain(ORDER, engine.look, engine.refuse, clock=lambda: 0.0, sleep=agent_acts)
    assert why == "the agent says that the engine hangs"
    assert engine.looks == 1
    (run_folder / "nodrain/8b").unlink()
    (run_folder / "nodrain/7b").touch()
    assert Engine([0]).drain() == ""


def test_orders() -> None:
    words = ["8b", "--seconds=120", "--port=8000", "--tls", "--of-a-newer-agent=1"]
    assert parse_order(words) == Order("8b", 120.0, 8000, tls=True)
    assert parse_order(words[:3]) == Order("8b", 120.0, 8000)


@pytest.mark.parametrize("words", [[], ["../x"], ["8b", "--seconds=x"], ["8b", "--port="]])
def test_a_wrong_order_does_not_fail_the_stop(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 0
    assert "cannot drain: " in capsys.readouterr().err


def test_an_engine_that_died_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_RESULT", "signal")
    monkeypatch.setattr(module, "enter_network", lambda _instance: pytest.fail("looked at"))
    assert main(["8b", "--seconds=30", "--port=8000"]) == 0


@pytest.mark.parametrize(("given", "said"), [({}, ""), ({"MAINPID": "1"}, "the engine has ended")])
def test_an_engine_whose_conmon_has_ended_delays_nothing(given: dict[str, str], said: str) -> None:
    launcher = (TREE / "rpm/launchers/drain.in").read_text(encoding="utf-8")
    program = launcher.replace("@libdir@", str(TREE))
    done = subprocess.run(
        [sys.executable, "-ISB", "-c", program, "no-such-instance", "--seconds=30", "--port=8000"],
        env=given,
        capture_output=True,
        text=True,
        check=True,
    )
    assert said in done.stderr
    assert bool(done.stderr) is bool(said)


def test_without_a_container_there_is_nothing_to_wait_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["no-such-instance", "--seconds=30", "--port=8000"]) == 0
    assert "the engine has ended" in capsys.readouterr().err


def test_its_own_limit_comes_before_systemd_s() -> None:
    assert module.ALARM_S < DRAIN_MARGIN_S


# --- asking --------------------------------------------------------------------------------------

METRICS = """# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a}b"} 2.0
vllm:num_requests_running{engine="1",model_name="a}b"} 1.0
vllm:num_requests_waiting{engine="0",model_name="a}b"} 1e+01
vllm:num_requests_waiting_by_reason{engine="0",reason="x"} 7.0
vllm:num_requests_swapped{engine="0"} 5.0
"""


def test_metrics() -> None:
    assert parse_metrics(METRICS) == 13
    assert parse_metrics(METRICS.replace("num_requests", "others")) is None
    assert parse_metrics("vllm:num_requests_running 0.0\nvllm:num_requests_waiting 0.0\n") == 0


@pytest.mark.parametrize("number", [".", "e+", "1.2.3", "1e999"])
def test_what_is_no_number_is_no_count(number: str) -> None:
    assert parse_metrics(METRICS.replace(" 2.0", f" {number}")) is None


@contextmanager
def silent_server() -> Iterator[int]:
    """Takes connections, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_one_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_S", 0.2)
    with silent_server() as port:
        assert count_requests(Order("8b", 30.0, port)) is None
    assert count_requests(Order("8b", 30.0, port)) is None  # refused


def test_what_is_no_http(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"nonsense\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        assert count_requests(Order("8b", 30.0, server.getsockname()[1])) is None
        thread.join()


def port_of(target: Target) -> int:
    return int(target.base_url.rpartition(":")[2])


def test_the_double_with_and_without_tls(tmp_path: Path, run_folder: Path) -> None:
    with RunningEngine(tmp_path, key="secret") as engine:
        assert count_requests(Order("8b", 30.0, port_of(engine.wait_ready()))) == 0
    certificate = make_certificate(tmp_path)
    (run_folder / "tls").mkdir()
    shutil.copy(certificate.certfile, run_folder / "tls/8b.pem")
    with RunningEngine(tmp_path, certificate=certificate) as engine:
        port = port_of(engine.wait_ready())
        assert count_requests(Order("8b", 30.0, port, tls=True)) == 0
        assert count_requests(Order("8b", 30.0, port)) is None
