# SPDX-License-Identifier: MulanPSL-2.0
"""What the writer knows of one instance, and how that is shown."""

import asyncio
from dataclasses import dataclass

from agent.config.values import Profile
from agent.errors import Failure
from agent.model import Inventory, Phase, UnitStatus, engine_unit
from agent.policy.instance import InstanceState
from agent.ports import Server
from agent.render.workload import bracketed, certificate_copy, key_file
from agent.status.snapshot import InstanceView
from agent.status.text import describe

# A front unit that crashes again and again is not started faster than this.
REVIVE_EVERY_S = 5.0


@dataclass
class Record:
    """What the writer knows of one instance."""

    profile: Profile
    state: InstanceState
    since: float  # wall clock of state.since
    front: UnitStatus | None = None
    engine: UnitStatus | None = None
    unit_file: str = ""
    npus: tuple[int, ...] = ()
    probe: "asyncio.Task[None] | None" = None
    started_at: float = 0.0  # monotonic, when the latest start ended
    told: Failure | None = None  # why it waits or is held, when that was noted as an event
    revived_at: float = -REVIVE_EVERY_S


def build_view(record: Record, inventory: Inventory, now: float, wall: float) -> InstanceView:
    """How `record` is shown; `now` is monotonic, `wall` seconds since the epoch."""
    state, profile = record.state, record.profile
    waits = state.phase in (Phase.BACKOFF, Phase.WAITING, Phase.HELD)
    wait_s = max(0.0, state.not_before - now)
    return InstanceView(
        name=profile.name,
        phase=state.phase,
        wished=state.wished,
        status=describe(state.phase, now - state.since, state.failure, wait_s),
        since=record.since,
        next_try_at=wall + wait_s if waits else None,
        failure=state.failure,
        failures=state.failures,
        served_name=profile.served_name,
        endpoint=endpoint(profile),
        model=profile.model,
        image=profile.image_for(inventory),
        unit=engine_unit(profile.name),
        unit_file=record.unit_file or (record.engine.fragment_path if record.engine else ""),
        npus=record.npus,
        key_file=key_file(profile.name) if profile.api_key_file else "",
        certificate=server(profile).certificate,
    )


def local_address(profile: Profile) -> str:
    """Where this host reaches the instance: listening everywhere includes loopback."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(profile.listen, profile.listen)  # noqa: S104


def server(profile: Profile) -> Server:
    """Where this host reaches the instance."""
    certificate = certificate_copy(profile.name) if profile.tls_certificate else ""
    return Server(local_address(profile), profile.port, certificate)


def endpoint(profile: Profile) -> str:
    """The same as a URL, without the path."""
    scheme = "https" if profile.tls_certificate else "http"
    return f"{scheme}://{bracketed(local_address(profile))}:{profile.port}"


def usable(inventory: Inventory) -> object:
    """What of an inventory can be the cause of waiting or holding."""
    chips = tuple((npu.logic_id, npu.device_present, npu.health) for npu in inventory.npus)
    return inventory.driver, inventory.manager_devices, chips


def processes(inventory: Inventory) -> object:
    """Who holds memory of the NPUs: the end of one can be what an instance waits for."""
    return tuple(
        (npu.logic_id, tuple(sorted(process.pid for process in npu.processes)))
        for npu in inventory.npus
    )


def say_inventory(inventory: Inventory) -> str:
    there = sum(npu.device_present for npu in inventory.npus)
    detail = f", {inventory.detail}" if inventory.detail else ""
    return f"driver {inventory.driver}, {there} NPUs{detail}"
