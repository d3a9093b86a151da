# SPDX-License-Identifier: MulanPSL-2.0
"""When a worker is to be replaced because it does not list a chip that is there.

libdcmi makes its list in dcmi_init and never again (hicann/driver: dcmi_basic_info_intf.c, 2025). A
chip that was ill just then, or late, would be missing for the life of the worker, however well it
gets. Pure: time is an argument.
"""

FIRST_S, MAX_S = 30.0, 600.0  # a chip boots within minutes, or is away for long


class Renewal:
    def __init__(self) -> None:
        self._nodes: frozenset[int] = frozenset()
        self._pause_s = FIRST_S
        self._at = float("inf")

    def is_due(self, lacks_any: bool, nodes: frozenset[int], now: float) -> bool:
        """After each look at everything. At once when a node has come, else after pauses that
        grow."""
        came, self._nodes = bool(nodes - self._nodes) and bool(self._nodes), nodes
        if not lacks_any:
            self._pause_s, self._at = FIRST_S, float("inf")
            return False
        if came:
            self._pause_s = FIRST_S
        elif self._at == float("inf"):
            self._at = now + self._pause_s
        if not came and now < self._at:
            return False
        self._at = now + self._pause_s
        self._pause_s = min(2 * self._pause_s, MAX_S)
        return True
