# SPDX-License-Identifier: MulanPSL-2.0
"""Starts the double of a hub, tells it what is to go wrong, and reads what it was asked."""

import json
import ssl
import subprocess
import sys
from contextlib import suppress
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from types import TracebackType

from tests.fakes.hub.faults import Kind, Rule

__all__ = ["HubDouble", "Kind", "Rule"]

TREE = Path(__file__).parents[3]
DEADLINE_S = 20.0


class HubDouble:
    """A process of its own: a client that is killed or stands still has no share in it."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        command = [sys.executable, "-m", "tests.fakes.hub", "--folder", str(folder), *arguments]
        self.folder = folder
        self._process = subprocess.Popen(command, cwd=TREE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.endpoint = self._process.stdout.readline().strip()
        assert self.endpoint, "the double has not come up"

    def __enter__(self) -> "HubDouble":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def spoil(self, *rules: Rule) -> None:
        """From now on these, and nothing has been asked yet."""
        self._call("PUT", "/_faults", json.dumps(rules).encode())

    def asked(self) -> list[dict[str, str]]:
        """Since `spoil`: path, host, and of the headers range, authorization, cookie."""
        found: list[dict[str, str]] = json.loads(self._call("GET", "/_asked", None))
        return found

    def stop(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait(timeout=DEADLINE_S)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _call(self, method: str, path: str, body: bytes | None) -> bytes:
        scheme, _, host = self.endpoint.partition("://")
        connection = HTTPConnection(host, timeout=DEADLINE_S)
        if scheme == "https":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            connection = HTTPSConnection(host, timeout=DEADLINE_S, context=context)
        try:
            connection.request(method, path, body)
            return connection.getresponse().read()
        finally:
            connection.close()
