# SPDX-License-Identifier: MulanPSL-2.0
"""Follows npud's socket: what it says about the NPUs, and that it has fallen silent.

In: newline-delimited JSON from npud. Out: `Inventory` values to a callback. A silent npud is
UNKNOWN, never "no NPUs": nothing is decided on missing data.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import msgspec

from agent.model import DriverState, Inventory

# npud sends a heartbeat every 5 s.
SILENCE_S = 16.0
RECONNECT_S = 1.0
# 64 chips with long process lists stay far below this.
LINE_LIMIT_BYTES = 1024 * 1024


class _Message(msgspec.Struct):
    type: str
    inventory: Inventory | None = None


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

    async def run(self) -> None:
        """Ends only by cancellation."""
        while True:
            why = await self._follow()
            self._report_silence(why)
            await asyncio.sleep(RECONNECT_S)

    async def _follow(self) -> str:
        """Reads until the connection ends or nothing comes; returns why."""
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(SILENCE_S):
                reader, writer = await asyncio.open_unix_connection(
                    self._socket_path, limit=LINE_LIMIT_BYTES
                )
            while True:
                async with asyncio.timeout(SILENCE_S):
                    line = await reader.readline()
                if not line:
                    return "npud closed the connection"
                self._take(line)
        except TimeoutError:
            return f"npud has said nothing for {SILENCE_S:g} s"
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            return f"npud: {error}"
        finally:
            if writer is not None:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()

    def _take(self, line: bytes) -> None:
        message = msgspec.json.decode(line, type=_Message)
        if message.inventory is not None:
            self._silent = False
            self._on_inventory(message.inventory)

    def _report_silence(self, why: str) -> None:
        if not self._silent:
            self._silent = True
            self._on_inventory(Inventory(DriverState.UNKNOWN, detail=why))
