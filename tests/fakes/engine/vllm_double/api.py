# SPDX-License-Identifier: MulanPSL-2.0
"""The HTTP side: in requests on one port, out answers computed by EngineCore. A thread each, which
does the TLS handshake, too, when there is one.

/health only reads whether EngineCore is known dead; no call reaches it, as in vLLM.
"""

import contextlib
import hmac
import json
import queue
import select
import socket
import socketserver
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from .core import Core, EngineDeadError, Pending, Token
from .flags import VERSION, Arguments
from .log import Log
from .metrics import Counters, render_metrics
from .openai import ApiError, Ask, Served, bad_request, parse_chat, parse_completion
from .options import OptionsReader
from .replies import Reply, models_body
from .tls import load_tls, say_goodbye, secure

CLIENT_CHECK_S = 0.1
DEAD = ApiError(
    500,
    "EngineCore encountered an issue. See stack trace (above) for the root cause.",
    "InternalServerError",
)

DRAINING = ApiError(500, "cannot schedule new futures after shutdown", "InternalServerError")


class ClientGoneError(Exception):
    """The client closed its connection before the answer was whole."""


class ApiServer(ThreadingHTTPServer):
    """Bound by `__init__`, open only after `server_activate`: the port is closed while loading."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, arguments: Arguments, served: Served, reader: OptionsReader) -> None:
        """Raises StartError for a bad certificate, OSError when the port cannot be bound."""
        self._tls = None
        if arguments.ssl_certfile:
            self._tls = load_tls(arguments.ssl_certfile, arguments.ssl_keyfile)
        self.arguments = arguments
        self.served = served
        self.reader = reader
        self.log = Log("APIServer")
        self.core: Core
        self.answered = 0
        self.drains = False
        self._inflight = 0
        self._lock = threading.Lock()
        if ":" in arguments.host:
            self.address_family = socket.AF_INET6
        super().__init__((arguments.host, arguments.port), Handler, bind_and_activate=False)
        self.server_bind()

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer's asks the name service
        self.server_name, self.server_port = self.arguments.host, self.socket.getsockname()[1]

    @property
    def url(self) -> str:
        host = f"[{self.arguments.host}]" if ":" in self.arguments.host else self.arguments.host
        return f"http{'s' if self._tls else ''}://{host}:{self.server_port}"

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In the connection's own thread."""
        if self._tls is None:
            super().finish_request(request, client_address)
            return
        try:
            secured = secure(self._tls, request)
        except OSError:  # a client without TLS, or without patience: asyncio tells nobody either
            return
        try:
            super().finish_request(secured, client_address)
        finally:
            say_goodbye(secured)
            self.shutdown_request(secured)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, (ConnectionError, TimeoutError, ssl.SSLError)):
            self.log.fail("api_server.py:1", f"Exception in ASGI application: {error!r}")

    @property
    def idle(self) -> bool:
        return self._inflight == 0

    def count_request(self, change: int) -> None:
        with self._lock:
            self._inflight += change
            self.answered += 1 if change < 0 else 0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "uvicorn"
    sys_version = ""
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body leave in one packet
    timeout = 30
    server: ApiServer

    def version_string(self) -> str:
        return self.server_version

    def log_message(self, format: str, *args: Any) -> None:
        if self.server.arguments.access_log:
            self.server.log.uvicorn(
                f"{self.address_string()}:{self.client_address[1]} - {format % args}"
            )

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        self.log_message('"%s" %s', self.requestline, int(code) if isinstance(code, int) else code)

    def do_GET(self) -> None:
        routes: dict[str, Callable[[], None]] = {
            "/health": self._get_health,
            "/ping": self._get_health,
            "/metrics": self._get_metrics,
            "/version": lambda: self._send_json(200, {"version": VERSION}),
            "/v1/models": lambda: self._send_json(200, models_body(self.server.served)),
        }
        self._route(routes, other=("/v1/completions", "/v1/chat/completions"))

    def do_POST(self) -> None:
        routes: dict[str, Callable[[], None]] = {
            "/v1/chat/completions": lambda: self._generate(parse_chat),
            "/v1/completions": lambda: self._generate(parse_completion),
        }
        self.server.count_request(1)
        try:
            self._route(routes, other=("/health", "/metrics", "/version", "/v1/models"))
            self.wfile.flush()
        finally:
            self.server.count_request(-1)

    def _route(self, routes: dict[str, Callable[[], None]], other: tuple[str, ...]) -> None:
        path = self.path.partition("?")[0]
        if self._spoil():
            return
        try:
            self._body = self._read_body()
            self._check_key(path)
            if path in other:
                raise ApiError(405, "Method Not Allowed", "Method Not Allowed")
            if path not in routes:
                raise ApiError(404, "Not Found", "Not Found")
            routes[path]()
        except ApiError as error:
            self._send_error(error)
        except ClientGoneError:
            self.close_connection = True

    def _read_body(self) -> bytes:
        if "transfer-encoding" in self.headers:
            self.close_connection = True
            raise bad_request("the engine double wants a Content-Length")
        length = self.headers.get("content-length", "0")
        if not length.isdigit():
            self.close_connection = True
            raise bad_request("invalid Content-Length")
        return self.rfile.read(int(length))

    def _check_key(self, path: str) -> None:
        key = self.server.served.api_key
        if not key or not path.startswith("/v1"):
            return
        given = self.headers.get("authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {key}".encode()):
            raise ApiError(401, "Unauthorized", "Unauthorized")

    def _send_error(self, error: ApiError) -> None:
        # vLLM's middleware for keys does not use the shape of its other errors.
        body = {"error": "Unauthorized"} if error.status == 401 else error.body()
        self._send_json(error.status, body)

    def _get_health(self) -> None:
        status = self.server.reader.refresh(self.server.log).health_status
        self._send(503 if self.server.core.errored else status, b"", None)

    def _get_metrics(self) -> None:
        time.sleep(self.server.reader.refresh(self.server.log).metrics_s)
        core, served = self.server.core, self.server.served
        counters = Counters(
            core.running,
            core.waiting,
            core.prompt_tokens,
            core.generation_tokens,
            core.finished,
            core.first_tokens,
            core.first_token_wait_s,
        )
        text = render_metrics(counters, served.names[0])
        self._send(200, text.encode(), "text/plain; version=0.0.4; charset=utf-8")

    def _generate(self, parse: Callable[[bytes, Served], Ask]) -> None:
        ask = parse(self._body, self.server.served)
        reply = Reply(ask, self.server.served, int(time.time()))
        if self.server.arguments.log_requests:
            self.server.log.note("logger.py:40", f"Received request {reply.id}")
        if self.server.drains:
            raise DRAINING
        try:
            pending = self.server.core.submit(ask.job)
            try:
                self._stream(reply, pending) if ask.stream else self._answer(reply, pending)
            except (ClientGoneError, OSError) as error:
                self.server.core.abort(pending)
                raise ClientGoneError from error
        except EngineDeadError:
            raise DEAD from None

    def _answer(self, reply: Reply, pending: Pending) -> None:
        for token in self._tokens(pending):
            reply.add(token.text, token.finish)
        self._send_json(200, reply.body())

    def _stream(self, reply: Reply, pending: Pending) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        if (first := reply.first_chunk()) is not None:
            self._send_event(first)
        try:
            for token in self._tokens(pending):
                self._send_event(reply.chunk(token.text, token.finish))
            if reply.ask.include_usage:
                self._send_event(reply.usage_chunk())
        except EngineDeadError:
            self._send_event(DEAD.body())
        self._send_chunk(b"data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def _tokens(self, pending: Pending) -> Iterator[Token]:
        """Raises EngineDeadError and ClientGoneError."""
        checked_at = time.monotonic()
        while True:
            if time.monotonic() - checked_at >= CLIENT_CHECK_S:
                self._check_client()
                checked_at = time.monotonic()
            with contextlib.suppress(queue.Empty):
                token = pending.tokens.get(timeout=CLIENT_CHECK_S)
                if token is None:
                    raise EngineDeadError
                yield token
                if token.finish:
                    return

    def _check_client(self) -> None:
        poll = select.poll()
        poll.register(self.connection, select.POLLRDHUP)
        if poll.poll(0):
            raise ClientGoneError

    def _send_event(self, event: dict[str, Any]) -> None:
        text = json.dumps(event, ensure_ascii=False)
        if self._malformed() == "json":
            text = text[: len(text) // 2]
        self._send_chunk(f"data: {text}\n\n".encode())

    def _send_chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def _send_json(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        if self._malformed() == "json":
            data = data[: len(data) // 2]
        self._send(status, data, "application/json")

    def _send(self, status: int, data: bytes, content_type: str | None) -> None:
        self.send_response(status)
        if content_type:
            self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _malformed(self) -> str:
        return self.server.reader.refresh(self.server.log).malformed

    def _spoil(self) -> bool:
        """The faults that are below HTTP: bytes that are none, or an answer cut short."""
        answers = {
            "http": b"\x16\x03\x01 this is not HTTP\r\n\r\n",
            "short": b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{",
        }
        answer = answers.get(self._malformed())
        if answer is not None:
            self.wfile.write(answer)
            self.close_connection = True
        return answer is not None
