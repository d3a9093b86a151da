# SPDX-License-Identifier: MulanPSL-2.0
"""How long an engine may take until it answers. Pure; times in seconds, monotonic.

No verdict comes before the budget, and none while something moves: a start that is killed a minute
before its end costs all of it again, and a hung one that is found minutes later costs minutes.
"""

from dataclasses import dataclass

# The first start of a model here. What reads no file: imports (35 s on a real vLLM), compiling
# (105 s were seen; facts: serving-health), laying out memory, capturing graphs, on a slow host.
# Then its files, at a fifth of what 1 GbE carries: a network file system may be shared.
FIRST_S = 600.0
SLOWEST_MIB_S = 25.0
# With a known time: three times of it, since its files may have been in the page cache then and are
# not now, and others may load at the same time (after a boot all do).
TIMES_KNOWN = 3.0
LEAST_S = 180.0
# A start that took longer than the first budget (something moved) may take as long again.
TIMES_SLOW = 1.5
# Something moved this short ago: it goes on. Long enough for a shard of 3 GB at the slowest speed.
MOVED_S = 120.0
# Whatever moves, it ends: a start that takes this long will not serve anybody.
LONGEST_S = 7200.0


@dataclass(frozen=True, slots=True)
class StartWatch:
    """A start that is under way."""

    began_at: float
    budget_s: float
    moved_at: float  # when more of it was seen the last time; `began_at` when nothing was

    @property
    def ends_at(self) -> float:
        """When it is too slow, should nothing more be seen."""
        patience_s = min(MOVED_S, self.budget_s)
        ends_s = self.began_at + self.budget_s
        if self.moved_at > self.began_at:
            ends_s = max(ends_s, self.moved_at + patience_s)
        return min(ends_s, self.began_at + max(LONGEST_S, self.budget_s))


def budget_s(weights_mib: int, last_s: float | None, chosen_s: float) -> float:
    """`last_s`: how long this host needed for it the last time; `chosen_s`: by the operator, or 0.
    `weights_mib` is 0 where nobody could tell."""
    if chosen_s > 0:
        return chosen_s
    first_s = min(FIRST_S + weights_mib / SLOWEST_MIB_S, LONGEST_S)
    if last_s is None:
        return first_s
    most_s = min(max(first_s, TIMES_SLOW * last_s), LONGEST_S)
    return min(max(LEAST_S, TIMES_KNOWN * last_s), most_s)
