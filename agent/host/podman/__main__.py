# SPDX-License-Identifier: MulanPSL-2.0
"""Begins the process: an engine that has died is started again when this one has answered."""

import sys

from agent.lean import spare_podman

if __name__ == "__main__":
    spare_podman()  # before podman-py, and before dataclasses
    from agent.host.podman.verbs import main

    sys.exit(main())
