# SPDX-License-Identifier: MulanPSL-2.0
"""What monitoring reads: a snapshot as numbers. Pure."""
