# SPDX-License-Identifier: MulanPSL-2.0
"""uvicorn alone, for comparison: answers every request with the same bytes, and sends them once a
second to those who watch. `python -m tests.bench.plain SOCKET FILE`.
"""

import asyncio
import contextlib
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from agent.status.api.bounded import App, Message, Receive, Send
from tests.scenario.agentd import REPOSITORY


@dataclass(frozen=True, slots=True)
class Plain:
    """It answers at `path`."""

    path: Path
    pid: int


@contextlib.asynccontextmanager
async def plain_server(body: bytes) -> AsyncIterator[Plain]:
    with tempfile.TemporaryDirectory() as name:
        place, file = f"{name}/plain.sock", f"{name}/body"
        await asyncio.to_thread(Path(file).write_bytes, body)
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.bench.plain", place, file),
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
        )
        try:
            assert child.stdout is not None
            await child.stdout.readline()  # it listens
            yield Plain(Path(place), child.pid)
        finally:
            child.kill()
            await child.wait()


def build(body: bytes) -> App:
    frame = b"event: status\ndata: " + body + b"\n\n"

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        watches = "watch" in scope["path"]
        headers = [] if watches else [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        while watches:
            if scope["path"].endswith("status"):
                await send({"type": "http.response.body", "body": frame, "more_body": True})
            await asyncio.sleep(1)
        await send({"type": "http.response.body", "body": body})

    return app


class _Server(uvicorn.Server):
    async def startup(self, sockets: object = None) -> None:
        await super().startup()
        print("it listens", flush=True)


def main(path: str, file: str) -> None:
    config = uvicorn.Config(
        build(Path(file).read_bytes()),
        uds=path,
        http="h11",
        loop="asyncio",
        access_log=False,
        log_level="critical",
    )
    _Server(config).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
