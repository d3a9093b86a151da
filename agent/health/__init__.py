# SPDX-License-Identifier: MulanPSL-2.0
"""Health: observers that ask whether the engine works, and say so three-valued."""
