# SPDX-License-Identifier: MulanPSL-2.0
"""Rows of the fault table: too few descriptors, too little memory, and far too many signals."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

from . import product
from .fault_scene import (
    AGENT,
    NPUD,
    Fault,
    descriptors,
    dies_and_comes_back,
    drop_in,
    limit,
    restarts,
    serves_on,
    wait_well,
)
from .faults import (
    find_payloads,
    kill_engine,
    main_pid,
    read_status,
    wait_serving_alone,
    wait_told,
)
from .host import LabHost
from .product import FRONT

NEXT_TRY_S = 90.0
WHILE_S = 10.0
SIGNALS = 10_000
USUAL = "--nofile=1024:"
PYTHON = "PYTHONPATH=/usr/lib64/deepseek-agent/vendor"
STORM = "/run/lab-storm.py"
# Units that come and go, until so many signals of systemd's have been seen.
UNITS_CHANGE = """
import asyncio, json, sys, time
from dbus_next import BusType, Message, Variant
from dbus_next.aio import MessageBus

NAME, PATH = "org.freedesktop.systemd1", "/org/freedesktop/systemd1"

def call(member, signature="", *body, to=NAME, path=PATH, interface=f"{NAME}.Manager"):
    return Message(destination=to, path=path, interface=interface, member=member,
                   signature=signature, body=list(body))

async def main(wanted):
    bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
    seen = 0
    def count(message):
        nonlocal seen
        seen += message.path is not None and message.path.startswith(PATH)
    bus.add_message_handler(count)
    rule = f"type='signal',sender='{NAME}'"
    bus_name = "org.freedesktop.DBus"
    await bus.call(call("AddMatch", "s", rule, to=bus_name, path="/org/freedesktop/DBus",
                        interface=bus_name))
    await bus.call(call("Subscribe"))
    began, number = time.monotonic(), 0
    while seen < wanted:
        number += 1
        run = ("/bin/true", ["/bin/true"], False)
        await bus.call(call("StartTransientUnit", "ssa(sv)a(sa(sv))", f"lab-{number}.service",
            "replace", [["Type", Variant("s", "oneshot")],
                        ["ExecStart", Variant("a(sasb)", [list(run)])]], []))
    print(json.dumps({"signals": seen, "units": number, "seconds": time.monotonic() - began}))

asyncio.run(main(int(sys.argv[1])))
"""
# Signals that say that the engine's unit has failed, that its job is done, and that systemd is
# somebody else now: sent to everybody on the bus by nobody, and to each alone.
FORGED = """
import asyncio, json, sys, time
from dbus_next import BusType, Message, MessageType, Variant
from dbus_next.aio import MessageBus

NAME = "org.freedesktop.DBus"
SYSTEMD = "org.freedesktop.systemd1"
ROOT = "/org/freedesktop/systemd1"
ENGINE = "deepseek-vllm-8b.service"
CHANGED = {"ActiveState": Variant("s", "failed"), "SubState": Variant("s", "failed")}
FORGED = [
    (f"{ROOT}/unit/deepseek_2dvllm_2d8b_2eservice", f"{NAME}.Properties", "PropertiesChanged",
     "sa{sv}as", [f"{SYSTEMD}.Unit", CHANGED, []]),
    ("/org/freedesktop/DBus", NAME, "NameOwnerChanged", "sss", [SYSTEMD, ":1.0", ":1.1"]),
]

def job_removed(number):
    body = [number, f"{ROOT}/job/{number}", ENGINE, "done"]
    return ROOT, f"{SYSTEMD}.Manager", "JobRemoved", "uoss", body

async def main(wanted):
    bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
    listed = await bus.call(Message(destination=NAME, path="/org/freedesktop/DBus",
                                    interface=NAME, member="ListNames"))
    peers = [name for name in listed.body[0] if name.startswith(":") and name != bus.unique_name]
    began, sent = time.monotonic(), 0
    while sent < wanted:
        for peer in [None, *peers]:
            for path, interface, member, types, body in [*FORGED, job_removed(sent)]:
                await bus.send(Message(destination=peer, path=path, interface=interface,
                    member=member, message_type=MessageType.SIGNAL, signature=types, body=body))
                sent += 1
    print(json.dumps({"signals": sent, "units": 0, "seconds": time.monotonic() - began}))

asyncio.run(main(int(sys.argv[1])))
"""


def agent_descriptors(host: LabHost, container: str) -> str:
    pid = main_pid(host, AGENT)
    there = descriptors(host, pid)
    limit(host, AGENT, f"--nofile={there + 1}:")
    serves_on(host, container, 5)
    kill_engine(host)
    wait_told(host, "no descriptors", lambda told: "Too many open files" in told.message)
    assert main_pid(host, AGENT) == pid
    limit(host, AGENT, USUAL)
    began = time.monotonic()
    wait_serving_alone(host, container, NEXT_TRY_S)
    return f"{there + 1} descriptors; serves {time.monotonic() - began:.1f} s after there were more"


def npud_descriptors(host: LabHost, container: str) -> str:
    there = descriptors(host, main_pid(host, NPUD))
    limit(host, NPUD, f"--nofile={there}:")
    serves_on(host, container, WHILE_S)
    again = dies_and_comes_back(host)
    limit(host, NPUD, USUAL)
    return f"{there} descriptors; {again}"


def agent_memory(host: LabHost, container: str) -> str:
    """Its children inherit it, and need as much again."""
    pid = main_pid(host, AGENT)
    kib = int(host.run(["awk", "/VmSize/ {print $2}", f"/proc/{pid}/status"]).stdout)
    limit(host, AGENT, f"--as={kib * 1024 + 2**20}:")
    serves_on(host, container, WHILE_S)
    kill_engine(host)
    time.sleep(WHILE_S)
    read_status(host)  # whatever it says, and if it has been started anew
    assert len(find_payloads(host)) <= 1
    if main_pid(host, AGENT) == pid:
        limit(host, AGENT, "--as=unlimited:")
    began = time.monotonic()
    wait_serving_alone(host, container, NEXT_TRY_S)
    same = "the same agent" if main_pid(host, AGENT) == pid else "a new agent"
    return f"{kib // 1024} MiB and no more; {same}; serves {time.monotonic() - began:.1f} s after"


def starting_short_of(host: LabHost, container: str, setting: str) -> str:
    """The agent cannot even start, again and again."""
    with starts_in_vain(host, setting):
        deadline = time.monotonic() + WHILE_S
        while time.monotonic() < deadline:
            assert product.ask(host) is not None, product.describe(host)
            time.sleep(0.5)
        tried = restarts(host, AGENT)
        assert product.active_state(host, FRONT) == "active"
    assert tried > 1
    wait_well(host)
    assert list(find_payloads(host)) == [container]
    return f"{setting}: tried {tried} times in {WHILE_S:.0f} s; the engine is the same"


@contextmanager
def starts_in_vain(host: LabHost, setting: str) -> Iterator[None]:
    with drop_in(host, AGENT, setting):
        yield


def storm(host: LabHost, container: str, script: str, *runner: str) -> str:
    pid, before = main_pid(host, AGENT), restarts(host, AGENT)
    host.write(STORM, script)
    unit = ["systemd-run", "--quiet", "--unit=lab-storm", "--pipe", "--wait", "--collect"]
    command = [*unit, *runner, f"--setenv={PYTHON}", "python3", STORM, str(SIGNALS)]
    host.run(["sh", "-c", '"$@" > /run/lab-storm.out 2>&1 &', "sh", *command])
    time.sleep(1)
    began = time.monotonic()
    while host.run(["systemctl", "is-active", "lab-storm"], check=False).returncode == 0:
        serves_on(host, container, 0)
        assert time.monotonic() - began < 180
    told = json.loads(host.read("/run/lab-storm.out"))
    assert told["signals"] >= SIGNALS
    serves_on(host, container, 2)
    assert (main_pid(host, AGENT), restarts(host, AGENT)) == (pid, before)
    again = dies_and_comes_back(host)
    return f"{told['signals']} signals in {told['seconds']:.0f} s, answered all the time; {again}"


def units_change(host: LabHost, container: str) -> str:
    return storm(host, container, UNITS_CHANGE)


def forged(host: LabHost, container: str) -> str:
    return storm(host, container, FORGED, "--property=User=nobody")


LIMIT_FAULTS = (
    Fault(
        "agent short of descriptors",
        "serving goes on; what it cannot do is told; served when there are some",
        agent_descriptors,
    ),
    Fault("npud short of descriptors", "serving goes on, and starts", npud_descriptors),
    Fault(
        "agent short of memory",
        "serving goes on; after the engine's death it serves again",
        agent_memory,
    ),
    Fault(
        "agent starts without descriptors",
        "tried for ever; the engine is left alone",
        lambda host, container: starting_short_of(host, container, "LimitNOFILE=8"),
    ),
    Fault(
        "agent starts without memory",
        "tried for ever; the engine is left alone",
        lambda host, container: starting_short_of(host, container, "LimitAS=24M"),
    ),
    Fault(
        "10,000 unit changes",
        "the same agent answers in time; an engine that dies meanwhile is not missed",
        units_change,
    ),
    Fault(
        "10,000 forged unit changes",
        "nothing is done for them; the same agent answers in time",
        forged,
    ),
)
