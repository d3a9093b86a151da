# SPDX-License-Identifier: MulanPSL-2.0
"""All images of Podman's storage and who uses them, and the removal of one: in comes its API.

Nothing is removed by force: Podman refuses what a container uses, also one that came meanwhile.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import quote

# An image of 20 GB is some 100 000 files.
REMOVE_TIMEOUT_S = 600
GONE = 404


class Response(Protocol):
    """As much of requests.Response as is needed."""

    status_code: int

    def raise_for_status(self) -> None: ...

    def json(self) -> Any: ...


class Api(Protocol):
    """podman.client.api"""

    def get(self, path: str, **options: Any) -> Response: ...

    def delete(self, path: str, **options: Any) -> Response: ...


def list_images(api: Api) -> list[Mapping[str, object]]:
    """Rows of id, names, digests, size_bytes, created_at, used_by (empty: nobody)."""
    rows = _rows(api, "/images/json", {"all": "true"})
    users = _users(api)
    for row in rows:
        parent = _id(row.get("ParentId"))
        users.setdefault(parent, f"image {_id(row.get('Id'))[:12]}")
        if row.get("Containers"):  # counts those that are not Podman's own, too
            users.setdefault(_id(row.get("Id")), "a container")
    return [_image(row, users) for row in rows]


def remove_image(api: Api, image_id: str, names: Sequence[str]) -> None:
    """The last of its names takes it along; one that is not there is no error."""
    for name in names or (image_id,):
        response = api.delete(
            f"/images/{quote(name, safe='/:@')}",
            params={"force": "false"},
            timeout=REMOVE_TIMEOUT_S,
        )
        if response.status_code != GONE:
            response.raise_for_status()


def _users(api: Api) -> dict[str, str]:
    """A container by the id of its image, stopped ones and those of Buildah among them."""
    containers = _rows(api, "/containers/json", {"all": "true", "external": "true"})
    return {_id(row.get("ImageID")): f"container {_id(row.get('Id'))[:12]}" for row in containers}


def _rows(api: Api, path: str, parameters: Mapping[str, str]) -> list[Mapping[str, object]]:
    response = api.get(path, params=dict(parameters))
    response.raise_for_status()
    answer = response.json()
    if not isinstance(answer, list) or not all(isinstance(row, dict) for row in answer):
        raise ValueError(f"{path} is no list")
    return answer


def _image(row: Mapping[str, object], users: Mapping[str, str]) -> Mapping[str, object]:
    image_id = _id(row.get("Id"))
    if not image_id:
        raise ValueError("an image has no id")
    size, created = row.get("Size"), row.get("Created")
    return {
        "image_id": image_id,
        "names": [name for name in _texts(row.get("RepoTags")) if not name.startswith("<none>")],
        "digests": _texts(row.get("RepoDigests")),
        "size_bytes": size if isinstance(size, int) else 0,
        "created_at": created if isinstance(created, int) else 0,
        "used_by": users.get(image_id, ""),
    }


def _id(value: object) -> str:
    return value.removeprefix("sha256:") if isinstance(value, str) else ""


def _texts(value: object) -> list[str]:
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []
