# SPDX-License-Identifier: MulanPSL-2.0
"""Status: the immutable snapshot, the socket server that shows it, the client."""
