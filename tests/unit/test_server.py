# SPDX-License-Identifier: MulanPSL-2.0
"""The socket API as a client meets it: the real application on a real unix socket."""

import asyncio
import contextlib
import functools
import grp
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from agent.errors import AgentError, Code, Failure
from agent.model import NpuProcess, Phase, Step
from agent.status.api.__main__ import document
from agent.status.api.access import GROUP
from agent.status.api.operation import BODY_LIMIT_BYTES
from agent.status.client import AgentClient
from agent.status.snapshot import Board, EventView, StartView, npus_answer
from tests.build import build_inventory, build_npu, build_snapshot, build_view
from tests.fakes.control import FakeControl
from tests.scenario.clock import run, skip
from tests.scenario.settled import settled
from tests.unit.api import Serving, serving

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, as root")
NOBODY = 65534
HELD = Failure(Code.IMAGE_MISSING, "cannot run x: the image is not there", "podman pull x")
BROKEN = Failure(Code.CONFIG_INVALID, "cannot use 8b.toml: port: too big", "correct it")


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    with settled():
        yield


@contextlib.asynccontextmanager
async def attached(one: Serving, name: str = "8b") -> AsyncIterator[asyncio.StreamReader]:
    """As attach.py connects; the answer from its first byte."""
    reader, writer = await asyncio.open_unix_connection(one.path)
    writer.write(f"GET /v1/instances/{name}/attach HTTP/1.0\r\nHost: agent\r\n\r\n".encode())
    try:
        yield reader
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def read_head(reader: asyncio.StreamReader) -> list[str]:
    async with asyncio.timeout(3):
        return (await reader.readuntil(b"\r\n\r\n")).decode().lower().splitlines()


async def read_line(reader: asyncio.StreamReader) -> Any:
    return json.loads(await reader.readline())


# --- status --------------------------------------------------------------------------------------

# Monitoring reads these names: one is added, none is ever renamed or removed under schema 1.
FIELDS = {
    "": {
        *("schema", "version", "mode", "at", "started_at", "inventory", "instances"),
        *("config_problem", "broken", "events"),
    },
    "inventory": {
        *("driver", "detail", "driver_version", "npus", "manager_devices", "source"),
        *("read_at", "sequence"),
    },
    "npu": {
        *("logic_id", "card_id", "chip_id", "device", "device_present", "product", "health"),
        *("memory_mib", "memory_used_mib", "bus_id", "processes"),
    },
    "process": {"pid", "name", "memory_mib"},
    "instance": {
        *("name", "phase", "wished", "status", "since", "next_try_at", "failure", "failures"),
        *("served_name", "endpoint", "model", "image", "unit", "unit_file", "npus"),
    },
    "failure": {"code", "message", "hint"},
    "event": {"at", "instance", "kind", "message"},
}


def test_the_names_in_the_status_are_schema_1(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as one:
            npu = build_npu(0, processes=(NpuProcess(1, "python", 10),))
            view = build_view(Phase.HELD, failure=HELD)
            event = EventView(1.0, "8b", "held", "x")
            inventory = build_inventory([npu])
            one.board.put(build_snapshot(view, inventory=inventory, events=(event,)))
            status, got = await one.get("/v1/status")
            assert status == 200
            assert got["schema"] == 1
            parts = {
                "": got,
                "inventory": got["inventory"],
                "npu": got["inventory"]["npus"][0],
                "process": got["inventory"]["npus"][0]["processes"][0],
                "instance": got["instances"][0],
                "failure": got["instances"][0]["failure"],
                "event": got["events"][0],
            }
            assert {name: FIELDS[name] - set(part) for name, part in parts.items()} == {
                name: set() for name in FIELDS
            }

    asyncio.run(scenario())


def test_words_in_the_status_are_stable() -> None:
    assert [phase.value for phase in Phase] == [
        *(
            "idle",
            "waiting",
            "fetching",
            "starting",
            "loading",
            "serving",
            "backoff",
            "held",
            "stopping",
        )
    ]


def test_health(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as one:
            assert await one.get("/v1/health") == (200, {"schema": 1, "status": "ok"})

    asyncio.run(scenario())


# --- who may -------------------------------------------------------------------------------------

ASK_AS = """
import os, socket, sys
path, uid, gid, groups, method, target = sys.argv[1:]
os.setgroups([int(group) for group in groups.split(",") if group])
os.setgid(int(gid)); os.setuid(int(uid))
connection = socket.socket(socket.AF_UNIX)
connection.settimeout(5)
connection.connect(path)
request = f"{method} {target} HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n"
connection.sendall(request.encode())
answer = b""
while more := connection.recv(65536):
    answer += more
    if (b"attach" in target.encode() or b"watch" in target.encode()) and b"\\r\\n\\r\\n" in answer:
        break
print(answer.split()[1].decode())
"""


async def ask_as(
    one: Serving, uid: int, gid: int, target: str, method: str = "GET", *groups: int
) -> int:
    arguments = (str(one.path), str(uid), str(gid), ",".join(map(str, groups)), method, target)
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-S", "-c", ASK_AS, *arguments, stdout=subprocess.PIPE
    )
    output, _ = await child.communicate()
    return int(output or -1)


ROUTES = [
    ("GET", "/v1/status", 200, 200, 200),
    ("GET", "/v1/health", 200, 200, 200),
    ("GET", "/v1/metrics", 200, 200, 200),
    ("GET", "/metrics", 200, 200, 200),
    ("GET", "/v1/npus", 200, 200, 200),
    ("GET", "/v1/openapi.json", 500, 500, 500),  # there is no file
    ("GET", "/v1/events", 200, 200, 200),
    ("GET", "/v1/watch", 200, 200, 200),
    ("GET", "/v1/watch/status", 200, 200, 200),
    ("GET", "/v1/instances", 200, 200, 200),
    ("GET", "/v1/instances/8b", 200, 200, 200),
    ("GET", "/v1/changes", 200, 200, 200),
    ("GET", "/v1/changes/7", 404, 404, 404),  # nobody has asked for it
    ("POST", "/v1/instances/8b/start", 202, 202, 403),
    ("POST", "/v1/instances/8b/stop", 202, 202, 403),
    ("POST", "/v1/instances/8b/hold", 202, 202, 403),
    ("POST", "/v1/instances/8b/release", 202, 202, 403),
    ("POST", "/v1/instances/8b/restart", 202, 202, 403),
    ("POST", "/v1/instances/8b/pull", 202, 202, 403),
    ("GET", "/v1/config", 200, 200, 200),
    ("POST", "/v1/config/reload", 200, 200, 403),
    ("POST", "/v1/instances/8b/update", 202, 202, 403),
    ("POST", "/v1/instances/8b/rollback", 202, 202, 403),
    ("POST", "/v1/instances/8b/replan", 202, 202, 403),
    ("POST", "/v1/npus/3/quarantine", 200, 200, 403),
    ("POST", "/v1/npus/3/clear", 200, 200, 403),
    ("POST", "/v1/host/trust", 200, 200, 403),
    ("POST", "/v1/prune", 200, 200, 403),
    ("POST", "/v1/prune?dry_run=1", 200, 200, 200),
    ("GET", "/v1/instances/8b/attach", 200, 403, 403),
]
HARMLESS = (("refresh", ""), ("prune", "dry"))


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> int:
    """The group `deepseek` of the user database, which the package creates."""
    entry = grp.struct_group((GROUP, "x", 54321, []))

    def getgrnam(name: str) -> grp.struct_group:
        if name != GROUP:
            raise KeyError(name)
        return entry

    monkeypatch.setattr(grp, "getgrnam", getgrnam)
    return entry.gr_gid


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """pytest's own folder is closed to others."""
    with tempfile.TemporaryDirectory(prefix="deepseek-server-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@AS_ROOT
@pytest.mark.parametrize(("method", "target", "root", "member", "anyone"), ROUTES)
def test_who_may(
    open_folder: Path, group: int, method: str, target: str, root: int, member: int, anyone: int
) -> None:
    async def scenario() -> None:
        async with serving(open_folder) as one:
            answers: Sequence[int] = await asyncio.gather(
                ask_as(one, 0, 0, target, method),
                ask_as(one, 1000, group, target, method),
                ask_as(one, 1000, NOBODY, target, method, group),
                ask_as(one, NOBODY, NOBODY, target, method),
                ask_as(one, NOBODY, 0, target, method, 0),  # root's group is not root
            )
            assert list(answers) == [root, member, member, anyone, anyone]
            allowed = sum(answer in (200, 202) for answer in answers)
            done = [what for what in one.control.calls if what not in HARMLESS]
            assert len(done) == (0 if anyone != 403 else allowed)

    asyncio.run(scenario())


def test_every_route_is_in_the_table() -> None:
    tried = {(method, target.partition("?")[0]) for method, target, *_ in ROUTES}
    names = {"{name}": "8b", "{npu}": "3", "{change}": "7"}
    known = set()
    for path, by_method in json.loads(document())["paths"].items():
        for placeholder, value in names.items():
            path = path.replace(placeholder, value)
        known |= {(method.upper(), path) for method in by_method}
    assert tried == known


@AS_ROOT
def test_without_the_group_nobody_but_root_is_an_operator(open_folder: Path) -> None:
    with contextlib.suppress(KeyError):
        grp.getgrnam(GROUP)
        pytest.skip("this host has the group")

    async def scenario() -> None:
        async with serving(open_folder) as one:
            target = "/v1/instances/8b/restart"
            assert await ask_as(one, NOBODY, NOBODY, target, "POST") == 403

    asyncio.run(scenario())


@AS_ROOT
def test_credentials_are_those_of_the_connection(open_folder: Path) -> None:
    """Two callers at once: neither gets the other's."""

    async def scenario() -> None:
        async with serving(open_folder) as one:
            target = "/v1/instances/8b/restart"
            callers = [ask_as(one, uid, NOBODY, target, "POST") for uid in (0, NOBODY) * 4]
            assert await asyncio.gather(*callers) == [202, 403] * 4

    asyncio.run(scenario())


# --- requests that are refused -------------------------------------------------------------------


@pytest.mark.parametrize("header", ["Origin: http://evil", "origin: null", "Referer: http://x"])
@pytest.mark.parametrize(("method", "target"), [route[:2] for route in ROUTES])
def test_web_pages_are_refused(tmp_path: Path, header: str, method: str, target: str) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as one:
            status, body = await one.get(target, header, method=method)
            assert status == 403
            assert body["error"]["code"] == "not-permitted"
            assert one.control.calls == []

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        ("GET /v1/nothing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", b"404"),
        ("GET /v1/instances/8b/restart HTTP/1.0\r\n\r\n", b"405"),
        ("GET /v1/status HTTP/1.1\r\nHost: a\r\nX: " + "x" * 20_000, b"400"),
        ("GET /" + "x" * 20_000, b"400"),
        ("\x16\x03\x01 not HTTP at all\r\n\r\n", b"400"),
        ("GET /v1/status HTTP/1.1\r\n\r\n", b"400"),  # without Host
        # A chunk of one byte is as much work as one of a megabyte.
        ("POST /v1/host/trust HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", b"400"),
    ],
)
def test_nonsense_is_refused_and_the_next_is_answered(
    tmp_path: Path, raw: str, status: bytes
) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as one:
            assert (await one.ask(raw)).split()[1] == status
            assert (await one.get("/v1/health"))[0] == 200

    asyncio.run(scenario())


def test_a_path_has_its_methods(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as one:
            head = (await one.ask("HEAD /v1/health HTTP/1.0\r\n\r\n")).lower()
            assert head.split()[1] == b"200"
            assert head.partition(b"\r\n\r\n")[2] == b""
            assert b"content-length: 26" in head
            refusal = await one.ask("GET /v1/instances/8b/restart HTTP/1.0\r\n\r\n")
            assert b"allow: post" in refusal.lower()
            for path in ("/v1/npus/x/clear", "/v1/npus/-1/clear", "/v1/instances/8b/../x/restart"):
                assert (await one.get(path, method="POST"))[0] == 404
            assert one.control.calls == []

    asyncio.run(scenario())


def test_an_unknown_instance(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as one:
            status, body = await one.get("/v1/instances/9z/attach")
            assert status == 404
            assert body["error"] == {
                "code": "instance-unknown",
                "message": "cannot serve 9z: no",
                "hint": "write it",
            }

    asyncio.run(scenario())


# --- attach --------------------------------------------------------------------------------------


def test_attach_stream(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as one:
            one.show(Phase.LOADING)
            async with attached(one) as reader:
                head = await read_head(reader)
                assert head[0].split()[1] == "200"
                # attach.py reads plain lines to the end: no chunks, no keeping alive
                assert not any("transfer-encoding" in line for line in head)
                first = await read_line(reader)
                assert first["ready"] is False
                assert first["status"] == "loading"
                assert first["start_wait_s"] == 1800.0
                assert first["exit"] is None
                one.show(Phase.SERVING)
                second = await read_line(reader)
                assert second["ready"] is True
                assert second["progress"] > first["progress"]

    asyncio.run(scenario())


def test_progress_grows_with_the_start(tmp_path: Path) -> None:
    """start_wait is measured by it. A loop of dying and starting gets no further."""

    def start(step: Step, percent: int | None = None) -> StartView:
        return StartView(step, percent, None, None, moved_at=1.0, gives_up_at=2.0, budget_s=600.0)

    shown: list[tuple[Phase, StartView | None]] = [
        (Phase.WAITING, None),
        (Phase.STARTING, None),
        (Phase.LOADING, start(Step.CONTAINER)),
        (Phase.LOADING, start(Step.ENGINE)),
        (Phase.LOADING, start(Step.WEIGHTS, 0)),
        (Phase.LOADING, start(Step.WEIGHTS, 45)),
        (Phase.LOADING, start(Step.WEIGHTS, 100)),
        (Phase.LOADING, start(Step.COMPILING)),
        (Phase.LOADING, start(Step.LISTENING)),
        (Phase.SERVING, None),
    ]

    async def scenario() -> None:
        async with serving(tmp_path) as one:
            one.show(Phase.BACKOFF)
            async with attached(one) as reader:
                await read_head(reader)
                told = [(await read_line(reader))["progress"]]
                for phase, view in shown:
                    one.show(phase, start=view)
                    told.append((await read_line(reader))["progress"])
        assert told == sorted(set(told))

    asyncio.run(scenario())


@pytest.mark.parametrize(("failure", "status"), [(HELD, 69), (BROKEN, 78), (None, 69)])
def test_attach_is_told_to_leave(tmp_path: Path, failure: Failure | None, status: int) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as one:
            one.show(Phase.STARTING)
            async with attached(one) as reader:
                await read_head(reader)
                await read_line(reader)
                one.show(Phase.HELD, failure)
                line = await read_line(reader)
                assert (line["exit"], line["ready"]) == (status, False)
                async with asyncio.timeout(2):
                    assert await reader.read() == b""  # and the stream ends

    asyncio.run(scenario())


def test_attach_of_an_instance_whose_profile_goes(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as one, attached(one) as reader:
            await read_head(reader)
            await read_line(reader)
            one.board.put(build_snapshot())
            assert (await read_line(reader))["exit"] == 78

    asyncio.run(scenario())


def test_a_quiet_agent_says_so_every_5_s(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as one, attached(one) as reader:
            await read_head(reader)
            first = await read_line(reader)
            for _ in range(3):
                skip(5.0)
                assert await read_line(reader) == first

    run(scenario())


def test_attach_ends_when_the_agent_does(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as one, attached(one) as reader:
            await read_head(reader)
            await read_line(reader)
            one.board.close()
            async with asyncio.timeout(2):
                await reader.read()

    asyncio.run(scenario())


def test_nothing_is_kept_of_an_attach_that_left(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as one:
            before = len(asyncio.all_tasks())
            for _ in range(3):
                async with attached(one) as reader:
                    await read_head(reader)
                    await read_line(reader)
                    assert len(asyncio.all_tasks()) > before
            await asyncio.sleep(0.1)
            assert len(asyncio.all_tasks()) == before

    asyncio.run(scenario())


def test_a_slow_reader_blocks_nobody(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as one:
            reader, writer = await asyncio.open_unix_connection(one.path, limit=1024)
            writer.write(b"GET /v1/instances/8b/attach HTTP/1.0\r\nHost: agent\r\n\r\n")
            began = time.monotonic()
            async with attached(one) as other:
                await read_head(other)
                for number in range(200):  # far beyond every buffer in between
                    one.show(Phase.LOADING, status="x" * 10_000 + str(number))
                    await read_line(other)
                    await asyncio.sleep(0)
                one.show(Phase.SERVING)
                while not (await read_line(other))["ready"]:
                    pass
                assert (await one.get("/v1/health"))[0] == 200
            assert time.monotonic() - began < 5.0
            writer.transport.abort()
            await asyncio.sleep(0.05)
            del reader

    asyncio.run(scenario())


@pytest.mark.parametrize("said", [b"", b"GET /v1/sta"])
def test_a_connection_that_never_asks_is_closed(tmp_path: Path, said: bytes) -> None:
    """The socket is open to every local user: connections kept open use up the descriptors."""

    async def scenario() -> None:
        async with serving(tmp_path) as one:
            reader, writer = await asyncio.open_unix_connection(one.path)
            writer.write(said)
            try:
                await asyncio.sleep(0.05)
                for _ in range(10):
                    skip(60.0)
                    await asyncio.sleep(0.01)
                async with asyncio.timeout(0.5):
                    await reader.read()
            finally:
                writer.close()
                await asyncio.sleep(0.02)

    run(scenario())


def test_a_request_that_breaks_off(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as one:
            reader, writer = await asyncio.open_unix_connection(one.path)
            head = "POST /v1/npus/3/quarantine HTTP/1.1\r\nHost: a\r\nContent-Length: 100"
            writer.write(f"{head}\r\n\r\n{{".encode())
            await asyncio.sleep(0.05)
            writer.close()
            await asyncio.sleep(0.05)
            assert one.control.calls == []
            assert (await one.get("/v1/health"))[0] == 200
            del reader

    asyncio.run(scenario())
    assert caplog.text == ""


# --- the client ----------------------------------------------------------------------------------


async def with_client(one: Serving, ask: Callable[[AgentClient], object]) -> object:
    def in_thread() -> object:
        client = AgentClient(one.path)
        try:
            return ask(client)
        finally:
            client.close()

    return await asyncio.to_thread(in_thread)


def test_client(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as one:
            one.show(Phase.HELD, HELD)
            assert await with_client(one, lambda client: client.status()) == one.board.snapshot
            await with_client(one, lambda client: client.act("8b", "restart"))
            assert one.control.calls == [("restart", "8b")]
            with pytest.raises(AgentError) as raised:
                await with_client(one, lambda client: client.act("9z", "restart"))
            assert raised.value.failure.code is Code.INSTANCE_UNKNOWN
            assert raised.value.failure.hint == "write it"

    asyncio.run(scenario())


def test_client_and_npus(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as one:
            answer = await with_client(one, lambda client: client.decode_npus(client.npus_json()))
            assert answer == npus_answer(one.board.snapshot)
            assert [view.logic_id for view in answer.npus] == list(range(8))
            await with_client(one, lambda client: client.quarantine(3, "smoke"))
            await with_client(one, lambda client: client.clear(3))
            await with_client(one, lambda client: client.trust_host())
            await with_client(one, lambda client: client.act("8b", "replan"))
            assert one.control.calls == [
                ("refresh", ""),
                ("quarantine by root: smoke", "3"),
                ("clear by root", "3"),
                ("trust by root", ""),
                ("replan", "8b"),
            ]
            with pytest.raises(AgentError) as raised:
                await with_client(one, lambda client: client.clear(9))
            assert raised.value.failure.code is Code.NPU_UNKNOWN

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "body",
    ['{"reason": 7}', '{"reasons": "x"}', "[]", "\udcff{", json.dumps({"reason": "x" * 201})],
)
def test_a_body_that_is_not_understood(tmp_path: Path, body: str) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as one:
            raw = body.encode(errors="surrogateescape")
            head = f"POST /v1/npus/3/quarantine HTTP/1.1\r\nHost: a\r\nContent-Length: {len(raw)}"
            ask = f"{head}\r\nConnection: close\r\n\r\n"
            answer = await one.ask(ask + raw.decode(errors="surrogateescape"))
            assert b" 400 " in answer.splitlines()[0]
            assert b"request-invalid" in answer
            assert one.control.calls == []

    asyncio.run(scenario())


def test_a_body_without_end(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as one:
            size = 10 * BODY_LIMIT_BYTES
            head = f"POST /v1/npus/3/quarantine HTTP/1.1\r\nHost: a\r\nContent-Length: {size}"
            answer = await one.ask(f"{head}\r\nConnection: close\r\n\r\n{' ' * size}")
            assert b"request-invalid" in answer
            assert one.control.calls == []

    asyncio.run(scenario())


UNREACHABLE = """
import sys
from pathlib import Path
from agent.errors import HostUnavailable
from agent.status.client import AgentClient
try:
    AgentClient(Path(sys.argv[1])).status()
except HostUnavailable as error:
    print(error.failure.code, error.failure.message)
"""


def test_client_without_an_agent(tmp_path: Path) -> None:
    """In a process of its own: httpcore leaves the socket to the garbage collector."""
    done = subprocess.run(
        (sys.executable, "-c", UNREACHABLE, str(tmp_path / "agent.sock")),
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith(f"agent-unreachable cannot reach the agent at {tmp_path}")


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        pytest.param(b"<html>", id="html"),
        b'{"schema": 1, "instances": [{"phase": "a phase of a newer agent"}]}',
    ],
)
def test_client_and_an_answer_that_it_does_not_know(body: bytes) -> None:
    """A newer agent during an upgrade; the user gets a sentence, no traceback."""
    with pytest.raises(AgentError):
        AgentClient.decode(body)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, b"oops"),
        (404, b'{"error": {"code": "new-code"}}'),
        (404, b'{"error": {"code": "new-code", "message": "cannot", "hint": ""}}'),
        (404, b""),
    ],
)
def test_client_and_a_refusal_that_it_does_not_know(
    tmp_path: Path, status: int, body: bytes
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()

    async def scenario() -> None:
        server = await asyncio.start_unix_server(answer, tmp_path / "agent.sock")
        one = Serving(tmp_path / "agent.sock", Board(build_snapshot()), FakeControl())
        with pytest.raises(AgentError) as raised:
            await with_client(one, lambda client: client.status_json())
        assert raised.value.failure.code is Code.INTERNAL
        assert raised.value.failure.message
        server.close()
        await asyncio.sleep(0.02)

    asyncio.run(scenario())


def test_client_and_updates(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as one:
            await with_client(one, lambda client: client.update("8b", "", ""))
            image = "mirror.example:5000/ascend/vllm:v1@sha256:00"
            await with_client(one, lambda client: client.update("8b", image, "v1.2"))
            await with_client(one, lambda client: client.rollback("8b"))
            assert one.control.calls == [
                ("update to its own its own", "8b"),
                (f"update to {image} v1.2", "8b"),
                ("rollback", "8b"),
            ]
            for image, revision in (("--help", ""), ("a b", ""), ("", "../x"), ("x" * 600, "")):
                ask = functools.partial(AgentClient.update, instance="8b")
                with pytest.raises(AgentError) as raised:
                    await with_client(one, functools.partial(ask, image=image, revision=revision))
                assert raised.value.failure.code is Code.REQUEST_INVALID
                what = "that is no name of an image" if image else "that is no revision"
                assert what in raised.value.failure.message

    asyncio.run(scenario())
