# SPDX-License-Identifier: MulanPSL-2.0
"""The socket of a real agentd against etc/openapi.json, by schemathesis: requests that fit it and
requests that do not, made out of it; each answer has to be one that it promises.

    pytest tests/scenario/test_api_contract.py --api-examples 2000    the long one
"""

import asyncio
import json
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from jsonschema_rs import Draft202012Validator
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool

from agent.errors import Code, http_status
from agent.status.client import AgentClient
from tests.fakes.bus import PrivateBus
from tests.fakes.podman_api import FakePodmanApi
from tests.scenario.agentd import REPOSITORY, daemon, write_config
from tests.visitors import connected

pytestmark = [
    pytest.mark.timeout(3600),
    pytest.mark.skipif(os.geteuid() != 0, reason="asks for what root may"),
]
DOCUMENT = json.loads((REPOSITORY / "etc" / "openapi.json").read_text(encoding="utf-8"))
STREAMS = ("watch", "watch-status", "attach")
OPERATIONS = sorted(
    operation["operationId"] for path in DOCUMENT["paths"].values() for operation in path.values()
)
# The machine under the agent is a double that has no fetch, no prune and no images.
NOT_NOW = sorted(code for code in Code if http_status(code) == 503)


class UnixConnection(HTTPConnection):
    """Of urllib3, to a socket in place of a host."""

    path: Path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(str(self.path))


class UnixAdapter(HTTPAdapter):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._pool = HTTPConnectionPool("agent")
        self._pool.ConnectionCls = type("To", (UnixConnection,), {"path": path})

    def get_connection_with_tls_context(self, *_: object, **__: object) -> HTTPConnectionPool:
        return self._pool

    def close(self) -> None:
        self._pool.close()


def connect(path: Path) -> requests.Session:
    session = requests.Session()
    session.mount("http://agent", UnixAdapter(path))
    return session


def judge(response: Any) -> None:
    """What schemathesis cannot know: 503 is right where what the agent needs does not answer."""
    assert response.status_code != 500, response.text
    if response.status_code == 503:
        assert response.json()["error"]["code"] in NOT_NOW, response.text


def ask_for_everything(place: Path, examples: int) -> int:
    """How many requests were sent."""
    # Here alone: its own part of pytest would be loaded for every test.
    import schemathesis
    from schemathesis import Case, GenerationMode
    from schemathesis.core.result import Ok
    from schemathesis.specs.openapi import checks

    schema = schemathesis.openapi.from_dict(DOCUMENT).exclude(operation_id=list(STREAMS))
    wanted = [
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_schema_conformance,
        checks.negative_data_rejection,
        checks.unsupported_method,
    ]
    sent = 0
    with connect(place) as session:
        for found in schema.get_all_operations():
            assert isinstance(found, Ok), found
            operation = found.ok()
            for mode in GenerationMode:

                @settings(
                    max_examples=examples,
                    database=None,
                    suppress_health_check=list(HealthCheck),
                )
                @given(case=operation.as_strategy(mode))
                def ask(case: "Case[Any]") -> None:
                    nonlocal sent
                    sent += 1
                    response = case.call(base_url="http://agent", session=session)
                    case.validate_response(response, checks=wanted)
                    judge(response)

                # Without parameters and body there is nothing that could be wrong.
                with suppress(*([Unsatisfiable] if mode is GenerationMode.NEGATIVE else [])):
                    ask()
    return sent


def test_no_answer_that_the_description_does_not_promise(
    tmp_path: Path, bus: PrivateBus, request: pytest.FixtureRequest
) -> None:
    write_config(tmp_path)
    examples = request.config.getoption("--api-examples")
    podman = FakePodmanApi(tmp_path / "podman.sock")

    async def scenario() -> None:
        async with daemon(tmp_path, bus, podman=podman) as one:
            sent = await asyncio.to_thread(ask_for_everything, one.socket, examples)
            assert sent > len(OPERATIONS)
            assert one.child.returncode is None
            assert (await one.status()).schema == 1

    asyncio.run(scenario())


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
def test_methods_that_no_path_has(tmp_path: Path, bus: PrivateBus, method: str) -> None:
    write_config(tmp_path)

    def ask(place: Path) -> None:
        with connect(place) as session:
            for path, known in DOCUMENT["paths"].items():
                answer = session.request(method, f"http://agent{path}".replace("{npu}", "3"))
                if "{change}" not in path:
                    assert answer.status_code == 405, path
                    assert answer.headers["allow"] == ", ".join(sorted(known)).upper()
                    assert answer.json()["error"]["code"] == "request-invalid"

    async def scenario() -> None:
        async with daemon(tmp_path, bus) as one:
            await asyncio.to_thread(ask, one.socket)

    asyncio.run(scenario())


def set_aside(place: Path) -> None:
    """Something happens."""
    client = AgentClient(place)
    client.quarantine(3, "a new fan")
    client.close()


@pytest.mark.parametrize("operation", STREAMS)
def test_each_part_of_a_stream_is_as_described(
    tmp_path: Path, bus: PrivateBus, operation: str
) -> None:
    write_config(tmp_path)
    path, described = next(
        (path, methods["get"])
        for path, methods in DOCUMENT["paths"].items()
        if methods.get("get", {}).get("operationId") == operation
    )
    ((media_type, content),) = described["responses"]["200"]["content"].items()
    validator = Draft202012Validator({**content["schema"], "components": DOCUMENT["components"]})

    async def scenario() -> None:
        async with (
            daemon(tmp_path, bus) as one,
            connected(str(one.socket), 2**20) as (reader, writer),
        ):
            target = path.replace("{name}", "8b")
            writer.write(f"GET {target} HTTP/1.0\r\nHost: a\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            assert head.split()[1] == "200"
            assert f"content-type: {media_type}\r\n" in head
            await asyncio.to_thread(set_aside, one.socket)
            async with asyncio.timeout(10):
                while not (line := await reader.readline()).startswith((b"data: ", b"{")):
                    pass
            validator.validate(json.loads(line.removeprefix(b"data: ")))

    asyncio.run(scenario())
