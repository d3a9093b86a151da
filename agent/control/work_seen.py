# SPDX-License-Identifier: MulanPSL-2.0
"""What an engine that serves says of its work, for those who look at the snapshot.

The one thing about an instance that the watch of its engine writes down by itself: it comes every
2 s, decides nothing, and a message for each would wake the writer for it. Shown by its next turn.
"""

import time
from dataclasses import dataclass

from agent.model import EngineWork

# An engine that answers is asked every 2 s (health.liveness); one that does not has no numbers.
FRESH_S = 15.0


@dataclass
class WorkSeen:
    """Of one engine; the next one has another."""

    _latest: EngineWork | None = None
    _seen_at: float = 0.0  # monotonic

    def take(self, work: EngineWork) -> None:
        self._latest, self._seen_at = work, time.monotonic()

    def view(self, now: float) -> EngineWork | None:
        """None when it has said nothing for a while. `now` is monotonic."""
        return self._latest if now - self._seen_at < FRESH_S else None
