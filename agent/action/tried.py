# SPDX-License-Identifier: MulanPSL-2.0
"""What has been tried in vain, so that the same is not tried again while nothing has changed. Pure.

For failures that another try cannot mend: a damaged model, an option that vLLM does not know.
"""

import hashlib
import re
from dataclasses import dataclass

from agent.errors import Failure
from agent.model import DEVICE_PREFIX

_NPU = re.compile(re.escape(DEVICE_PREFIX) + r"\d+")


@dataclass(frozen=True, slots=True)
class Tried:
    """A start and why it failed."""

    mark: str
    failure: Failure


def build_mark(unit_text: str, model_identity: str, driver_version: str) -> str:
    """All that a start depends on, as far as it is seen: image (by its id), number of NPUs, command
    line and environment are in the unit's text. Not which NPUs: where several instances start, each
    plan has others, and none of them mends a model."""
    parts = (_NPU.sub(DEVICE_PREFIX, unit_text), model_identity, driver_version)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
