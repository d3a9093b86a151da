# SPDX-License-Identifier: MulanPSL-2.0
"""npu-smi as a source, where libdcmi cannot be used: it is asked for addresses, then for states.

    deadline of one npu-smi call 10 s  <  killed and collected 11 s  <  watchdog 30 s

A reset has a deadline of its own. There is no reading while one runs: npu-smi asks all chips, and
the one that is being reset might hold it up.
"""

import os
from selectors import BaseSelector

from agent.model import DriverState, Inventory, ResetOutcome
from agent.npud.child import Kill, kill_group
from agent.npud.devices import read_names
from agent.npud.inventory import build_account
from agent.npud.npu_smi import (
    OCCUPIED,
    ChipName,
    first_words,
    parse_mapping,
    parse_refusal,
    parse_table,
)
from agent.npud.open_nodes import who_has_open
from agent.npud.requests import Reset
from agent.npud.smi_reset import ANSWERS, Ended, SmiReset
from agent.npud.smi_run import PLACES, OnSaid, Said, SmiRuns, find_npu_smi
from agent.npud.source import (
    ANOTHER_RESET,
    OCCUPIED_MEANS,
    RESET_LIMITS,
    OnAccount,
    OnReset,
    ResetLimits,
    Source,
)

DEADLINE_S = 10.0


class NpuSmi(Source):
    def __init__(
        self,
        selector: BaseSelector,
        on_account: OnAccount,
        places: tuple[str, ...] = PLACES,
        deadline_s: float = DEADLINE_S,
        kill: Kill = kill_group,
        limits: ResetLimits = RESET_LIMITS,
        folder: str = "/dev",
    ) -> None:
        self._on_account = on_account
        self._places = places
        self._deadline_s = deadline_s
        self._limits = limits
        self._folder = folder  # of the device nodes
        self._runs = SmiRuns(selector, kill)
        self._program = ""
        self._mapping: tuple[ChipName, ...] = ()
        self._again = False
        self._reset: SmiReset | None = None

    # --- readings --------------------------------------------------------------------------------

    def begin(self, now: float) -> None:
        if self._runs.is_running():
            self._again = True
            return
        if self._reset is not None:
            self._reset.look_begins()
        self._program = find_npu_smi(self._places)
        if self._program:
            self._run(("info", "-m"), self._take_mapping, now)
        else:
            self._finish(_account(DriverState.ABSENT, "there is no npu-smi"), now)

    def tick(self, now: float) -> None:
        self._runs.tick(now)
        # One that hung has ended, so the driver lets go at last: ask at once how it is.
        if self._runs.lets_go() or (self._reset is not None and now >= self._reset.look_at):
            self.begin(now)

    def next_at(self) -> float:
        look_at = self._reset.look_at if self._reset is not None else float("inf")
        return min(self._runs.next_at(), look_at)

    def close(self) -> None:
        self._runs.close()

    def _run(self, words: tuple[str, ...], take: OnSaid, now: float) -> None:
        self._runs.start((self._program, *words), self._deadline_s, take, now)

    def _take_mapping(self, said: Said, now: float) -> None:
        self._mapping = parse_mapping(said.text)
        if said.trouble:
            self._finish(_unknown(said.trouble), now)
        elif self._mapping:
            self._run(("info",), self._take_table, now)
        else:
            self._finish(account_of_refusal("npu-smi info -m", said.text), now)

    def _take_table(self, said: Said, now: float) -> None:
        table = parse_table(said.text)
        if said.trouble:
            self._finish(_unknown(said.trouble), now)
        elif table is None:
            self._finish(account_of_refusal("npu-smi info", said.text), now)
        else:
            self._finish(build_account(self._mapping, table), now, table.has_processes)

    def _finish(self, account: Inventory, now: float, has_processes: bool = False) -> None:
        if not self._runs.hangs(account.detail):
            self._runs.went_well()
        again, self._again = self._again, False
        reset = self._reset
        ended = None
        if reset is not None:
            ended = reset.after_look(account, has_processes, read_names(self._folder).chips, now)
        if reset is not None and reset.is_to_be_run():
            ended = self._who_has_them_open(reset)
        if ended is not None:
            self._reset = None
        self._on_account(account if self._reset is None else self._reset.mask(account))
        if reset is not None and ended is not None:
            reset.on_end(*ended)
        elif reset is not None and reset.is_to_be_run():
            self._run_reset(reset, now)
        if again:
            self.begin(now)

    # --- a reset ---------------------------------------------------------------------------------

    def reset(self, request: Reset, on_end: OnReset, now: float) -> None:
        if not find_npu_smi(self._places):
            on_end(ResetOutcome.REFUSED, "there is neither libdcmi nor npu-smi")
        elif self._reset is not None:
            on_end(ResetOutcome.BUSY, ANOTHER_RESET)
        else:
            self._reset = SmiReset(request, on_end, self._limits)
            self.begin(now)

    def _who_has_them_open(self, reset: SmiReset) -> Ended | None:
        """A pause of npud's, but a short one, and nothing else is asked of npu-smi meanwhile."""
        why_not = who_has_open(self._folder, reset.ring, os.getpid())
        return (ResetOutcome.BUSY, why_not) if why_not else None

    def _run_reset(self, reset: SmiReset, now: float) -> None:
        words = (self._program, *reset.run())
        self._runs.start(words, self._limits.reset_s, self._take_reset, now, ANSWERS)

    def _take_reset(self, said: Said, now: float) -> None:
        reset, self._again = self._reset, False
        ended = reset.after_run(said, now) if reset is not None else None
        if reset is not None and ended is not None:
            self._reset = None
            reset.on_end(*ended)
        self.begin(now)


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
