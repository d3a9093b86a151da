# SPDX-License-Identifier: MulanPSL-2.0
"""What is asked about one instance."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated

import msgspec

from agent.status.api.access import Access, caller
from agent.status.api.asgi import Handler, Request, Response
from agent.status.api.attach import AttachLine, attach_lines
from agent.status.api.changes import ChangeDesk
from agent.status.api.control import Control
from agent.status.api.operation import Operation, Parameter, answer, read_body, read_number
from agent.status.changes import Verb
from agent.status.snapshot import Board, InstancesAnswer, InstanceView
from agent.status.unknown import unknown_instance

# Only what cannot be one: who fetches it reads it exactly. A revision as in a profile.
IMAGE = r"^([A-Za-z0-9\[][A-Za-z0-9._:/@\[\]-]*)?$"
RESUMED = Parameter("resumed", int, "1: it was connected before", most=1)
REVISION = r"^([A-Za-z0-9][A-Za-z0-9._/-]*)?$"


class UpdateRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What is wanted in place of what the profile says."""

    image: Annotated[str, msgspec.Meta(max_length=512, pattern=IMAGE)] = ""
    revision: Annotated[str, msgspec.Meta(max_length=100, pattern=REVISION)] = ""


class HoldRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Why an instance shall be stopped."""

    reason: Annotated[str, msgspec.Meta(max_length=200)] = ""


@dataclass(frozen=True, slots=True)
class Instances:
    """Handlers of `/v1/instances/NAME/...`."""

    board: Board
    control: Control
    desk: ChangeDesk

    def operations(self) -> tuple[Operation, ...]:
        return (
            Operation(
                "instances",
                "GET",
                "/v1/instances",
                Access.ANYONE,
                "the instances",
                self.show_all,
                answer=InstancesAnswer,
            ),
            Operation(
                "instance",
                "GET",
                "/v1/instances/{name}",
                Access.ANYONE,
                "one instance",
                self.show_one,
                answer=InstanceView,
            ),
            Operation(
                "attach",
                "GET",
                "/v1/instances/{name}/attach",
                Access.ROOT,
                "of the front unit: the instance is wished; how it goes on",
                self.attach,
                answer=AttachLine,
                query=(RESUMED,),
                media_type="application/x-ndjson",
            ),
            self._act(Verb.START, "as systemctl start", lambda name: self.control.start(name)),
            self._act(
                Verb.STOP,
                "as systemctl stop: until it is started, or a boot",
                lambda name: self.control.stop(name),
            ),
            self._act(
                Verb.RESTART,
                "stop the engine, plan anew, start it",
                lambda name: self.control.restart(name),
            ),
            self._act(
                Verb.REPLAN,
                "restart it, when that brings more NPUs",
                lambda name: self.control.replan(name),
            ),
            self._operation(
                Verb.HOLD,
                "stopped, and not started whoever wishes it, until it is released",
                self.hold,
                HoldRequest,
            ),
            self._act(
                Verb.RELEASE, "not on hold any more", lambda name: self.control.release(name)
            ),
            self._act(
                Verb.PULL, "fetch what image and model lack", lambda name: self.control.pull(name)
            ),
            self._operation(
                Verb.UPDATE, "fetch what is new, and try it", self.update, UpdateRequest
            ),
            self._act(
                Verb.ROLLBACK,
                "back to image and model of before",
                lambda name: self.control.rollback(name),
            ),
        )

    async def show_all(self, request: Request) -> Response:
        return answer(InstancesAnswer(self.board.snapshot.instances))

    async def show_one(self, request: Request) -> Response:
        name = _name(request)
        view = self.board.snapshot.instance(name)
        if view is None:
            raise unknown_instance("show", name)
        return answer(view)

    async def attach(self, request: Request) -> Response:
        name = _name(request)
        resumed = read_number(request.query.get("resumed"), RESUMED) == 1
        await self.control.attach(name, resumed)
        lines = attach_lines(self.board, name, self.control.start_wait_s())
        return Response(lines, media_type="application/x-ndjson")

    async def hold(self, request: Request) -> Response:
        asked = await read_body(request, HoldRequest)
        name, by = _name(request), caller(request)
        work = self.control.hold(name, by, asked.reason)
        return await self.desk.follow(Verb.HOLD, name, by, work)

    async def update(self, request: Request) -> Response:
        asked = await read_body(request, UpdateRequest)
        name = _name(request)
        work = self.control.update(name, asked.image, asked.revision)
        return await self.desk.follow(Verb.UPDATE, name, caller(request), work)

    def _act(
        self, verb: Verb, summary: str, act: Callable[[str], Coroutine[None, None, None]]
    ) -> Operation:
        """What takes nothing but the instance's name."""

        async def handle(request: Request) -> Response:
            name = _name(request)
            return await self.desk.follow(verb, name, caller(request), act(name))

        return self._operation(verb, summary, handle)

    @staticmethod
    def _operation(
        verb: Verb, summary: str, handler: Handler, body: type | None = None
    ) -> Operation:
        path = f"/v1/instances/{{name}}/{verb}"
        return Operation(
            verb, "POST", path, Access.OPERATOR, summary, handler, body=body, status=202
        )


def _name(request: Request) -> str:
    return request.path["name"]
