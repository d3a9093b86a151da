# SPDX-License-Identifier: MulanPSL-2.0
"""An agent that ends leaves no connection behind, whenever it was made."""

import asyncio
import contextlib
import socket
from pathlib import Path

import pytest

from tests.scenario.settled import settled
from tests.unit.api import serving

STATUS = b"GET /v1/status HTTP/1.1\r\nHost: a\r\n\r\n"
# asyncio makes a connection in so many turns of its loop, and one more is after it.
TURNS = range(6)


@pytest.mark.parametrize("turns", TURNS)
@pytest.mark.parametrize("sent", [b"", STATUS, STATUS[:10]], ids=["nothing", "whole", "a-part"])
def test_a_connection_that_is_made_while_the_server_closes_ends(
    tmp_path: Path, sent: bytes, turns: int
) -> None:
    async def scenario() -> bytes:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX) as client:
            async with serving(tmp_path) as server:
                client.connect(str(server.path))
                client.setblocking(False)
                client.sendall(sent)
                for _ in range(turns):
                    await asyncio.sleep(0)
            answer = bytearray()
            async with asyncio.timeout(20):
                # Reset: what was sent is not read any more.
                with contextlib.suppress(ConnectionResetError):
                    while part := await loop.sock_recv(client, 65536):
                        answer += part
        return bytes(answer)

    with settled():
        answer = asyncio.run(scenario())
    assert not answer or answer.startswith(b"HTTP/1.1 200")
