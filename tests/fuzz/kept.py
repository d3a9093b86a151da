# SPDX-License-Identifier: MulanPSL-2.0
"""What lies on the disk, or in /run, and may be damaged or of another version: the agent's memory,
the last good configuration, an event, a model's manifest, a bundle's description, a model's
config.json."""

from contextlib import suppress

import msgspec

from agent.control.events import decode_event
from agent.control.memory import decode_memory, encode_memory
from agent.errors import AgentError
from agent.host.config import decode_last, encode_last
from agent.host.machine import LocalMachine
from agent.ports import StoredEvent
from agent.supplies import MANIFEST_NAME
from agent.supply.bundle.text import parse_bundle, render_bundle
from agent.supply.hub.listing import path_trouble
from agent.supply.letters import read_order
from agent.supply.manifest import read_manifest, write_manifest
from tests.fuzz.target import Target, folder, text_of


def check_memory(data: bytes) -> None:
    try:
        memory = decode_memory(text_of(data))
    except ValueError:
        return
    text = encode_memory(memory)
    assert encode_memory(decode_memory(text)) == text


def check_last_config(data: bytes) -> None:
    try:
        config = decode_last(text_of(data))
    except ValueError:
        return
    if config is not None:
        text = encode_last(config)
        again = decode_last(text)
        assert again is not None
        assert encode_last(again) == text


def check_event(data: bytes) -> None:
    event = decode_event(StoredEvent(1, 1.0, "8b", "held", None, text_of(data)))
    if event is not None:
        text = msgspec.json.encode(event).decode()
        assert msgspec.json.encode(decode_event(StoredEvent(1, 1.0, "8b", "held", None, text))) == (
            text.encode()
        )


def check_manifest(data: bytes) -> None:
    place = folder() / "model"
    place.mkdir(exist_ok=True)
    (place / MANIFEST_NAME).write_bytes(data)
    try:
        manifest = read_manifest(place)
    except AgentError:
        return
    assert manifest is not None
    assert not any(path_trouble(file.path) for file in manifest.files)
    write_manifest(place, manifest)
    assert read_manifest(place) == manifest


def check_bundle(data: bytes) -> None:
    try:
        bundle = parse_bundle(data)
    except ValueError:
        return
    assert parse_bundle(render_bundle(bundle)) == bundle


def check_order(data: bytes) -> None:
    (folder() / "8b.order.json").write_bytes(data)
    with suppress(ValueError):
        read_order(folder(), "8b")


def check_model(data: bytes) -> None:
    place = folder() / "config"
    place.mkdir(exist_ok=True)
    (place / "config.json").write_bytes(data)
    (place / "model.safetensors").write_bytes(b"x")
    facts = LocalMachine().model(str(place))
    assert 0 <= facts.attention_heads <= 2**20
    assert 0 <= facts.kv_heads <= 2**20


TARGETS = (
    Target("model-config", check_model, is_json=True),
    Target("memory", check_memory, is_json=True),
    Target("last-config", check_last_config, 8192, is_json=True),
    Target("event", check_event, is_json=True),
    Target("manifest", check_manifest, is_json=True),
    Target("bundle", check_bundle, is_json=True),
    Target("order", check_order, is_json=True),
)
