# SPDX-License-Identifier: MulanPSL-2.0
"""`ports.Http`: one small request to an engine on this host, over h11 and asyncio streams.

Why not httpx, which deepseekctl uses: in the resident daemon it costs 3 MiB of a budget of 48
(docs/adr/0003), and h11 is there already, under uvicorn. One connection for each request, no
redirects; the answer's size is bounded, and so is the time for all of it.
"""

import asyncio
import errno
import ssl
from contextlib import suppress

import h11

from agent.ports import Answer, Ask, NoAnswer, Server
from agent.tls import trust_only

READ_BYTES = 64 * 1024
# /metrics of vLLM is some 100 KiB; whatever sends more is not an engine.
LIMIT_BYTES = 8 * 1024 * 1024
# h11 looks at each 1xx and each chunk by itself: some 30 us, however small it is.
MOST_PIECES = 4096
# Of our own side: no source port, no descriptor, no memory; or no certificate to trust.
OWN_TROUBLE = (
    errno.EADDRNOTAVAIL,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOBUFS,
    errno.ENOMEM,
    errno.ENOENT,
)


class LocalHttp:
    """HTTP/1.1 to an address of this host."""

    async def ask(self, server: Server, request: Ask, deadline_s: float) -> Answer | NoAnswer:
        try:
            async with asyncio.timeout(deadline_s):
                return await _ask(server, _request(server, request), request.body)
        except TimeoutError:
            return NoAnswer.TIMEOUT
        except ConnectionRefusedError:
            return NoAnswer.REFUSED
        except ssl.SSLCertVerificationError:
            # It lives. vLLM's --enable-ssl-refresh shows a certificate renewed since its start.
            return NoAnswer.UNABLE
        except OSError as error:
            return NoAnswer.UNABLE if error.errno in OWN_TROUBLE else NoAnswer.BROKEN
        except h11.ProtocolError:
            return NoAnswer.BROKEN


def _request(server: Server, ask: Ask) -> h11.Request:
    headers = [("Host", server.host), ("User-Agent", "deepseek-agent"), ("Connection", "close")]
    if ask.key:
        headers.append(("Authorization", f"Bearer {ask.key}"))
    if ask.name:
        headers.append(("X-Request-Id", ask.name))
    if ask.body:
        headers += [("Content-Type", "application/json"), ("Content-Length", str(len(ask.body)))]
    return h11.Request(method=ask.method, target=ask.path, headers=headers)


async def _ask(server: Server, request: h11.Request, body: bytes) -> Answer | NoAnswer:
    tls = trust_only(server.certificate) if server.certificate else None
    reader, writer = await asyncio.open_connection(server.host, server.port, ssl=tls)
    connection = h11.Connection(h11.CLIENT)
    try:
        parts = [request, *([h11.Data(data=body)] if body else []), h11.EndOfMessage()]
        writer.write(b"".join(connection.send(part) or b"" for part in parts))
        await writer.drain()
        return await _receive(reader, connection)
    finally:
        writer.transport.abort()  # nothing is kept, and nothing of it is waited for
        with suppress(OSError):
            await writer.wait_closed()


async def _receive(reader: asyncio.StreamReader, connection: h11.Connection) -> Answer | NoAnswer:
    status, received = 0, 0
    body = bytearray()
    for _ in range(MOST_PIECES):
        match connection.next_event():
            case h11.NEED_DATA:
                piece = await reader.read(READ_BYTES)
                received += len(piece)
                if received > LIMIT_BYTES:  # what is not body (1xx, chunks) may be endless, too
                    return NoAnswer.BROKEN
                connection.receive_data(piece)
            case h11.Response(status_code=status):
                pass
            case h11.Data(data=data):
                body += data
            case h11.EndOfMessage():
                return Answer(status, bytes(body))
            case h11.ConnectionClosed():
                return NoAnswer.BROKEN
            case _:
                pass  # 1xx, trailers
    return NoAnswer.BROKEN
