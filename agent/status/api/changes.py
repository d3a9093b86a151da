# SPDX-License-Identifier: MulanPSL-2.0
"""Has done what was asked for, and tells how far it has come."""

import time
from collections.abc import Awaitable
from dataclasses import dataclass

from agent.errors import AgentError, Code
from agent.status.api.access import Access
from agent.status.api.asgi import Request, Response
from agent.status.api.control import Control
from agent.status.api.operation import Accepted, Operation, answer
from agent.status.changes import Change, Changes, ChangesAnswer, Verb
from agent.status.snapshot import Board


@dataclass(frozen=True, slots=True)
class ChangeDesk:
    """Handlers of `/v1/changes`; `follow` is for those who take a request."""

    board: Board
    control: Control
    changes: Changes

    def operations(self) -> tuple[Operation, ...]:
        return (
            Operation(
                "changes",
                "GET",
                "/v1/changes",
                Access.ANYONE,
                "the latest things that were asked for",
                self.show_all,
                answer=ChangesAnswer,
            ),
            Operation(
                "change",
                "GET",
                "/v1/changes/{change:int}",
                Access.ANYONE,
                "how far one of them has come",
                self.show_one,
                answer=Change,
            ),
        )

    async def show_all(self, request: Request) -> Response:
        return answer(self.changes.latest())

    async def show_one(self, request: Request) -> Response:
        change = self.changes.of(int(request.path["change"]))
        if change is None:
            raise AgentError(
                Code.CHANGE_UNKNOWN,
                "cannot find this change: it is too old, or the agent was restarted since",
                "what happened: deepseekctl events",
            )
        return answer(change)

    async def follow(self, verb: Verb, instance: str, by: str, work: Awaitable[None]) -> Response:
        """Answers when `work` has been taken. Raises AgentError when it is refused."""
        before = self.board.snapshot.instance(instance)
        await work
        number = self.control.asked(verb, instance, by)
        self.changes.begin(Change(number, verb, instance, by, time.time()), before)
        return answer(Accepted(change=number), 202)

    async def note(self, verb: Verb, what: str, by: str, work: Awaitable[None]) -> Response:
        """The same of what is done when it is answered. `what`: an NPU; empty: the host."""
        await work
        number = self.control.asked(verb, what, by)
        self.changes.begin(Change(number, verb, "", by, time.time()), None)
        return answer(Accepted(change=number))
