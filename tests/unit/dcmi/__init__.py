# SPDX-License-Identifier: MulanPSL-2.0
"""The double of libdcmi: its ABI, and what it answers to a program that has loaded it."""
