# SPDX-License-Identifier: MulanPSL-2.0
"""Sends JSON and files, with Range and with what a rule wants to go wrong. Standard library."""

import json
import os
import re
import socket
import struct
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler

from tests.fakes.hub.faults import Faults, Kind, Rule
from tests.fakes.hub.repos import Blob

CHUNK = 64 * 1024
RANGE = re.compile(r"bytes=(\d+)-(\d*)")


class Answering(BaseHTTPRequestHandler):
    """What both servers, the hub and its CDN, have in common."""

    protocol_version = "HTTP/1.1"
    faults: Faults
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""

    def rule(self) -> Rule | None:
        names = ("Range", "Authorization", "Cookie", "User-Agent", "Accept-Encoding")
        asked = {name.lower(): self.headers[name] for name in names if name in self.headers}
        host = self.headers.get("Host", "")
        return self.faults.take(self.path, {"path": self.path, "host": host, **asked})

    def spoiled(self, rule: Rule | None) -> bool:
        """Whether the rule has answered already."""
        if rule is None:
            return False
        match rule.get("kind"):
            case Kind.STATUS:
                self.send(rule["status"], rule.get("text", ""), rule.get("headers", {}))
            case Kind.TEXT:
                self.send(200, rule["text"], {"Content-Type": "application/json"})
            case Kind.LOOP:
                self.send(302, "", {"Location": self.path})
            case Kind.LEAD:
                self.send(302, "", {"Location": rule["to"]})
            case _:
                return False
        return True

    def send(self, status: int, text: str, headers: Mapping[str, str]) -> None:
        body = text.encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def send_json(
        self, value: object, headers: Mapping[str, str] | None = None, status: int = 200
    ) -> None:
        both = {"Content-Type": "application/json; charset=utf-8", **(headers or {})}
        self.send(status, json.dumps(value), both)

    def send_file(self, blob: Blob, headers: Mapping[str, str], rule: Rule | None) -> None:
        kind = rule.get("kind", "") if rule is not None else ""
        start, end = 0, blob.size
        asked = RANGE.fullmatch(self.headers.get("Range", ""))
        if asked and kind != Kind.WHOLE:
            start = int(asked[1])
            end = min(int(asked[2]) + 1, blob.size) if asked[2] else blob.size
            if start >= blob.size:
                self.send(416, "", {"Content-Range": f"bytes */{blob.size}"})
                return
            shown = start + 1 if kind == Kind.SHIFT else start
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {shown}-{end - 1}/{blob.size}")
        else:
            self.send_response(200)
        more = rule.get("more", 0) if rule and kind in (Kind.LENGTH, Kind.EXTRA) else 0
        for name, value in {"Accept-Ranges": "bytes", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(end - start + more))
        self.end_headers()
        if rule is None:
            self._send_quickly(blob, start, end)
        else:
            self._send_badly(blob, start, end, rule)

    def _send_quickly(self, blob: Blob, start: int, end: int) -> None:
        with blob.place.open("rb") as stream:
            if hasattr(self.connection, "cipher"):  # TLS: no sendfile
                stream.seek(start)
                while start < end:
                    chunk = stream.read(min(CHUNK, end - start))
                    self.wfile.write(chunk)
                    start += len(chunk)
                return
            while start < end:
                sent = os.sendfile(self.connection.fileno(), stream.fileno(), start, end - start)
                if sent == 0:
                    raise ConnectionError("the file has become shorter")
                start += sent

    def _send_badly(self, blob: Blob, start: int, end: int, rule: Rule) -> None:
        kind, sent = rule["kind"], 0
        content = bytearray(_content(blob, start, end))
        if kind == Kind.FLIP and start <= rule["at"] < end:
            content[rule["at"] - start] ^= 1
        if kind == Kind.EXTRA:
            content += b"x" * rule["more"]
        limit = rule["after"] if kind in (Kind.CUT, Kind.RESET, Kind.STALL) else len(content)
        step = max(min(CHUNK, rule["rate"] // 20), 1) if kind == Kind.SLOW else CHUNK
        while sent < min(limit, len(content)):
            chunk = content[sent : min(sent + step, limit)]
            self.wfile.write(chunk)
            sent += len(chunk)
            if kind == Kind.SLOW:
                time.sleep(0.05)
        if kind == Kind.STALL:
            time.sleep(rule["seconds"])
        if kind in (Kind.CUT, Kind.STALL, Kind.LENGTH):
            self.close_connection = True
        if kind == Kind.RESET:
            self._reset()

    def _reset(self) -> None:
        """As a router does it that has lost its table."""
        self.close_connection = True
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.close()


def _content(blob: Blob, start: int, end: int) -> bytes:
    with blob.place.open("rb") as stream:
        stream.seek(start)
        return stream.read(end - start)
