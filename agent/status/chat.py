# SPDX-License-Identifier: MulanPSL-2.0
"""Asks a served model, through the same endpoint that users take, and streams its answer."""

import ssl
from collections.abc import Iterator
from typing import TextIO

import httpx
import msgspec

from agent.decoding import decode_json
from agent.errors import AgentError, Code
from agent.model import Phase
from agent.status.snapshot import InstanceView
from agent.tls import trust_only

CONNECT_TIMEOUT_S = 5.0
# Between two pieces of an answer; the first waits for the whole prompt to be read.
READ_TIMEOUT_S = 300.0


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None  # the name in newer vLLM


class _Choice(msgspec.Struct):
    delta: _Delta


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []


def chat(view: InstanceView, prompt: str, out: TextIO, key: str = "") -> None:
    """Writes the answer to `out` as it comes. Raises AgentError when there is none."""
    request = {
        "model": view.served_name,
        "messages": [{"role": "user", "content": prompt}],
        "stream": True,
    }
    if key and view.phase is not Phase.SERVING:
        # Whoever else listens there now does not get the key.
        raise _refused(view, "it does not serve")
    timeout = httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
    url = f"{view.endpoint}/v1/chat/completions"
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        with (
            httpx.Client(timeout=timeout, trust_env=False, verify=_trust(view)) as client,
            client.stream("POST", url, json=request, headers=headers) as answer,
        ):
            if not answer.is_success:
                answer.read()
                raise _refused(view, f"HTTP {answer.status_code}: {answer.text[:300]}")
            for piece in _pieces(answer.iter_lines()):
                out.write(piece)
                out.flush()
    except httpx.HTTPError as error:
        raise _refused(view, str(error) or type(error).__name__) from error
    except ValueError as error:
        raise _refused(view, f"the answer is not what vLLM sends: {error}") from error
    out.write("\n")


def _trust(view: InstanceView) -> ssl.SSLContext | bool:
    """The engine's own certificate and no other; without TLS there is nothing to check."""
    try:
        return trust_only(view.certificate) if view.certificate else False
    except OSError as error:
        raise _refused(view, f"its certificate {view.certificate}: {error}") from error


def _pieces(lines: Iterator[str]) -> Iterator[str]:
    """Text of a server-sent event stream. Thinking that the engine tells apart is marked again, so
    that it looks the same with and without a reasoning parser."""
    thinking = False
    for line in lines:
        data = line.removeprefix("data:").strip()
        if not line.startswith("data:") or data == "[DONE]":
            continue
        for choice in decode_json(data, _Chunk).choices:
            thought = choice.delta.reasoning_content or choice.delta.reasoning
            if thought:
                yield thought if thinking else f"<think>{thought}"
                thinking = True
            if choice.delta.content:
                yield f"</think>\n{choice.delta.content}" if thinking else choice.delta.content
                thinking = False


def _refused(view: InstanceView, why: str) -> AgentError:
    return AgentError(
        Code.REQUEST_INVALID,
        f"cannot chat with {view.name} at {view.endpoint}: {why}",
        f"it is: {view.status}",
    )
