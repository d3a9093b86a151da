# SPDX-License-Identifier: MulanPSL-2.0
"""How long to wait before the next try. Pure."""

from agent.config.values import Limits

# A tenth up or down, so that hosts that lost power together do not all pull at the same second.
JITTER = 0.1


def backoff_s(failures: int, limits: Limits, chance: float) -> float:
    """Seconds before the next try after `failures` (>= 1) failures in a row.

    Doubles from the first value to the maximum; `chance` in [0, 1) spreads it by `JITTER`.
    """
    doublings = min(failures - 1, 32)  # beyond that the maximum rules anyway
    plain = min(limits.backoff_first_s * 2.0**doublings, limits.backoff_max_s)
    spread = plain * (1 - JITTER + 2 * JITTER * chance)
    return float(min(spread, limits.backoff_max_s))
