# SPDX-License-Identifier: MulanPSL-2.0
"""The engine double over TLS: the same contract, clients that do not play along, and bad files."""

import asyncio
import os
import signal
import socket
import ssl
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from tests.fakes.engine import contract
from tests.fakes.engine.certificate import Certificate, make_certificate
from tests.fakes.engine.contract import Target, ask, completion, read_metrics
from tests.fakes.engine.runner import RunningEngine, run_vllm, wait_until
from tests.fakes.engine.vllm_double.tls import load_tls, secure


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def engine(
    tmp_path_factory: pytest.TempPathFactory, certificate: Certificate
) -> Iterator[RunningEngine]:
    folder = tmp_path_factory.mktemp("engine")
    with RunningEngine(folder, key="secret", certificate=certificate) as running:
        running.wait_ready()
        yield running


@pytest.mark.parametrize("check", [*contract.CHECKS, *contract.TLS_CHECKS, contract.check_api_key])
def test_the_double_passes_the_contract(
    engine: RunningEngine, check: Callable[[Target], None]
) -> None:
    assert engine.target.base_url.startswith("https://")
    check(engine.target)
    assert "Exception" not in engine.log


@pytest.mark.parametrize("check", contract.TLS_CHECKS)
def test_uvicorn_passes_the_checks_for_tls(
    certificate: Certificate, check: Callable[[Target], None]
) -> None:
    """It is what does TLS in vLLM, so the checks ask nothing that the real one does not do."""

    async def empty_answer(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    config = uvicorn.Config(
        empty_answer,
        lifespan="off",
        log_config=None,
        timeout_graceful_shutdown=1,
        ssl_certfile=certificate.certfile,
        ssl_keyfile=certificate.keyfile,
    )

    async def check_it() -> None:
        server = uvicorn.Server(config)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            url = f"https://127.0.0.1:{listener.getsockname()[1]}"
            serving = asyncio.create_task(server.serve([listener]))
            try:
                target = Target(url, "m", certificate=str(certificate.certfile))
                await asyncio.to_thread(check, target)
            finally:
                server.should_exit = True
                await serving

    asyncio.run(check_it())


def test_both_lines_of_the_log_say_https(engine: RunningEngine) -> None:
    url = engine.target.base_url
    assert f"Starting vLLM API server 0 on {url}\n" in engine.log
    assert f"Uvicorn running on {url} (Press CTRL+C to quit)" in engine.log


def test_a_client_that_does_not_trust_it_does_no_harm(engine: RunningEngine) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        ask(replace(engine.target, certificate=""), "/health")
    contract.check_health(engine.target)
    assert "Exception" not in engine.log


def test_clients_that_reset_at_once_do_no_harm(engine: RunningEngine) -> None:
    for _ in range(20):
        with engine.target.connect_bare() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    contract.check_health(engine.target)
    assert "Exception" not in engine.log


def test_an_answer_ends_with_the_goodbye_of_tls(engine: RunningEngine) -> None:
    """Without it a client cannot tell the end from an answer that was cut off."""
    trust = ssl.create_default_context(cafile=engine.target.certificate)
    request = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with (
        engine.target.connect_bare() as bare,
        trust.wrap_socket(
            bare, server_hostname="127.0.0.1", suppress_ragged_eofs=False
        ) as connection,
    ):
        connection.sendall(request)
        answer = b""
        while more := connection.recv(4096):
            answer += more
    assert answer.startswith(b"HTTP/1.1 200 ")


def test_a_client_that_goes_away_frees_its_place(tmp_path: Path, certificate: Certificate) -> None:
    with RunningEngine(tmp_path, "--max-num-seqs=1", certificate=certificate, endless=1) as running:
        target = running.wait_ready()
        with pytest.raises(TimeoutError):
            ask(replace(target, timeout_s=0.3), "/v1/completions", completion(target))
        wait_until(lambda: read_metrics(target)["vllm:num_requests_running"] == 0, "an abort")
        assert "Exception" not in running.log


def test_sigkill_of_engine_core_is_told_over_tls_as_without(
    tmp_path: Path, certificate: Certificate
) -> None:
    with RunningEngine(tmp_path, certificate=certificate) as running:
        target = running.wait_ready()
        os.kill(running.core_pid, signal.SIGKILL)
        wait_until(lambda: ask(target, "/health").status == 503, "503")
        assert running.wait_exit() == 0


def test_unfinished_handshakes_do_not_hold_up_the_end(
    tmp_path: Path, certificate: Certificate
) -> None:
    with RunningEngine(tmp_path, certificate=certificate) as running, ExitStack() as clients:
        target = running.wait_ready()
        for opening in (b"", b"\x16\x03\x01"):
            clients.enter_context(target.connect_bare()).sendall(opening)
        contract.check_health(target)  # so they are accepted: they came first
        running.process.terminate()
        assert running.wait_exit(1.0) == 0


def test_a_handshake_has_a_deadline(certificate: Certificate) -> None:
    context = load_tls(str(certificate.certfile), str(certificate.keyfile))
    ours, theirs = socket.socketpair()
    with closing(ours), closing(theirs):
        with pytest.raises(TimeoutError):
            secure(context, ours, deadline_s=0.05)
        assert theirs.recv(1) == b""  # it is closed


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text('{"num_attention_heads": 28}')
    return tmp_path


def run_with(model: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return run_vllm("serve", str(model), "--host=127.0.0.1", "--port=0", *flags)


@pytest.mark.parametrize("only", [0, 1])
def test_one_of_the_two_flags_alone_is_refused(
    model: Path, certificate: Certificate, only: int
) -> None:
    result = run_with(model, certificate.flags[only])
    assert result.returncode == 2
    assert "vllm: error: the engine double wants --ssl-certfile and --ssl-keyfile" in result.stderr


def test_a_password_for_the_key_is_no_flag_of_vllm(model: Path, certificate: Certificate) -> None:
    result = run_with(model, *certificate.flags, "--ssl-keyfile-password=secret")
    assert result.returncode == 2
    assert "unrecognized arguments: --ssl-keyfile-password=secret" in result.stderr


NO_PEM = "ssl.SSLError: [SSL] PEM lib ("


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "FileNotFoundError: [Errno 2] No such file or directory\n"),
        ("", NO_PEM),
        ("this is no PEM", NO_PEM),
    ],
)
@pytest.mark.parametrize("which", ["certfile", "keyfile"])
def test_a_bad_file_ends_it_before_loading(
    model: Path, certificate: Certificate, which: str, content: str | None, message: str
) -> None:
    bad = model / "bad.pem"
    if content is not None:
        bad.write_text(content)
    files = replace(certificate, **{which: bad})
    assert_refused(run_with(model, *files.flags), message)


def assert_refused(result: subprocess.CompletedProcess[str], message: str) -> None:
    assert result.returncode == 1
    assert message in result.stderr
    assert "Loading safetensors" not in result.stderr
    assert "Starting vLLM API server" not in result.stderr


def test_the_key_of_another_certificate(model: Path, certificate: Certificate) -> None:
    other = make_certificate(model)
    mixed = replace(certificate, keyfile=other.keyfile)
    assert_refused(run_with(model, *mixed.flags), "KEY_VALUES_MISMATCH] key values mismatch (")


def test_a_key_with_a_password_is_refused_and_not_asked_about(
    model: Path, certificate: Certificate
) -> None:
    locked = model / "locked.pem"
    command = ["openssl", "ec", "-in", str(certificate.keyfile), "-out", str(locked), "-aes128"]
    subprocess.run(
        [*command, "-passout", "pass:secret"], capture_output=True, timeout=10, check=True
    )
    files = replace(certificate, keyfile=locked)
    assert_refused(run_with(model, *files.flags), NO_PEM)
