# SPDX-License-Identifier: MulanPSL-2.0
"""What systemd hears of agentd: the watchdog's ping, and one line about what it does."""

import time

from agent.model import Phase
from agent.notify import notify, watchdog_interval_s
from agent.status.snapshot import Snapshot


class Pulse:
    """Tells systemd, from the writer's own loop, that it turns, and what it does."""

    def __init__(self) -> None:
        interval_s = watchdog_interval_s()
        # Twice within the limit, as sd_watchdog_enabled(3) advises; the loop turns every 5 s.
        self._every_s = interval_s / 2 if interval_s else None
        self._pinged_at = 0.0
        self._status = ""

    def __call__(self, snapshot: Snapshot) -> None:
        now = time.monotonic()
        if self._every_s is not None and now - self._pinged_at >= self._every_s:
            self._pinged_at = now
            notify("WATCHDOG=1")
        status = _summary(snapshot)
        if status != self._status:
            self._status = status
            notify(f"STATUS={status}")


def _summary(snapshot: Snapshot) -> str:
    wished = [one for one in snapshot.instances if one.wished or one.phase is not Phase.IDLE]
    present = sum(npu.device_present for npu in snapshot.inventory.npus)
    npus = f"{present} NPUs, driver {snapshot.inventory.driver}"
    return "; ".join([npus, *(f"{one.name}: {one.phase}" for one in wished)])
