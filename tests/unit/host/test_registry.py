# SPDX-License-Identifier: MulanPSL-2.0
"""What an image weighs, asked at a registry on loopback that may answer anything."""

import hashlib
import json
import platform
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from agent.errors import AgentError, Code
from agent.host.registry import (
    ARCHITECTURES,
    BODY_LIMIT_BYTES,
    Layer,
    read_digest,
    read_layers,
)
from agent.host.registry_access import Credentials
from agent.references import parse_reference
from agent.supplies import ImageSource

FIRST, SECOND, INNER = (f"sha256:{letter * 64}" for letter in "abc")
MANIFEST = {"layers": [{"digest": FIRST, "size": 100}, {"digest": SECOND, "size": 50}]}
LAYERS = (Layer(FIRST, 100), Layer(SECOND, 50))
MACHINE = ARCHITECTURES.get(platform.machine(), platform.machine())


class Registry(ThreadingHTTPServer):
    """`answers`: path -> body; with `user` it wants Basic authentication."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, bytes] = {}
        self.challenge = ""
        self.asked: list[tuple[str, str]] = []  # path, Authorization
        self.moved: dict[str, str] = {}  # path -> where it is

    def put(self, what: str, document: object) -> str:
        """The digest of what was written."""
        body = json.dumps(document).encode()
        self.answers[f"/v2/lab/small/manifests/{what}"] = body
        return f"sha256:{hashlib.sha256(body).hexdigest()}"

    def put_config(self, architecture: str) -> None:
        """As quay.io has it: somewhere else."""
        body = json.dumps({"os": "linux", "architecture": architecture}).encode()
        self.moved[f"/v2/lab/small/blobs/{INNER}"] = "/cdn"
        self.answers["/cdn"] = body


class Handler(BaseHTTPRequestHandler):
    server: Registry

    def do_GET(self) -> None:
        sent = self.headers.get("Authorization", "")
        self.server.asked.append((self.path, sent))
        if self.server.challenge and not sent:
            self._send(401, b"{}", {"WWW-Authenticate": self.server.challenge})
            return
        if place := self.server.moved.get(self.path):
            self._send(307, b"", {"Location": place})
            return
        body = self.server.answers.get(self.path)
        self._send(404 if body is None else 200, body or b"{}", {})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def registry() -> Iterator[Registry]:
    server = Registry()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def ask(registry: Registry, credentials: Credentials | None = None) -> tuple[Layer, ...] | None:
    text = f"localhost:{registry.server_port}/lab/small:1"
    reference = parse_reference(text)
    assert reference is not None
    return read_layers(ImageSource(text, tls_verify=False), reference, credentials)


def test_layers_of_a_manifest(registry: Registry) -> None:
    registry.put("1", MANIFEST)
    assert ask(registry) == LAYERS


def test_a_layer_that_is_there_twice_is_fetched_once(registry: Registry) -> None:
    registry.put("1", {"layers": [*MANIFEST["layers"], *MANIFEST["layers"]]})
    assert ask(registry) == LAYERS


def test_of_several_architectures_the_one_of_this_machine(registry: Registry) -> None:
    others = {"digest": FIRST, "platform": {"os": "linux", "architecture": "mips"}}
    ours = {"digest": INNER, "platform": {"os": "linux", "architecture": MACHINE}}
    registry.put("1", {"manifests": [others, ours]})
    registry.put(INNER, MANIFEST)
    assert ask(registry) == LAYERS
    registry.put("1", {"manifests": [others]})
    assert ask(registry) is None


def test_a_registry_that_wants_a_password(registry: Registry) -> None:
    registry.put("1", MANIFEST)
    registry.challenge = 'Basic realm="lab"'
    assert ask(registry) is None
    assert ask(registry, Credentials("user", "secret")) == LAYERS
    assert registry.asked[-1][1] == "Basic dXNlcjpzZWNyZXQ="


def test_a_password_goes_to_no_token_server_without_tls(registry: Registry) -> None:
    registry.put("1", MANIFEST)
    registry.challenge = f'Bearer realm="http://localhost:{registry.server_port}/token"'
    assert ask(registry, Credentials("user", "secret")) is None
    assert [path for path, sent in registry.asked if sent or "token" in path] == []


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        {"layers": 7},
        {"layers": [7]},
        {"layers": [{"digest": FIRST}]},
        {"layers": [{"digest": FIRST, "size": "100"}]},
        {"layers": [{"digest": FIRST, "size": -1}]},
        {"layers": [{"digest": FIRST, "size": 1 << 60}]},
        {"layers": [{"digest": "../../etc/passwd", "size": 1}]},
        {"manifests": [{"digest": "../x", "platform": {"os": "linux", "architecture": MACHINE}}]},
        {"manifests": [{}]},
        {"manifests": 7},
    ],
)
def test_what_is_no_manifest_tells_nothing(registry: Registry, document: object) -> None:
    registry.put("1", document)
    assert not ask(registry)


def test_an_endless_manifest_tells_nothing(registry: Registry) -> None:
    registry.answers["/v2/lab/small/manifests/1"] = b" " * (BODY_LIMIT_BYTES + 1)
    assert ask(registry) is None


def test_nobody_there_tells_nothing(registry: Registry) -> None:
    reference = parse_reference("localhost:1/lab/small:1")
    assert reference is not None
    assert read_layers(ImageSource("localhost:1/lab/small:1"), reference, None) is None


# --- the one of an architecture ------------------------------------------------------------------

OTHERS = [
    {"digest": FIRST, "platform": {"os": "linux", "architecture": "amd64"}},
    {"digest": SECOND, "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}},
    {"digest": INNER, "platform": {"os": "unknown", "architecture": "unknown"}},  # of a build
]
SINGLE = {**MANIFEST, "config": {"digest": INNER, "size": 40}}


def ask_digest(
    registry: Registry, architecture: str, credentials: Credentials | None = None
) -> str:
    text = f"localhost:{registry.server_port}/lab/small:1"
    reference = parse_reference(text)
    assert reference is not None
    return read_digest(ImageSource(text, tls_verify=False), reference, credentials, architecture)


@pytest.mark.parametrize(("architecture", "digest"), [("amd64", FIRST), ("arm64", SECOND)])
def test_of_several_architectures_the_one_that_is_asked_for(
    registry: Registry, architecture: str, digest: str
) -> None:
    registry.put("1", {"manifests": OTHERS})
    assert ask_digest(registry, architecture) == digest


def test_an_image_of_one_architecture_is_it_or_is_not(registry: Registry) -> None:
    digest = registry.put("1", SINGLE)
    registry.put_config("arm64")
    assert ask_digest(registry, "arm64") == digest
    with pytest.raises(AgentError, match=r"it has it for arm64$") as raised:
        ask_digest(registry, "amd64")
    assert raised.value.failure.code is Code.SOURCE_NOT_FOUND


def test_one_whose_architecture_cannot_be_read_is_seen_when_it_is_here(registry: Registry) -> None:
    digest = registry.put("1", SINGLE)
    assert ask_digest(registry, "arm64") == digest


def test_what_an_index_has_instead_is_named(registry: Registry) -> None:
    registry.put("1", {"manifests": OTHERS[:1]})
    with pytest.raises(AgentError, match=r"lab/small:1 for arm64: it has it for amd64$") as raised:
        ask_digest(registry, "arm64")
    assert raised.value.failure.code is Code.SOURCE_NOT_FOUND
    assert raised.value.failure.hint


def test_a_password_for_it(registry: Registry) -> None:
    registry.put("1", {"manifests": OTHERS})
    registry.challenge = 'Basic realm="lab"'
    with pytest.raises(AgentError) as raised:
        ask_digest(registry, "arm64")
    assert raised.value.failure.code is Code.SOURCE_REFUSED
    assert ask_digest(registry, "arm64", Credentials("user", "secret")) == SECOND


@pytest.mark.parametrize("document", [[], {}, {"manifests": 7}, {"manifests": [{}]}])
def test_what_is_no_index_has_no_architecture(registry: Registry, document: object) -> None:
    registry.put("1", document)
    with pytest.raises(AgentError) as raised:
        ask_digest(registry, "arm64")
    assert raised.value.failure.code in (Code.SOURCE_UNREACHABLE, Code.SOURCE_NOT_FOUND)


def test_where_it_is_not_and_where_nobody_is(registry: Registry) -> None:
    with pytest.raises(AgentError) as raised:
        ask_digest(registry, "arm64")
    assert raised.value.failure.code is Code.SOURCE_NOT_FOUND
    reference = parse_reference("localhost:1/lab/small:1")
    assert reference is not None
    with pytest.raises(AgentError) as raised:
        read_digest(ImageSource(str(reference)), reference, None, "arm64")
    assert raised.value.failure.code is Code.SOURCE_UNREACHABLE
