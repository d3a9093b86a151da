# SPDX-License-Identifier: MulanPSL-2.0
"""systemd over D-Bus, on a connection that is kept.

In: verbs of `ports.UnitManager`. Out: our own values, `HostError` for a refusal, `HostUnavailable`
when nobody answers. When the bus goes away `keep` makes a new connection; nothing is lost by that,
since everything is looked at again.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

from agent.errors import AgentError, Code, Failure, HostError, HostUnavailable
from agent.host.bus import BUS, BUS_PATH, CALL_DEADLINE_S, Bus, CallRefused, Signal
from agent.host.jobs import Jobs
from agent.host.unit_status import read_status
from agent.model import JobResult, UnitStatus

SYSTEMD = "org.freedesktop.systemd1"
MANAGER = "org.freedesktop.systemd1.Manager"
MANAGER_PATH = "/org/freedesktop/systemd1"
UNIT = "org.freedesktop.systemd1.Unit"
SERVICE = "org.freedesktop.systemd1.Service"
PROPERTIES = "org.freedesktop.DBus.Properties"

# Generators run during a reload, quadlet's among them.
RELOAD_DEADLINE_S = 60.0
# A bus that is stopped or hangs is noticed within the sum of both.
PING_EVERY_S = 3.0
PING_DEADLINE_S = 2.5
# After so many in vain the fault may be in our connection.
PINGS_IN_VAIN = 10
RECONNECT_EVERY_S = 1.0

NO_SUCH_UNIT = (
    "org.freedesktop.systemd1.NoSuchUnit",
    "org.freedesktop.DBus.Error.FileNotFound",
)

# The bus says that the addressee is not there.
NOBODY = (
    "org.freedesktop.DBus.Error.ServiceUnknown",
    "org.freedesktop.DBus.Error.NameHasNoOwner",
    "org.freedesktop.DBus.Error.NoReply",
    "org.freedesktop.DBus.Error.Disconnected",
)
GONE = "cannot ask systemd: the system bus is gone"

# A start of ours never takes the place of a job that is queued: a person's stop, above all.
START_MODE = "fail"

Kind = TypeVar("Kind")


class Systemd:
    """`ports.UnitManager` on the system bus."""

    def __init__(self, address: str | None = None) -> None:
        """`address` is for tests; by default the system bus."""
        self._bus = Bus(address)
        self._owner = ""  # systemd's own name on this connection; no other peer ever gets it
        self._jobs = Jobs()
        self._on_change: Callable[[str], None] = lambda unit: None
        # Told of each job of a watched unit that ends with "done" and was one of its own.
        self.on_job: Callable[[str], None] = lambda unit: None
        self._paths: dict[str, str] = {}  # object path -> unit

    async def connect(self, on_change: Callable[[str], None]) -> None:
        """Connects and subscribes; `on_change` is called with the name of a watched unit when
        something about it changed (what it is has to be asked), or "" after a daemon-reload."""
        self._on_change, self._owner = on_change, ""
        await self._bus.connect(self._on_signal)
        try:
            # Before the question, so that nobody who comes after its answer is missed.
            await self._match(BUS, f"member='NameOwnerChanged',arg0='{SYSTEMD}'")
            self._owner = await self._find_owner()
            await self._match(SYSTEMD, f"interface='{MANAGER}',member='JobRemoved'")
            await self._match(SYSTEMD, f"interface='{MANAGER}',member='Reloading'")
            for path in list(self._paths):  # more may come meanwhile
                await self._match(SYSTEMD, f"interface='{PROPERTIES}',path='{path}'")
            await self._manager("Subscribe")
        except AgentError:
            self._bus.close()  # half a connection would look like a whole one
            raise

    async def keep(
        self, on_change: Callable[[str], None], tell: Callable[[Failure | None], None]
    ) -> None:
        """Keeps the connection, from `connect` on or before it; ends only by cancellation. `tell`
        hears why systemd cannot be asked now, and None whenever it can again."""
        while True:
            try:
                if not self._bus.connected:
                    await self.connect(on_change)
                    tell(None)
                await self._until_lost(tell)
            except AgentError as error:
                tell(error.failure)
                await asyncio.sleep(RECONNECT_EVERY_S)
            finally:
                self._jobs.lose()

    async def _until_lost(self, tell: Callable[[Failure | None], None]) -> None:
        """Raises HostUnavailable when the connection is gone, or not worth keeping."""
        lost = asyncio.create_task(self._bus.wait_lost())
        in_vain = 0
        try:
            while in_vain < PINGS_IN_VAIN:
                await asyncio.wait({lost}, timeout=PING_EVERY_S)
                if lost.done():
                    raise HostUnavailable(Code.SYSTEMD_UNAVAILABLE, GONE, "systemctl status dbus")
                try:
                    await self._bus.ping(PING_DEADLINE_S)
                except HostUnavailable as error:
                    in_vain += 1
                    tell(error.failure)
                else:
                    if in_vain:
                        tell(None)
                    in_vain = 0
        finally:
            lost.cancel()
        self._bus.close()

    async def watch(self, unit: str) -> None:
        """Reports changes of `unit` from now on."""
        path = unit_path(unit)
        if path in self._paths:
            return
        self._paths[path] = unit
        try:
            if self._bus.connected:  # otherwise `connect` does it
                await self._match(SYSTEMD, f"interface='{PROPERTIES}',path='{path}'")
        except AgentError:
            del self._paths[path]
            raise

    def close(self) -> None:
        """Ends the connection."""
        self._bus.close()
        self._jobs.lose()

    async def status(self, unit: str) -> UnitStatus:
        (path,) = await self._manager("LoadUnit", "s", [unit])
        unit_properties = await self._properties(str(path), UNIT)
        is_service = unit.endswith(".service")
        service = await self._properties(str(path), SERVICE) if is_service else {}
        return read_status(unit, unit_properties, service)

    async def loaded(self, pattern: str) -> tuple[str, ...]:
        """Names of the units that it has in memory: what is up, has a job, or has failed."""
        (units,) = await self._manager("ListUnitsByPatterns", "asas", [[], [pattern]])
        return tuple(str(unit[0]) for unit in _expect(units, list))

    async def start(self, unit: str, deadline_s: float) -> JobResult:
        return await self._run_job("StartUnit", unit, START_MODE, deadline_s)

    async def stop(self, unit: str, deadline_s: float) -> JobResult:
        return await self._run_job("StopUnit", unit, "replace", deadline_s)

    async def dispatch_start(self, unit: str) -> None:
        """Starts it without waiting for the job (the front unit's takes as long as the model)."""
        await self._manager("StartUnit", "ss", [unit, START_MODE])

    async def dispatch_stop(self, unit: str) -> None:
        """Stops it without waiting for the job, which takes as long as requests that run."""
        await self._manager("StopUnit", "ss", [unit, "replace"])

    async def reset_failed(self, unit: str) -> None:
        try:
            await self._manager("ResetFailedUnit", "s", [unit])
        except HostError as error:
            if error.failure.code is not Code.UNIT_NOT_LOADED:
                raise

    async def reload(self) -> None:
        await self._manager("Reload", deadline_s=RELOAD_DEADLINE_S)

    async def _run_job(self, method: str, unit: str, mode: str, deadline_s: float) -> JobResult:
        """Dispatch, then wait for that very job. The match on JobRemoved stands since connect(),
        otherwise a quick job would be missed."""
        with self._jobs.dispatch():
            (path,) = await self._manager(method, "ss", [unit, mode])
            waiter = self._jobs.waiter(str(path))
        try:
            async with asyncio.timeout(deadline_s):
                return JobResult(await waiter)
        except TimeoutError:
            return JobResult.TIMEOUT
        finally:
            self._jobs.forget(str(path), waiter)

    async def _properties(self, path: str, interface: str) -> dict[str, object]:
        (properties,) = await self._call(path, PROPERTIES, "GetAll", "s", [interface])
        return _expect(properties, dict)

    async def _find_owner(self) -> str:
        try:
            (owner,) = await self._bus.call(
                BUS, BUS_PATH, BUS, "GetNameOwner", "s", [SYSTEMD], CALL_DEADLINE_S
            )
        except CallRefused as refusal:
            raise _refused("GetNameOwner", [SYSTEMD], refusal) from refusal
        return _expect(owner, str)

    async def _match(self, sender: str, rule: str) -> None:
        try:
            await self._bus.match(f"type='signal',sender='{sender}',{rule}")
        except CallRefused as refusal:
            raise _refused("AddMatch", [rule], refusal) from refusal

    async def _manager(
        self,
        method: str,
        signature: str = "",
        body: Sequence[object] = (),
        deadline_s: float = CALL_DEADLINE_S,
    ) -> list[object]:
        return await self._call(MANAGER_PATH, MANAGER, method, signature, body, deadline_s)

    async def _call(
        self,
        path: str,
        interface: str,
        member: str,
        signature: str,
        body: Sequence[object],
        deadline_s: float = CALL_DEADLINE_S,
    ) -> list[object]:
        try:
            return await self._bus.call(
                SYSTEMD, path, interface, member, signature, body, deadline_s
            )
        except CallRefused as refusal:
            raise _refused(member, body, refusal) from refusal

    def _on_signal(self, signal: Signal) -> None:
        """From systemd or the bus. Rules do not hold for what is addressed to us alone, and any
        user may send that."""
        if signal.sender == BUS:
            self._on_word_of_bus(signal)
        elif signal.sender == self._owner:
            self._on_word_of_systemd(signal)

    def _on_word_of_bus(self, signal: Signal) -> None:
        if signal.member == "NameOwnerChanged" and signal.body[0] == SYSTEMD and signal.body[2]:
            # It has connected anew, with another name, and knows of no subscription.
            asyncio.get_running_loop().call_soon(self._bus.close)

    def _on_word_of_systemd(self, signal: Signal) -> None:
        match signal.member:
            case "JobRemoved":
                job, unit, result = (str(value) for value in signal.body[1:4])
                if self._jobs.on_removed(job, unit, result) and result == JobResult.DONE:
                    self.on_job(unit)
            case "PropertiesChanged" if signal.path in self._paths:
                unit = self._paths[signal.path]
                self._jobs.on_shown(_job_shown(signal.body), unit)
                self._on_change(unit)
            case "Reloading" if signal.body and signal.body[0] is False:
                self._on_change("")


def unit_path(unit: str) -> str:
    """The object path of a unit: every byte that is no ASCII letter or digit becomes _xx
    (sd_bus_path_encode(3); a digit in front is encoded too)."""
    encoded = "".join(
        char
        if char.isascii() and char.isalnum() and not (index == 0 and char.isdigit())
        else "".join(f"_{byte:02x}" for byte in char.encode())
        for index, char in enumerate(unit)
    )
    return f"{MANAGER_PATH}/unit/{encoded}"


def _job_shown(changed: tuple[object, ...]) -> str | None:
    """The path of a unit's job, "/" when it has none; None when it does not tell."""
    match changed:
        case (str(), {"Job": [int(), str(path)]}, *_):
            return path
        case _:
            return None


def _expect(value: object, kind: type[Kind]) -> Kind:
    """`value`, which D-Bus itself has checked against the method's signature."""
    if not isinstance(value, kind):
        raise HostError(Code.SYSTEMD_UNAVAILABLE, f"cannot understand systemd: {value!r}")
    return value


def _refused(member: str, body: Sequence[object], refusal: CallRefused) -> HostError:
    subject = f" for {body[0]}" if body and isinstance(body[0], str) else ""
    if refusal.name in NOBODY:
        why = f"cannot call {member}{subject}: systemd is not on the bus: {refusal}"
        return HostUnavailable(Code.SYSTEMD_UNAVAILABLE, why, "systemctl status dbus")
    code = Code.UNIT_NOT_LOADED if refusal.name in NO_SUCH_UNIT else Code.UNIT_REFUSED
    return HostError(code, f"cannot call {member}{subject}: {refusal}")
