# SPDX-License-Identifier: MulanPSL-2.0
"""TLS as uvicorn has it: in two PEM files and a connection, out one that speaks TLS, and its end.

Nothing here is for the accept loop: a handshake takes as long as the client likes, up to its
deadline, in the thread of that connection.
"""

import contextlib
import socket
import ssl
import traceback

from .model import StartError

# asyncio's SSL_HANDSHAKE_TIMEOUT (asyncio/constants.py), which uvicorn leaves alone.
HANDSHAKE_S = 60.0


def load_tls(certfile: str, keyfile: str) -> ssl.SSLContext:
    """Raises StartError with the last line of Python's own traceback."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # Nobody is there to type a password: an encrypted key is refused, and not asked about.
        context.load_cert_chain(certfile, keyfile, password=lambda: "")
    except OSError as error:  # SSLError is one, too
        raise StartError("".join(traceback.format_exception_only(error))) from error
    return context


def secure(
    context: ssl.SSLContext, connection: socket.socket, deadline_s: float = HANDSHAKE_S
) -> ssl.SSLSocket:
    """Takes `connection` over. Raises OSError when no handshake comes about."""
    connection.settimeout(deadline_s)  # of the handshake as a whole: `ssl` counts it down
    # Not "on connect": `ssl` then leaves it out, without a word, when the client is gone already.
    secured = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
    try:
        secured.do_handshake()
    except BaseException:
        secured.close()
        raise
    return secured


def say_goodbye(secured: ssl.SSLSocket) -> None:
    """Tell the client that this was all, as uvicorn does, and do not wait for its own goodbye."""
    with contextlib.suppress(OSError, ValueError):
        secured.settimeout(0)
        secured.unwrap()
