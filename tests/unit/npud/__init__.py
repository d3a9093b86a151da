# SPDX-License-Identifier: MulanPSL-2.0
"""Tests of npud, from the text of npu-smi up to the real process."""
