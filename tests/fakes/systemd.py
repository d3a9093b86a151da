# SPDX-License-Identifier: MulanPSL-2.0
"""A fake org.freedesktop.systemd1 for a private bus: units, jobs, signals, and ways to fail.

Written against systemd 255 (`busctl introspect org.freedesktop.systemd1 /org/freedesktop/systemd1`
and the unit objects below it). What of the real one matters here and is kept: signals flow only
after Subscribe(), and a second Subscribe() of a client is refused; LoadUnit() answers for units
that do not exist; a start whose ExecCondition= is not met ends with "done" and a unit that is down;
PartOf= passes a stop on; a job may end before its caller has learned its path; a unit shows its job
before JobRemoved, but for a job without effect, of which it shows none (systemd 252, 257).
"""

import asyncio
import os
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from fnmatch import fnmatch

from dbus_next import Message, MessageType, Variant
from dbus_next.aio import MessageBus

NAME = "org.freedesktop.systemd1"
ROOT = "/org/freedesktop/systemd1"
MANAGER = f"{NAME}.Manager"
UNIT = f"{NAME}.Unit"
SERVICE = f"{NAME}.Service"
PROPERTIES = "org.freedesktop.DBus.Properties"
UP = ("active", "activating", "reloading")


@dataclass
class FakeUnit:
    """A unit as its properties show it."""

    name: str
    load: str = "loaded"
    active: str = "inactive"
    sub: str = "dead"
    result: str = "success"
    exit_code: int = 0  # of the main process: si_code; 0: it has not ended
    exit_status: int = 0
    fragment: str = ""
    needs_reload: bool = False
    file_state: str = "static"
    invocation: bytes = b""
    stopped_with: int | None = None  # how ExecStopPost= ended; None: it has not run


@dataclass
class Job:
    """How the jobs of one unit end."""

    result: str = "done"
    early: bool = False  # JobRemoved goes out before the method's own reply
    after_s: float = 0.0
    ends: bool = True  # False: never


def escape(unit: str) -> str:
    """bus_label_escape() of systemd."""
    return "".join(
        char if char.isascii() and char.isalnum() and (place or not char.isdigit()) else code
        for place, char in enumerate(unit)
        for code in ["".join(f"_{byte:02x}" for byte in char.encode())]
    )


@dataclass
class FakeSystemd:
    """`calls` holds what was asked, in order: (method, argument)."""

    units: dict[str, FakeUnit] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)  # by unit; a start's and a stop's
    beside: dict[str, str] = field(default_factory=dict)  # PartOf= and ExecCondition=
    refuse: dict[str, str] = field(default_factory=dict)  # method -> error name
    delay_s: dict[str, float] = field(default_factory=dict)  # method -> before its reply
    late_once: dict[tuple[str, str], float] = field(default_factory=dict)  # (interface, unit)
    mute: set[str] = field(default_factory=set)  # methods that are never answered
    silent: bool = False  # no signal goes out
    calls: list[tuple[str, str]] = field(default_factory=list)
    on_starting: Callable[[str], None] = lambda unit: None
    on_started: Callable[[str], None] = lambda unit: None
    on_stopped: Callable[[str], None] = lambda unit: None
    on_reload: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._subscribers: set[str] = set()
        self._number = 0

    async def connect(self, address: str) -> None:
        self._bus = MessageBus(bus_address=address)
        await self._bus.connect()
        self._bus.add_message_handler(self._on_message)
        await self._bus.request_name(NAME)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._bus.disconnect()
        await asyncio.wait({self._bus._disconnect_future})
        self._bus._disconnect_future.exception()
        self._bus._stream.close()  # dbus-next leaves both to the garbage collector
        self._bus._sock.close()

    def add(self, name: str, **fields: object) -> FakeUnit:
        unit = self.units[name] = FakeUnit(name)
        for key, value in fields.items():
            setattr(unit, key, value)
        return unit

    def change(self, name: str, active: str, **fields: object) -> None:
        """Something happens to a unit by itself; its watchers are told."""
        unit = self.units[name]
        unit.active = active
        unit.sub = {"active": "running", "inactive": "dead"}.get(active, active)
        for key, value in fields.items():
            setattr(unit, key, value)
        path = f"{ROOT}/unit/{escape(name)}"
        for interface, properties in ((SERVICE, _service(unit)), (UNIT, _unit(unit))):
            body: list[object] = [interface, properties, []]
            self._signal(path, PROPERTIES, "PropertiesChanged", "sa{sv}as", body)

    def crash(self, name: str, result: str = "signal", exit_status: int = 9) -> None:
        self.change(name, "failed", result=result, exit_status=exit_status)

    def remove_job(self, number: int, unit: str, result: str, *, nop: bool = False) -> None:
        """JobRemoved: of a job of ours, or of anybody's. `nop`: a try-restart of what is down, of
        which systemd makes nothing."""
        if unit in self.units:
            self._show_job(self.units[unit], 0 if nop else number)
        body = [number, f"{ROOT}/job/{number}", unit, result]
        self._signal(ROOT, MANAGER, "JobRemoved", "uoss", body)

    def _show_job(self, unit: FakeUnit, number: int) -> None:
        job = Variant("(uo)", [number, f"{ROOT}/job/{number}" if number else "/"])
        body: list[object] = [UNIT, {**_unit(unit), "Job": job}, []]
        path = f"{ROOT}/unit/{escape(unit.name)}"
        self._signal(path, PROPERTIES, "PropertiesChanged", "sa{sv}as", body)

    def asked(self, *methods: str) -> list[tuple[str, str]]:
        return [call for call in self.calls if call[0] in methods]

    def start(self, name: str) -> None:
        """As by `systemctl start`, from outside; nothing is recorded."""
        self._spawn(self._run(name, "StartUnit", self._next()))

    def stop(self, name: str) -> None:
        self._spawn(self._run(name, "StopUnit", self._next()))

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _signal(self, path: str, interface: str, name: str, types: str, body: list[object]) -> None:
        if self._subscribers and not self.silent:
            self._bus.send(Message.new_signal(path, interface, name, types, body))

    def _on_message(self, message: Message) -> Message | bool | None:
        if message.message_type is not MessageType.METHOD_CALL:
            return None
        if not str(message.path).startswith(ROOT):
            return None
        method = str(message.member)
        argument = message.body[0] if message.body and isinstance(message.body[0], str) else ""
        self.calls.append((method, argument))
        if method not in self.mute:
            self._spawn(self._answer(message, method, argument))
        return True

    async def _answer(self, message: Message, method: str, argument: str) -> None:
        name = str(message.path).rsplit("/", maxsplit=1)[-1]
        late = [key for key in self.late_once if key == (argument, name)]
        delay_s = self.late_once.pop(late[0]) if late else self.delay_s.get(method, 0.0)
        await asyncio.sleep(delay_s)
        if error := self.refuse.get(method):
            self._bus.send(Message.new_error(message, error, f"{method} is refused"))
            return
        job = self.jobs.get(argument, Job())
        number = self._next() if method in ("StartUnit", "StopUnit") else 0
        if number and job.early:
            await self._run(argument, method, number)
        types, body = self._reply(message, method, argument, number)
        self._bus.send(
            Message.new_error(message, types, "no")
            if body is None
            else Message.new_method_return(message, types, body)
        )
        if number and not job.early:
            await self._run(argument, method, number)

    def _reply(
        self, message: Message, method: str, argument: str, number: int
    ) -> tuple[str, list[object] | None]:
        """Signature and body; no body: the signature is an error's name."""
        match method:
            case "Subscribe":
                known = message.sender in self._subscribers
                self._subscribers.add(str(message.sender))
                return (f"{NAME}.AlreadySubscribed", None) if known else ("", [])
            case "LoadUnit":
                self._known(argument)
                return "o", [f"{ROOT}/unit/{escape(argument)}"]
            case "ListUnitsByPatterns":
                fitting = [one for one in self.units.values() if _is_listed(one, message.body)]
                return "a(ssssssouso)", [[_line(unit) for unit in fitting]]
            case "StartUnit" | "StopUnit":
                if method == "StartUnit" and self._known(argument).load != "loaded":
                    return f"{NAME}.NoSuchUnit", None
                return "o", [f"{ROOT}/job/{number}"]
            case "ResetFailedUnit":
                if self._known(argument).load != "loaded":
                    return f"{NAME}.NoSuchUnit", None
                if self.units[argument].active == "failed":
                    self.change(argument, "inactive", result="success", exit_status=0)
                return "", []
            case "Reload":
                self._signal(ROOT, MANAGER, "Reloading", "b", [True])
                self.on_reload()
                self._signal(ROOT, MANAGER, "Reloading", "b", [False])
                return "", []
            case "GetAll":
                name = str(message.path).rsplit("/", maxsplit=1)[-1]
                unit = next(one for one in self.units.values() if escape(one.name) == name)
                if argument == SERVICE and not unit.name.endswith(".service"):
                    return "org.freedesktop.DBus.Error.UnknownInterface", None
                return "a{sv}", [_unit(unit) if argument == UNIT else _service(unit)]
            case _:
                return "org.freedesktop.DBus.Error.UnknownMethod", None

    def _known(self, name: str) -> FakeUnit:
        return self.units.get(name) or self.add(name, load="not-found")

    async def _run(self, name: str, method: str, number: int) -> None:
        job = self.jobs.get(name, Job())
        start = method == "StartUnit"
        front = self.units.get(self.beside.get(name, ""))
        if start and front is not None and front.active not in UP:
            # ExecCondition=: the process ends, and the job with "done" (seen on systemd 252, 257).
            self.change(name, "inactive", result="exec-condition", exit_status=0)
            return self.remove_job(number, name, "done")
        if self.units[name].active != ("active" if start else "inactive"):
            await (self._go_up if start else self._go_down)(name, job)
        if job.ends:
            self.remove_job(number, name, job.result)
        return None

    async def _go_up(self, name: str, job: Job) -> None:
        fresh = {"result": "success", "exit_code": 0, "exit_status": 0}
        self.change(name, "activating", invocation=os.urandom(16), **fresh)
        self.on_starting(name)
        await asyncio.sleep(job.after_s)
        if job.result == "done" and job.ends:
            self.on_started(name)
            self.change(name, "active")
        elif job.ends:
            self.change(name, "failed", result="exit-code", exit_status=1)

    async def _go_down(self, name: str, job: Job) -> None:
        for other in [one for one, front in self.beside.items() if front == name]:
            if self.units[other].active in UP:
                self.stop(other)
        self.change(name, "deactivating")
        await asyncio.sleep(job.after_s)
        if job.ends:
            self.on_stopped(name)
            self.change(name, "inactive")


def _is_listed(unit: FakeUnit, body: list[list[str]]) -> bool:
    """What is in systemd's memory."""
    states, patterns = body
    fits = any(fnmatch(unit.name, pattern) for pattern in patterns)
    return fits and unit.active != "inactive" and (not states or unit.active in states)


def _line(unit: FakeUnit) -> list[object]:
    path = f"{ROOT}/unit/{escape(unit.name)}"
    return [unit.name, "", unit.load, unit.active, unit.sub, "", path, 0, "", "/"]


def _unit(unit: FakeUnit) -> dict[str, Variant]:
    return {
        "Id": Variant("s", unit.name),
        "LoadState": Variant("s", unit.load),
        "ActiveState": Variant("s", unit.active),
        "SubState": Variant("s", unit.sub),
        "FragmentPath": Variant("s", unit.fragment),
        "SourcePath": Variant("s", ""),
        "NeedDaemonReload": Variant("b", unit.needs_reload),
        "UnitFileState": Variant("s", unit.file_state),
        "InvocationID": Variant("ay", unit.invocation),
    }


def _service(unit: FakeUnit) -> dict[str, Variant]:
    ran, status = unit.stopped_with is not None, unit.stopped_with or 0
    path = "/usr/libexec/deepseek-agent/front-stopped"
    # Four times, pid, si_code (1: CLD_EXITED), status.
    ended = [1, 1, 2, 2, 77, 1, status] if ran else [0, 0, 0, 0, 0, 0, 0]
    return {
        "Result": Variant("s", unit.result),
        "ExecMainCode": Variant("i", unit.exit_code),
        "ExecMainStatus": Variant("i", unit.exit_status),
        "ExecStopPost": Variant("a(sasbttttuii)", [[path, [path, "8b"], True, *ended]]),
    }
