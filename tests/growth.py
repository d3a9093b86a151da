# SPDX-License-Identifier: MulanPSL-2.0
"""How much work something is, for tests of how its cost grows: a stopwatch would measure others."""

import time
from collections.abc import Callable

TRIES = 5


def cpu_s(work: Callable[[], object]) -> float:
    """CPU seconds of this thread; the least of several, as others disturb."""
    spent = []
    for _ in range(TRIES):
        began = time.thread_time()
        work()
        spent.append(time.thread_time() - began)
    return min(spent)
