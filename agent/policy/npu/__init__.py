# SPDX-License-Identifier: MulanPSL-2.0
"""Policy about NPUs: the fleet and an event in, a new fleet and decisions out. Pure."""
