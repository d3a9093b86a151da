# SPDX-License-Identifier: MulanPSL-2.0
"""The one client of the socket API, for deepseekctl and the tests. Decodes into our own values."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import httpx
import msgspec

from agent.decoding import decode_json
from agent.disks import PruneReport
from agent.errors import AgentError, Code, HostUnavailable
from agent.ports import EventQuery
from agent.status.changes import Change
from agent.status.history import EventPage
from agent.status.snapshot import EventView, NpusAnswer, Snapshot

SOCKET = Path("/run/deepseek-agent/agent.sock")
TIMEOUT_S = 10.0
# The agent gives the process that reads the configuration 30 s.
RELOAD_TIMEOUT_S = 40.0
# The agent says every 15 s that it lives.
WATCH_TIMEOUT_S = 40.0
DATA = "data: "
PRUNE_TIMEOUT_S = 3700.0  # two orders one after the other, 30 min each
PLAN_TIMEOUT_S = 60.0  # Podman and the model's files are looked at


class _Error(msgspec.Struct):
    """A failure as it comes: a newer agent may have codes that this client does not know."""

    code: str
    message: str
    hint: str = ""


class _Taken(msgspec.Struct):
    change: int = 0


class _Refusal(msgspec.Struct):
    error: _Error


class AgentClient:
    """Talks to the agent. Raises AgentError with the agent's own code, or AGENT_UNREACHABLE."""

    def __init__(self, path: Path = SOCKET) -> None:
        self._path = path
        self._client = httpx.Client(
            # No TLS on a unix socket: the host's CA file is neither needed nor read.
            transport=httpx.HTTPTransport(uds=str(path), verify=False),
            base_url="http://agent",
            timeout=TIMEOUT_S,
            trust_env=False,
        )

    def status(self) -> Snapshot:
        return self.decode(self.status_json())

    @staticmethod
    def decode(raw: bytes) -> Snapshot:
        """The answer of `status_json` as values."""
        return _decode(raw, Snapshot)

    def status_json(self) -> bytes:
        """As the agent wrote it: newer fields than this client knows stay in."""
        return self._ask("GET", "/v1/status")

    def events(self, query: EventQuery) -> EventPage:
        """A page of what happened in the last days."""
        asked: dict[str, str | int] = {"since": query.after, "limit": query.limit}
        asked |= {"instance": query.instance} if query.instance else {}
        asked |= {"newest": 1} if query.newest else {}
        return _decode(self._ask("GET", "/v1/events", query=asked), EventPage)

    def watch(self, after: int) -> Iterator[EventView]:
        """Events with an id above `after`, as they happen. Raises AgentError when it is cut off,
        or the agent says nothing for long."""
        with (
            self._reached(),
            self._client.stream(
                "GET", "/v1/watch", params={"since": after}, timeout=WATCH_TIMEOUT_S
            ) as answer,
        ):
            if not answer.is_success:
                raise _refusal(answer.read())
            for line in answer.iter_lines():
                if line.startswith(DATA):
                    yield _decode(line.removeprefix(DATA).encode(), EventView)

    def act(self, instance: str, verb: str, body: object = None) -> int:
        """Has something done with it; returns the id of the change."""
        path = f"/v1/instances/{quote(instance, safe='')}/{verb}"
        raw = self._ask("POST", path, body, timeout_s=PLAN_TIMEOUT_S)
        return _decode(raw, _Taken).change

    def change(self, number: int) -> Change:
        return _decode(self._ask("GET", f"/v1/changes/{number}"), Change)

    def pull(self, instance: str) -> None:
        self.act(instance, "pull")

    def update(self, instance: str, image: str, revision: str) -> None:
        self.act(instance, "update", {"image": image, "revision": revision})

    def rollback(self, instance: str) -> None:
        self.act(instance, "rollback")

    def prune_json(self, dry_run: bool) -> bytes:
        """Returns when it has been done."""
        query = "?dry_run=1" if dry_run else ""
        return self._ask("POST", f"/v1/prune{query}", timeout_s=PRUNE_TIMEOUT_S)

    @staticmethod
    def decode_pruned(raw: bytes) -> PruneReport:
        """The answer of `prune_json` as values."""
        return _decode(raw, PruneReport)

    def npus_json(self) -> bytes:
        return self._ask("GET", "/v1/npus")

    @staticmethod
    def decode_npus(raw: bytes) -> NpusAnswer:
        """The answer of `npus_json` as values."""
        return _decode(raw, NpusAnswer)

    def quarantine(self, npu: int, reason: str) -> None:
        self._ask("POST", f"/v1/npus/{npu}/quarantine", {"reason": reason})

    def clear(self, npu: int) -> None:
        self._ask("POST", f"/v1/npus/{npu}/clear")

    def trust_host(self) -> None:
        self._ask("POST", "/v1/host/trust")

    def reload(self) -> None:
        self._ask("POST", "/v1/config/reload", timeout_s=RELOAD_TIMEOUT_S)

    def close(self) -> None:
        self._client.close()

    def _ask(
        self,
        method: str,
        path: str,
        body: object = None,
        timeout_s: float = TIMEOUT_S,
        query: Mapping[str, str | int] | None = None,
    ) -> bytes:
        content = None if body is None else msgspec.json.encode(body)
        with self._reached():
            answer = self._client.request(
                method, path, content=content, timeout=timeout_s, params=query
            )
        if answer.is_success:
            return answer.content
        raise _refusal(answer.content)

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except httpx.HTTPError as error:
            raise HostUnavailable(
                Code.AGENT_UNREACHABLE,
                f"cannot reach the agent at {self._path}: {error}",
                "systemctl start deepseek-agent.socket; systemctl status deepseek-agent",
            ) from error


def _refusal(raw: bytes) -> AgentError:
    told = _decode(raw, _Refusal).error
    known = told.code in set(Code)
    message = told.message if known else f"{told.message} [{told.code}]"
    return AgentError(Code(told.code) if known else Code.INTERNAL, message, told.hint)


Kind = TypeVar("Kind")


def _decode(raw: bytes, kind: type[Kind]) -> Kind:
    try:
        return decode_json(raw, kind)
    except msgspec.MsgspecError as error:
        raise AgentError(
            Code.INTERNAL,
            f"cannot understand the agent's answer: {error}",
            "are agent and deepseekctl of the same version? systemctl restart deepseek-agent",
        ) from error
