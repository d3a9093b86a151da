# SPDX-License-Identifier: MulanPSL-2.0
"""Hubs. One module for each shape of answers; what they offer is checked in `listing`."""
