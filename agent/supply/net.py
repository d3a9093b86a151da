# SPDX-License-Identifier: MulanPSL-2.0
"""One source over HTTP: in a `ModelSource`, out answers, or an `AgentError` that tells why not.

Redirects are followed here, one by one: a token goes to the source's own origin only, https never
falls back to http, and the body of a redirect is not read beyond a bound.
"""

import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from time import monotonic

import httpx

from agent import __version__
from agent.errors import AgentError, Code
from agent.json_text import load_json
from agent.supplies import ModelSource
from agent.supply.access import secrets_of, trust
from agent.supply.hub.envelope import Refusal, read_refusal
from agent.supply.pace import Pace

CONNECT_S = 15.0
SILENCE_S = 30.0  # a source that sends nothing for so long is cut
JSON_DEADLINE_S = 120.0
JSON_LIMIT_BYTES = 32 * 1024 * 1024
REDIRECTS = 5
REDIRECT_BODY_BYTES = 16 * 1024
REDIRECT_BODY_S = 5.0  # another connection costs less
TRICKLE_SILENCES = 4  # for so long a source that sends something may send next to nothing
RETRY_AFTER_LIMIT_S = 120.0
BUSY_HINT = "it is too busy or ill; it is asked again later"
WRONG_HINT = "a proxy or a login page may answer instead of the hub; see: curl -v ADDRESS"


class SourceUnreachable(AgentError):
    """Nobody answers there, or not now: another try may work."""

    def __init__(self, message: str, hint: str = "", wait_s: float = 0.0) -> None:
        super().__init__(Code.SOURCE_UNREACHABLE, message, hint)
        self.wait_s = wait_s  # as the source asks for (Retry-After)


@dataclass(frozen=True, slots=True)
class Answer:
    """A JSON document of a source."""

    value: object
    next_url: str  # of the page that follows; empty: this is the last one


class HubClient:
    """Asks one source; threads may share it."""

    def __init__(self, source: ModelSource, connections: int, silence_s: float = SILENCE_S) -> None:
        """Raises AgentError when the token or the CA file cannot be read."""
        self.host = _host(source)
        self.silence_s = silence_s
        self._connections = connections
        self._origin = _origin(httpx.URL(source.endpoint))
        self._secrets = secrets_of(source)
        self._http = _open_client(source, connections, silence_s)

    def close(self) -> None:
        self._http.close()

    def pace(self) -> Pace:
        """What one body has to keep up with."""
        return Pace(TRICKLE_SILENCES * self.silence_s, self._connections)

    def get_json(self, url: str) -> Answer:
        """Raises AgentError."""
        with self.stream(url, {}) as response:
            content = _read_bounded(response, self.host)
            following = response.links.get("next", {}).get("url", "")
        try:
            return Answer(
                load_json(content), str(response.url.join(following)) if following else ""
            )
        except ValueError as error:
            raise SourceUnreachable(
                f"cannot read the answer of {self.host}: it is no JSON", WRONG_HINT
            ) from error
        except httpx.InvalidURL as error:
            raise SourceUnreachable(
                f"cannot read the answer of {self.host}: its next page is no URL", WRONG_HINT
            ) from error

    @contextmanager
    def stream(self, url: str, headers: Mapping[str, str]) -> Iterator[httpx.Response]:
        """The answer (200, 206 or 416), its body not read yet. Raises AgentError."""
        try:
            response = self._send(self._request(url, headers))
        except httpx.InvalidURL as error:
            raise SourceUnreachable(
                f"cannot reach {self.host}: {url}: {error}", WRONG_HINT
            ) from error
        except httpx.HTTPError as error:
            raise failure_of(error, self._origin[0], self.host) from error
        try:
            _check_status(response, self.host)
            yield response
        except httpx.HTTPError as error:
            raise failure_of(error, self._origin[0], self.host) from error
        finally:
            response.close()

    def _request(self, url: str, headers: Mapping[str, str]) -> httpx.Request:
        secrets = self._secrets if _origin(httpx.URL(url)) == self._origin else {}
        return self._http.build_request("GET", url, headers={**headers, **secrets})

    def _send(self, request: httpx.Request) -> httpx.Response:
        for _ in range(REDIRECTS + 1):
            response = self._http.send(request, stream=True, follow_redirects=False)
            following = response.next_request
            if following is None:
                return response
            _drop_body(response)
            if request.url.scheme == "https" and following.url.scheme != "https":
                raise AgentError(
                    Code.SOURCE_UNTRUSTED,
                    f"cannot fetch from {self.host}: it leads from https to {following.url.scheme}",
                    "name a mirror that stays with https",
                )
            # httpx 0.28.1 keeps Authorization from http to https of one host, which is no leak,
            # and drops it for every other origin; a cookie is dropped always.
            request = following
        raise SourceUnreachable(
            f"cannot fetch from {self.host}: it leads on more than {REDIRECTS} times",
            "see: curl -vL --max-redirs 10 " + str(request.url.copy_with(query=None)),
        )


def _open_client(source: ModelSource, connections: int, silence_s: float) -> httpx.Client:
    try:
        return httpx.Client(
            verify=trust(source),
            trust_env=True,  # HTTP_PROXY, HTTPS_PROXY, NO_PROXY
            timeout=httpx.Timeout(silence_s, connect=min(CONNECT_S, silence_s)),
            limits=httpx.Limits(max_connections=connections + 1, keepalive_expiry=30.0),
            headers={
                "User-Agent": f"deepseek-agent/{__version__}",
                # Sizes and ranges are of the bytes as they are stored.
                "Accept-Encoding": "identity",
            },
        )
    except (ValueError, ImportError, httpx.HTTPError, httpx.InvalidURL) as error:
        # InvalidURL quotes a part of it, which may be of a password (httpx 0.28.1).
        why = "it is no URL" if isinstance(error, httpx.InvalidURL) else error
        raise SourceUnreachable(
            f"cannot reach {source.endpoint}: the proxy cannot be used: {why}",
            "see HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY; http:// and https:// proxies work",
        ) from error


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _host(source: ModelSource) -> str:
    try:
        url = httpx.URL(source.endpoint)
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.scheme not in ("http", "https") or not url.host or (url.port or 1) > 65535:
        raise AgentError(
            Code.CONFIG_INVALID,
            f"cannot reach {source.endpoint}: it is no address",
            "an endpoint is written https://HOST",
        )
    return url.netloc.decode("ascii")


def _drop_body(response: httpx.Response) -> None:
    """A short body is read, so that the connection can be used again."""
    with suppress(httpx.HTTPError):
        seen, give_up_at = 0, monotonic() + REDIRECT_BODY_S
        for chunk in response.iter_raw():
            seen += len(chunk)
            if seen > REDIRECT_BODY_BYTES or monotonic() > give_up_at:
                break
    response.close()


def _read_bounded(response: httpx.Response, host: str) -> bytes:
    if response.headers.get("content-encoding", "identity") != "identity":
        raise SourceUnreachable(
            f"cannot read the answer of {host}: it is compressed unasked", WRONG_HINT
        )
    content, give_up_at = bytearray(), monotonic() + JSON_DEADLINE_S
    for chunk in response.iter_raw():
        content += chunk
        if len(content) > JSON_LIMIT_BYTES or monotonic() > give_up_at:
            raise SourceUnreachable(
                f"cannot read the answer of {host}: it does not end", WRONG_HINT
            )
    return bytes(content)


# --- what went wrong -----------------------------------------------------------------------------


def failure_of(error: httpx.HTTPError, scheme: str, host: str) -> AgentError:
    """What a failure of the network, or of the talk over it, means."""
    cause = _root_cause(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return AgentError(
            Code.SOURCE_UNTRUSTED,
            f"cannot trust {host}: {cause.verify_message}",
            "for a private authority set ca_file of this source, or tls_verify = false; "
            "a clock that is wrong does this too, see: timedatectl",
        )
    if isinstance(error, httpx.ProxyError):
        return SourceUnreachable(
            f"cannot reach {host}: the proxy refuses: {error}", "see HTTP_PROXY and HTTPS_PROXY"
        )
    if isinstance(error, httpx.ConnectTimeout | httpx.PoolTimeout):
        why = "nobody takes the connection"
    elif isinstance(error, httpx.TimeoutException):
        why = "it stands still"
    else:
        why = str(cause) or type(error).__name__
    return SourceUnreachable(
        f"cannot fetch from {host}: {why}", f"is there a way to it? see: curl -v {scheme}://{host}"
    )


def _root_cause(error: BaseException) -> BaseException:
    for _ in range(10):
        deeper = error.__cause__ or error.__context__
        if deeper is None:
            break
        error = deeper
    return error


def _check_status(response: httpx.Response, host: str) -> None:
    status, path = response.status_code, response.url.path
    if status in (200, 206, 416):
        return
    # huggingface_hub 1.x, utils/_http.py: 401 with this code is how a repository that is not there
    # looks to somebody without a token.
    unknown = response.headers.get("x-error-code", "") == "RepoNotFound"
    if status in (404, 410) or unknown:
        why = Refusal(Code.SOURCE_NOT_FOUND, f"HTTP {status}")
        raise refused(_said(response, host) or why, path, host)
    if status in (401, 403):
        raise refused(Refusal(Code.SOURCE_REFUSED, f"HTTP {status}"), path, host)
    if status == 407:
        raise AgentError(
            Code.SOURCE_REFUSED,
            f"cannot reach {host}: the proxy wants a password",
            "write it into HTTPS_PROXY: http://USER:PASSWORD@HOST:PORT",
        )
    raise SourceUnreachable(
        f"cannot fetch from {host}: HTTP {status}",
        BUSY_HINT,
        retry_after_s(response.headers.get("retry-after", "")),
    )


def _said(response: httpx.Response, host: str) -> Refusal | None:
    """A body that does not arrive says nothing: another try may tell. One that is compressed
    unasked says nothing with any try. Raises AgentError."""
    if response.headers.get("content-encoding", "identity") != "identity":
        return None
    content = _read_bounded(response, host)
    with suppress(ValueError):
        return read_refusal(load_json(content))
    return None


def refused(refusal: Refusal, what: str, host: str) -> AgentError:
    """`what`: was asked for."""
    if refusal.code is Code.SOURCE_NOT_FOUND:
        return AgentError(
            refusal.code,
            f"cannot find {what} on {host}: {refusal.words}",
            "are repository and revision spelled right? a private one needs a token",
        )
    if refusal.code is Code.SOURCE_REFUSED:
        return AgentError(
            refusal.code,
            f"cannot fetch {what} from {host}: {refusal.words}",
            "a private or gated repository needs a token (token_file) that may read it",
        )
    return SourceUnreachable(f"cannot fetch from {host}: {refusal.words}", BUSY_HINT)


def retry_after_s(text: str) -> float:
    """RFC 9110, 10.2.3: seconds, or a date; within bounds, 0 when it says nothing of use."""
    text = text.strip()
    if text.isascii() and text.isdecimal():
        return float(min(int(text[:9]), RETRY_AFTER_LIMIT_S))
    try:
        left = (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return min(max(left, 0.0), RETRY_AFTER_LIMIT_S)
