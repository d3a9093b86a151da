# SPDX-License-Identifier: MulanPSL-2.0
"""How often and how long a source is asked again."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from agent.supply.net import SILENCE_S, SourceUnreachable

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Patience:
    """Tries in a row that bring nothing, and the waits between them."""

    tries: int = 6
    first_wait_s: float = 1.0
    longest_wait_s: float = 30.0
    silence_s: float = SILENCE_S  # a connection that stands still for so long is cut

    def wait_s(self, failures: int, asked_s: float = 0.0) -> float:
        """After so many failures in a row; `asked_s` is what the source wants (Retry-After)."""
        wait = min(self.first_wait_s * 2.0 ** min(failures - 1, 16), self.longest_wait_s)
        # Connections that were cut together do not come back together.
        return max(wait * random.uniform(0.5, 1.0), asked_s)  # noqa: S311


def ask_patiently(
    ask: Callable[[], Found], patience: Patience, tell_trouble: Callable[[str], None]
) -> Found:
    """Raises SourceUnreachable when patience ends, and at once what another try does not mend."""
    for failures in range(1, patience.tries):
        try:
            return ask()
        except SourceUnreachable as failure:
            tell_trouble(failure.failure.message)
            time.sleep(patience.wait_s(failures, failure.wait_s))
    return ask()
