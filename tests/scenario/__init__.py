# SPDX-License-Identifier: MulanPSL-2.0
"""Scenarios: the real writer and the real bus client, over doubles of what is outside."""
