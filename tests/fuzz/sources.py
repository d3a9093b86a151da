# SPDX-License-Identifier: MulanPSL-2.0
"""What hubs and registries answer, and archives of images that somebody has put into a folder."""

import json
from pathlib import Path

import httpx

from agent.errors import AgentError
from agent.host.registry import LARGEST, TROUBLE, Asking
from agent.references import parse_reference
from agent.supplies import Hub, ModelSource
from agent.supply.archives import read_archive
from agent.supply.hub.ask import list_files
from agent.supply.hub.listing import FILE_LIMIT_BYTES, choose_files, path_trouble
from agent.supply.net import Answer, HubClient
from tests.fuzz.target import Target, folder, text_of

REFERENCE = parse_reference("mirror.example:5000/ascend/vllm-ascend:v1")
PAGE_LIMIT = 20


class _Client(HubClient):
    """Answers each question by the next line, then with an empty list."""

    def __init__(self, lines: list[bytes]) -> None:
        self.host = "hub.example"
        self._lines = iter(lines)

    def get_json(self, url: str) -> Answer:
        assert url.isascii(), url
        line = next(self._lines, b"")
        return Answer(json.loads(line) if line else [], "https://hub.example/2" if line else "")


def _check_hub(hub: Hub, data: bytes) -> None:
    lines = data.split(b"\n")[:PAGE_LIMIT]
    try:
        for line in lines:
            json.loads(line or b"0")
    except (ValueError, RecursionError):
        return  # HubClient says so itself
    source = ModelSource(hub, "https://hub.example", "deepseek-ai/R1", "main")
    try:
        listing = list_files(_Client(lines), source)
        files = choose_files(listing.files, "hub.example")
    except AgentError as error:
        _check_words(str(error))
        return
    assert len(listing.revision) in (0, 40)
    for file in files:
        assert not path_trouble(file.path)
        assert 0 <= file.size <= FILE_LIMIT_BYTES
        assert file.url.isascii()


def _check_words(words: str) -> None:
    assert words.isprintable(), words


def check_huggingface(data: bytes) -> None:
    _check_hub(Hub.HUGGINGFACE, data)


def check_modelscope(data: bytes) -> None:
    _check_hub(Hub.MODELSCOPE, data)


def check_registry(data: bytes) -> None:
    """The answers are parted by empty lines: status and headers in the first one of each."""
    answers = iter(data.split(b"\n\n")[:PAGE_LIMIT])

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.scheme in ("https", ""), request.url
        if not request.url.host:
            raise httpx.UnsupportedProtocol("as httpx's own transport does")
        head, _, body = next(answers, b"404\n").partition(b"\n")
        status, _, challenge = head.partition(b" ")
        number = int(status) if status in (b"200", b"401", b"404", b"500") else 200
        return httpx.Response(number, headers={b"WWW-Authenticate": challenge}, content=body)

    assert REFERENCE is not None
    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        try:
            layers = Asking(client, REFERENCE, None).layers("https")
        except TROUBLE:
            return
    for layer in layers or ():
        assert 0 <= layer.size <= LARGEST
        assert layer.digest.startswith("sha256:")


def check_reference(data: bytes) -> None:
    found = parse_reference(text_of(data))
    if found is not None:
        assert parse_reference(str(found)) == found
        assert str(found).isascii()
        assert not str(found).startswith("-")


def check_archive(data: bytes) -> None:
    path: Path = folder() / "image.tar"
    path.write_bytes(data)
    try:
        images = read_archive(path)
    except (OSError, ValueError, RecursionError):  # as find_archive takes it
        return
    for image in images:
        assert image.size >= 0
        assert all(parse_reference(name) for name in image.names)


TARGETS = (
    Target("huggingface", check_huggingface, is_json=True),
    Target("modelscope", check_modelscope, is_json=True),
    Target("registry", check_registry, is_json=True),
    Target("reference", check_reference, 600),
    Target("archive", check_archive, 16384),
)
