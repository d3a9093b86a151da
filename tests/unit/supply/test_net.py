# SPDX-License-Identifier: MulanPSL-2.0
"""Trust, tokens and proxies of a source; what failures of the network are called."""

import socket
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from agent.errors import AgentError, Code
from agent.supplies import Hub, ModelSource
from agent.supply.net import RETRY_AFTER_LIMIT_S, HubClient, retry_after_s
from tests.fakes.hub import HubDouble, Kind, Rule
from tests.unit.supply.hubs import BRANCH, REPO, Bringing, make_repo

pytestmark = pytest.mark.timeout(60)
TOKEN = "hf_s3cret-w0rd"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def make_certificate(folder: Path) -> tuple[Path, Path]:
    certificate, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=hub"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-newkey", "ec"),
            *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[HubDouble, Path]]:
    folder = tmp_path_factory.mktemp("secure")
    make_repo(folder / "hub")
    certificate, key = make_certificate(folder)
    with HubDouble(folder / "hub", "--tls", str(certificate), str(key)) as hub:
        yield hub, certificate


@pytest.mark.parametrize("trust", ["ca_file", "tls_verify", "system"])
def test_a_private_authority(
    secure: tuple[HubDouble, Path], tmp_path: Path, trust: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub, certificate = secure
    bringing = Bringing(hub, hub.folder / REPO, tmp_path / "models")
    assert bringing.fail().failure.code is Code.SOURCE_UNTRUSTED
    hint = bringing.fail().failure.hint
    assert "ca_file" in hint
    assert "tls_verify" in hint
    match trust:
        case "ca_file":
            source = bringing.source(ca_file=str(certificate))
        case "tls_verify":
            source = bringing.source(tls_verify=False)
        case _:
            monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
            source = bringing.source()
    bringing.assert_whole(bringing.bring(source))


def test_a_ca_file_of_no_use(bringing: Bringing, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    for name in ("ca.pem", "missing.pem"):
        failure = bringing.fail(bringing.source(ca_file=str(tmp_path / name))).failure
        assert failure.code is Code.FILE_UNUSABLE
        assert name in failure.message


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubDouble]:
    folder = tmp_path_factory.mktemp("private")
    make_repo(folder)
    with HubDouble(folder, "--token", TOKEN) as hub:
        yield hub


@pytest.mark.parametrize("hub", list(Hub))
def test_a_token_goes_to_its_hub_only(
    private: HubDouble, tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    private.spoil()
    bringing = Bringing(private, private.folder / REPO, tmp_path / "models")
    refused = {Hub.HUGGINGFACE: Code.SOURCE_REFUSED, Hub.MODELSCOPE: Code.SOURCE_NOT_FOUND}
    assert bringing.fail(bringing.source(hub)).failure.code is refused[hub]
    (tmp_path / "token").write_text(TOKEN + "\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    private.spoil()
    bringing.assert_whole(bringing.bring(bringing.source(hub, token_file="credential:token")))
    own = private.endpoint.rpartition("/")[2]
    asked = private.asked()
    assert {one["host"] == own for one in asked} == {True, False}
    for one in asked:
        secret = one.get("authorization", "") + one.get("cookie", "")
        assert (TOKEN in secret) == (one["host"] == own), one


def test_a_page_elsewhere_gets_no_token(private: HubDouble, tmp_path: Path) -> None:
    """A list may name any address as its next page."""
    (tmp_path / "token").write_text(TOKEN)
    source = ModelSource(
        Hub.HUGGINGFACE, private.endpoint, REPO, "main", token_file=str(tmp_path / "token")
    )
    port = int(private.endpoint.rpartition(":")[2])
    private.spoil({"kind": Kind.TEXT, "text": "[]", "times": -1})
    client = HubClient(source, 1)
    try:
        client.get_json(f"http://localhost:{port}/next")
        client.get_json(f"{private.endpoint}/next")
    finally:
        client.close()
    elsewhere, own = private.asked()
    assert "authorization" not in elsewhere
    assert own["authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize("content", [b"", b"two words", b"\xff\xfe", b"a\nb", b"x" * 10_000])
def test_a_token_that_is_none(bringing: Bringing, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "token").write_bytes(content)
    failure = bringing.fail(bringing.source(token_file=str(tmp_path / "token"))).failure
    assert failure.code is Code.FILE_UNUSABLE
    assert "two words" not in failure.message


@pytest.mark.parametrize("name", ["", "..", "../token", "missing"])
def test_a_credential_that_is_none(
    bringing: Bringing, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "credentials").mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    failure = bringing.fail(bringing.source(token_file=f"credential:{name}")).failure
    assert failure.code is Code.FILE_UNUSABLE


def test_a_proxy_is_asked(bringing: Bringing, monkeypatch: pytest.MonkeyPatch) -> None:
    """The double answers as a proxy would: it is sent the address of somebody else."""
    monkeypatch.setenv("HTTP_PROXY", bringing.hub.endpoint)
    bringing.hub.spoil({"kind": Kind.STATUS, "status": 407, "times": -1})
    failure = bringing.fail(bringing.source(endpoint="http://hub.example")).failure
    assert failure.code is Code.SOURCE_REFUSED
    assert "proxy" in failure.message
    assert bringing.hub.asked()[0]["path"].startswith("http://hub.example/api/")


def test_a_proxy_of_no_use(bringing: Bringing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks9://127.0.0.1:1")
    failure = bringing.fail(bringing.source(endpoint="http://hub.example")).failure
    assert failure.code is Code.SOURCE_UNREACHABLE
    assert "proxy" in failure.message


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"])
@pytest.mark.parametrize("text", ["http://proxy.example:port", "http://me:s3cr/et@proxy:3128"])
def test_a_proxy_that_is_no_url(
    bringing: Bringing, monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    """What the variable says is not repeated: part of it may be a password."""
    monkeypatch.setenv(name, text)
    failure = bringing.fail(bringing.source(endpoint="http://hub.example")).failure
    assert failure.code is Code.SOURCE_UNREACHABLE
    assert failure.message.endswith("the proxy cannot be used: it is no URL")
    assert name in failure.hint


@pytest.mark.parametrize("page", ["http://[::1", "http://hub:port/"])
def test_a_next_page_that_is_no_url(bringing: Bringing, page: str) -> None:
    """As a hub that is hostile, or a proxy that is broken, names it."""
    headers = {"Link": f'<{page}>; rel="next"'}
    rule: Rule = {"kind": Kind.STATUS, "status": 200, "text": "[]", "headers": headers}
    bringing.hub.spoil({**rule, "match": "/tree/", "times": -1})
    failure = bringing.fail().failure
    assert failure.code is Code.SOURCE_UNREACHABLE
    assert "its next page is no URL" in failure.message


def test_nobody_listens(bringing: Bringing) -> None:
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        failure = bringing.fail(bringing.source(endpoint=f"http://127.0.0.1:{port}")).failure
    assert failure.code is Code.SOURCE_UNREACHABLE
    assert "refused" in failure.message
    assert failure.hint.endswith(f"curl -v http://127.0.0.1:{port}")


def test_no_such_host(bringing: Bringing) -> None:
    failure = bringing.fail(bringing.source(endpoint="http://hub.invalid")).failure
    assert failure.code is Code.SOURCE_UNREACHABLE


def test_plain_http_where_tls_is_spoken(secure: tuple[HubDouble, Path], tmp_path: Path) -> None:
    hub, _ = secure
    endpoint = hub.endpoint.replace("https", "http")
    source = ModelSource(Hub.HUGGINGFACE, endpoint, REPO, BRANCH[Hub.HUGGINGFACE])
    failure = Bringing(hub, tmp_path, tmp_path / "models").fail(source).failure
    assert failure.code is Code.SOURCE_UNREACHABLE


def test_https_stays_https(
    secure: tuple[HubDouble, Path], private: HubDouble, tmp_path: Path
) -> None:
    """Checksums that came over plain HTTP would be worth nothing."""
    hub, certificate = secure
    private.spoil()
    hub.spoil({"kind": Kind.LEAD, "to": f"{private.endpoint}/x", "times": -1})
    bringing = Bringing(hub, hub.folder / REPO, tmp_path / "models")
    failure = bringing.fail(bringing.source(ca_file=str(certificate))).failure
    hub.spoil()
    assert failure.code is Code.SOURCE_UNTRUSTED
    assert "from https to http" in failure.message
    assert private.asked() == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", 0), ("5", 5), (" 7 ", 7), ("-3", 0), ("x", 0), ("9" * 400, RETRY_AFTER_LIMIT_S),
     ("Wed, 21 Oct 2015 07:28:00 GMT", 0), ("Wed, 21 Oct 2015 07:28:00", 0), ("\u0665", 0)],
)  # fmt: skip
def test_retry_after(text: str, expected: float) -> None:
    assert retry_after_s(text) == expected


def test_retry_after_a_date() -> None:
    later = datetime.now(UTC) + timedelta(seconds=60)
    assert 50 < retry_after_s(format_datetime(later, usegmt=True)) <= 60


@pytest.mark.parametrize(
    "text", ["", "nothing", "7", "{}", "[7]", '[{"path": 7}]', "[" * 100_000, '{"sha": []}']
)
@pytest.mark.parametrize("hub", list(Hub))
def test_an_answer_that_is_nonsense(bringing: Bringing, hub: Hub, text: str) -> None:
    bringing.hub.spoil({"kind": Kind.TEXT, "text": text, "times": -1})
    error = bringing.fail(bringing.source(hub))
    assert isinstance(error, AgentError)
    assert error.failure.code is not Code.INTERNAL
