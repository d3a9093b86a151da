# SPDX-License-Identifier: MulanPSL-2.0
"""Policy: a state and an event in, a new state and a decision out. Pure."""
