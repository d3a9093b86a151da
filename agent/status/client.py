# SPDX-License-Identifier: MulanPSL-2.0
"""The one client of the socket API, for deepseekctl and the tests. Decodes into our own values."""

from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import httpx
import msgspec

from agent.errors import AgentError, Code, HostUnavailable
from agent.status.snapshot import NpusAnswer, Snapshot

SOCKET = Path("/run/deepseek-agent/agent.sock")
TIMEOUT_S = 10.0
PLAN_TIMEOUT_S = 60.0  # Podman and the model's files are looked at


class _Error(msgspec.Struct):
    """A failure as it comes: a newer agent may have codes that this client does not know."""

    code: str
    message: str
    hint: str = ""


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

    def restart(self, instance: str) -> None:
        self._ask("POST", f"/v1/instances/{quote(instance, safe='')}/restart")

    def replan(self, instance: str) -> None:
        self._ask(
            "POST", f"/v1/instances/{quote(instance, safe='')}/replan", timeout_s=PLAN_TIMEOUT_S
        )

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

    def close(self) -> None:
        self._client.close()

    def _ask(
        self, method: str, path: str, body: object = None, timeout_s: float = TIMEOUT_S
    ) -> bytes:
        content = None if body is None else msgspec.json.encode(body)
        try:
            answer = self._client.request(method, path, content=content, timeout=timeout_s)
        except httpx.HTTPError as error:
            raise HostUnavailable(
                Code.AGENT_UNREACHABLE,
                f"cannot reach the agent at {self._path}: {error}",
                "systemctl start deepseek-agent.socket; systemctl status deepseek-agent",
            ) from error
        if answer.is_success:
            return answer.content
        told = _decode(answer.content, _Refusal).error
        known = told.code in set(Code)
        message = told.message if known else f"{told.message} [{told.code}]"
        raise AgentError(Code(told.code) if known else Code.INTERNAL, message, told.hint)


Kind = TypeVar("Kind")


def _decode(raw: bytes, kind: type[Kind]) -> Kind:
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.MsgspecError as error:
        raise AgentError(
            Code.INTERNAL,
            f"cannot understand the agent's answer: {error}",
            "are agent and deepseekctl of the same version? systemctl restart deepseek-agent",
        ) from error
