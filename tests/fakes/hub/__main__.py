# SPDX-License-Identifier: MulanPSL-2.0
"""python -m tests.fakes.hub --folder DIR [--port 0] [--tls CERT KEY]; prints its address."""

import argparse
import ssl
import threading
from http.server import ThreadingHTTPServer
from pathlib import Path

from tests.fakes.hub.answers import Answering
from tests.fakes.hub.faults import Faults
from tests.fakes.hub.shapes import Cdn, Hub


class Server(ThreadingHTTPServer):
    """A thread for each connection; whoever goes away is no error."""

    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """Connections are cut on purpose here."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fakes.hub")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--tls", nargs=2, metavar=("CERT", "KEY"))
    parser.add_argument("--page-size", type=int, default=3)
    parser.add_argument("--token", default="")
    options = parser.parse_args()
    faults = Faults()
    scheme = "https" if options.tls else "http"
    cdn = serve(type("_Cdn", (Cdn,), {"faults": faults, "folder": options.folder}), 0, options.tls)
    words = {
        "faults": faults,
        "folder": options.folder,
        "cdn": f"{scheme}://127.0.0.1:{cdn.server_address[1]}",
        "page_size": options.page_size,
        "token": options.token,
        "scheme": scheme,
    }
    hub = serve(type("_Hub", (Hub,), words), options.port, options.tls)
    threading.Thread(target=cdn.serve_forever, daemon=True).start()
    print(f"{scheme}://127.0.0.1:{hub.server_address[1]}", flush=True)
    hub.serve_forever()


def serve(handler: type[Answering], port: int, tls: list[str] | None) -> Server:
    server = Server(("127.0.0.1", port), handler)
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
        # The handshake in the thread of the connection: a client that refuses holds up nobody.
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    return server


main()
