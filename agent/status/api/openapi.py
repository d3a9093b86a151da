# SPDX-License-Identifier: MulanPSL-2.0
"""The API's description (OpenAPI 3.1), out of the table of operations and the types of its JSON.

It is made when the package is built, and kept as a file: the agent only hands it out. A test holds
the two together, so no field can be renamed or removed unseen.
"""

import json
from collections.abc import Iterator, Sequence

import msgspec

from agent.errors import Code, http_status
from agent.status.api.access import GROUP, Access
from agent.status.api.operation import BIGGEST, JSON, Operation, Parameter, Refusal
from agent.status.snapshot import SCHEMA

REFERENCE = "#/components/schemas/{name}"
NUMBER = ":int}"  # of our own paths
NAME = {
    "name": "name",
    "in": "path",
    "required": True,
    "description": "of the instance",
    "schema": {"type": "string"},
}
NPU = {
    "name": "npu",
    "in": "path",
    "required": True,
    "description": "the NPU's logic id",
    "schema": {"type": "integer", "minimum": 0},
}
CHANGE = {
    "name": "change",
    "in": "path",
    "required": True,
    "description": "as the answer to the request has named it",
    "schema": {"type": "integer", "minimum": 0},
}
KINDS: dict[type, dict[str, object]] = {
    int: {"type": "integer"},
    str: {"type": "string"},
}
ACCESS = {
    Access.ANYONE: "Any local user.",
    Access.OPERATOR: f"root, and members of the group `{GROUP}`.",
    Access.ROOT: "root alone.",
}
ABOUT = (
    "HTTP/1.1 on /run/deepseek-agent/agent.sock. Who asks is known by the kernel's word"
    " (SO_PEERCRED). Fields, and words of enumerations, are added within `schema`"
    f" {SCHEMA}; none is renamed or removed. Times are seconds since the epoch."
)


def describe(operations: Sequence[Operation]) -> str:
    """The document, as JSON."""
    types = [one.answer for one in operations if one.answer is not bytes] + [Refusal]
    types += [one.body for one in operations if one.body is not None]
    schemas, components = msgspec.json.schema_components(types, ref_template=REFERENCE)
    references = dict(zip(types, schemas, strict=True))
    paths: dict[str, dict[str, object]] = {}
    for one in operations:
        path = one.path.replace(NUMBER, "}")
        paths.setdefault(path, {})[one.method.lower()] = _operation(one, references)
    document = {
        "openapi": "3.1.0",
        "info": {"title": "deepseek-agent", "version": str(SCHEMA), "description": ABOUT},
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": {
                "Refused": {
                    "description": "refused: " + ", ".join(_refusals()),
                    "content": {JSON: {"schema": references[Refusal]}},
                }
            },
        },
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _operation(one: Operation, references: dict[type, dict[str, object]]) -> dict[str, object]:
    described: dict[str, object] = {
        "operationId": one.name,
        "summary": one.summary,
        "description": ACCESS[one.access],
        "parameters": list(_parameters(one)),
        "responses": {
            str(one.status): {
                "description": "done" if one.status == 200 else "will be done",
                "content": {one.media_type: {"schema": references.get(one.answer, {})}},
            },
            "default": {"$ref": "#/components/responses/Refused"},
        },
    }
    if one.body is not None:
        described["requestBody"] = {
            "required": False,
            "content": {JSON: {"schema": references[one.body]}},
        }
    return described


def _refusals() -> Iterator[str]:
    by_status: dict[int, list[Code]] = {}
    for code in sorted(Code):
        by_status.setdefault(http_status(code), []).append(code)
    for status, codes in sorted(by_status.items()):
        yield f"{status} ({', '.join(codes)})"


def _parameters(one: Operation) -> Iterator[dict[str, object]]:
    if "{name}" in one.path:
        yield NAME
    if "{npu" in one.path:
        yield NPU
    if "{change" in one.path:
        yield CHANGE
    yield from map(_parameter, one.query)


def _parameter(one: Parameter) -> dict[str, object]:
    return {
        "name": one.name,
        "in": "query",
        "required": False,
        "description": one.summary,
        "schema": {**KINDS[one.kind], **(_bounds(one) if one.kind is int else {})},
    }


def _bounds(one: Parameter) -> dict[str, object]:
    return {"minimum": one.least, **({"maximum": one.most} if one.most < BIGGEST else {})}
