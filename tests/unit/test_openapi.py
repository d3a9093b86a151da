# SPDX-License-Identifier: MulanPSL-2.0
"""The API's description stands in a file; what is in it for clients stays."""

import json
from pathlib import Path

import pytest

from agent.status.api.__main__ import document
from agent.status.api.openapi import REFERENCE

FILE = Path(__file__).resolve().parents[2] / "etc" / "openapi.json"


def test_the_file_is_what_the_code_says(request: pytest.FixtureRequest) -> None:
    """Look at the difference: a field that went, or got another name or type, breaks clients."""
    if request.config.getoption("--update-golden"):
        FILE.write_text(document(), encoding="utf-8")
    assert FILE.read_text(encoding="utf-8") == document()


def test_every_reference_leads_somewhere() -> None:
    text = FILE.read_text(encoding="utf-8")
    schemas = json.loads(text)["components"]["schemas"]
    named = {part.split('"')[0] for part in text.split(REFERENCE.removesuffix("{name}"))[1:]}
    assert named == set(schemas)


def test_operations_have_names_of_their_own() -> None:
    paths = json.loads(FILE.read_text(encoding="utf-8"))["paths"]
    names = [one["operationId"] for path in paths.values() for one in path.values()]
    assert len(names) == len(set(names))
