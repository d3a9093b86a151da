# SPDX-License-Identifier: MulanPSL-2.0
"""A reset through npu-smi, step by step: looks and words come in, the next step goes out. Pure.

First a look, at which nothing may use the chips; then `npu-smi set -t reset`, whose exit status is
not to be trusted (facts: ascend 1.5); then looks, until all chips are well enough to be told of.
"""

import re
from dataclasses import replace
from enum import StrEnum

from agent.model import (
    MEMORY_LEFT,
    DriverState,
    Inventory,
    Npu,
    NpuHealth,
    ProductLine,
    ResetOutcome,
    brother_card,
    product_line,
)
from agent.npud.devices import who_is_not_told
from agent.npud.requests import Reset
from agent.npud.smi_run import Said
from agent.npud.source import FAULT_GONE, RESET_UNDER_WAY, OnReset, ResetLimits

# "continue resetting?(Y/N)", and "[y/n]" where the reset takes other chips with it.
ANSWERS = b"Y\ny\n"
MAX_WORDS = 200
CARD_DROP = "40F84E00"  # the number that MindCluster gives it (facts: ascend 2, 3)

_DONE = re.compile(r"\bReset (card|chip|server) successfully")
_NEVER = re.compile(r"does not support setting")
_SOMEBODY_ELSE = re.compile(r"Another user is resetting")
_QUESTION = re.compile(r"\(Y/N\)|\[y/n\]|may cause a system hang")

Ended = tuple[ResetOutcome, str]


class Phase(StrEnum):
    LOOKING = "looking"
    TO_BE_RUN = "to be run"
    RUNNING = "running"
    BOOTING = "booting"


class SmiReset:
    def __init__(self, request: Reset, on_end: OnReset, limits: ResetLimits) -> None:
        self.on_end = on_end
        self.look_at = float("inf")  # when to begin a look
        self._request = request
        self._limits = limits
        self._phase = Phase.LOOKING
        self._look_is_new = False  # it began after the request came
        self._ring: frozenset[int] = frozenset(request.ring)
        self._through = (-1, -1)
        self._boot_until = float("inf")

    def look_begins(self) -> None:
        self._look_is_new = True
        self.look_at = float("inf")

    def after_look(
        self, account: Inventory, has_processes: bool, nodes: frozenset[int], now: float
    ) -> Ended | None:
        """`nodes` tells N of each /dev/davinciN."""
        if self._phase is Phase.LOOKING and self._look_is_new:
            return self._prepare(account, has_processes, nodes)
        if self._phase is Phase.BOOTING:
            return self._has_booted(account, now)
        return None

    @property
    def ring(self) -> frozenset[int]:
        """All that go with it, as far as is known by now."""
        return self._ring

    def is_to_be_run(self) -> bool:
        return self._phase is Phase.TO_BE_RUN

    def run(self) -> tuple[str, ...]:
        """The words for npu-smi."""
        self._phase = Phase.RUNNING
        card, chip = self._through
        return ("set", "-t", "reset", "-i", str(card), "-c", str(chip))

    def after_run(self, said: Said, now: float) -> Ended | None:
        if said.trouble:
            return ResetOutcome.FAILED, said.trouble
        ended = judge_words(said.text)
        if ended is None:
            self._phase = Phase.BOOTING
            self._boot_until = now + self._limits.boot_s
        return ended

    def mask(self, account: Inventory) -> Inventory:
        """What is told of chips that are being reset would be told of chips that are not there."""
        if self._phase is Phase.LOOKING:
            return account
        npus = (_masked(npu) if npu.logic_id in self._ring else npu for npu in account.npus)
        return replace(account, npus=tuple(npus))

    def _prepare(
        self, account: Inventory, has_processes: bool, nodes: frozenset[int]
    ) -> Ended | None:
        if account.driver is not DriverState.READY:
            return ResetOutcome.BUSY, f"npu-smi does not say who uses the chips: {account.detail}"
        if not has_processes:
            return ResetOutcome.BUSY, "npu-smi does not say who uses the chips"
        npus = {npu.logic_id: npu for npu in account.npus}
        cards = {npus[number].card_id for number in self._ring if number in npus}
        # What is on the same card goes with it, whatever was asked for; on an A3 its brother, too.
        if ProductLine.A3 in {product_line(npu.product) for npu in account.npus}:
            if why := who_is_not_told(nodes, npus.keys()):
                return ResetOutcome.BUSY, why
            cards |= {brother_card(card) for card in cards}
        self._ring |= {npu.logic_id for npu in account.npus if npu.card_id in cards}
        reasons = [self._why_not(number, npus.get(number)) for number in sorted(self._ring)]
        if any(reasons):
            return ResetOutcome.BUSY, next(reason for reason in reasons if reason)
        npu = npus[self._request.logic_id]
        if self._request.codes and not _is_there(npu, self._request.codes):
            return ResetOutcome.BUSY, FAULT_GONE
        # "SMP mode only support reset chip 0." (facts: ascend 1.4)
        duo = product_line(npu.product) is ProductLine.DUO
        self._through = (npu.card_id, 0 if duo else npu.chip_id)
        self._phase = Phase.TO_BE_RUN
        return None

    def _why_not(self, logic_id: int, npu: Npu | None) -> str:
        """ "" when nothing uses it."""
        if npu is None:
            return f"npu-smi knows no NPU {logic_id} now"
        if npu.processes:
            pids = ", ".join(str(process.pid) for process in npu.processes)
            return f"NPU {logic_id} is in use by process {pids}"
        # Of a chip without a health no processes are listed; one that dropped cannot have any.
        if npu.health is NpuHealth.UNKNOWN and CARD_DROP not in self._request.codes:
            return f"npu-smi does not say who uses NPU {logic_id}"
        return ""

    def _has_booted(self, account: Inventory, now: float) -> Ended | None:
        healths = {npu.logic_id: npu.health for npu in account.npus}
        unknown = NpuHealth.UNKNOWN
        missing = [one for one in sorted(self._ring) if healths.get(one, unknown) is unknown]
        if not missing:
            return ResetOutcome.OK, f"health {healths[self._request.logic_id].value}"
        if now >= self._boot_until:
            chips = ", ".join(str(one) for one in missing)
            return ResetOutcome.FAILED, f"NPU {chips}: no health after {self._limits.boot_s:g} s"
        self.look_at = now + self._limits.look_s
        return None


def _is_there(npu: Npu, codes: tuple[str, ...]) -> bool:
    """One of the faults, as far as npu-smi tells: which codes there are it does not."""
    by_health = npu.health is not NpuHealth.OK and set(codes) != {MEMORY_LEFT}
    return by_health or (MEMORY_LEFT in codes and npu.has_memory_left())


def judge_words(text: str) -> Ended | None:
    """What `npu-smi set -t reset` printed; None: it says that it went well."""
    if _DONE.search(text):
        return None
    lines = [" ".join(line.split()) for line in text.splitlines()]
    words = "; ".join(line for line in lines if line and not _QUESTION.search(line))[:MAX_WORDS]
    if _NEVER.search(text):
        return ResetOutcome.REFUSED, f"npu-smi: {words}"
    if _SOMEBODY_ELSE.search(text):
        return ResetOutcome.BUSY, f"npu-smi: {words}"
    return ResetOutcome.FAILED, f"npu-smi: {words or 'no output'}"


def _masked(npu: Npu) -> Npu:
    return replace(
        npu,
        health=NpuHealth.UNKNOWN,
        processes=(),
        processes_told=False,
        reason=RESET_UNDER_WAY,
    )
