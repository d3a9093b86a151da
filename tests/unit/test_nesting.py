# SPDX-License-Identifier: MulanPSL-2.0
"""JSON that is nested deeper than anybody reads, where others say what the agent reads: refused as
other garbage is. (Python and msgspec raise RecursionError for it, which is no ValueError: one such
answer of an engine, or one such file, ended the agent, and the next one.)
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from agent.action.running import load_running
from agent.control.events import decode_event
from agent.control.memory import decode_memory
from agent.errors import AgentError
from agent.evidence.files import read_notes
from agent.health.asking import Asker, Engine
from agent.health.state import Outcome, Question
from agent.host.config import decode_last
from agent.host.image_space import read_present
from agent.host.machine import LocalMachine
from agent.host.registry_access import read_credentials
from agent.ports import Answer, Ask, NoAnswer, Server, StoredEvent
from agent.references import Reference
from tests.scenario.ports import RootedFiles

DEEP = "[" * 100_000
TEXTS = {
    "open": DEEP,
    "closed": DEEP + "]" * 100_000,
    "beside": '{"x":' * 100_000,  # below what nobody has asked for
}


def put(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def refuses(act: Callable[[], object]) -> bool:
    """By an error that callers know of."""
    with pytest.raises((ValueError, AgentError)):
        act()
    return True


def canary(text: str) -> Outcome:
    class Http:
        async def ask(self, server: Server, request: Ask, deadline_s: float) -> Answer | NoAnswer:
            return Answer(200, text.encode())

    door = Server("127.0.0.1", 1)
    asker = Asker(Http(), Engine(door, lambda: door, "m"))
    return asyncio.run(asker.ask(Question.CANARY, 1))[0]


def last(_: Path, text: str) -> bool:
    """What may be of another version is as if it were not there."""
    with suppress(ValueError):
        return decode_last(text) is None
    return True


def running(folder: Path, text: str) -> bool:
    put(folder, "run/deepseek-agent/running/8b.json", text)
    return load_running(RootedFiles(folder), "8b") is None


def model(folder: Path, text: str) -> bool:
    put(folder, "config.json", text)
    return "config.json is damaged" in LocalMachine().model(str(folder)).problem


def notes(folder: Path, text: str) -> bool:
    put(folder, "evidence/8b.json", text)
    return "no notes" in read_notes("8b", folder).reason


def credentials(folder: Path, text: str) -> bool:
    path = str(put(folder, "auth.json", text))
    return refuses(lambda: read_credentials(path, Reference("a.example", "b", "c", "")))


def layers(folder: Path, text: str) -> bool:
    put(folder, "overlay-layers/layers.json", text)
    return read_present(str(folder)) == frozenset()


READERS: Mapping[str, Callable[[Path, str], bool]] = {
    "engine": lambda _, text: canary(text) is Outcome.ODD,
    "state.json": lambda _, text: refuses(lambda: decode_memory(text)),
    "config.json": last,
    "event": lambda _, text: decode_event(StoredEvent(1, 1.0, "", "x", None, text)) is None,
    "running": running,
    "model": model,
    "notes": notes,
    "credentials": credentials,
    "layers": layers,
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=list(TEXTS))
@pytest.mark.parametrize("name", READERS)
def test_it_is_as_any_garbage(tmp_path: Path, name: str, text: str) -> None:
    assert READERS[name](tmp_path, text)
