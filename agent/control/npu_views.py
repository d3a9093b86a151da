# SPDX-License-Identifier: MulanPSL-2.0
"""How NPUs are shown: what npud says of them, joined with what policy makes of it. Pure."""

from collections.abc import Iterable, Mapping

from agent.model import (
    DEVICE_PREFIX,
    DriverState,
    Inventory,
    Npu,
    NpuHealth,
    NpuReadings,
    Unfit,
)
from agent.policy.npu.decide import level_of
from agent.policy.npu.state import Fleet, Followed, NpuState, Quarantine, Rules
from agent.status.snapshot import FaultView, NpuView, QuarantineView


def build_npu_views(
    fleet: Fleet,
    inventory: Inventory,
    unfit: Iterable[Unfit],
    rules: Rules,
    holders: Mapping[int, str],
    now: float,
    wall: float,
) -> tuple[NpuView, ...]:
    """`holders`: instances by NPU; `now` is monotonic, `wall` in seconds since the epoch."""
    seen = {npu.logic_id: npu for npu in inventory.npus}
    known = {state.logic_id: state for state in fleet.npus}
    reasons = {one.logic_id: one.reason for one in unfit}
    epoch = wall - (fleet.base + now)  # of counted seconds
    silent = inventory.driver is DriverState.UNKNOWN
    return tuple(
        _view(
            known.get(logic_id, NpuState(logic_id)),
            seen.get(logic_id),
            silent,
            reasons.get(logic_id, ""),
            rules,
            holders.get(logic_id, ""),
            epoch,
        )
        for logic_id in sorted(seen.keys() | known.keys())
    )


def _view(
    state: NpuState,
    seen: Npu | None,
    silent: bool,
    unfit: str,
    rules: Rules,
    holder: str,
    epoch: float,
) -> NpuView:
    """`silent`: nobody tells of any NPU; what was there is not gone for that."""
    npu = seen or state.npu or _nothing_known(state.logic_id)
    return NpuView(
        logic_id=npu.logic_id,
        card_id=npu.card_id,
        chip_id=npu.chip_id,
        device=npu.device,
        device_present=npu.device_present and (seen is not None or silent),
        product=npu.product,
        health=npu.health if seen is not None else NpuHealth.UNKNOWN,
        reason=npu.reason if seen is not None else "the driver does not tell of it now",
        memory_mib=npu.memory_mib,
        memory_used_mib=npu.memory_used_mib,
        bus_id=npu.bus_id,
        readings=npu.readings if seen is not None else NpuReadings(),
        processes=npu.processes if seen is not None else (),
        instance=holder,
        level=level_of(state, rules),
        faults=tuple(_fault(fault, rules, epoch) for fault in state.faults),
        quarantine=_quarantine(state.quarantine, epoch),
        unfit=unfit,
        resets=max(0, state.tries),
    )


def _nothing_known(logic_id: int) -> Npu:
    device = f"{DEVICE_PREFIX}{logic_id}"
    return Npu(logic_id, -1, -1, device, False, "", NpuHealth.UNKNOWN, 0, 0)


def _fault(fault: Followed, rules: Rules, epoch: float) -> FaultView:
    rule = rules.catalogue.rule_of(fault.as_fault())
    return FaultView(
        code=fault.code,
        level=rule.level,
        severity=fault.severity,
        text=fault.text,
        name_en=rule.name_en,
        name_zh=rule.name_zh,
        do_en=rule.do_en,
        do_zh=rule.do_zh,
        since=fault.raised_at or fault.since + epoch,
        present=fault.listed,
        counts=not (fault.pardoned or fault.one_off) and rules.acts_on(rule.level),
        one_off=fault.one_off,
    )


def _quarantine(aside: Quarantine | None, epoch: float) -> QuarantineView | None:
    if aside is None:
        return None
    release_at: float | None = None
    if aside.gone_since is not None and aside.release_after_s is not None:
        release_at = aside.gone_since + aside.release_after_s + epoch
    since = aside.since + epoch
    return QuarantineView(
        aside.reason, since, aside.by, aside.code, aside.release_after_s, release_at
    )
