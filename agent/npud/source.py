# SPDX-License-Identifier: MulanPSL-2.0
"""Where the driver's account comes from: the seam (`Source`), and npu-smi behind it.

Comes in: `begin`, and the loop's events. Goes out: an Inventory without the device nodes, through
`on_account`. Touches: runs npu-smi, at most one at a time.

    deadline of one npu-smi call 10 s  <  killed and collected 11 s  <  watchdog 30 s
"""

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from selectors import EVENT_READ, BaseSelector

from agent.model import DriverState, Inventory
from agent.npud.child import Child, Kill, kill_group
from agent.npud.inventory import build_account
from agent.npud.npu_smi import (
    OCCUPIED,
    ChipName,
    first_words,
    parse_mapping,
    parse_refusal,
    parse_table,
)

PLACES = ("/usr/local/bin/npu-smi", "/usr/local/sbin/npu-smi", "/usr/bin/npu-smi")
DEADLINE_S = 10.0
KILL_GRACE_S = 1.0  # for the kernel to end a killed process; one in D state takes for ever

# The loader finds libdrvdsmi_host, libascend_hal and libc_sec there (facts: ascend 4).
ENVIRONMENT = {
    "LANG": "C",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin",
    "LD_LIBRARY_PATH": "/usr/local/Ascend/driver/lib64:/usr/local/Ascend/driver/lib64/common"
    ":/usr/local/Ascend/driver/lib64/driver:/usr/local/dcmi",
}

OnAccount = Callable[[Inventory], None]
OnReset = Callable[[bool, str], None]  # whether it worked, and the driver's words

# facts: ascend 1.6. One busy chip is enough for all of them to be refused.
OCCUPIED_MEANS = (
    " (an NPU is occupied by another mount namespace: a container, or a sandboxed"
    " service that uses the driver; see /proc/uda/namespace_node)"
)


class Source(ABC):
    """One reading at a time; no method may block, whatever the driver does.

    An ABC and not a Protocol: importing typing would cost npud more than half a MiB.
    """

    @abstractmethod
    def begin(self, now: float) -> None:
        """Start a reading, or one more after the one that is under way."""

    @abstractmethod
    def tick(self, now: float) -> None:
        """Time has passed, or a child has ended."""

    @abstractmethod
    def next_at(self) -> float:
        """When `tick` is wanted next; inf when it is not."""

    @abstractmethod
    def close(self) -> None:
        """End what runs, do not wait for it."""

    def reset(self, logic_id: int, on_end: OnReset, now: float) -> None:
        """Of a chip that nothing uses; `on_end` hears how it went, at once or minutes later."""
        del logic_id, now
        on_end(False, "libdcmi is not in use here")


def find_npu_smi(places: tuple[str, ...] = PLACES) -> str:
    """The first that can be run, "" when there is none."""
    return next((place for place in places if os.access(place, os.X_OK)), "")


class NpuSmi(Source):
    """Asks npu-smi twice: for the addresses of the chips (-m), then for their states."""

    def __init__(
        self,
        selector: BaseSelector,
        on_account: OnAccount,
        places: tuple[str, ...] = PLACES,
        deadline_s: float = DEADLINE_S,
        kill: Kill = kill_group,
    ) -> None:
        self._selector = selector
        self._on_account = on_account
        self._places = places
        self._deadline_s = deadline_s
        self._kill = kill
        self._program = ""
        self._mapping: tuple[ChipName, ...] = ()  # empty: the run under way asks for it
        self._again = False
        self._child: Child | None = None
        self._deadline_at = float("inf")
        self._killed = False
        self._lost: Child | None = None  # killed, and still there
        self._started_at = 0.0
        self._hangs_since = 0.0  # 0: it does not

    def begin(self, now: float) -> None:
        if self._child is not None:
            self._again = True
            return
        if self._lost is not None and not self._lost.has_ended():
            self._finish(self._hang())
            return
        self._lost = None
        self._program = find_npu_smi(self._places)
        self._mapping = ()
        if self._program:
            self._run(("info", "-m"), now)
        else:
            self._finish(_account(DriverState.ABSENT, "there is no npu-smi"))

    def next_at(self) -> float:
        return self._deadline_at

    def tick(self, now: float) -> None:
        child = self._child
        if child is None:
            if self._lost is not None and self._lost.has_ended():
                self.begin(now)  # the driver lets go at last: ask at once how it is
        elif child.has_ended():
            self._take(child)
            self._ended(child, now)
        elif now >= self._deadline_at and self._killed:
            self._abandon(child)
        elif now >= self._deadline_at or (child.overflowed and not self._killed):
            self._killed = True
            self._deadline_at = now + KILL_GRACE_S
            self._kill(child.pid)

    def close(self) -> None:
        for child in (self._child, self._lost):
            if child is not None and not child.has_ended():
                self._kill(child.pid)
        if self._child is not None:
            self._forget(self._child)

    def _run(self, arguments: tuple[str, ...], now: float) -> None:
        self._started_at = time.time()
        try:
            child = Child((self._program, *arguments), ENVIRONMENT)
        except OSError as error:
            self._finish(_unknown(f"cannot run {self._program}: {error.strerror}"))
            return
        self._child = child
        self._killed = False
        self._deadline_at = now + self._deadline_s
        self._selector.register(child.fd, EVENT_READ, lambda _mask: self._take(child))

    def _take(self, child: Child) -> None:
        """Read; at the end of the output the pipe goes, and SIGCHLD tells the rest."""
        if child.fd >= 0 and not child.read():
            self._selector.unregister(child.fd)
            child.close()

    def _forget(self, child: Child) -> None:
        if child.fd >= 0:
            self._selector.unregister(child.fd)
            child.close()
        self._child = None
        self._deadline_at = float("inf")

    def _ended(self, child: Child, now: float) -> None:
        self._forget(child)
        if child.overflowed:
            self._finish(_unknown("npu-smi says more than it can have to say"))
        elif self._killed:
            self._finish(self._hang())
        elif self._mapping:
            self._finish(account_of_table(self._mapping, child.text()))
        else:
            self._mapping = parse_mapping(child.text())
            if self._mapping:
                self._run(("info",), now)
            else:
                self._finish(account_of_refusal("npu-smi info -m", child.text()))

    def _abandon(self, child: Child) -> None:
        """In D state: not even SIGKILL ends it (facts: ascend 1.5). Waiting would hang npud too."""
        self._forget(child)
        self._lost = child
        self._finish(self._hang())

    def _hang(self) -> Inventory:
        self._hangs_since = self._hangs_since or self._started_at
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._hangs_since))
        held = f", process {self._lost.pid} cannot be killed" if self._lost else ""
        return _unknown(f"npu-smi hangs since {since}{held}")

    def _finish(self, account: Inventory) -> None:
        if not account.detail.startswith("npu-smi hangs"):
            self._hangs_since = 0.0
        again, self._again = self._again, False
        self._on_account(account)
        if again:
            self.begin(time.monotonic())


def account_of_table(mapping: tuple[ChipName, ...], text: str) -> Inventory:
    """What `npu-smi info` printed, after -m had named the chips."""
    table = parse_table(text)
    return build_account(mapping, table) if table else account_of_refusal("npu-smi info", text)


def account_of_refusal(command: str, text: str) -> Inventory:
    """Text without the table that it should hold: a refusal, or nothing that is understood."""
    refusal = parse_refusal(text)
    if not refusal:
        return _unknown(f"{command} said what is not understood: {first_words(text)}")
    if OCCUPIED in refusal:
        refusal += OCCUPIED_MEANS
    return _account(DriverState.FAILED, f"npu-smi: {refusal}")


def _unknown(detail: str) -> Inventory:
    return _account(DriverState.UNKNOWN, detail)


def _account(driver: DriverState, detail: str) -> Inventory:
    return Inventory(driver=driver, detail=detail, source="npu-smi")
