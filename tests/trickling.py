# SPDX-License-Identifier: MulanPSL-2.0
"""A server on loopback whose clients are each answered in a thread, for as long as a test lasts."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

TRICKLE_S = 0.05


@contextmanager
def answered(answer: Callable[[socket.socket, threading.Event], None]) -> Iterator[int]:
    """Its port. `answer` gets each client, and what is set at the end; it may meet a client that
    has gone."""
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def take(client: socket.socket) -> None:
        with client, suppress(OSError):
            answer(client, over)

    def serve() -> None:
        with suppress(OSError):
            while True:
                threads.append(threading.Thread(target=take, args=(listener.accept()[0],)))
                threads[-1].start()

    threads = [threading.Thread(target=serve)]
    threads[0].start()
    try:
        yield listener.getsockname()[1]
    finally:
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for thread in threads:
            thread.join(5)


def trickle(client: socket.socket, over: threading.Event, head: bytes) -> None:
    """It is never silent, and never comes to its end."""
    client.sendall(head)
    while not over.wait(TRICKLE_S):
        client.sendall(b"x")
