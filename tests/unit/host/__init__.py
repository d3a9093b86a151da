# SPDX-License-Identifier: MulanPSL-2.0
"""Tests of the code that touches the machine."""
