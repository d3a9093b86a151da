# SPDX-License-Identifier: MulanPSL-2.0
"""Lets the requests that an engine works on come to their end before it is stopped.

`drain INSTANCE --seconds=S --port=PORT [--tls]`, the first ExecStop= of the rendered units. It is
called by systemd, so it also works when the agent is dead, and is told everything on its command
line, so it needs no file of an agent that may be of another version by now.

It goes into the engine's own network and asks there, where no firewall rule of the host matters.
While requests run, a rule in that network refuses new connections: they would only be cut off. The
rule cannot outlive the container, as the network does not. What it cannot refuse is a request on a
connection that is already there.

Standard library only. Ends with 0 whatever happens: a stop is a stop.
"""

import ctypes
import http.client
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from agent.host.payloads import find_processes
from agent.model import is_instance_name
from agent.tls import trust_only

RUN = Path("/run/deepseek-agent")
LOOPBACK = "127.0.0.1"
LOOK_EVERY_S = 0.5
# A second look, since a request that has just come is not counted yet.
SECOND_LOOK_S = 0.2
# An engine that does not answer for so long hangs, or is gone.
ANSWER_S = 2.0
RULE_S = 2.0
ALARM_S = 10.0  # below DRAIN_MARGIN_S of agent/render/workload.py
CLONE_NEWNET = 0x40000000  # <sched.h>; os.setns is there from Python 3.12 on
GAUGE = re.compile(r"^vllm:num_requests_(?:running|waiting)(?:\{.*\})? ([0-9.e+]+)$", re.MULTILINE)

# A connection that is being made, and no packet of one that is there. Either program will do.
NFT_RULES = """
table inet deepseek_drain {{
    chain input {{
        type filter hook input priority 0; policy accept;
        iifname != "lo" tcp dport {port} tcp flags & (fin | syn | rst | ack) == syn \
            reject with tcp reset
    }}
}}
"""
IPTABLES_RULE = "-I INPUT ! -i lo -p tcp --dport {port} --syn -j REJECT --reject-with tcp-reset"

Look = Callable[[], int | None]


@dataclass(frozen=True, slots=True)
class Order:
    instance: str
    seconds: float
    port: int
    tls: bool = False


def parse_order(words: list[str]) -> Order:
    """Raises ValueError. What a newer agent may add is passed over."""
    if not words or not is_instance_name(words[0]):
        raise ValueError("the first argument must be an instance")
    order = Order(words[0], 0.0, 0)
    for word in words[1:]:
        name, _, value = word.partition("=")
        if name == "--seconds":
            order = replace(order, seconds=float(value))
        elif name == "--port":
            order = replace(order, port=int(value))
        elif name == "--tls":
            order = replace(order, tls=True)
    return order


def main(arguments: list[str] | None = None) -> int:
    try:
        order = parse_order(sys.argv[1:] if arguments is None else arguments)
    except ValueError as error:
        say(f"cannot drain: {error}")
        return 0
    # systemd.exec(5): not "success" when the engine has ended by itself, or conmon was killed.
    if os.environ.get("SERVICE_RESULT", "success") != "success":
        return 0
    # An answer that never comes to its end has no other limit.
    signal.alarm(math.ceil(order.seconds + ALARM_S))
    try:
        enter_network(order.instance)
        say_end(order, drain(order, lambda: count_requests(order), lambda: refuse_new(order.port)))
    except (OSError, ValueError) as error:
        say(f"not waited for requests: {error}")
    return 0


def drain(
    order: Order,
    look: Look,
    refuse: Callable[[], None],
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Returns why it has ended; empty when there was nothing to wait for."""
    began = clock()
    refused = idle = patient = False
    while True:
        if (RUN / "nodrain" / order.instance).exists():
            return "the agent says that the engine hangs"
        running = look()
        if running is None:
            if not patient:
                return "the engine does not answer"
            patient = False
            continue
        patient = True  # it lives; under load it may be late once
        if running == 0 and idle:
            return "all requests are answered" if refused else ""
        idle = running == 0
        if running and not refused:
            say(f"waiting up to {order.seconds:g} s for {running} requests")
            refuse()
            refused = True
        left = order.seconds - (clock() - began)
        if left <= 0:
            return f"{running} requests are cut off"
        sleep(min(left, SECOND_LOOK_S if idle else LOOK_EVERY_S))


def count_requests(order: Order) -> int | None:
    """Those that the engine works on, or has in its queue; None when nobody answers."""
    certificate = RUN / "tls" / f"{order.instance}.pem"
    connection = (
        http.client.HTTPSConnection(
            LOOPBACK, order.port, timeout=ANSWER_S, context=trust_only(str(certificate))
        )
        if order.tls
        else http.client.HTTPConnection(LOOPBACK, order.port, timeout=ANSWER_S)
    )
    try:
        connection.request("GET", "/metrics")
        return parse_metrics(connection.getresponse().read().decode(errors="replace"))
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def parse_metrics(text: str) -> int | None:
    """None when the engine does not count them (--disable-log-stats), or names no number."""
    values = GAUGE.findall(text)
    try:
        return int(sum(map(float, values))) if values else None
    except (ValueError, OverflowError):
        return None


def enter_network(instance: str) -> None:
    """From here on the loopback of this process is the container's. Raises OSError."""
    pid = next(iter(find_processes(instance)), None)
    if pid is None:
        raise OSError("the engine has ended")
    libc = ctypes.CDLL(None, use_errno=True)
    handle = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if os.fstat(handle).st_ino == os.stat("/proc/self/ns/net").st_ino:
            raise OSError("the engine has no network of its own")
        if libc.setns(handle, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "cannot enter the engine's network")
    finally:
        os.close(handle)


def refuse_new(port: int) -> None:
    """With nft, else with iptables; where neither works new requests are taken, as before."""
    if _run(["nft", "-f", "-"], NFT_RULES.format(port=port)):
        return
    rule = IPTABLES_RULE.format(port=port).split()
    if not _run(["iptables", "-w", "1", *rule]):
        say("cannot refuse new requests: neither nft nor iptables works in the engine's network")
    _run(["ip6tables", "-w", "1", *rule])


def _run(argv: list[str], text: str = "") -> bool:
    with suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(
            argv, input=text, text=True, capture_output=True, timeout=RULE_S, check=False
        )
        return done.returncode == 0
    return False


def say_end(order: Order, why: str) -> None:
    if why:
        say(f"{order.instance} is stopped now: {why}")


def say(text: str) -> None:
    """To the journal, by standard error."""
    with suppress(OSError):
        sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
