# SPDX-License-Identifier: MulanPSL-2.0
"""Whether other hosts reach an engine that listens for them. The kernel has to forward their
packets into the container, and this host's own need no forwarding: while net.ipv4.ip_forward is 0,
nothing that the watch asks from here says that users are cut off (podman#27334, podman#27695).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address

from agent.errors import Failure
from agent.facts import ContainerFacts
from agent.health.words import not_forwarded

EVERY_S = 5.0

# Whether the kernel forwards to an address of that kind; None when it cannot be told.
Forwards = Callable[[str], bool | None]


@dataclass
class Way:
    """Tells what is wrong at each look, as the watch may have found the port well meanwhile; and
    once that it is over."""

    listen: str
    where: Callable[[], ContainerFacts | None]
    forwards: Forwards
    told: Callable[[Failure | None], None]
    _cut: bool = False
    _look_at: float = float("-inf")  # monotonic

    def look(self) -> None:
        """Now and then, however often it is called."""
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + EVERY_S
        address = self._address()
        cut = address != "" and self.forwards(address) is False
        if cut:
            self.told(not_forwarded(address))
        elif self._cut:
            self.told(None)
        self._cut = cut

    def _address(self) -> str:
        """That packets of other hosts are for, once they have passed the published port; empty when
        there are none. No rule turns IPv6 into IPv4."""
        container = self.where()
        if container is None or ip_address(self.listen).is_loopback:
            return ""
        same = (":" in container.address) == (":" in self.listen)
        return container.address if same else ""
