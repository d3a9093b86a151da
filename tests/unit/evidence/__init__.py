# SPDX-License-Identifier: MulanPSL-2.0
"""Tests of agent/evidence."""
