# SPDX-License-Identifier: MulanPSL-2.0
"""The body of an answer, in large pieces.

httpx passes it on in pieces of 64 KiB through several layers and two copies, which costs as much
CPU as the checksum does (httpcore 1.0.9, `READ_NUM_BYTES`; h11 0.16). So only the first piece
comes that way: h11 hands out all that it has buffered of a body with a known length
(`ContentLengthReader`), so what follows is in the socket, from which it is read into one buffer.
The connection is closed afterwards. httpx documents the `network_stream` that this uses. Were it
ever otherwise in a newer httpcore, every large file of the tests would have a wrong checksum.
"""

import socket
import ssl
from collections.abc import Iterator

import httpx

BUFFER_BYTES = 2**18


def read_body(
    response: httpx.Response, wanted: int, buffer: memoryview, silence_s: float
) -> Iterator[bytes | memoryview]:
    """Pieces, each valid until the next one; it may end early, and after `wanted` bytes what still
    comes may be left out. Raises httpx.HTTPError, OSError."""
    connection = _plain_socket(response)
    for piece in response.iter_raw():
        yield piece
        wanted -= len(piece)
        if connection is not None and wanted > 0:
            yield from _read_socket(connection, wanted, buffer, silence_s)
            return


def _read_socket(
    connection: socket.socket, wanted: int, buffer: memoryview, silence_s: float
) -> Iterator[memoryview]:
    connection.settimeout(silence_s)
    while wanted > 0:
        got = connection.recv_into(buffer[: min(wanted, len(buffer))])
        if got == 0:
            return
        yield buffer[:got]
        wanted -= got


def _plain_socket(response: httpx.Response) -> socket.socket | None:
    """Whose bytes are those of the body, one for one; None where that is not certain."""
    if "content-length" not in response.headers or "transfer-encoding" in response.headers:
        return None
    stream = response.extensions.get("network_stream")
    if response.http_version != "HTTP/1.1" or stream is None:
        return None
    found = stream.get_extra_info("socket")
    # TLS through a proxy that is spoken to by TLS itself: the socket has the outer one.
    is_inner = stream.get_extra_info("ssl_object") is not None and not isinstance(
        found, ssl.SSLSocket
    )
    return found if isinstance(found, socket.socket) and not is_inner else None
