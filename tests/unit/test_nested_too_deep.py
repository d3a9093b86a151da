# SPDX-License-Identifier: MulanPSL-2.0
"""JSON that is nested deeper than a decoder goes: msgspec and json raise RecursionError then, which
is no ValueError. To whoever reads it, it is damaged like any other. Found by tests/fuzz."""

import asyncio
from pathlib import Path

import httpx
import pytest

from agent.control.events import decode_event
from agent.control.memory import decode_memory
from agent.errors import AgentError, Code
from agent.health.asking import Asker, Engine
from agent.health.state import Outcome, Question
from agent.host.config import decode_last
from agent.host.machine import LocalMachine
from agent.host.registry import TROUBLE, Asking
from agent.ports import Answer, Ask, Server, StoredEvent
from agent.references import parse_reference
from agent.status.api.asgi import Request
from agent.status.api.bounded import Message
from agent.status.api.operation import Accepted, read_body
from agent.status.api.peer import Peer
from agent.supply.letters import read_order

NESTED = '{"x": ' + "[" * 1500 + "]" * 1500 + "}"


def test_an_event() -> None:
    assert decode_event(StoredEvent(1, 1.0, "8b", "held", None, NESTED)) is None


def test_what_outlives_the_agent() -> None:
    with pytest.raises(ValueError, match="nested"):
        decode_memory(NESTED)
    with pytest.raises(ValueError, match="nested"):
        decode_last(NESTED)


def test_config_json_of_a_model_from_a_hub(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"num_attention_heads": 32,' + NESTED[1:])
    (tmp_path / "model.safetensors").write_bytes(b"x")
    assert "config.json is damaged" in LocalMachine().model(str(tmp_path)).problem


def test_an_order(tmp_path: Path) -> None:
    (tmp_path / "8b.order.json").write_text(NESTED)
    with pytest.raises(ValueError, match="nested"):
        read_order(tmp_path, "8b")


def test_what_a_registry_answers() -> None:
    reference = parse_reference("mirror.example/a/b:1")
    assert reference is not None
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=NESTED.encode()))
    with httpx.Client(transport=transport) as client, pytest.raises(TROUBLE):
        Asking(client, reference, None).layers("https")


def test_what_somebody_asks_the_agent_for() -> None:
    async def receive() -> Message:
        return {"type": "http.request", "body": NESTED.encode()}

    request = Request(Peer(1, 0, 0), {}, {}, {}, receive)
    with pytest.raises(AgentError) as refused:
        asyncio.run(read_body(request, Accepted))
    assert refused.value.failure.code is Code.REQUEST_INVALID


class _Engine:
    """An `Http` that has one answer."""

    async def ask(self, server: Server, ask: Ask, deadline_s: float) -> Answer:
        return Answer(200, NESTED.encode())


def test_what_an_engine_answers() -> None:
    engine = Engine(Server("127.0.0.1", 2023), lambda: None, "8b")
    outcome, _ = asyncio.run(Asker(_Engine(), engine).ask(Question.CANARY, 1.0))
    assert outcome is Outcome.ODD
