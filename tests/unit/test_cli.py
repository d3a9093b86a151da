# SPDX-License-Identifier: MulanPSL-2.0
"""deepseekctl as a process against a fake agent: what it asks, prints, and its exit status."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from agent import __version__
from agent.errors import Code, Failure
from agent.model import Phase
from agent.status.snapshot import Snapshot, npus_answer
from tests.build import build_snapshot, build_view
from tests.unit.conftest import DEADLINE_S, FakeAgent

TREE = Path(__file__).resolve().parents[2]
UNREACHABLE, REFUSED, NOT_SERVING, USAGE, CONFIG = 3, 4, 1, 2, 78


class Ctl:
    """Runs the command; the test answers meanwhile."""

    def __init__(self, agent: FakeAgent) -> None:
        self.agent = agent
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "agent.cli", "--socket", str(self.agent.path), *arguments],
            cwd=TREE,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Where tests run in the background, SIGINT is ignored, and children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        self.processes.append(process)
        return process

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Without an agent that answers."""
        return finish(self.start(*arguments))

    def ask(
        self, arguments: list[str], body: bytes, status: int = 200
    ) -> tuple[str, int, str, str]:
        """The request that came, exit status, output, errors."""
        process = self.start(*arguments)
        connection = self.agent.accept()
        connection.answer(status, body)
        return (connection.request, *finish(process))


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    output, errors = process.communicate(timeout=DEADLINE_S)
    return process.returncode, output, errors


@pytest.fixture
def ctl(agent_socket: FakeAgent) -> Iterator[Ctl]:
    runner = Ctl(agent_socket)
    yield runner
    for process in runner.processes:
        process.kill()
        process.communicate()


def encode(snapshot: Snapshot) -> bytes:
    return msgspec.json.encode(snapshot)


def refusal(code: Code, hint: str = "do this") -> bytes:
    failure = Failure(code, "cannot do it: why", hint)
    return msgspec.json.encode({"schema": 1, "error": failure})


# --- status --------------------------------------------------------------------------------------

BAD = Failure(Code.CONFIG_INVALID, "cannot use the file")


@pytest.mark.parametrize(
    ("snapshot", "status"),
    [
        (build_snapshot(build_view()), 0),
        (build_snapshot(), 0),
        (build_snapshot(build_view(Phase.IDLE)), 0),
        (build_snapshot(build_view(), build_view(Phase.IDLE, name="7b")), 0),
        (build_snapshot(build_view(), build_view(Phase.LOADING, name="7b")), NOT_SERVING),
        *(
            (build_snapshot(build_view(phase)), NOT_SERVING)
            for phase in Phase
            if phase not in (Phase.IDLE, Phase.SERVING)
        ),
        (build_snapshot(build_view(), config_problem=BAD), NOT_SERVING),
        (build_snapshot(build_view(), broken=("7b: cannot use it",)), NOT_SERVING),
    ],
)
def test_status_tells_by_its_exit_status(ctl: Ctl, snapshot: Snapshot, status: int) -> None:
    request, ended, output, errors = ctl.ask(["status"], encode(snapshot))
    assert request == "GET /v1/status HTTP/1.1"
    assert (ended, errors) == (status, "")
    assert output.startswith("deepseek-agent 0.1.0, mode act")


def test_status_as_json_is_what_the_agent_wrote(ctl: Ctl) -> None:
    """Newer fields than this command knows stay in."""
    answer = json.loads(encode(build_snapshot(build_view()))) | {"newer": {"than": "this"}}
    _, ended, output, _ = ctl.ask(["status", "--json"], json.dumps(answer).encode())
    assert ended == 0
    assert json.loads(output) == answer
    assert answer["schema"] == 1


def test_status_as_json_has_the_same_exit_status(ctl: Ctl) -> None:
    answer = encode(build_snapshot(build_view(Phase.HELD)))
    assert ctl.ask(["status", "--json"], answer)[1] == NOT_SERVING


def test_watch_asks_again_until_it_is_interrupted(ctl: Ctl, agent_socket: FakeAgent) -> None:
    process = ctl.start("status", "--watch")
    connection = agent_socket.accept()
    connection.answer(200, encode(build_snapshot(build_view(Phase.LOADING))))
    agent_socket.accept().answer(200, encode(build_snapshot(build_view())))
    process.send_signal(signal.SIGINT)
    ended, output, errors = finish(process)
    assert (ended, errors) == (130, "")
    assert "\033" not in output  # no screen to be cleared


def test_a_reader_that_leaves_is_no_error(ctl: Ctl, agent_socket: FakeAgent) -> None:
    process = ctl.start("status")
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    agent_socket.accept().answer(200, encode(build_snapshot(build_view())))
    ended, _, errors = finish(process)
    assert (ended, errors) == (141, "")


# --- trouble -------------------------------------------------------------------------------------

COMMANDS = (["status"], ["restart", "8b"], ["chat", "8b", "hello"])


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_an_agent_that_is_not_there(
    ctl: Ctl, agent_socket: FakeAgent, arguments: list[str]
) -> None:
    agent_socket.close()
    ended, output, errors = ctl.run(*arguments)
    assert (ended, output) == (UNREACHABLE, "")
    assert errors.startswith("deepseekctl: cannot reach the agent at ")
    assert "hint: systemctl start deepseek-agent.socket" in errors
    assert "Traceback" not in errors


def test_an_agent_that_hangs_up(ctl: Ctl, agent_socket: FakeAgent) -> None:
    process = ctl.start("status")
    agent_socket.accept().close()
    assert finish(process)[0] == UNREACHABLE


@pytest.mark.parametrize(
    ("code", "http", "status"),
    [
        (Code.NOT_PERMITTED, 403, REFUSED),
        (Code.INSTANCE_UNKNOWN, 404, REFUSED),
        (Code.NOT_WISHED, 409, REFUSED),
        (Code.CONFIG_INVALID, 422, CONFIG),
        (Code.PODMAN_UNAVAILABLE, 500, REFUSED),
        (Code.INTERNAL, 500, REFUSED),
    ],
)
def test_a_refusal_is_told_with_its_hint(ctl: Ctl, code: Code, http: int, status: int) -> None:
    _, ended, output, errors = ctl.ask(["restart", "8b"], refusal(code), http)
    assert (ended, output) == (status, "")
    assert errors == f"deepseekctl: cannot do it: why [{code}]\n  hint: do this\n"


def test_a_refusal_without_a_hint(ctl: Ctl) -> None:
    errors = ctl.ask(["restart", "8b"], refusal(Code.INTERNAL, hint=""), 500)[3]
    assert errors == "deepseekctl: cannot do it: why [internal-error]\n"


@pytest.mark.parametrize("body", [b"", b"Internal Server Error", b"[]", b'{"error": "x"}'])
def test_an_answer_that_nobody_understands(ctl: Ctl, body: bytes) -> None:
    _, ended, _, errors = ctl.ask(["restart", "8b"], body, 500)
    assert ended == REFUSED
    assert errors.startswith("deepseekctl: cannot understand the agent's answer: ")
    assert "Traceback" not in errors


NEWER = json.dumps(
    {"error": {"code": "newer-than-this", "message": "cannot do it: new", "hint": ""}}
)


def test_a_code_of_a_newer_agent_is_told(ctl: Ctl) -> None:
    _, ended, _, errors = ctl.ask(["restart", "8b"], NEWER.encode(), 500)
    assert ended == REFUSED
    assert "cannot do it: new" in errors


@pytest.mark.parametrize("body", [b"{}", b"nonsense"])
def test_a_status_that_nobody_understands(ctl: Ctl, body: bytes) -> None:
    _, ended, _, errors = ctl.ask(["status"], body)
    assert ended == REFUSED
    assert "Traceback" not in errors


# --- the other verbs -----------------------------------------------------------------------------


def test_restart(ctl: Ctl) -> None:
    request, ended, output, errors = ctl.ask(["restart", "8b"], b'{"accepted": true}', 202)
    assert request == "POST /v1/instances/8b/restart HTTP/1.1"
    assert (ended, errors) == (0, "")
    assert output.startswith("8b is being restarted")


def test_chat_with_an_unknown_instance(ctl: Ctl) -> None:
    _, ended, _, errors = ctl.ask(["chat", "70b", "hello"], encode(build_snapshot(build_view())))
    assert ended == REFUSED
    assert "cannot chat with '70b': there is no such instance" in errors


def test_chat_with_one_that_does_not_answer(ctl: Ctl) -> None:
    view = build_view(Phase.LOADING, status="loading the model, 3 s", endpoint="http://127.0.0.1:9")
    _, ended, _, errors = ctl.ask(["chat", "8b", "hello"], encode(build_snapshot(view)))
    assert ended == REFUSED
    assert "cannot chat with 8b at http://127.0.0.1:9" in errors
    assert "hint: it is: loading the model, 3 s" in errors


@pytest.mark.parametrize(
    "arguments",
    [[], ["dance"], ["restart"], ["restart", "8b", "7b"], ["config", "dance"], ["logs", "-n", "x"]],
)
def test_wrong_usage(ctl: Ctl, arguments: list[str]) -> None:
    ended, output, errors = ctl.run(*arguments)
    assert (ended, output) == (USAGE, "")
    assert "usage: deepseekctl" in errors


def test_version(ctl: Ctl) -> None:
    assert ctl.run("--version") == (0, f"deepseekctl {__version__}\n", "")


@pytest.mark.parametrize("verb", ["render", "facts"])
def test_previews_are_another_process(verb: str) -> None:
    """Whatever stands before the verb, and although no agent answers."""
    for socket in (("--socket", "/x"), ("--socket=/x",), ()):
        command = (sys.executable, "-m", "agent.cli", *socket, verb, "--help")
        done = subprocess.run(command, cwd=TREE, capture_output=True, text=True, check=True)
        assert f"usage: deepseekctl {verb}" in done.stdout


def test_config_runs_the_code_of_the_agent(ctl: Ctl) -> None:
    """The file is the machine's own, so a variable tells it apart."""
    process = ctl.start("config", "check", DEEPSEEK_AGENT_MODE="dance")
    ended, _, errors = finish(process)
    assert ended == CONFIG
    assert "mode: it must be 'act' or 'observe'" in errors


@pytest.mark.parametrize("name", ["../8b", "8b.service --root=/", "8B", "", "-f8b"])
def test_logs_of_what_is_no_name(ctl: Ctl, name: str) -> None:
    ended, output, errors = ctl.run("logs", "--", name)
    assert (ended, output) == (REFUSED, "")
    assert f"cannot show the logs of {name!r}" in errors


@pytest.mark.parametrize("name", ["../status", "8b/attach", "8b?x=1", "a b"])
def test_a_name_cannot_leave_its_place_in_the_request(ctl: Ctl, name: str) -> None:
    request, ended, _, _ = ctl.ask(["restart", name], refusal(Code.INSTANCE_UNKNOWN), 404)
    assert ended == REFUSED
    assert request.count("/") == 5  # of the path, and of HTTP/1.1
    assert request.startswith("POST /v1/instances/")
    assert request.endswith("/restart HTTP/1.1")


def test_the_key_does_not_go_to_whoever_listens_meanwhile(ctl: Ctl) -> None:
    view = build_view(Phase.IDLE, endpoint="http://127.0.0.1:9", status="not started")
    process = ctl.start("chat", "8b", "hello", VLLM_API_KEY="the-key")
    ctl.agent.accept().answer(200, encode(build_snapshot(view)))
    ended, _, errors = finish(process)
    assert ended == REFUSED
    assert "cannot chat with 8b at http://127.0.0.1:9: it does not serve" in errors


def test_logs_shows_both_units(ctl: Ctl, tmp_path: Path) -> None:
    journalctl = tmp_path / "journalctl"
    journalctl.write_text('#!/bin/sh\necho "$@"\nexit 7\n', encoding="ascii")
    journalctl.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    ended, output, _ = finish(ctl.start("logs", "8b", "-f", "-n", "5", PATH=path))
    units = "--unit=deepseek-vllm-8b.service --unit=deepseek@8b.service"
    assert (ended, output) == (7, f"--lines=5 {units} --follow\n")


# --- NPUs ----------------------------------------------------------------------------------------


def test_npus_are_shown(ctl: Ctl) -> None:
    answer = msgspec.json.encode(npus_answer(build_snapshot(build_view())))
    request, ended, output, errors = ctl.ask(["npus"], answer)
    assert request == "GET /v1/npus HTTP/1.1"
    assert (ended, errors) == (0, "")
    assert output.startswith("NPU driver 24.1.rc2: ready")
    assert len(output.splitlines()) == 2 + 1 + 8


def test_npus_as_json_are_what_the_agent_wrote(ctl: Ctl) -> None:
    answer = json.loads(msgspec.json.encode(npus_answer(build_snapshot())))
    answer |= {"newer": {"than": "this"}}
    _, ended, output, _ = ctl.ask(["npus", "--json"], json.dumps(answer).encode())
    assert ended == 0
    assert json.loads(output) == answer


def test_quarantine_add_tells_who_stays(ctl: Ctl, agent_socket: FakeAgent) -> None:
    process = ctl.start("quarantine", "add", "0", "3", "--reason", "smoke")
    asked = []
    accepted = b'{"schema": 1, "accepted": true}'
    for body in (accepted, accepted, encode(build_snapshot(build_view()))):
        connection = agent_socket.accept()
        asked.append(connection.request)
        connection.answer(200, body)
    status, output, _ = finish(process)
    assert asked == [
        "POST /v1/npus/0/quarantine HTTP/1.1",
        "POST /v1/npus/3/quarantine HTTP/1.1",
        "GET /v1/status HTTP/1.1",
    ]
    assert status == 0
    first, second = output.splitlines()
    assert first.endswith("8b stays on it until: deepseekctl restart 8b")
    assert second == "NPU 3 is set aside until: deepseekctl quarantine clear 3"


@pytest.mark.parametrize(
    ("arguments", "request_line"),
    [
        (["quarantine", "clear", "3"], "POST /v1/npus/3/clear HTTP/1.1"),
        (["quarantine", "clear", "host"], "POST /v1/host/trust HTTP/1.1"),
        (["replan", "8b"], "POST /v1/instances/8b/replan HTTP/1.1"),
    ],
)
def test_what_a_person_asks_about_npus(ctl: Ctl, arguments: list[str], request_line: str) -> None:
    request, ended, output, errors = ctl.ask(arguments, b'{"schema": 1, "accepted": true}')
    assert request == request_line
    assert (ended, errors) == (0, "")
    assert output


def test_a_refusal_about_npus(ctl: Ctl) -> None:
    _, ended, _, errors = ctl.ask(["quarantine", "clear", "9"], refusal(Code.NPU_UNKNOWN), 404)
    assert ended == REFUSED
    assert "npu-unknown" in errors


@pytest.mark.parametrize("word", ["-1", "all", "0x3", ""])
def test_what_is_no_npu(ctl: Ctl, word: str) -> None:
    assert ctl.run("quarantine", "clear", word)[0] == USAGE
