# SPDX-License-Identifier: MulanPSL-2.0
"""All targets, by name."""

from tests.fuzz import engine, kept, libdcmi, npus, requests, secrets, settings, sources

TARGETS = {
    target.name: target
    for module in (settings, kept, sources, engine, npus, libdcmi, requests, secrets)
    for target in module.TARGETS
}
