# SPDX-License-Identifier: MulanPSL-2.0
"""What pulls and tags: the real worker over a fake API. Real Podman: tests/lab/test_images.py."""

import asyncio
import base64
import errno
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from podman import PodmanClient

from agent.errors import AgentError, Code
from agent.host import image_sync, images
from tests.fakes.podman_api import FakeContainer, FakePodmanApi, Mode
from tests.scenario.clock import run

# Nobody listens there, so nothing is known about sizes.
NAME = "localhost:1/lab/small:1"
IMAGE_ID, DIGEST = "ab" * 32, f"sha256:{'cd' * 32}"
LAYER = "a" * 12
COMPAT = [
    {"status": "Pulling fs layer", "progressDetail": {}, "id": LAYER},
    {"status": "Downloading", "progressDetail": {"current": 10, "total": 99}, "id": LAYER},
    {"status": "Download complete", "progressDetail": {}, "id": LAYER},
]


@pytest.fixture
def api(tmp_path: Path) -> FakePodmanApi:
    return FakePodmanApi(
        tmp_path / "podman.sock",
        images={NAME: f"sha256:{IMAGE_ID}", IMAGE_ID: f"sha256:{IMAGE_ID}"},
        digests=[f"quay.io/lab/small@sha256:{'ef' * 32}", f"localhost:1/lab/small@{DIGEST}"],
        storage=str(tmp_path),
        pull_lines=COMPAT,  # type: ignore[arg-type]
    )


def ask(api: FakePodmanApi, verb: str, order: object) -> list[dict[str, Any]]:
    async def scenario() -> bytes:
        await api.start()
        try:
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "agent.host.images", verb),
                *("--socket", f"unix://{api.path}"),
                env={**os.environ, "PYTHONPATH": os.getcwd()},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            output, _ = await child.communicate(json.dumps(order).encode())
            return output
        finally:
            await api.close()

    return [json.loads(line) for line in run(scenario()).splitlines()]


def pull(api: FakePodmanApi, reference: str = NAME, **options: object) -> list[dict[str, Any]]:
    source = {"reference": reference, "tls_verify": True, **options}
    return ask(api, "pull", {"source": source, "keep_free_mib": 0})


def pull_here(api: FakePodmanApi) -> Mapping[str, object]:
    """In this process, of which a test may have changed something."""
    order = {"source": {"reference": NAME, "tls_verify": True}, "keep_free_mib": 0}

    def whole() -> Mapping[str, object]:
        with PodmanClient(base_url=f"unix://{api.path}", timeout=10) as client:
            return images.pull(client, order)

    async def scenario() -> Mapping[str, object]:
        await api.start()
        try:
            return await asyncio.to_thread(whole)
        finally:
            await api.close()

    return run(scenario())


def test_pull(api: FakePodmanApi) -> None:
    *told, last = pull(api)
    assert last == {"answer": {"image_id": IMAGE_ID, "digest": DIGEST, "is_new_name": False}}
    assert [(one["progress"]["stage"], one["progress"]["done"]) for one in told] == [
        ("fetching", 0),
        ("fetching", 10),
        ("placing", 99),
        ("placing", 0),  # it is written to the disk
    ]
    (head,) = (one for one in api.heads if "/images/pull" in one)
    assert "tlsVerify=true" in head
    assert "compatMode=true" in head
    assert "X-Registry-Auth" not in head


def test_podman_is_silent_while_it_unpacks(api: FakePodmanApi) -> None:
    """It says that a layer is complete when it is in storage; before that it is no longer the
    registry that is waited for."""
    api.unpack_s, api.fetched = 2.5, (99,)
    api.pull_lines = [*api.pull_lines[:2], {"status": "not yet"}]
    *told, _ = pull(api)
    assert [(one["progress"]["stage"], one["progress"]["done"]) for one in told] == [
        ("fetching", 0),
        ("fetching", 10),
        ("placing", 99),
        ("placing", 0),
    ]


def test_a_pull_says_that_it_has_made_the_name(api: FakePodmanApi) -> None:
    """An image that somebody has pulled under that name before keeps it."""
    api.pulled = {NAME: api.images.pop(NAME)}
    assert pull(api)[-1]["answer"]["is_new_name"] is True
    assert pull(api)[-1]["answer"]["is_new_name"] is False


def test_an_image_is_on_the_disk_before_it_is_told(
    api: FakePodmanApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power cut it is whole, or not there."""
    steps: list[str] = []

    def sync(storage: str) -> None:
        steps.extend([*api.requests, f"sync {storage}"])
        api.requests.clear()

    monkeypatch.setattr(images, "sync_storage", sync)
    assert pull_here(api)["image_id"] == IMAGE_ID
    assert steps[-2:] == ["POST /images/pull", f"sync {api.storage}"]
    assert api.requests == [f"GET /images/{NAME}/json"]


def test_one_that_podman_cannot_read_goes_with_all_its_names(api: FakePodmanApi) -> None:
    """Its layers would count as there, however often it is pulled (podman#12337). Podman 5.4.2
    lists no image while there is one like that."""
    api.images = {NAME: IMAGE_ID, "localhost/deepseek-agent/8b:current": IMAGE_ID}
    api.unreadable.add(IMAGE_ID)
    records = Path(api.storage, "overlay-images/images.json")
    records.parent.mkdir(exist_ok=True)
    records.write_text(json.dumps([{"id": IMAGE_ID, "names": [*api.images]}]), encoding="utf-8")
    assert pull(api)[-1]["error"]["code"] == Code.CONTENT_DAMAGED
    assert api.images == {}
    api.unreadable.clear()
    api.pulled = {NAME: IMAGE_ID}
    assert pull(api)[-1]["answer"]["image_id"] == IMAGE_ID


def test_but_not_for_an_error_that_says_nothing_of_it(api: FakePodmanApi) -> None:
    api.images = {NAME: IMAGE_ID}
    api.image_errors = ["the database is locked"] * 3
    assert pull(api)[-1]["error"]["code"] == Code.PODMAN_UNAVAILABLE
    assert api.images


def test_but_not_one_that_a_container_uses(api: FakePodmanApi) -> None:
    api.images = {NAME: IMAGE_ID}
    api.unreadable.add(IMAGE_ID)
    api.containers = [FakeContainer("stopped", running=False, image_id=IMAGE_ID)]
    assert pull(api)[-1]["error"]["code"] == Code.PODMAN_UNAVAILABLE
    assert api.images


def test_a_registry_that_is_not_verified(api: FakePodmanApi) -> None:
    pull(api, tls_verify=False)
    assert any("tlsVerify=false" in head for head in api.heads)


def test_a_password_is_sent_and_not_said(api: FakePodmanApi, tmp_path: Path) -> None:
    auth = base64.b64encode(b"user:s3cret").decode()
    document = {"auths": {"localhost:1": {"auth": auth}}}
    (tmp_path / "auth.json").write_text(json.dumps(document), encoding="utf-8")
    said = pull(api, auth_file=str(tmp_path / "auth.json"))
    (head,) = (one for one in api.heads if "/images/pull" in one)
    (sent,) = (
        line.partition(": ")[2] for line in head.split("\r\n") if line.startswith("X-Registry-Auth")
    )
    assert json.loads(base64.urlsafe_b64decode(sent)) == {"username": "user", "password": "s3cret"}
    assert "s3cret" not in str(said)


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (404, {"message": "manifest unknown: manifest unknown"}),  # before the first byte
        (200, {"error": "reading manifest 9: manifest unknown: manifest unknown"}),
        (200, {"errorDetail": {"message": "manifest unknown"}}),
    ],
)
def test_podman_s_error(api: FakePodmanApi, status: int, line: dict[str, object]) -> None:
    api.pull_status, api.pull_lines = status, [*api.pull_lines, line]
    error = pull(api)[-1]["error"]
    assert error["code"] == Code.SOURCE_NOT_FOUND
    assert error["message"].startswith("cannot pull from localhost:1: ")
    assert "manifest unknown" in error["message"]


@pytest.mark.parametrize(
    ("podman", "hint"),
    [
        ({}, "systemctl edit podman.service"),
        ({"HTTPS_PROXY": "http://p:1"}, "can be reached from this host"),
        (None, "can be reached from this host"),  # nobody can tell
    ],
)
def test_a_proxy_that_podman_lacks_is_named(
    api: FakePodmanApi,
    monkeypatch: pytest.MonkeyPatch,
    podman: dict[str, str] | None,
    hint: str,
) -> None:
    """The pull is its service's, with that unit's environment."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", "http://user:s3cret@127.0.0.1:9")
    monkeypatch.setattr(images, "read_podman_proxies", lambda: podman)
    text = "pinging container registry localhost:1: dial tcp: i/o timeout"
    api.pull_lines = [{"error": text}]
    with pytest.raises(AgentError) as raised:
        pull_here(api)
    failure = raised.value.failure
    assert failure.code is Code.SOURCE_UNREACHABLE
    assert hint in failure.hint
    assert "s3cret" not in str(failure)


@pytest.mark.parametrize("mode", [Mode.ERROR, Mode.GARBAGE, Mode.CUT])
def test_an_api_in_trouble(api: FakePodmanApi, mode: Mode) -> None:
    api.mode = mode
    assert pull(api)[-1]["error"]["code"] == Code.PODMAN_UNAVAILABLE


def test_a_stream_that_tells_no_image(api: FakePodmanApi) -> None:
    api.images.clear()
    assert pull(api)[-1]["error"]["code"] == Code.IMAGE_MISSING


def test_a_name_that_is_none(api: FakePodmanApi) -> None:
    assert pull(api, "../x")[-1]["error"]["code"] == Code.CONFIG_INVALID
    assert api.requests == []


@pytest.mark.parametrize(
    ("reference", "tag"),
    [("quay.io/lab/small:1", "1"), (f"quay.io/lab/small@{DIGEST}", "deepseek-agent")],
)
def test_tag(api: FakePodmanApi, reference: str, tag: str) -> None:
    (said,) = ask(api, "tag", {"image_id": IMAGE_ID, "reference": reference})
    assert said["answer"]["image_id"] == IMAGE_ID
    (head,) = (one for one in api.heads if one.startswith("POST"))
    assert f"repo=quay.io%2Flab%2Fsmall&tag={tag}" in head


def test_an_archive_that_is_not_there(api: FakePodmanApi, tmp_path: Path) -> None:
    archive = {
        "path": str(tmp_path / "missing.tar"),
        "kind": "docker-archive",
        "selector": "@0",
        "size": 1,
        "is_packed": False,
    }
    (said,) = ask(api, "load", {"archive": archive, "keep_free_mib": 0})
    assert said["error"]["code"] == Code.CONTENT_DAMAGED
    assert "No such file" in said["error"]["message"]


def test_what_an_archive_needs(api: FakePodmanApi, tmp_path: Path) -> None:
    api.storage = str(tmp_path)
    archive = {"size": 1000, "kind": "oci-archive", "is_packed": False}
    assert ask(api, "measure", {"archive": archive}) == [
        {"answer": {"needs": {str(tmp_path): 4500}}}  # unpacked, and twice in the temporary folder
    ]


def test_what_nobody_can_tell(api: FakePodmanApi) -> None:
    source = {"reference": "127.0.0.1:1/a/b:1"}
    assert ask(api, "measure", {"source": source}) == [{"answer": {"needs": {}}}]


def test_list_says_who_uses_an_image(api: FakePodmanApi) -> None:
    other = "c" * 64
    api.images = {NAME: "b" * 64, "localhost/other:1": other, "localhost/same:2": other}
    api.containers = [FakeContainer("stopped", running=False, image_id=other)]
    (line,) = ask(api, "list", {})
    first, second = line["answer"]["images"]
    assert (first["image_id"], first["names"], first["used_by"]) == ("b" * 64, [NAME], "")
    assert second["names"] == ["localhost/other:1", "localhost/same:2"]
    assert second["used_by"] == f"container {api.containers[0].identity[:12]}"


def test_remove_refuses_what_a_container_uses_by_now(api: FakePodmanApi) -> None:
    api.images = {NAME: "b" * 64}
    api.containers = [FakeContainer("new", image_id="b" * 64)]
    (line,) = ask(api, "remove", {"image_id": "b" * 64, "names": [NAME]})
    assert "in use" in line["error"]["message"]
    assert api.images
    api.containers.clear()
    assert ask(api, "remove", {"image_id": "b" * 64, "names": [NAME, "gone:1"]}) == [{"answer": {}}]
    assert not api.images


def test_the_file_system_of_the_storage_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_sync.sync_storage(str(tmp_path))  # the kernel's own
    synced: list[Path] = []

    def refuse(handle: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{handle}")))
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(image_sync, "_sync", refuse)
    with pytest.raises(AgentError, match=r"cannot write below .*: Input/output error") as raised:
        image_sync.sync_storage(str(tmp_path))
    assert raised.value.failure.code is Code.FILE_NOT_WRITTEN
    assert synced == [tmp_path]


def test_one_that_cannot_be_seen_is_synced_with_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "sync", lambda: synced.append("all"))
    image_sync.sync_storage(str(tmp_path / "none"))
    assert synced == ["all"]
