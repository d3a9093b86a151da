# SPDX-License-Identifier: MulanPSL-2.0
"""Measurements: programs that print numbers. No test asserts them, since machines differ."""
