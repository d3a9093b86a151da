# SPDX-License-Identifier: MulanPSL-2.0
"""systemd over a real bus: that very job, every refusal, a bus that goes away."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import pytest
from dbus_next import Message, MessageType, Variant
from dbus_next.aio import MessageBus

from agent.errors import Code, Failure, HostError, HostUnavailable
from agent.host.bus import BUS, BUS_PATH, CALL_DEADLINE_S, Bus
from agent.host.systemd import (
    MANAGER,
    MANAGER_PATH,
    PROPERTIES,
    SYSTEMD,
    UNIT,
    Systemd,
    unit_path,
)
from agent.model import JobResult, UnitActive
from tests.fakes.bus import PrivateBus
from tests.fakes.systemd import FakeSystemd, Job, escape
from tests.scenario.clock import run, skip
from tests.scenario.world import until

ENGINE = "deepseek-vllm-8b.service"
FRONT = "deepseek@8b.service"
NO_SUCH_UNIT = "org.freedesktop.systemd1.NoSuchUnit"
REFUSED = "org.freedesktop.DBus.Error.AccessDenied"


@contextlib.asynccontextmanager
async def connected(
    bus: PrivateBus, on_change: Callable[[str], None] = lambda unit: None
) -> AsyncIterator[tuple[Systemd, FakeSystemd]]:
    """The real client and the fake manager on one bus."""
    fake = FakeSystemd()
    fake.add(ENGINE)
    await fake.connect(bus.address)
    units = Systemd(bus.address)
    try:
        await units.connect(on_change)
        yield units, fake
    finally:
        units.close()
        await fake.close()


# --- jobs ----------------------------------------------------------------------------------------


def test_subscribes_before_anything_is_asked(bus: PrivateBus) -> None:
    async def scenario() -> None:
        async with connected(bus) as (_, fake):
            assert fake.calls[0] == ("Subscribe", "")

    asyncio.run(scenario())


def test_start_waits_for_the_job(bus: PrivateBus) -> None:
    async def scenario() -> None:
        async with connected(bus) as (units, fake):
            fake.jobs[ENGINE] = Job(after_s=0.1)
            assert await units.start(ENGINE, 5.0) is JobResult.DONE
            status = await units.status(ENGINE)
            assert status.active is UnitActive.ACTIVE
            assert status.load_state == "loaded"
            assert len(status.invocation_id) == 32

    asyncio.run(scenario())


def test_stop_waits_for_the_job(bus: PrivateBus) -> None:
    async def scenario() -> None:
        async with connected(bus) as (units, fake):
            fake.add(ENGINE, active="active")
            assert await units.stop(ENGINE, 5.0) is JobResult.DONE
            assert (await units.status(ENGINE)).active is UnitActive.INACTIVE
            assert fake.asked("StopUnit") == [("StopUnit", ENGINE)]

    asyncio.run(scenario())


def test_a_job_that_ends_before_its_path_is_known_is_not_missed(bus: PrivateBus) -> None:
    async def scenario() -> None:
        async with connected(bus) as (units, fake):
            fake.jobs[ENGINE] = Job(early=True)
            for _ in range(20):
                assert await units.start(ENGINE, 2.0) is JobResult.DONE
                assert await units.stop(ENGINE, 2.0) is JobResult.DONE
            assert not units._jobs.ended
            assert not units._jobs.waiting

    asyncio.run(scenario())


def test_jobs_of_others_are_none_of_ours(bus: PrivateBus) -> None:
    async def scenario() -> None:
        async with connected(bus) as (units, fake):
            fake.jobs[ENGINE] = Job(after_s=0.2)
            starting = asyncio.create_task(units.start(ENGINE, 5.0))
            for number in range(100, 200):
                fake.remove_job(number, "other.service", "failed")
                fake.remove_job(number, ENGINE, "canceled")
                await asyncio.sleep(0.001)
            assert await starting is JobResult.DONE
            assert not units._jobs.ended  # nothing piles up over a year

    asyncio.run(scenario())


def test_two_units_at_once_get_their_own_results(bus: PrivateBus) -> None:
    async def scenario() -> None:
        async with connected(bus) as (units, fake):
            fake.add("other.service")
            fake.jobs = {ENGINE: Job(after_s=0.1), "other.service": Job("failed")}
            results: Sequence[JobResult] = await asyncio.gather(
                units.start(ENGINE, 5.0), units.start("other.service", 5.0)
            )
            assert list(results) == [JobResult.DONE, JobResult.FAILED]

    asyncio.run(scenario())


@pytest.mark.parametrize("result", [one for one in JobResult if one is not JobResult.UNKNOWN])
def test_every_result_of_a_job(bus: PrivateBus, result: JobResult) -> None:
    async def scenario() -> None:
        async with connected(bus) as (units, fake):
            fake.jobs[ENGINE] = Job(result.value)
            assert await units.start(ENGINE, 5.0) is result

    asyncio.run(scenario())


def test_a_result_that_a_newer_systemd_adds(bus: PrivateBus) -> None:
    async def scenario() -> None:
        async with connected(bus) as (units, fake):
            fake.jobs[ENGINE] = Job("collected")
            assert await units.start(ENGINE, 5.0) is JobResult.UNKNOWN

    asyncio.run(scenario())


def test_a_condition_that_is_not_met(bus: PrivateBus) -> None:
    async def scenario() -> None:
        async with connected(bus) as (units, fake):
            fake.add(FRONT)
            fake.beside[ENGINE] = FRONT
            assert await units.start(ENGINE, 5.0) is JobResult.DONE
            assert (await units.status(ENGINE)).result == "exec-condition"
            assert fake.units[ENGINE].active == "inactive"

    asyncio.run(scenario())


def test_a_job_that_never_ends_is_a_timeout(bus: PrivateBus) -> None:
    async def scenario() -> None:
        async with connected(bus) as (units, fake):
            fake.jobs[ENGINE] = Job(ends=False)
            assert await units.start(ENGINE, 0.1) is JobResult.TIMEOUT
            assert not units._jobs.waiting

    asyncio.run(scenario())


def test_dispatch_start_does_not_wait(bus: PrivateBus) -> None:
    async def scenario() -> None:
        async with connected(bus) as (units, fake):
            fake.add(FRONT)
            fake.jobs[FRONT] = Job(ends=False)
            async with asyncio.timeout(1):
                await units.dispatch_start(FRONT)

    asyncio.run(scenario())


def test_two_who_wait_for_the_same_job_both_hear_of_it(bus: PrivateBus) -> None:
    """systemd answers a second StartUnit with the path of the job that is queued already."""

    async def scenario() -> None:
        async with connected(bus) as (units, fake):
            fake.jobs[ENGINE] = Job(ends=False)
            fake._next = lambda: 7  # type: ignore[method-assign]
            both = [asyncio.create_task(units.start(ENGINE, 1.0)) for _ in range(2)]
            await asyncio.sleep(0.3)
            fake.remove_job(7, ENGINE, "done")
            assert await asyncio.gather(*both) == [JobResult.DONE, JobResult.DONE]

    asyncio.run(scenario())


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "error", "code"),
    [
        ("StartUnit", NO_SUCH_UNIT, Code.UNIT_NOT_LOADED),
        ("StopUnit", NO_SUCH_UNIT, Code.UNIT_NOT_LOADED),
        ("StartUnit", "org.freedesktop.DBus.Error.FileNotFound", Code.UNIT_NOT_LOADED),
        ("StartUnit", REFUSED, Code.UNIT_REFUSED),
        ("StartUnit", "org.freedesktop.systemd1.UnitMasked", Code.UNIT_REFUSED),
        ("StopUnit", REFUSED, Code.UNIT_REFUSED),
        ("LoadUnit", REFUSED, Code.UNIT_REFUSED),
        ("GetAll", REFUSED, Code.UNIT_REFUSED),
    ],
)
def test_refusals(bus: PrivateBus, method: str, error: str, code: Code) -> None:
    async def scenario() -> None:
        async with connected(bus) as (units, fake):
            fake.refuse[method] = error
            ask = {
                "StartUnit": lambda: units.start(ENGINE, 2.0),
                "StopUnit": lambda: units.stop(ENGINE, 2.0),
            }.get(method, lambda: units.status(ENGINE))
            with pytest.raises(HostError) as raised:
                await ask()
            assert raised.value.failure.code is code
            assert not isinstance(raised.value, HostUnavailable)
            assert f"cannot call {method}" in raised.value.failure.message

    asyncio.run(scenario())


def test_a_refused_reload_raises(bus: PrivateBus) -> None:
    async def scenario() -> None:
        async with connected(bus) as (units, fake):
            fake.refuse["Reload"] = "org.freedesktop.systemd1.ReloadLimited"
            with pytest.raises(HostError) as raised:
                await units.reload()
            assert raised.value.failure.code is Code.UNIT_REFUSED

    asyncio.run(scenario())


def test_reset_failed(bus: PrivateBus) -> None:
    async def scenario() -> None:
        async with connected(bus) as (units, fake):
            fake.add(ENGINE, active="failed", result="signal")
            await units.reset_failed(ENGINE)
            assert fake.units[ENGINE].active == "inactive"
            await units.reset_failed("unknown.service")  # not loaded: nothing to reset
            fake.refuse["ResetFailedUnit"] = REFUSED
            with pytest.raises(HostError):
                await units.reset_failed(ENGINE)

    asyncio.run(scenario())


def test_a_unit_that_does_not_exist_has_a_status(bus: PrivateBus) -> None:
    async def scenario() -> None:
        async with connected(bus) as (units, _):
            status = await units.status("nothing.service")
            assert (status.load_state, status.active) == ("not-found", UnitActive.INACTIVE)

    asyncio.run(scenario())


def test_a_unit_that_is_no_service_has_a_status(bus: PrivateBus) -> None:
    async def scenario() -> None:
        async with connected(bus) as (units, fake):
            fake.add("podman.socket", active="active")
            status = await units.status("podman.socket")
            assert (status.active, status.result) == (UnitActive.ACTIVE, "")

    asyncio.run(scenario())


def test_every_field_of_a_status(bus: PrivateBus) -> None:
    async def scenario() -> None:
        async with connected(bus) as (units, fake):
            fake.add(
                ENGINE,
                active="maintenance",  # systemd >= 254; not in our enum
                sub="dead",
                result="oom-kill",
                exit_status=137,
                fragment="/run/systemd/generator/x.service",
                needs_reload=True,
                file_state="generated",
                invocation=bytes(range(16)),
            )
            status = await units.status(ENGINE)
            assert status.active is UnitActive.UNKNOWN
            assert (status.result, status.exit_status) == ("oom-kill", 137)
            assert status.fragment_path == "/run/systemd/generator/x.service"
            assert status.need_daemon_reload
            assert status.unit_file_state == "generated"
            assert status.invocation_id == "000102030405060708090a0b0c0d0e0f"

    asyncio.run(scenario())


# --- watching ------------------------------------------------------------------------------------


def test_watch_reports_the_units_watched_and_no_others(bus: PrivateBus) -> None:
    async def scenario() -> None:
        seen: list[str] = []
        async with connected(bus, seen.append) as (units, fake):
            fake.add(FRONT)
            fake.add("deepseek@8c.service")
            await units.watch(FRONT)
            await units.watch(FRONT)
            fake.change("deepseek@8c.service", "active")
            fake.change(FRONT, "active")
            await units.status(FRONT)  # the signals come before its answer
            assert set(seen) == {FRONT}
            assert len(seen) == 2  # Unit and Service, each once although it is watched twice

    asyncio.run(scenario())


def test_the_end_of_a_reload_is_reported_once(bus: PrivateBus) -> None:
    async def scenario() -> None:
        seen: list[str] = []
        async with connected(bus, seen.append) as (units, _):
            await units.reload()
            await units.status(ENGINE)
            assert seen == [""]

    asyncio.run(scenario())


def test_a_job_that_ended_well_is_told_unless_it_was_one_without_effect(bus: PrivateBus) -> None:
    """`systemctl try-restart` of what is down: systemd ends it with "done", as a stop of it."""

    async def scenario() -> None:
        async with connected(bus) as (units, fake):
            ended: list[str] = []
            units.on_job = ended.append
            fake.add(FRONT, active="failed")
            await units.watch(FRONT)
            for number, result, nop in (
                (7, "done", True),
                (8, "failed", False),
                (9, "done", False),
                (10, "done", True),
            ):
                fake.remove_job(number, FRONT, result, nop=nop)
                await units.status(FRONT)  # the signals come before its answer
                assert ended == [FRONT] * (number >= 9)

    asyncio.run(scenario())


# --- signals of others ---------------------------------------------------------------------------


async def forge(
    bus: PrivateBus,
    units: Systemd,
    place: tuple[str, str, str],
    signature: str = "",
    body: Sequence[object] = (),
) -> None:
    """A signal (path, interface, member) of anybody's, to the agent alone: match rules do not hold
    for it. It has come when this returns."""
    connection = units._bus._connection
    assert connection is not None
    path, interface, member = place
    forger = await MessageBus(bus_address=bus.address).connect()
    await forger.send(
        Message(
            message_type=MessageType.SIGNAL,
            destination=connection.unique_name,
            path=path,
            interface=interface,
            member=member,
            signature=signature,
            body=list(body),
        )
    )
    await forger.call(Message(destination=BUS, path=BUS_PATH, interface=BUS, member="GetId"))
    forger.disconnect()
    await forger.wait_for_disconnect()
    forger._stream.close()
    forger._sock.close()
    await units._bus.ping(5.0)


JOB_REMOVED = (MANAGER_PATH, MANAGER, "JobRemoved")
OWNER_CHANGED = (BUS_PATH, BUS, "NameOwnerChanged")


@pytest.mark.parametrize("result", [JobResult.DONE, JobResult.FAILED])
def test_only_systemd_says_how_a_job_ends(bus: PrivateBus, result: JobResult) -> None:
    async def scenario() -> None:
        async with connected(bus) as (units, fake):
            done: list[str] = []
            units.on_job = done.append
            fake.jobs[ENGINE] = Job(ends=False)
            starting = asyncio.create_task(units.start(ENGINE, 5.0))
            await until(lambda: bool(units._jobs.waiting))
            forged = [1, f"{MANAGER_PATH}/job/1", ENGINE, result.value]
            await forge(bus, units, JOB_REMOVED, "uoss", forged)
            assert not starting.done()
            assert done == []
            fake.remove_job(1, ENGINE, "canceled")
            assert await starting is JobResult.CANCELED

    asyncio.run(scenario())


@pytest.mark.parametrize("owners", [(":1.7", ":1.8"), ("", ":1.8"), (":1.7", "")])
def test_only_the_bus_says_who_systemd_is(bus: PrivateBus, owners: tuple[str, str]) -> None:
    async def scenario() -> None:
        async with connected(bus) as (units, _):
            before = units._bus._connection
            await forge(bus, units, OWNER_CHANGED, "sss", [SYSTEMD, *owners])
            await asyncio.sleep(0)
            assert units._bus._connection is before
            assert await units.start(ENGINE, 5.0) is JobResult.DONE

    asyncio.run(scenario())


def test_only_systemd_says_that_something_changed(bus: PrivateBus) -> None:
    async def scenario() -> None:
        seen: list[str] = []
        async with connected(bus, seen.append) as (units, fake):
            await units.watch(ENGINE)
            changed = (unit_path(ENGINE), PROPERTIES, "PropertiesChanged")
            failed = [UNIT, {"ActiveState": Variant("s", "failed")}, []]
            await forge(bus, units, changed, "sa{sv}as", failed)
            await forge(bus, units, (MANAGER_PATH, MANAGER, "Reloading"), "b", [False])
            assert seen == []
            fake.change(ENGINE, "active")
            await units.status(ENGINE)
            assert set(seen) == {ENGINE}

    asyncio.run(scenario())


def test_signals_that_say_nothing_disturb_nothing(
    bus: PrivateBus, caplog: pytest.LogCaptureFixture
) -> None:
    """dbus-next would log each with its traceback."""

    async def scenario() -> None:
        async with connected(bus) as (units, _):
            for place in (JOB_REMOVED, OWNER_CHANGED):
                await forge(bus, units, place)
            assert await units.start(ENGINE, 5.0) is JobResult.DONE

    asyncio.run(scenario())
    assert not caplog.records


# --- object paths --------------------------------------------------------------------------------

ESCAPED = {
    "deepseek@8b.service": "deepseek_408b_2eservice",  # seen on systemd 257
    "deepseek-vllm-8b.service": "deepseek_2dvllm_2d8b_2eservice",
    "8b.service": "_38b_2eservice",
    "a_b.service": "a_5fb_2eservice",
    "système.service": "syst_c3_a8me_2eservice",
    "deepseek@r1.32b.service": "deepseek_40r1_2e32b_2eservice",
}


@pytest.mark.parametrize("unit", ESCAPED)
def test_unit_path(unit: str) -> None:
    assert unit_path(unit) == f"{MANAGER_PATH}/unit/{ESCAPED[unit]}"
    assert escape(unit) == ESCAPED[unit]


LIBSYSTEMD = """
import ctypes, sys
library = ctypes.CDLL("libsystemd.so.0")
for unit in sys.argv[1:]:
    path = ctypes.c_char_p()
    assert library.sd_bus_path_encode(b"/x", unit.encode(), ctypes.byref(path)) >= 0
    print(path.value.decode())
"""


def test_unit_path_is_what_libsystemd_makes_of_it() -> None:
    odd = [*ESCAPED, *(f"a{chr(code)}1.service" for code in range(33, 127))]
    made = subprocess.run(
        (sys.executable, "-c", LIBSYSTEMD, *odd), capture_output=True, text=True, check=False
    )
    if made.returncode != 0:
        pytest.skip("there is no libsystemd here")
    ours = [unit_path(unit).removeprefix(f"{MANAGER_PATH}/unit") for unit in odd]
    assert ours == [line.removeprefix("/x") for line in made.stdout.splitlines()]


def test_busctl_finds_the_unit_where_we_look(bus: PrivateBus) -> None:
    """The fake's paths are not only right in our own eyes."""
    busctl = shutil.which("busctl")
    if busctl is None:
        pytest.skip("there is no busctl here")

    async def scenario() -> None:
        async with connected(bus) as (_, fake):
            fake.add(FRONT, active="active")
            argv: tuple[str, ...] = (
                busctl,
                f"--address={bus.address}",
                "call",
                "org.freedesktop.systemd1",
            )
            argv += (unit_path(FRONT), "org.freedesktop.DBus.Properties", "GetAll", "s")
            asked = await asyncio.create_subprocess_exec(
                *argv, "org.freedesktop.systemd1.Unit", stdout=asyncio.subprocess.PIPE
            )
            output, _ = await asked.communicate()
            assert b'"ActiveState" s "active"' in output

    asyncio.run(scenario())


# --- a bus that goes away ------------------------------------------------------------------------


def test_bus_dropped_while_a_call_is_pending(bus: PrivateBus) -> None:
    async def scenario() -> None:
        async with connected(bus) as (units, fake):
            fake.mute.add("LoadUnit")
            asking = asyncio.create_task(units.status(ENGINE))
            await asyncio.sleep(0.05)
            bus.drop()
            began = time.monotonic()
            with pytest.raises(HostUnavailable) as raised:
                await asking
            assert raised.value.failure.code is Code.SYSTEMD_UNAVAILABLE
            with pytest.raises(HostUnavailable):
                await units.status(ENGINE)  # dbus-next alone would wait for ever here
            assert time.monotonic() - began < 1.0

    asyncio.run(scenario())


@contextlib.asynccontextmanager
async def kept(
    bus: PrivateBus, units: Systemd, changes: list[str]
) -> AsyncIterator[list[Failure | None]]:
    """The connection is kept; yields what is told of it."""
    told: list[Failure | None] = []
    keeping = asyncio.create_task(units.keep(changes.append, told.append))
    try:
        await until(lambda: told and told[-1] is None)
        yield told
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        units.close()


def test_the_connection_is_made_anew(bus: PrivateBus, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same watches; whoever waits for a job is told that nobody will say how it ends."""
    monkeypatch.setattr("agent.host.systemd.RECONNECT_EVERY_S", 0.05)

    async def scenario() -> None:
        fake, changes = FakeSystemd(), list[str]()
        fake.add(ENGINE)
        await fake.connect(bus.address)
        units = Systemd(bus.address)
        await units.watch(ENGINE)
        async with kept(bus, units, changes) as told:
            fake.jobs[ENGINE] = Job(ends=False)
            starting = asyncio.create_task(units.start(ENGINE, 300.0))
            await until(lambda: fake.asked("StartUnit"))
            bus.restart()
            with pytest.raises(HostUnavailable):
                await starting
            await until(lambda: len(told) > 1)
            failure = told[1]
            assert failure is not None
            assert failure.code is Code.SYSTEMD_UNAVAILABLE
            await fake.close()
            await fake.connect(bus.address)  # as PID 1 does
            await until(lambda: told[-1] is None)
            changes.clear()
            fake.change(ENGINE, "failed")
            assert (await units.status(ENGINE)).active is UnitActive.FAILED
            assert set(changes) == {ENGINE}
        await fake.close()

    asyncio.run(scenario())


def test_a_bus_that_falls_silent(bus: PrivateBus, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told of, and when it goes on so does all else, over the same connection."""
    monkeypatch.setattr("agent.host.systemd.PING_EVERY_S", 0.05)
    monkeypatch.setattr("agent.host.systemd.PING_DEADLINE_S", 0.1)

    async def scenario() -> None:
        fake = FakeSystemd()
        fake.add(ENGINE)
        await fake.connect(bus.address)
        units = Systemd(bus.address)
        async with kept(bus, units, []) as told:
            bus.process.send_signal(signal.SIGSTOP)
            await until(lambda: len(told) > 1)
            assert told[1] is not None
            bus.process.send_signal(signal.SIGCONT)
            await until(lambda: told[-1] is None)
            assert (await units.status(ENGINE)).name == ENGINE
        await fake.close()

    asyncio.run(scenario())


def test_calls_without_an_answer_are_not_kept(bus: PrivateBus) -> None:
    """A systemd that is frozen, for months, while its bus goes on."""

    async def scenario() -> None:
        one = Bus(bus.address)
        await one.connect(lambda signal: None)
        connection = one._connection
        assert connection is not None
        bus.process.send_signal(signal.SIGSTOP)
        for _ in range(3):
            with pytest.raises(HostUnavailable):
                await one.ping(0.02)
        assert connection._method_return_handlers == {}
        bus.process.send_signal(signal.SIGCONT)
        await one.ping(5.0)  # late answers disturb nothing
        one.close()

    asyncio.run(scenario())


def test_a_bus_that_stays_silent_is_left(bus: PrivateBus, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault may be in the connection; a new one is tried, and that does not hang either."""
    for name, value in (("PING_EVERY_S", 0.01), ("PING_DEADLINE_S", 0.05), ("PINGS_IN_VAIN", 2)):
        monkeypatch.setattr(f"agent.host.systemd.{name}", value)
    monkeypatch.setattr("agent.host.systemd.RECONNECT_EVERY_S", 0.01)
    monkeypatch.setattr("agent.host.bus.CONNECT_DEADLINE_S", 0.1)

    async def scenario() -> None:
        fake = FakeSystemd()
        await fake.connect(bus.address)
        units = Systemd(bus.address)
        before = len(os.listdir("/proc/self/fd"))
        async with kept(bus, units, []) as told:
            bus.process.send_signal(signal.SIGSTOP)
            await until(lambda: sum("connect" in one.message for one in told if one) > 5)
            assert len(os.listdir("/proc/self/fd")) <= before + 1
            bus.process.send_signal(signal.SIGCONT)
            await until(lambda: told[-1] is None)
        await fake.close()

    asyncio.run(scenario())


def test_systemd_itself_comes_back_to_the_bus(bus: PrivateBus) -> None:
    """It has forgotten who had subscribed."""

    async def scenario() -> None:
        first = FakeSystemd()
        await first.connect(bus.address)
        units = Systemd(bus.address)
        async with kept(bus, units, []) as told:
            await first.close()
            with pytest.raises(HostUnavailable) as raised:
                await units.status(ENGINE)
            assert "not on the bus" in raised.value.failure.message
            second = FakeSystemd()
            await second.connect(bus.address)
            await until(lambda: second.asked("Subscribe"))
            await until(lambda: told[-1] is None and len(told) > 1)
        await second.close()

    asyncio.run(scenario())


def test_systemd_comes_back_as_another_while_it_is_being_asked_for(
    bus: PrivateBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer says who it was; its successor is listened to all the same."""
    monkeypatch.setattr("agent.host.systemd.RECONNECT_EVERY_S", 0.05)

    async def scenario() -> None:
        first, second, changes = FakeSystemd(), FakeSystemd(), list[str]()
        second.add(ENGINE)
        await first.connect(bus.address)
        units = Systemd(bus.address)
        await units.watch(ENGINE)
        asked: list[object] = []
        call: Callable[..., Awaitable[list[object]]] = units._bus.call

        async def and_replace(*words: object, **named: object) -> list[object]:
            answer = await call(*words, **named)
            if "GetNameOwner" in words:
                asked.append(answer)
                if len(asked) == 1:
                    await first.close()
                    await second.connect(bus.address)
            return answer

        monkeypatch.setattr(units._bus, "call", and_replace)
        async with kept(bus, units, changes):
            assert len(asked) > 1
            changes.clear()
            second.change(ENGINE, "failed")
            await units.status(ENGINE)
            assert set(changes) == {ENGINE}
        await second.close()

    asyncio.run(scenario())


def test_a_manager_that_never_answers(bus: PrivateBus) -> None:
    async def scenario() -> None:
        async with connected(bus) as (units, fake):
            fake.mute.add("LoadUnit")
            asking = asyncio.create_task(units.status(ENGINE))
            await asyncio.sleep(0.05)
            skip(CALL_DEADLINE_S)
            with pytest.raises(HostUnavailable):
                await asking
            fake.mute.clear()
            assert (await units.status(ENGINE)).name == ENGINE  # the connection is as good as new

    run(scenario())


def test_nobody_owns_the_name(bus: PrivateBus) -> None:
    async def scenario() -> None:
        units = Systemd(bus.address)
        with pytest.raises(HostUnavailable):
            await units.connect(lambda unit: None)
        assert not units._bus.connected

    asyncio.run(scenario())


CONNECT = """
import asyncio, sys
from agent.errors import HostUnavailable
from agent.host.systemd import Systemd

async def connect():
    try:
        await Systemd(sys.argv[1]).connect(lambda unit: None)
    except HostUnavailable:
        return 7

sys.exit(asyncio.run(connect()))
"""


def connecting(path: Path) -> "subprocess.Popen[str]":
    """In a process of its own, where nothing is left over. Ends with 7 for HostUnavailable."""
    argv = (sys.executable, "-c", CONNECT, f"unix:path={path}")
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    return subprocess.Popen(argv, env=environment, stderr=subprocess.PIPE, text=True)


def test_no_bus_at_all(tmp_path: Path) -> None:
    with connecting(tmp_path / "bus") as child:
        assert child.wait(5) == 7


def test_a_bus_that_hangs_up_during_the_greeting(tmp_path: Path) -> None:
    """dbus-daemon does so when it is full. dbus-next 0.2.3 alone would spin, with the loop blocked,
    so that no deadline of ours could fire."""
    path = tmp_path / "bus"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(5)
        with connecting(path) as child:
            try:
                connection, _ = listener.accept()
                with connection:
                    while not connection.recv(100).endswith(b"\r\n"):
                        pass
                assert child.wait(2) == 7
            finally:
                child.kill()


def test_no_descriptor_is_left_over_twenty_connects(bus: PrivateBus) -> None:
    async def scenario() -> None:
        fake = FakeSystemd()
        await fake.connect(bus.address)
        before = len(os.listdir("/proc/self/fd"))
        kept = []
        for _ in range(20):
            units = Systemd(bus.address)
            await units.connect(lambda unit: None)
            units.close()
            kept.append(units)
        assert len(os.listdir("/proc/self/fd")) <= before
        await fake.close()

    asyncio.run(scenario())


def test_a_stop_that_was_asked_for_is_told_from_a_crash(bus: PrivateBus) -> None:
    async def scenario() -> None:
        async with connected(bus) as (units, fake):
            fake.add(FRONT, active="failed", result="signal")
            for ended, asked in ((None, False), (0, False), (1, False), (3, True)):
                fake.units[FRONT].stopped_with = ended
                assert (await units.status(FRONT)).stop_asked is asked

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("code", "status", "asked"),
    [
        (0, 0, False),
        (os.CLD_EXITED, 0, True),
        (os.CLD_EXITED, 1, False),
        (os.CLD_KILLED, 9, False),
    ],
)
def test_what_ended_with_0_was_stopped_whatever_failed_after_it(
    bus: PrivateBus, code: int, status: int, asked: bool
) -> None:
    """systemd had no process left for ExecStopPost=, so that nothing could tell of the stop. Where
    it had none for the main process itself, its code is 0."""

    async def scenario() -> None:
        async with connected(bus) as (units, fake):
            fake.add(FRONT, active="failed", result="resources", exit_code=code, exit_status=status)
            assert (await units.status(FRONT)).stop_asked is asked

    asyncio.run(scenario())
