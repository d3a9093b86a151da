# SPDX-License-Identifier: MulanPSL-2.0
"""What is asked about NPUs."""

from dataclasses import dataclass
from typing import Annotated

import msgspec

from agent.status.api.access import Access, caller
from agent.status.api.asgi import Request, Response
from agent.status.api.changes import ChangeDesk
from agent.status.api.control import Control
from agent.status.api.operation import Operation, answer, read_body
from agent.status.changes import Verb
from agent.status.snapshot import Board, NpusAnswer, npus_answer


class QuarantineRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Why an NPU shall not be used."""

    reason: Annotated[str, msgspec.Meta(max_length=200)] = ""


@dataclass(frozen=True, slots=True)
class Npus:
    """Handlers of `/v1/npus`."""

    board: Board
    control: Control
    desk: ChangeDesk

    def operations(self) -> tuple[Operation, ...]:
        one = "/v1/npus/{npu:int}"
        return (
            Operation(
                "npus",
                "GET",
                "/v1/npus",
                Access.ANYONE,
                "the NPUs, read now",
                self.show,
                answer=NpusAnswer,
            ),
            Operation(
                "quarantine",
                "POST",
                f"{one}/quarantine",
                Access.OPERATOR,
                "no plan takes it any more",
                self.quarantine,
                body=QuarantineRequest,
            ),
            Operation(
                "clear",
                "POST",
                f"{one}/clear",
                Access.OPERATOR,
                "it is used again, whatever its faults now",
                self.clear,
            ),
        )

    async def show(self, request: Request) -> Response:
        await self.control.refresh_npus()
        return answer(npus_answer(self.board.snapshot))

    async def quarantine(self, request: Request) -> Response:
        asked = await read_body(request, QuarantineRequest)
        npu, by = _npu(request), caller(request)
        work = self.control.quarantine((npu,), by, asked.reason)
        return await self.desk.note(Verb.QUARANTINE, f"NPU {npu}", by, work)

    async def clear(self, request: Request) -> Response:
        npu, by = _npu(request), caller(request)
        return await self.desk.note(Verb.CLEAR, f"NPU {npu}", by, self.control.clear((npu,), by))


def _npu(request: Request) -> int:
    return int(request.path["npu"])
