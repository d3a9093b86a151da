# SPDX-License-Identifier: MulanPSL-2.0
"""Host: of what agentd does, the only code that touches the machine."""
