# SPDX-License-Identifier: MulanPSL-2.0
"""A fake Podman API on a unix socket: the few libpod routes that host/podman and host/images.py
use.

Seen from podman-py 5.8.0 against Podman 5.4.2: /v5.8.0/libpod/images/NAME/json,
/containers/json?all=True, /containers/ID/json, DELETE /containers/ID?force=True, /info, POST
/images/pull and POST /images/ID/tag; /images/json?all=true and DELETE /images/NAME.
"""

import asyncio
import json
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tests.fakes.connections import Connections


class Mode(StrEnum):
    """How it behaves."""

    OK = "ok"
    SILENT = "silent"  # takes the request and never answers
    ERROR = "error"  # 500 with libpod's own error body
    GARBAGE = "garbage"  # 200, and no JSON
    CUT = "cut"  # closes the connection in the middle of the answer


@dataclass
class FakeContainer:
    """One container in storage."""

    name: str
    running: bool = True
    unit: str = ""
    devices: tuple[str, ...] = ()
    seen_as: str = ""  # Podman takes the devices for this one, which has the same numbers
    addresses: dict[str, tuple[str, str]] = field(default_factory=dict)  # network -> IPv4, IPv6
    vanishes: bool = False  # listed, and gone when it is looked at
    image_id: str = ""

    @property
    def identity(self) -> str:
        return self.name.encode().hex().ljust(64, "0")


@dataclass
class FakePodmanApi:
    """`requests` holds "METHOD path" in order."""

    path: Path
    mode: Mode = Mode.OK
    version: str = "5.4.2"
    images: dict[str, str] = field(default_factory=dict)  # reference -> image id
    architecture: str = "arm64"
    digests: list[str] = field(default_factory=list)  # of every image
    containers: list[FakeContainer] = field(default_factory=list)
    unreadable: set[str] = field(default_factory=set)  # ids of images without their links
    image_errors: list[str] = field(default_factory=list)  # of the next looks at one, in this order
    remove_takes_s: float = 0.0
    pull_lines: list[dict[str, object]] = field(default_factory=list)
    pull_status: int = 200
    unpack_s: float = 0.0  # before the last of these lines, when `fetched` is in files
    fetched: tuple[int, ...] = ()  # sizes
    pulled: dict[str, str] = field(default_factory=dict)  # what a pull adds to the images
    storage: str = "/var/lib/containers/storage"
    requests: list[str] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)  # as they came

    def __post_init__(self) -> None:
        self._server: asyncio.Server | None = None
        self._connections = Connections(self._serve)

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._connections.take, self.path)

    async def close(self) -> None:
        await self._connections.end(self._server)
        self.path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            method, target, _ = head.split(" ", 2)
            self.heads.append(head)
            await self._respond(method, target, writer)

    async def _respond(self, method: str, target: str, writer: asyncio.StreamWriter) -> None:
        path = unquote(urlsplit(target).path).partition("/libpod")[2]
        self.requests.append(f"{method} {path}")
        match self.mode:
            case Mode.SILENT:
                await asyncio.Event().wait()
            case Mode.GARBAGE:
                writer.write(self._response(200, b"<html>not Podman</html>"))
            case Mode.CUT:
                writer.write(self._response(200, b'[{"Id": "ab"}]')[:-8])
            case Mode.ERROR:
                writer.write(self._response(500, _error("the database is locked", 500)))
            case Mode.OK:
                if path == "/images/pull":
                    await self._pull(writer)
                else:
                    status, answer = await self._answer(method, path)
                    writer.write(self._response(status, json.dumps(answer).encode()))
        await writer.drain()

    async def _pull(self, writer: asyncio.StreamWriter) -> None:
        lines = [json.dumps(line).encode() + b"\n" for line in self.pull_lines]
        self.images |= self.pulled
        if not self.unpack_s:
            writer.write(self._response(self.pull_status, b"".join(lines)))
            return
        head = self._response(self.pull_status, b"").replace(
            b"Content-Length: 0", b"Transfer-Encoding: chunked"
        )
        writer.write(head + b"".join(map(_chunk, lines[:-1])))
        folder = self._stage()
        await asyncio.sleep(self.unpack_s)
        shutil.rmtree(folder)
        writer.write(_chunk(lines[-1]) + _chunk(b""))

    def _stage(self) -> Path:
        folder = Path(self.storage, "container_images_storage1")
        folder.mkdir()
        for number, size in enumerate(self.fetched):
            (folder / str(number)).write_bytes(bytes(size))
        return folder

    async def _answer(self, method: str, path: str) -> tuple[int, object]:
        match path.strip("/").split("/"):
            case ["info"]:
                places = {"graphRoot": self.storage, "imageCopyTmpDir": self.storage}
                return 200, {"store": {"graphDriverName": "overlay", **places}}
            case ["images", "json"] if self.unreadable & set(self.images.values()):
                return 500, json.loads(_error("readlink /x/overlay: invalid argument", 500))
            case ["images", "json"]:
                return 200, [self._image_row(one) for one in sorted(set(self.images.values()))]
            case ["images", *name] if method == "DELETE":
                return self._remove_image("/".join(name))
            case ["images", *name, "json"]:
                identity = self._find_image("/".join(name))
                if identity is None:
                    return 404, json.loads(_error("no such image", 404))
                if self.image_errors:
                    return 500, json.loads(_error(self.image_errors.pop(0), 500))
                if identity in self.unreadable:
                    return 500, json.loads(_error("readlink /x/overlay: invalid argument", 500))
                named = {"RepoDigests": self.digests, "RepoTags": []}
                return 200, {"Id": identity, "Architecture": self.architecture, **named}
            case ["images", _, "tag"] if method == "POST":
                return 201, None
            case ["containers", "json"]:
                return 200, [_row(one) for one in self.containers]
            case ["containers", name, "json"]:
                one = self._find(name)
                if one is None or one.vanishes:
                    return 404, json.loads(_error("no such container", 404))
                devices = [
                    {"PathOnHost": one.seen_as or device, "PathInContainer": device}
                    for device in one.devices
                ]
                networks = {
                    name: {"IPAddress": ipv4, "GlobalIPv6Address": ipv6}
                    for name, (ipv4, ipv6) in one.addresses.items()
                }
                return 200, {
                    "Id": one.identity,
                    "HostConfig": {"Devices": devices},
                    "NetworkSettings": {"Networks": networks},
                }
            case ["containers", name] if method == "DELETE":
                await asyncio.sleep(self.remove_takes_s)
                self.containers = [one for one in self.containers if one is not self._find(name)]
                return 200, [{"Id": name}]
            case _:
                return 404, json.loads(_error("no such route", 404))

    def _response(self, status: int, body: bytes) -> bytes:
        """Every answer of Podman's names its version."""
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nConnection: close\r\n"
        told = f"Libpod-Api-Version: {self.version}\r\n" if self.version else ""
        return f"{head}{told}Content-Length: {len(body)}\r\n\r\n".encode() + body

    def _image_row(self, identity: str) -> dict[str, object]:
        """As 5.4.2 answers; fields that nobody reads are left out."""
        names = [name for name, one in self.images.items() if one == identity and name != identity]
        row = {"Id": identity, "ParentId": "", "RepoTags": names, "RepoDigests": []}
        return {**row, "Size": 5 * 2**20, "Created": 1_700_000_000, "Containers": 0}

    def _remove_image(self, name: str) -> tuple[int, object]:
        """The name, and with the last one the image, unless a container uses it."""
        identity = self.images.get(name)
        if identity is None:
            return 404, json.loads(_error("image not known", 404))
        names = [other for other, one in self.images.items() if one == identity]
        if len(names) == 1 and any(one.image_id == identity for one in self.containers):
            return 409, json.loads(_error("image is in use by a container", 409))
        del self.images[name]
        return 200, {"Untagged": [name], "Deleted": [identity] if len(names) == 1 else []}

    def _find_image(self, name: str) -> str | None:
        """By a name, or by its id."""
        by_id = (one for one in self.images.values() if one.removeprefix("sha256:") == name)
        return self.images.get(name) or next(by_id, None)

    def _find(self, name: str) -> FakeContainer | None:
        return next((one for one in self.containers if name in (one.name, one.identity)), None)


def _row(one: FakeContainer) -> dict[str, object]:
    return {
        "Id": one.identity,
        "Names": [one.name],
        "ImageID": one.image_id,
        "State": "running" if one.running else "exited",
        "Labels": {"PODMAN_SYSTEMD_UNIT": one.unit} if one.unit else None,
    }


def _error(message: str, status: int) -> bytes:
    return json.dumps({"cause": message, "message": message, "response": status}).encode()


def _chunk(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)
