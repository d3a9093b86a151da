# SPDX-License-Identifier: MulanPSL-2.0
"""Rendering: a Plan in, the text of a unit file out. Pure."""
