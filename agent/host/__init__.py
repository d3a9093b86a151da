# SPDX-License-Identifier: MulanPSL-2.0
"""Host: the only code that touches the machine."""
