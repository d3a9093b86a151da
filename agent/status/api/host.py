# SPDX-License-Identifier: MulanPSL-2.0
"""What is asked about the host and the agent."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import msgspec

from agent.disks import PruneReport
from agent.errors import AgentError, Code
from agent.status.api.access import Access, caller, permit
from agent.status.api.asgi import Request, Response
from agent.status.api.changes import ChangeDesk
from agent.status.api.control import Control
from agent.status.api.encoded import Encoded
from agent.status.api.operation import JSON, Operation, Parameter, answer, read_number
from agent.status.changes import Verb
from agent.status.config import ConfigAnswer
from agent.status.snapshot import SCHEMA, Board, Snapshot

DRY_RUN = Parameter("dry_run", int, "1: only tells what would go; for anyone", most=1)


class Alive(msgspec.Struct, frozen=True):
    """The agent answers."""

    schema: int = SCHEMA
    status: str = "ok"


@dataclass(frozen=True, slots=True)
class Host:
    """Handlers of what belongs to no instance and no NPU."""

    board: Board
    control: Control
    shown: Encoded
    desk: ChangeDesk
    openapi_file: Path

    def operations(self) -> tuple[Operation, ...]:
        anyone, operator = Access.ANYONE, Access.OPERATOR
        return (
            Operation(
                "status", "GET", "/v1/status", anyone, "everything", self.status, answer=Snapshot
            ),
            Operation(
                "health",
                "GET",
                "/v1/health",
                anyone,
                "the agent answers",
                self.health,
                answer=Alive,
            ),
            Operation(
                "openapi",
                "GET",
                "/v1/openapi.json",
                anyone,
                "this description",
                self.openapi,
                answer=bytes,
            ),
            Operation(
                "prune",
                "POST",
                "/v1/prune",
                anyone,
                "removes what is ours and nobody uses",
                self.prune,
                answer=PruneReport,
                query=(DRY_RUN,),
            ),
            Operation(
                "trust",
                "POST",
                "/v1/host/trust",
                operator,
                "it is not suspected any more",
                self.trust,
            ),
            Operation(
                "config",
                "GET",
                "/v1/config",
                anyone,
                "the configuration in force, and where each value was set; no secret is told",
                self.config,
                answer=ConfigAnswer,
            ),
            Operation(
                "reload",
                "POST",
                "/v1/config/reload",
                operator,
                "reads the configuration; answers when it is in force",
                self.reload,
            ),
        )

    async def openapi(self, request: Request) -> Response:
        """From its file, each time: it is asked for seldom, and long."""
        try:
            text = await asyncio.to_thread(self.openapi_file.read_bytes)
        except OSError as error:
            raise AgentError(
                Code.INTERNAL,
                f"cannot read {self.openapi_file}: {error.strerror}",
                "it comes with the package: dnf reinstall deepseek-agent",
            ) from error
        return Response(text, media_type=JSON)

    async def status(self, request: Request) -> Response:
        return Response(self.shown.newest(), media_type=JSON)

    async def health(self, request: Request) -> Response:
        return answer(Alive())

    async def prune(self, request: Request) -> Response:
        dry_run = read_number(request.query.get("dry_run"), DRY_RUN) == 1
        if not dry_run:
            permit(request, Access.OPERATOR)
        return answer(await self.control.prune(dry_run))

    async def trust(self, request: Request) -> Response:
        by = caller(request)
        return await self.desk.note(Verb.TRUST, "", by, self.control.trust_host(by))

    async def config(self, request: Request) -> Response:
        return answer(self.control.config())

    async def reload(self, request: Request) -> Response:
        return await self.desk.note(Verb.RELOAD, "", caller(request), self.control.reload())
