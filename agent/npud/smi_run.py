# SPDX-License-Identifier: MulanPSL-2.0
"""Runs npu-smi, one at a time, with a deadline: words come in, what it printed goes out.

A run that cannot be killed (D state) is left alone, and no other is started beside it.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from selectors import EVENT_READ, BaseSelector

from agent.npud.child import Child, Kill

PLACES = ("/usr/local/bin/npu-smi", "/usr/local/sbin/npu-smi", "/usr/bin/npu-smi")
KILL_GRACE_S = 1.0  # for the kernel to end a killed process; one in D state takes for ever

# The loader finds libdrvdsmi_host, libascend_hal and libc_sec there (facts: ascend 4).
ENVIRONMENT = {
    "LANG": "C",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin",
    "LD_LIBRARY_PATH": "/usr/local/Ascend/driver/lib64:/usr/local/Ascend/driver/lib64/common"
    ":/usr/local/Ascend/driver/lib64/driver:/usr/local/dcmi",
}

_HANGS = "npu-smi hangs since "


@dataclass(frozen=True, slots=True)
class Said:
    text: str
    trouble: str = ""  # why `text` does not count: it hung, it could not be run, ...


OnSaid = Callable[[Said, float], None]  # also when it was


def find_npu_smi(places: tuple[str, ...] = PLACES) -> str:
    """The first that can be run, "" when there is none."""
    return next((place for place in places if os.access(place, os.X_OK)), "")


class SmiRuns:
    def __init__(self, selector: BaseSelector, kill: Kill) -> None:
        self._selector = selector
        self._kill = kill
        self._child: Child | None = None
        self._on_said: OnSaid = lambda _said, _now: None
        self._deadline_at = float("inf")
        self._killed = False
        self._lost: Child | None = None  # killed, and still there
        self._started_at = 0.0
        self._hangs_since = 0.0  # 0: it does not

    def is_running(self) -> bool:
        return self._child is not None

    def start(
        self,
        words: tuple[str, ...],
        deadline_s: float,
        on_said: OnSaid,
        now: float,
        answers: bytes = b"",
    ) -> None:
        """`answers` is what it reads from its standard input."""
        if self._lost is not None and not self._lost.has_ended():
            on_said(self._hang(), now)
            return
        self._lost = None
        self._started_at = time.time()
        try:
            child = Child(words, ENVIRONMENT, answers)
        except OSError as error:
            on_said(Said("", f"cannot run {words[0]}: {error.strerror}"), now)
            return
        self._child = child
        self._on_said = on_said
        self._killed = False
        self._deadline_at = now + deadline_s
        self._selector.register(child.fd, EVENT_READ, lambda _mask: self._take(child))

    def next_at(self) -> float:
        return self._deadline_at

    def tick(self, now: float) -> None:
        child = self._child
        if child is None:
            return
        if child.has_ended():
            self._take(child)
            self._end(child, now)
        elif now >= self._deadline_at and self._killed:
            self._abandon(child, now)
        elif now >= self._deadline_at or (child.overflowed and not self._killed):
            self._killed = True
            self._deadline_at = now + KILL_GRACE_S
            self._kill(child.pid)

    def lets_go(self) -> bool:
        """True once, when one that could not be killed has ended after all."""
        if self._child is not None or self._lost is None or not self._lost.has_ended():
            return False
        self._lost = None
        return True

    def hangs(self, detail: str) -> bool:
        """Whether these are the words for it."""
        return detail.startswith(_HANGS)

    def went_well(self) -> None:
        """The next hang is another one."""
        self._hangs_since = 0.0

    def close(self) -> None:
        for child in (self._child, self._lost):
            if child is not None and not child.has_ended():
                self._kill(child.pid)
        if self._child is not None:
            self._forget(self._child)

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

    def _end(self, child: Child, now: float) -> None:
        self._forget(child)
        if child.overflowed:
            said = Said("", "npu-smi says more than it can have to say")
        else:
            said = self._hang() if self._killed else Said(child.text())
        self._on_said(said, now)

    def _abandon(self, child: Child, now: float) -> None:
        """Not even SIGKILL ends it (facts: ascend 1.5). Waiting would hang npud too."""
        self._forget(child)
        self._lost = child
        self._on_said(self._hang(), now)

    def _hang(self) -> Said:
        self._hangs_since = self._hangs_since or self._started_at
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._hangs_since))
        held = f", process {self._lost.pid} cannot be killed" if self._lost else ""
        return Said("", f"{_HANGS}{since}{held}")
