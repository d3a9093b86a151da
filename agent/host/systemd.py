# SPDX-License-Identifier: MulanPSL-2.0
"""systemd over D-Bus; the only importer of dbus_next.

In: verbs of `ports.UnitManager`. Out: our own values, `HostError` for a refusal, `HostUnavailable`
when nobody answers. Low-level messages only: high-level proxies introspect whole units.

What dbus-next 0.2.3 does not do for us (facts: podman-systemd, 4): a call after the connection is
lost hangs for ever, so every call has a deadline and looks at `connected` first; there is no
reconnect, so `wait_lost` ends and the daemon is started anew.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeVar

from dbus_next import BusType, Message, MessageType, Variant
from dbus_next.aio import MessageBus

from agent.errors import Code, HostError, HostUnavailable
from agent.model import JobResult, UnitActive, UnitStatus

BUS = "org.freedesktop.DBus"
SYSTEMD = "org.freedesktop.systemd1"
MANAGER = "org.freedesktop.systemd1.Manager"
MANAGER_PATH = "/org/freedesktop/systemd1"
UNIT = "org.freedesktop.systemd1.Unit"
SERVICE = "org.freedesktop.systemd1.Service"
PROPERTIES = "org.freedesktop.DBus.Properties"

# PID 1 answers in milliseconds; during a daemon-reload on a busy host it takes seconds.
CALL_DEADLINE_S = 15.0
# Generators run during a reload, quadlet's among them.
RELOAD_DEADLINE_S = 60.0

NO_SUCH_UNIT = (
    "org.freedesktop.systemd1.NoSuchUnit",
    "org.freedesktop.DBus.Error.FileNotFound",
)


Kind = TypeVar("Kind")


@dataclass
class _Jobs:
    """Results by job path. A job may end before its path is known to us, so what ended is kept
    while a dispatch is under way (and only then: other people's jobs are none of our business)."""

    dispatching: int = 0
    ended: dict[str, str] = field(default_factory=dict)
    waiting: dict[str, list[asyncio.Future[str]]] = field(default_factory=dict)

    @contextmanager
    def dispatch(self) -> Iterator[None]:
        """While a job is being asked for."""
        self.dispatching += 1
        try:
            yield
        finally:
            self.dispatching -= 1
            if not self.dispatching:
                self.ended.clear()

    def waiter(self, job: str) -> "asyncio.Future[str]":
        """Has, or will have, the result of `job`; to be taken inside `dispatch`."""
        waiter: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        if job in self.ended:
            waiter.set_result(self.ended[job])
        else:
            # systemd answers a second request with the job that is queued already.
            self.waiting.setdefault(job, []).append(waiter)
        return waiter

    def forget(self, job: str, waiter: "asyncio.Future[str]") -> None:
        """It has been waited for long enough."""
        waiters = self.waiting.get(job, [])
        if waiter in waiters:
            waiters.remove(waiter)
        if not waiters:
            self.waiting.pop(job, None)

    def lose(self) -> None:
        """The bus is gone: nobody will say how these ended."""
        for waiter in [one for waiters in self.waiting.values() for one in waiters]:
            if not waiter.done():
                waiter.set_exception(_unavailable("wait for a job", ConnectionError("no bus")))
        self.waiting.clear()

    def on_removed(self, job: str, result: str) -> None:
        for waiter in self.waiting.pop(job, []):
            if not waiter.done():
                waiter.set_result(result)
        if self.dispatching:
            self.ended[job] = result


class Systemd:
    """`ports.UnitManager` on the system bus."""

    def __init__(self, address: str | None = None) -> None:
        """`address` is for tests; by default the system bus."""
        self._address = address
        self._jobs = _Jobs()
        self._on_change: Callable[[str], None] = lambda unit: None
        self._paths: dict[str, str] = {}  # object path -> unit

    async def connect(self, on_change: Callable[[str], None]) -> None:
        """Connects and subscribes; `on_change` is called with the name of a watched unit when
        something about it changed (what it is has to be asked), or "" after a daemon-reload."""
        self._on_change = on_change
        try:
            # The constructor already opens the socket.
            self._bus = MessageBus(bus_address=self._address, bus_type=BusType.SYSTEM)
            async with asyncio.timeout(CALL_DEADLINE_S):
                await self._bus.connect()
        except (OSError, EOFError, TimeoutError, ValueError) as error:
            raise _unavailable("connect to the system bus", error) from error
        self._bus.add_message_handler(self._on_message)
        await self._match(f"interface='{MANAGER}',member='JobRemoved'")
        await self._match(f"interface='{MANAGER}',member='Reloading'")
        await self._manager("Subscribe")

    async def watch(self, unit: str) -> None:
        """Reports changes of `unit` from now on."""
        path = unit_path(unit)
        if path not in self._paths:
            self._paths[path] = unit
            await self._match(f"interface='{PROPERTIES}',path='{path}'")

    async def wait_lost(self) -> None:
        """Returns when the connection to the bus is gone."""
        # dbus-next raises whatever ended its reader: EOFError, OSError, ...
        with suppress(EOFError, OSError):
            await self._bus.wait_for_disconnect()
        # dbus-next 0.2.3 leaves the descriptor open.
        self._bus._stream.close()
        self._bus._sock.close()
        self._jobs.lose()

    async def close(self) -> None:
        """Ends the connection; `wait_lost` returns then."""
        self._bus.disconnect()

    async def status(self, unit: str) -> UnitStatus:
        (path,) = await self._manager("LoadUnit", "s", [unit])
        unit_properties = await self._properties(str(path), UNIT)
        service = await self._properties(str(path), SERVICE)
        return UnitStatus(
            name=unit,
            load_state=_text(unit_properties, "LoadState"),
            active=UnitActive(_text(unit_properties, "ActiveState")),
            sub_state=_text(unit_properties, "SubState"),
            result=_text(service, "Result"),
            exit_status=_number(service, "ExecMainStatus"),
            fragment_path=_text(unit_properties, "FragmentPath")
            or _text(unit_properties, "SourcePath"),
            need_daemon_reload=_text(unit_properties, "NeedDaemonReload") == "True",
            unit_file_state=_text(unit_properties, "UnitFileState"),
            invocation_id=_text(unit_properties, "InvocationID"),
        )

    async def start(self, unit: str, deadline_s: float) -> JobResult:
        return await self._run_job("StartUnit", unit, deadline_s)

    async def stop(self, unit: str, deadline_s: float) -> JobResult:
        return await self._run_job("StopUnit", unit, deadline_s)

    async def dispatch_start(self, unit: str) -> None:
        """Starts it without waiting for the job (the front unit's takes as long as the model)."""
        await self._manager("StartUnit", "ss", [unit, "replace"])

    async def reset_failed(self, unit: str) -> None:
        try:
            await self._manager("ResetFailedUnit", "s", [unit])
        except HostError as error:
            if error.failure.code is not Code.UNIT_NOT_LOADED:
                raise

    async def reload(self) -> None:
        await self._manager("Reload", deadline_s=RELOAD_DEADLINE_S)

    async def _run_job(self, method: str, unit: str, deadline_s: float) -> JobResult:
        """Dispatch, then wait for that very job. The match on JobRemoved stands since connect(),
        otherwise a quick job would be missed."""
        with self._jobs.dispatch():
            (path,) = await self._manager(method, "ss", [unit, "replace"])
            waiter = self._jobs.waiter(str(path))
        try:
            async with asyncio.timeout(deadline_s):
                return JobResult(await waiter)
        except TimeoutError:
            return JobResult.TIMEOUT
        finally:
            self._jobs.forget(str(path), waiter)

    async def _properties(self, path: str, interface: str) -> dict[str, Variant]:
        (properties,) = await self._call(SYSTEMD, path, PROPERTIES, "GetAll", "s", [interface])
        return _expect(properties, dict)

    async def _match(self, rule: str) -> None:
        rule = f"type='signal',sender='{SYSTEMD}',{rule}"
        await self._call(BUS, "/org/freedesktop/DBus", BUS, "AddMatch", "s", [rule])

    async def _manager(
        self,
        method: str,
        signature: str = "",
        body: Sequence[object] = (),
        deadline_s: float = CALL_DEADLINE_S,
    ) -> list[object]:
        return await self._call(SYSTEMD, MANAGER_PATH, MANAGER, method, signature, body, deadline_s)

    async def _call(
        self,
        destination: str,
        path: str,
        interface: str,
        member: str,
        signature: str = "",
        body: Sequence[object] = (),
        deadline_s: float = CALL_DEADLINE_S,
    ) -> list[object]:
        what = f"call {member}"
        if not self._bus.connected:
            raise _unavailable(what, ConnectionError("not connected to the system bus"))
        message = Message(
            destination=destination,
            path=path,
            interface=interface,
            member=member,
            signature=signature,
            body=list(body),
        )
        try:
            async with asyncio.timeout(deadline_s):
                reply = await self._bus.call(message)
        except (OSError, EOFError, TimeoutError) as error:
            raise _unavailable(what, error) from error
        if reply is None:
            raise _unavailable(what, ConnectionError("no reply"))
        if reply.message_type is MessageType.ERROR:
            raise _refused(what, body, reply)
        answer: list[object] = reply.body
        return answer

    def _on_message(self, message: Message) -> None:
        if message.message_type is not MessageType.SIGNAL:
            return
        match message.member:
            case "JobRemoved":
                self._jobs.on_removed(str(message.body[1]), str(message.body[3]))
            case "PropertiesChanged" if message.path in self._paths:
                self._on_change(self._paths[message.path])
            case "Reloading" if message.body and message.body[0] is False:
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


def _expect(value: object, kind: type[Kind]) -> Kind:
    """`value`, which D-Bus itself has checked against the method's signature."""
    if not isinstance(value, kind):
        raise HostError(Code.SYSTEMD_UNAVAILABLE, f"cannot understand systemd: {value!r}")
    return value


def _unavailable(what: str, error: BaseException) -> HostUnavailable:
    cause = str(error) or type(error).__name__
    return HostUnavailable(
        Code.SYSTEMD_UNAVAILABLE, f"cannot {what}: {cause}", "see: systemctl status dbus"
    )


def _refused(what: str, body: Sequence[object], reply: Message) -> HostError:
    text = str(reply.body[0]) if reply.body else reply.error_name
    code = Code.UNIT_NOT_LOADED if reply.error_name in NO_SUCH_UNIT else Code.UNIT_REFUSED
    subject = f" for {body[0]}" if body and isinstance(body[0], str) else ""
    return HostError(code, f"cannot {what}{subject}: {text}")


def _text(properties: dict[str, Variant], key: str) -> str:
    value = properties[key].value if key in properties else ""
    return value.hex() if isinstance(value, bytes) else str(value)


def _number(properties: dict[str, Variant], key: str) -> int:
    value = properties[key].value if key in properties else 0
    return value if isinstance(value, int) else 0
