# SPDX-License-Identifier: MulanPSL-2.0
"""deepseekctl as a process against a fake agent: what it asks, prints, and its exit status."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from agent import __version__, exits
from agent.disks import Kind, PruneReport, Removal
from agent.errors import Code, Failure
from agent.health.words import uncounted
from agent.model import EngineWork, Phase
from agent.status.changes import Change, Outcome, Verb
from agent.status.history import EventPage
from agent.status.snapshot import (
    EventView,
    FetchEnd,
    FetchView,
    Snapshot,
    UndoneView,
    UpdateView,
    npus_answer,
)
from agent.supplies import Item, Progress, Stage, Supply
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
        (build_snapshot(build_view(Phase.IDLE, refused=True)), NOT_SERVING),
        (
            build_snapshot(build_view(), build_view(Phase.IDLE, name="7b", refused=True)),
            NOT_SERVING,
        ),
        (build_snapshot(build_view(), without_profile=("7b",)), NOT_SERVING),
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
    # The first line and the exit status tell the same.
    assert output.startswith(("all well: ", "idle: ")) is (status == 0)
    assert "\ndeepseek-agent 0.1.0, mode act" in output
    assert "\033" not in output  # no terminal


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


def test_top_on_a_pipe_is_one_page_of_two_looks(ctl: Ctl, agent_socket: FakeAgent) -> None:
    process = ctl.start("top")
    snapshot = replace(build_snapshot(build_view()), at=1000.0)
    (view,) = snapshot.instances
    for at, made in ((1000.0, 0), (1002.0, 50)):
        asked = agent_socket.accept()
        assert asked.request == "GET /v1/npus HTTP/1.1"
        asked.answer(200, msgspec.json.encode(npus_answer(snapshot)))
        seen = replace(view, work=EngineWork(1, 0, 0, made))
        body = encode(replace(snapshot, at=at, instances=(seen,)))
        agent_socket.accept().answer(200, body)
    ended, output, errors = finish(process)
    assert (ended, errors) == (0, "")
    assert output.count("tok/s") == 2  # the head, once
    assert "25.0" in output
    assert "\033" not in output


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


@pytest.mark.parametrize("verb", ["start", "stop", "restart", "replan", "release"])
def test_what_is_done_with_an_instance(ctl: Ctl, verb: str) -> None:
    request, ended, output, _ = ctl.ask([verb, "8b"], b'{"change": 7}', 202)
    assert request == f"POST /v1/instances/8b/{verb} HTTP/1.1"
    assert ended == 0
    assert output.startswith("8b is ")


def test_a_hold_has_a_reason(ctl: Ctl) -> None:
    process = ctl.start("hold", "8b", "--reason", "a new fan")
    asked = ctl.agent.accept()
    assert asked.body() == b'{"reason":"a new fan"}'
    asked.answer(202, b'{"change": 7}')
    assert finish(process)[0] == 0


def change(outcome: Outcome, failure: Failure | None = None) -> bytes:
    told = Change(7, Verb.RESTART, "8b", "root", 1.0, outcome, failure=failure)
    return msgspec.json.encode(told)


@pytest.mark.parametrize(
    ("end", "status", "word"),
    [
        (change(Outcome.DONE), 0, "8b: done"),
        (change(Outcome.FAILED, BAD), exits.PERSON, "cannot use the file"),
    ],
)
def test_the_end_of_it_is_waited_for(ctl: Ctl, end: bytes, status: int, word: str) -> None:
    process = ctl.start("restart", "8b", "--wait")
    ctl.agent.accept().answer(202, b'{"change": 7}')
    for body in (change(Outcome.RUNNING), end):
        asked = ctl.agent.accept()
        assert asked.request == "GET /v1/changes/7 HTTP/1.1"
        asked.answer(200, body)
    ended, output, errors = finish(process)
    assert ended == status
    assert word in output + errors


def test_restart(ctl: Ctl) -> None:
    request, ended, output, errors = ctl.ask(["restart", "8b"], b'{"accepted": true}', 202)
    assert request == "POST /v1/instances/8b/restart HTTP/1.1"
    assert (ended, errors) == (0, "")
    assert output.startswith("8b is being restarted")


DIED = Failure(Code.ENGINE_DIED, "cannot keep serving: it died")
GONE = Failure(Code.SOURCE_NOT_FOUND, "cannot fetch m: there is none", "see the repo")
HALF = Progress(Item.MODEL, Stage.FETCHING, "hub.example", 5_000_000, 10_000_000, 1e6)
LONG_AGO = FetchEnd(1.0, DIED)
PULLED = [
    (None, 0, "8b: image and model are there\n", ""),
    (GONE, REFUSED, "", "deepseekctl: cannot fetch m: there is none [source-not-found]\n"),
]


@pytest.mark.parametrize(("failure", "status", "last", "errors"), PULLED)
def test_pull_follows_it_to_its_end(
    ctl: Ctl,
    agent_socket: FakeAgent,
    failure: Failure | None,
    status: int,
    last: str,
    errors: str,
) -> None:
    process = ctl.start("pull", "8b")
    agent_socket.accept().answer(200, encode(build_snapshot(build_view(fetch_end=LONG_AGO))))
    connection = agent_socket.accept()
    assert connection.request == "POST /v1/instances/8b/pull HTTP/1.1"
    connection.answer(202, b'{"accepted": true}')
    for changes in (
        {"fetch": FetchView(1.0, None, None)},
        {"fetch": FetchView(1.0, HALF, 5)},
        {"fetch_end": FetchEnd(2.0, failure)},
    ):
        view = build_view(Phase.IDLE, **changes)
        agent_socket.accept().answer(200, encode(build_snapshot(view)))
    ended, output, told = finish(process)
    half = "fetching the model from hub.example: 50 % (5.0 MB of 10.0 MB), 1.0 MB/s, 5 s left\n"
    assert (ended, output) == (status, half + last)
    assert told.startswith(errors)


NEW = Supply("quay.io/a/b:1", "ab" * 32, "", "/m", "c0ffee", 0.0)
NO_UPDATE = UpdateView(False, None, None, None, None, None, 0.0)
UPDATED = [
    ({"fetch_end": FetchEnd(2.0, GONE)}, REFUSED, "[source-not-found]"),
    ({"update": replace(NO_UPDATE, checked_at=2.0)}, 0, "8b is up to date"),
    ({"update": replace(NO_UPDATE, trial=NEW)}, 0, "image abababababab, model revision c0ffee is"),
    ({"update": replace(NO_UPDATE, undone=UndoneView(2.0, NEW, DIED))}, REFUSED, "it died"),
    # By a rollback; that an earlier one had failed is another matter.
    ({"update": NO_UPDATE, "fetch_end": LONG_AGO}, REFUSED, "the update of 8b was ended meanwhile"),
]


@pytest.mark.parametrize(("changes", "status", "told"), UPDATED)
def test_an_update_is_followed_until_it_is_there(
    ctl: Ctl, agent_socket: FakeAgent, changes: dict[str, object], status: int, told: str
) -> None:
    process = ctl.start("update", "8b", "--revision", "v2")
    agent_socket.accept().answer(200, encode(build_snapshot(build_view(fetch_end=LONG_AGO))))
    connection = agent_socket.accept()
    assert connection.request == "POST /v1/instances/8b/update HTTP/1.1"
    connection.answer(202, b'{"accepted": true}')
    for one in ({"fetch": FetchView(1.0, None, None)}, changes):
        agent_socket.accept().answer(200, encode(build_snapshot(build_view(**one))))
    ended, output, errors = finish(process)
    assert ended == status
    assert told in output + errors


def test_rollback(ctl: Ctl) -> None:
    request, ended, output, errors = ctl.ask(["rollback", "8b"], b'{"accepted": true}', 202)
    assert request == "POST /v1/instances/8b/rollback HTTP/1.1"
    assert (ended, errors) == (0, "")
    assert output.startswith("8b goes back")


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


def test_config_of_a_folder_is_checked_before_it_is_put_in_place(ctl: Ctl, tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text('mode = "dance"\n')
    ended, _, errors = ctl.run("config", "check", "--etc", str(tmp_path))
    assert ended == CONFIG
    assert f"{tmp_path}/agent.toml: mode" in errors
    (tmp_path / "agent.toml").write_text('mode = "observe"\n')
    ended, output, _ = ctl.run("config", "show", "--etc", str(tmp_path))
    assert (ended, json.loads(output)["mode"]) == (0, "observe")


def test_the_agent_takes_no_other_folder_than_its_own(ctl: Ctl, tmp_path: Path) -> None:
    ended, output, errors = ctl.run("config", "reload", "--etc", str(tmp_path))
    assert (ended, output) == (CONFIG, "")
    assert f"cannot put {tmp_path} in force" in errors


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
    units = " + ".join(
        f"_SYSTEMD_UNIT={unit} + UNIT={unit} _PID=1 + OBJECT_SYSTEMD_UNIT={unit} _UID=0"
        for unit in ("deepseek-vllm-8b.service", "deepseek@8b.service")
    )
    agent = "_SYSTEMD_UNIT=deepseek-agent.service DEEPSEEK_INSTANCE=8b"
    assert (ended, output) == (7, f"--lines=5 --follow {units} + {agent}\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--lines=50 "),
        (["--since=-1h"], "--since=-1h _"),
        (["--since=-1h", "-n", "9"], "--since=-1h --lines=9 "),
    ],
)
def test_how_much_of_the_logs(ctl: Ctl, tmp_path: Path, arguments: list[str], said: str) -> None:
    journalctl = tmp_path / "journalctl"
    journalctl.write_text('#!/bin/sh\necho "$@"\n', encoding="ascii")
    journalctl.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    _, output, errors = finish(ctl.start("logs", "8b", *arguments, PATH=path))
    assert (output[: len(said)], errors) == (said, "")


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


OLD = Removal(Kind.MODEL, "/m/.store/8b/abc", "/m/8b abc", "nobody needs it", 16 * 10**9)
BUSY = Failure(Code.FILE_NOT_WRITTEN, "cannot prune /m/7b: another process is at it")


@pytest.mark.parametrize(
    ("arguments", "report", "query", "text"),
    [
        (
            ("--dry-run",),
            PruneReport("1", (OLD,), dry_run=True),
            "?dry_run=1",
            "model       16.0 GB  /m/8b abc: nobody needs it\n"
            "16.0 GB would be free; to remove it: deepseekctl prune\n",
        ),
        (
            (),
            PruneReport("1", (OLD,), failures=(BUSY,)),
            "",
            "model       16.0 GB  /m/8b abc: nobody needs it\n"
            "left                 cannot prune /m/7b: another process is at it"
            " [file-not-written]\n"
            "16.0 GB are free now\n",
        ),
        (
            (),
            PruneReport("1", ()),
            "",
            "nothing to prune: all that is there is used, or not the agent's\n",
        ),
    ],
)
def test_prune(
    ctl: Ctl,
    agent_socket: FakeAgent,
    arguments: tuple[str, ...],
    report: PruneReport,
    query: str,
    text: str,
) -> None:
    for more, shown in (((), text), (("--json",), msgspec.json.encode(report).decode() + "\n")):
        process = ctl.start("prune", *arguments, *more)
        connection = agent_socket.accept()
        assert connection.request == f"POST /v1/prune{query} HTTP/1.1"
        connection.answer(200, msgspec.json.encode(report))
        assert finish(process)[:2] == (0, shown)


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


def test_quarantine_add_tells_what_was_done_before_it_failed(
    ctl: Ctl, agent_socket: FakeAgent
) -> None:
    process = ctl.start("quarantine", "add", "3", "99")
    agent_socket.accept().answer(200, b'{"schema": 1, "accepted": true}')
    agent_socket.accept().answer(404, refusal(Code.NPU_UNKNOWN))
    ended, output, errors = finish(process)
    assert ended == REFUSED
    assert output == "NPU 3 is set aside until: deepseekctl quarantine clear 3\n"
    assert "npu-unknown" in errors


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


# --- events --------------------------------------------------------------------------------------

HANG = EventView(
    1_700_000_000.0, "8b", "evidence", "what was seen of it is kept", file="/var/lib/x/8b-1.txt"
)
OTHERS = (
    EventView(1_700_000_001.0, "7b", "serving", ""),
    EventView(1_700_000_002.0, "", "npus", ""),
)


def page(*events: EventView) -> bytes:
    return msgspec.json.encode(EventPage(events, 9, False, False))


def frame(event: EventView) -> bytes:
    return b"id: %d\nevent: event\ndata: %b\n\n" % (event.id, msgspec.json.encode(event))


def test_events_with_what_was_done_and_where_it_is_kept(ctl: Ctl) -> None:
    request, status, output, _ = ctl.ask(["events"], page(HANG, *OTHERS))
    assert request == "GET /v1/events?since=0&limit=50&newest=1 HTTP/1.1"
    assert status == 0
    first, place, *others = output.splitlines()
    assert first.endswith("  8b evidence: what was seen of it is kept")
    assert place.strip() == HANG.file
    assert [line.split("  ")[1] for line in others] == ["7b serving", "npus"]


def test_events_of_one_instance_as_json(ctl: Ctl) -> None:
    request, status, output, _ = ctl.ask(["events", "8b", "--json", "-n", "7"], page(HANG))
    assert request == "GET /v1/events?since=0&limit=7&instance=8b&newest=1 HTTP/1.1"
    assert status == 0
    assert [msgspec.json.decode(line, type=EventView) for line in output.splitlines()] == [HANG]


def test_events_of_an_instance_that_is_none(ctl: Ctl) -> None:
    process = ctl.start("events", "9b")
    ctl.agent.accept().answer(200, page())
    asked = ctl.agent.accept()
    assert asked.request == "GET /v1/status HTTP/1.1"
    asked.answer(200, encode(build_snapshot(build_view())))
    status, _, errors = finish(process)
    assert status == REFUSED
    assert "9b" in errors


@pytest.mark.parametrize("word", ["0", "-1", "1001", "many"])
def test_what_is_no_number_of_lines(ctl: Ctl, word: str) -> None:
    assert ctl.run("events", "-n", word)[0] == USAGE


def test_events_are_followed_over_a_restart_of_the_agent(ctl: Ctl) -> None:
    process = ctl.start("events", "8b", "-f", "--json")
    ctl.agent.accept().answer(200, page(HANG))
    news = [replace(HANG, id=number, message=f"{number}") for number in (10, 11)]
    watch = ctl.agent.accept()
    assert watch.request == "GET /v1/watch?since=9 HTTP/1.1"
    other = replace(OTHERS[0], id=12)
    watch.answer(200, b": nothing new\n\n" + b"".join(map(frame, [*news, other])))
    again = ctl.agent.accept()
    assert again.request == "GET /v1/watch?since=12 HTTP/1.1"
    process.send_signal(signal.SIGINT)
    _, output, errors = finish(process)
    lines = [msgspec.json.decode(line, type=EventView).message for line in output.splitlines()]
    assert lines == [HANG.message, "10", "11"]
    assert "Traceback" not in errors


def test_serving_with_trouble_is_not_serving_well(ctl: Ctl) -> None:
    trouble = Failure(Code.PORT_CUT, "cannot be reached: flushed", "wait")
    view = replace(build_view(), wished=True, phase=Phase.SERVING, trouble=trouble)
    _, status, output, _ = ctl.ask(["status"], msgspec.json.encode(build_snapshot(view)))
    assert status == NOT_SERVING
    assert "trouble   cannot be reached: flushed [port-cut]" in output


def test_counters_that_are_not_understood_are_a_note(ctl: Ctl) -> None:
    failure = uncounted("8b", ("vllm:num_requests_waiting",))
    view = replace(build_view(), wished=True, phase=Phase.SERVING, uncounted=failure)
    _, status, output, _ = ctl.ask(["status"], msgspec.json.encode(build_snapshot(view)))
    assert status == 0
    assert output.startswith("all well")
    assert "does not have vllm:num_requests_waiting [counters-unknown]" in output
    assert "is --disable-log-stats in vllm.extra_args?" in output
