# SPDX-License-Identifier: MulanPSL-2.0
"""What a vLLM server must do for the agent: in a base URL, out an AssertionError or nothing.

The double and a real vLLM must pass the same checks, so nothing here knows of the double's texts.
Standard library only; every request has a deadline.
"""

import http.client
import json
import re
import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

METRICS = (
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "vllm:prompt_tokens_total",
    "vllm:generation_tokens_total",
    "vllm:kv_cache_usage_perc",
)
FIRST_TOKENS = "vllm:time_to_first_token_seconds"


@dataclass(frozen=True, slots=True)
class Target:
    base_url: str
    model: str
    api_key: str = ""
    timeout_s: float = 5.0
    certificate: str = ""  # of an https target: the PEM file to trust; empty: what the system does

    def connect(self) -> http.client.HTTPConnection:
        url = urlsplit(self.base_url)
        assert url.hostname is not None
        if url.scheme != "https":
            return http.client.HTTPConnection(url.hostname, url.port, timeout=self.timeout_s)
        trust = ssl.create_default_context(cafile=self.certificate or None)
        return http.client.HTTPSConnection(
            url.hostname, url.port, timeout=self.timeout_s, context=trust
        )

    def connect_bare(self) -> socket.socket:
        """Without TLS, whatever the target speaks."""
        url = urlsplit(self.base_url)
        return socket.create_connection((url.hostname, url.port), timeout=self.timeout_s)

    def headers(self) -> dict[str, str]:
        key = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        return {"Content-Type": "application/json", **key}


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    content_type: str
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def ask(target: Target, path: str, body: object = None, raw: bytes | None = None) -> Answer:
    """GET without a body, else POST."""
    data = json.dumps(body).encode() if raw is None and body is not None else raw
    with closing(target.connect()) as connection:
        return _ask_on(connection, target, path, data)


def _ask_on(
    connection: http.client.HTTPConnection, target: Target, path: str, data: bytes | None
) -> Answer:
    connection.request("GET" if data is None else "POST", path, data, target.headers())
    with connection.getresponse() as response:
        content_type = response.getheader("content-type") or ""
        return Answer(response.status, content_type, response.read())


def read_events(target: Target, path: str, body: object) -> Iterator[Any]:
    """The `data:` events of a stream, parsed; the last one is the text `[DONE]`."""
    with closing(target.connect()) as connection:
        connection.request("POST", path, json.dumps(body), target.headers())
        with connection.getresponse() as response:
            assert response.status == 200, response.read()
            assert (response.getheader("content-type") or "").startswith("text/event-stream")
            for line in response:
                if line.startswith(b"data: "):
                    data = line.removeprefix(b"data: ").strip()
                    yield "[DONE]" if data == b"[DONE]" else json.loads(data)


def read_metrics(target: Target) -> dict[str, float]:
    """The values of METRICS."""
    text = ask(target, "/metrics").body.decode()
    pattern = re.compile(r"^(vllm:\w+)\{([^}]*)\} (\S+)$", re.MULTILINE)
    found = {name: float(value) for name, _, value in pattern.findall(text)}
    return {name: found[name] for name in METRICS}


def completion(target: Target, max_tokens: int = 1, **more: object) -> dict[str, object]:
    return {"model": target.model, "prompt": "Hello", "max_tokens": max_tokens, **more}


def chat(target: Target, text: str = "Hello", **more: object) -> dict[str, object]:
    messages = [{"role": "user", "content": text}]
    return {"model": target.model, "messages": messages, **more}


def is_port_open(target: Target) -> bool:
    try:
        with target.connect_bare():
            return True
    except ConnectionError:  # refused, or reset by one that is just being closed
        return False


def check_health(target: Target) -> None:
    answer = ask(target, "/health")
    assert (answer.status, answer.body) == (200, b"")


def check_version(target: Target) -> None:
    assert ask(target, "/version").json()["version"]


def check_models(target: Target) -> None:
    body = ask(target, "/v1/models").json()
    assert body["object"] == "list"
    card = {card["id"]: card for card in body["data"]}[target.model]
    assert card["owned_by"] == "vllm"
    assert card["max_model_len"] > 0


def check_metrics(target: Target) -> None:
    answer = ask(target, "/metrics")
    assert answer.content_type.startswith("text/plain")
    text = answer.body.decode()
    for name in METRICS:
        kind = "counter" if name.endswith("_total") else "gauge"
        assert re.search(rf"^# HELP {name} \S", text, re.MULTILINE), name
        assert re.search(rf"^# TYPE {name} {kind}$", text, re.MULTILINE), name
        labels = re.search(rf"^{name}\{{([^}}]*)\}} [0-9.e+]+$", text, re.MULTILINE)
        assert labels, name
        assert 'engine="0"' in labels[1]
        assert f'model_name="{target.model}"' in labels[1]
    assert re.search(rf"^# TYPE {FIRST_TOKENS} histogram$", text, re.MULTILINE)
    for part in ("count", "sum"):
        assert re.search(rf"^{FIRST_TOKENS}_{part}\{{[^}}]*\}} [0-9.e+-]+$", text, re.MULTILINE)


def check_completion(target: Target) -> None:
    body = ask(target, "/v1/completions", completion(target)).json()
    assert body["object"] == "text_completion"
    assert isinstance(body["choices"][0]["text"], str)
    assert body["choices"][0]["finish_reason"] == "length"
    usage = body["usage"]
    assert usage["completion_tokens"] == 1
    assert usage["total_tokens"] == usage["prompt_tokens"] + 1


def check_chat(target: Target) -> None:
    body = ask(target, "/v1/chat/completions", chat(target, max_tokens=5)).json()
    assert body["object"] == "chat.completion"
    assert body["model"] == target.model
    assert body["choices"][0]["message"]["role"] == "assistant"
    assert 1 <= body["usage"]["completion_tokens"] <= 5


def check_completion_stream(target: Target) -> None:
    body = completion(target, 4, stream=True, stream_options={"include_usage": True})
    *chunks, usage, done = read_events(target, "/v1/completions", body)
    assert done == "[DONE]"
    assert usage["choices"] == []
    assert 1 <= usage["usage"]["completion_tokens"] <= 4
    assert chunks[-1]["choices"][0]["finish_reason"] in ("length", "stop")
    assert all(chunk["object"] == "text_completion" for chunk in chunks)


def check_chat_stream(target: Target) -> None:
    body = chat(target, max_tokens=4, stream=True)
    first, *chunks, done = read_events(target, "/v1/chat/completions", body)
    assert done == "[DONE]"
    assert first["object"] == "chat.completion.chunk"
    assert first["choices"][0]["delta"]["role"] == "assistant"
    assert chunks[-1]["choices"][0]["finish_reason"] in ("length", "stop")


def check_progress(target: Target) -> None:
    """A canary moves both token counters: this is what the agent calls progress."""
    before = read_metrics(target)
    ask(target, "/v1/completions", completion(target, 3, ignore_eos=True))
    after = read_metrics(target)
    assert after["vllm:generation_tokens_total"] >= before["vllm:generation_tokens_total"] + 3
    assert after["vllm:prompt_tokens_total"] > before["vllm:prompt_tokens_total"]


def check_unknown_model(target: Target) -> None:
    body = {**completion(target), "model": "no-such-model"}
    _assert_error(ask(target, "/v1/completions", body), 404)


def check_bad_json(target: Target) -> None:
    _assert_error(ask(target, "/v1/chat/completions", raw=b"{not json"), 400)


def check_missing_messages(target: Target) -> None:
    _assert_error(ask(target, "/v1/chat/completions", {"model": target.model}), 400)


def check_too_many_tokens(target: Target) -> None:
    _assert_error(ask(target, "/v1/completions", completion(target, 10**9)), 400)


def _assert_error(answer: Answer, status: int) -> None:
    assert answer.status == status, answer
    error = answer.json()["error"]
    assert error["message"]
    assert error["type"]
    assert error["code"] == status


def check_unknown_path(target: Target) -> None:
    assert ask(target, "/v1/no-such-path").status == 404


def check_keep_alive(target: Target) -> None:
    with closing(target.connect()) as connection:
        for _ in range(3):
            assert _ask_on(connection, target, "/health", None).status == 200
            data = json.dumps(completion(target)).encode()
            assert _ask_on(connection, target, "/v1/completions", data).status == 200


def check_concurrent(target: Target) -> None:
    body = completion(target, 4)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask(target, "/v1/completions", body), range(8)))
    assert [answer.status for answer in answers] == [200] * 8


def check_api_key(target: Target) -> None:
    """Only for a target with a key: /v1 asks for it, the probes' paths do not."""
    for key in ("", "wrong"):
        stranger = replace(target, api_key=key)
        assert ask(stranger, "/v1/models").status == 401
        assert ask(stranger, "/v1/completions", completion(target)).status == 401
        assert ask(stranger, "/health").status == 200
        assert ask(stranger, "/metrics").status == 200
    assert ask(target, "/v1/models").status == 200


def check_no_plain_http(target: Target) -> None:
    """Only for https: a client without TLS is not answered in HTTP, and the next one is served."""
    with target.connect_bare() as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"HTTP/" not in _read_to_the_end(connection)
    check_health(target)


def _read_to_the_end(connection: socket.socket) -> bytes:
    """A reset is an end, too. Raises TimeoutError when there is none."""
    data = b""
    try:
        while more := connection.recv(65536):
            data += more
    except ConnectionError:
        pass
    return data


def check_unfinished_handshakes(target: Target) -> None:
    """Only for https: clients that say nothing, or stop in the first record, hold up nobody."""
    with ExitStack() as stack:
        for opening in (b"", b"\x16\x03\x01\x02\x00\x01") * 10:
            stack.enter_context(target.connect_bare()).sendall(opening)
        for _ in range(3):
            check_health(target)


TLS_CHECKS = (check_no_plain_http, check_unfinished_handshakes)
CHECKS = (
    check_health,
    check_version,
    check_models,
    check_metrics,
    check_completion,
    check_chat,
    check_completion_stream,
    check_chat_stream,
    check_progress,
    check_unknown_model,
    check_bad_json,
    check_missing_messages,
    check_too_many_tokens,
    check_unknown_path,
    check_keep_alive,
    check_concurrent,
)
