# SPDX-License-Identifier: MulanPSL-2.0
"""Tests of the tree itself: style, types, scripts."""
