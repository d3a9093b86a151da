# SPDX-License-Identifier: MulanPSL-2.0
"""Doubles of the world around the agent."""
