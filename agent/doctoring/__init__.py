# SPDX-License-Identifier: MulanPSL-2.0
"""`deepseekctl doctor` as a process: looks at the host, has `doctor/` judge, and tells.

A composition root, as daemon.py: it may import everything, and nobody imports it.
"""
