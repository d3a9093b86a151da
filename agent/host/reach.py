# SPDX-License-Identifier: MulanPSL-2.0
"""Whether hubs and registries answer: a short-lived process, `python -m agent.host.reach LIST`.

In: a JSON list of addresses. Out: one JSON object for each, in that order. Nothing is fetched; any
answer below 500 counts, also one that wants a password. It has the proxies of its environment. A
process, because neither a name server nor a proxy can be asked with a deadline that always holds.
"""

import json
import os
import socket
import ssl
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from time import monotonic

import httpx
import msgspec

from agent.decoding import decode_json
from agent.doctor.looks import Reached
from agent.errors import Code, HostUnavailable
from agent.host.process import run_module
from agent.host.proxies import proxy_for, spell_both
from agent.host.registry import trust

MODULE = "agent.host.reach"
DEADLINE_S = 6.0  # of all addresses at a time, from their names to their answers
START_S = 6.0  # Python and httpx, on a busy core


@dataclass(frozen=True, slots=True)
class Address:
    """Something that is asked for an answer."""

    url: str
    tls_verify: bool = True
    ca_file: str = ""


async def reach_all(
    addresses: Sequence[Address], proxies: Mapping[str, str]
) -> tuple[Reached, ...]:
    """All at a time. `proxies`: of who would fetch; those of this process, a person's, may be
    others, and count for nothing."""
    if not addresses:
        return ()
    asked = json.dumps([asdict(one) for one in addresses])
    done = await run_module(
        MODULE, (asked,), deadline_s=DEADLINE_S + START_S, environment=spell_both(proxies)
    )
    if done.status is None:
        raise TimeoutError
    try:
        return decode_json(done.output, tuple[Reached, ...])
    except msgspec.MsgspecError as error:
        why = done.errors.strip()[-200:] or f"exit status {done.status}"
        raise HostUnavailable(Code.SOURCE_UNREACHABLE, f"cannot ask sources: {why}") from error


def reach(address: Address) -> Reached:
    url = httpx.URL(address.url)
    proxy = _proxy_for(url)
    if not proxy and (problem := _lookup_problem(url.host)):
        return Reached(address.url, url.host, lookup_problem=problem)
    return Reached(address.url, url.host, problem=_problem(address), proxy=proxy)


def _proxy_for(url: httpx.URL) -> str:
    """Host and port alone: what is before them may be a password."""
    chosen = proxy_for(url.scheme, url.host, os.environ)
    return chosen.rpartition("@")[2].rpartition("//")[2].rstrip("/")


def _lookup_problem(host: str) -> str:
    try:
        socket.getaddrinfo(host, 443, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        return (getattr(error, "strerror", None) or str(error)).lower()
    return ""


def _problem(address: Address) -> str:
    try:
        verify = trust(address.ca_file, tls_verify=address.tls_verify)
        with (
            httpx.Client(verify=verify, timeout=DEADLINE_S - 1, trust_env=True) as client,
            client.stream("GET", address.url) as response,
        ):
            status = response.status_code
    except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, OSError, ValueError) as error:
        return _say(error)
    return f"it answers with status {status}" if status >= 500 else ""


def _say(error: Exception) -> str:
    if isinstance(error, httpx.TimeoutException):
        return f"it does not answer within {DEADLINE_S - 1:g} s"
    if isinstance(error, httpx.InvalidURL):  # it quotes a part, which may be of a password
        return "its proxy, or NO_PROXY, is no URL"
    text = str(error).strip() or type(error).__name__
    return text.partition("] ")[2] or text


def main(argv: Sequence[str] | None = None) -> int:
    """Prints what was found; what has not answered in time is told as such."""
    (asked,) = sys.argv[1:] if argv is None else argv
    addresses = [Address(**one) for one in json.loads(asked)]
    found: dict[str, Reached] = {}

    def work(address: Address) -> None:
        found[address.url] = reach(address)

    threads = [threading.Thread(target=work, args=(one,), daemon=True) for one in addresses]
    for thread in threads:
        thread.start()
    give_up_at = monotonic() + DEADLINE_S
    for thread in threads:
        thread.join(max(give_up_at - monotonic(), 0.0))
    silent = f"it does not answer within {DEADLINE_S:g} s"
    rows = [
        found.get(one.url) or Reached(one.url, httpx.URL(one.url).host, problem=silent)
        for one in addresses
    ]
    json.dump([asdict(one) for one in rows], sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
