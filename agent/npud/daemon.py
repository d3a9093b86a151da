# SPDX-License-Identifier: MulanPSL-2.0
"""The loop: device nodes and the driver's account come in, the published inventory goes out.

One thread, one selector, nothing that blocks. Every part says when it wants to be called next;
systemd hears from the loop itself, so a loop that stands still is noticed.
"""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from selectors import DefaultSelector

from agent.model import DriverState, Inventory, ResetOutcome
from agent.notify import notify, watchdog_interval_s
from agent.npud.child import await_children
from agent.npud.devices import Devices, IsDevice
from agent.npud.inventory import (
    NO_ANSWER_YET,
    forget,
    heartbeat_message,
    inventory_message,
    is_change,
    reset_message,
    status_line,
    with_devices,
)
from agent.npud.left_memory import LeftMemory
from agent.npud.log import Log
from agent.npud.open_nodes import find_openers
from agent.npud.requests import Refresh, Request, Reset
from agent.npud.server import Answer, Server
from agent.npud.source import OnAccount, Source
from agent.npud.watch import DeviceWatch

HEARTBEAT_S = 5.0
RETRY_S = 2.0  # first of the growing pauses while the driver does not answer as it should
ABSENT_PAUSES = 5  # without a driver, and inotify awake, the pause grows to 5 intervals

# For those that were just killed. A service whose last process ends before its main one is stopped
# at once; on cgroup v1 systemd may not hear of a later end, and call the stop a failure.
CHILDREN_END_S = 1.0

REFRESH_PAUSE_S = 1.0  # clients may ask for a reading, not for a hundred in a second

# The second callback hears what is new between two readings.
MakeSource = Callable[[DefaultSelector, OnAccount, OnAccount], Source]


def next_pause_s(driver: DriverState, tries: int, interval_s: float) -> float:
    """How long until the next reading, after `tries` readings in a row that were not READY.

    An absent driver announces itself by its nodes, so asking is a formality; one that refuses or
    is not understood may still be starting (the firmware boots after the nodes exist), and tells
    nobody when it is done.
    """
    doubled = 2.0 ** min(tries - 1, 10)
    match driver:
        case DriverState.READY:
            return interval_s
        case DriverState.ABSENT:
            return interval_s * min(doubled, ABSENT_PAUSES)
        case DriverState.FAILED | DriverState.UNKNOWN:
            return min(RETRY_S * doubled, interval_s)


class Daemon:
    """Joins the parts; `run` returns after `stop`."""

    def __init__(
        self,
        socket_path: str,
        folder: str,
        is_device: IsDevice,
        interval_s: float,
        log: Log,
        make_source: MakeSource,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.selector = DefaultSelector()
        self._interval_s = interval_s
        self._log = log
        self._now = now
        self._account = NO_ANSWER_YET
        self._inventory = NO_ANSWER_YET  # newest; `_published` is what clients were told
        self._published = NO_ANSWER_YET
        self._left_memory = LeftMemory(lambda: find_openers(folder, os.getpid()))
        self._tries = 0
        self._touched: frozenset[int] = frozenset()  # chips to be read anew, their nodes moved
        self._ask_at = self._heartbeat_at = self._watchdog_at = now()
        self._refresh_at = float("inf")
        self._refreshed_at = float("-inf")
        self._refreshing = False
        self._stopped = False
        self._server = Server(
            socket_path, self.selector, log, self._greeting, self._on_request, now
        )
        self._watch = DeviceWatch(folder, is_device, self.selector, log, self._on_devices, now)
        self._source = make_source(self.selector, self._on_account, self._on_news)

    def run(self) -> None:
        self._look(self._watch.devices)
        notify("READY=1", f"STATUS={status_line(self._inventory)}")
        try:
            while not self._stopped:
                self._turn()
        finally:
            self._close()

    def stop(self) -> None:
        self._stopped = True

    def _turn(self) -> None:
        now = self._now()
        self._watch.tick(now)
        self._source.tick(now)
        self._server.tick(now)
        self._keep_time(now)
        for key, mask in self.selector.select(max(0.0, self._next_at() - self._now())):
            current = self.selector.get_map().get(key.fd)
            # A handler of this round may have closed the next file, or given its number away.
            if current is not None and current.data is key.data:
                key.data(mask)

    def _next_at(self) -> float:
        return min(
            self._watch.next_at(),
            self._source.next_at(),
            self._server.next_at(),
            self._ask_at,
            self._refresh_at,
            self._heartbeat_at,
            self._watchdog_at,
        )

    def _keep_time(self, now: float) -> None:
        if now >= self._ask_at:
            self._ask_at = float("inf")  # set again by the account
            self._source.begin(now)
        if now >= self._refresh_at:
            self._refresh_at = float("inf")
            self._refreshed_at = now
            self._refreshing = True
            self._source.begin(now)
        if now >= self._heartbeat_at:
            self._heartbeat_at = now + HEARTBEAT_S
            self._server.publish(heartbeat_message(self._published.sequence))
        if now >= self._watchdog_at:
            interval_s = watchdog_interval_s()
            self._watchdog_at = now + interval_s / 2 if interval_s else float("inf")
            notify("WATCHDOG=1")

    def _close(self) -> None:
        notify("STOPPING=1")
        self._source.close()
        self._watch.close()
        self._server.close()
        self.selector.close()
        await_children(CHILDREN_END_S)

    def _greeting(self) -> bytes:
        return inventory_message(self._inventory)

    def _on_devices(self, devices: Devices, touched: frozenset[int]) -> None:
        self._log.info("device nodes changed", npus=len(devices.chips), chips=sorted(touched))
        self._touched |= touched
        self._account = forget(self._account, touched)
        self._tries = 0
        self._look(devices)
        self._ask_at = self._now()

    def _on_account(self, account: Inventory) -> None:
        self._touched = frozenset()
        self._left_memory.take(account, self._now(), time.time())
        self._account = replace(self._left_memory.mark(account), read_at=round(time.time(), 3))
        told = self._published.sequence
        self._look(self._watch.devices)
        if self._refreshing and told == self._published.sequence:
            self._server.publish(self._greeting())  # whoever asked wants to hear that it is so
        self._refreshing = False
        driver = self._inventory.driver
        self._tries = 0 if driver is DriverState.READY else self._tries + 1
        self._ask_at = self._now() + next_pause_s(driver, self._tries, self._interval_s)

    def _on_news(self, account: Inventory) -> None:
        """Between two readings: the next one comes as planned."""
        account = replace(self._left_memory.mark(account), read_at=round(time.time(), 3))
        self._account = forget(account, self._touched) if self._touched else account
        self._look(self._watch.devices)

    def _on_request(self, request: Request, answer: Answer) -> None:
        match request:
            case Refresh():
                pause_over_at = self._refreshed_at + REFRESH_PAUSE_S
                self._refresh_at = min(self._refresh_at, max(self._now(), pause_over_at))
            case Reset(logic_id):
                self._log.info("reset asked for", logic_id=logic_id, ring=request.ring)

                def told(outcome: ResetOutcome, detail: str) -> None:
                    self._log.info(
                        "reset ended", logic_id=logic_id, outcome=outcome.value, detail=detail
                    )
                    answer(reset_message(logic_id, outcome, detail))

                self._source.reset(request, told, self._now())

    def _look(self, devices: Devices) -> None:
        """Put the picture together anew, and tell everybody if it is another one."""
        inventory = with_devices(self._account, devices)
        changed = self._published.sequence == 0 or is_change(self._published, inventory)
        self._inventory = replace(inventory, sequence=self._published.sequence + int(changed))
        if changed:
            self._published = self._inventory
            self._tell()

    def _tell(self) -> None:
        line = status_line(self._published)
        notify(f"STATUS={line}")
        self._log.info(line, sequence=self._published.sequence, driver=self._published.driver.value)
        self._server.publish(inventory_message(self._published))
