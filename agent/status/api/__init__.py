# SPDX-License-Identifier: MulanPSL-2.0
"""The socket API: who asks, what may be asked, and the answers."""
