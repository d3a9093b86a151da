# SPDX-License-Identifier: MulanPSL-2.0
"""What this process has used, as the kernel counts it."""

import os
import resource
from pathlib import Path

from agent.facts import OwnProcess

STATM = Path("/proc/self/statm")  # proc(5): pages; the second is what is resident


def read_own_process() -> OwnProcess | None:
    """None when it cannot be told."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    try:
        pages = int(STATM.read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return OwnProcess(used.ru_utime + used.ru_stime, pages * os.sysconf("SC_PAGE_SIZE"))
