# SPDX-License-Identifier: MulanPSL-2.0
"""Follows npud's socket: what it says about the NPUs, and that it has fallen silent; asks it to
read anew and to reset.

In: newline-delimited JSON from npud. Out: `Inventory` values to a callback. A silent npud is
UNKNOWN, never "no NPUs": nothing is decided on missing data.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import msgspec

from agent.decoding import decode_json
from agent.model import DriverState, Inventory, ResetOutcome
from agent.ports import ResetOrder, ResetReport

# npud sends a heartbeat every 5 s.
SILENCE_S = 16.0
RECONNECT_S = 1.0
# 64 chips with long process lists stay far below this.
LINE_LIMIT_BYTES = 1024 * 1024
REFRESH_DEADLINE_S = 3.0  # a reading takes a tenth of it; one call that hangs, longer
# npud itself gives up after 410 s (agent/npud: 260 s for the reset, 150 s to boot).
RESET_DEADLINE_S = 440.0


class _Message(msgspec.Struct):
    type: str
    inventory: Inventory | None = None
    logic_id: int = -1  # of a reset that has ended
    outcome: str = ""
    detail: str = ""


async def read_inventory(socket_path: str) -> Inventory:
    """What npud says now; that it says nothing, as an inventory with an UNKNOWN driver."""
    first: asyncio.Future[Inventory] = asyncio.get_running_loop().create_future()

    def take(seen: Inventory) -> None:
        if not first.done():
            first.set_result(seen)

    follower = NpuFollower(socket_path, take)
    following = asyncio.create_task(follower.run())
    try:
        return await first  # run() reports silence, so it comes within SILENCE_S
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following


class NpuFollower:
    """Keeps a connection to npud, for ever."""

    def __init__(self, socket_path: str, on_inventory: Callable[[Inventory], None]) -> None:
        self._socket_path = socket_path
        self._on_inventory = on_inventory
        self._silent = False
        self._writer: asyncio.StreamWriter | None = None
        self._came = asyncio.Event()  # an inventory; a new one for each
        self._resets: dict[int, asyncio.Future[ResetReport]] = {}

    async def run(self) -> None:
        """Ends only by cancellation."""
        while True:
            why = await self._follow()
            self._report_silence(why)
            for reset in self._resets.values():
                _settle(reset, ResetReport(ResetOutcome.FAILED, f"its end is not known: {why}"))
            await asyncio.sleep(RECONNECT_S)

    async def refresh(self) -> None:
        """Has npud read now; returns when an inventory has come, after REFRESH_DEADLINE_S else."""
        came = self._came
        if self._send({"type": "refresh"}):
            with suppress(TimeoutError):
                async with asyncio.timeout(REFRESH_DEADLINE_S):
                    await came.wait()

    async def reset(self, order: ResetOrder) -> ResetReport:
        """Has npud reset a chip that nothing uses; how that went."""
        if order.logic_id in self._resets:
            return ResetReport(ResetOutcome.BUSY, "it is being reset already")
        ended: asyncio.Future[ResetReport] = asyncio.get_running_loop().create_future()
        self._resets[order.logic_id] = ended
        try:
            request = {"logic_id": order.logic_id, "ring": order.ring, "codes": order.codes}
            if not self._send({"type": "reset", **request}):
                return ResetReport(ResetOutcome.BUSY, "npud cannot be asked now")
            async with asyncio.timeout(RESET_DEADLINE_S):
                return await ended
        except TimeoutError:
            return ResetReport(ResetOutcome.FAILED, f"no word of npud for {RESET_DEADLINE_S:g} s")
        finally:
            del self._resets[order.logic_id]

    def _send(self, request: object) -> bool:
        """False: there is no connection. A line is far smaller than a socket's buffer."""
        writer = self._writer
        if writer is None or writer.is_closing():
            return False
        writer.write(msgspec.json.encode(request) + b"\n")
        return True

    async def _follow(self) -> str:
        """Reads until the connection ends or nothing comes; returns why."""
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(SILENCE_S):
                reader, writer = await asyncio.open_unix_connection(
                    self._socket_path, limit=LINE_LIMIT_BYTES
                )
            self._writer = writer
            while True:
                async with asyncio.timeout(SILENCE_S):
                    line = await reader.readline()
                if not line:
                    return "npud closed the connection"
                self._take(line)
        except TimeoutError:
            return f"npud has said nothing for {SILENCE_S:g} s"
        except (OSError, ValueError) as error:
            return f"npud: {error}"
        finally:
            self._writer = None
            if writer is not None:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()

    def _take(self, line: bytes) -> None:
        message = decode_json(line, _Message)
        if message.inventory is not None:
            self._silent = False
            self._on_inventory(message.inventory)
            came, self._came = self._came, asyncio.Event()
            came.set()
        elif message.type == "reset" and (reset := self._resets.get(message.logic_id)):
            known = message.outcome in set(ResetOutcome)
            outcome = ResetOutcome(message.outcome) if known else ResetOutcome.FAILED
            _settle(reset, ResetReport(outcome, message.detail))

    def _report_silence(self, why: str) -> None:
        if not self._silent:
            self._silent = True
            self._on_inventory(Inventory(DriverState.UNKNOWN, detail=why))


def _settle(reset: "asyncio.Future[ResetReport]", report: ResetReport) -> None:
    if not reset.done():
        reset.set_result(report)
