# SPDX-License-Identifier: MulanPSL-2.0
"""Podman through its API socket, by podman-py.

Runs as a short-lived process (`python -m agent.host.podman VERB ...`): podman-py is synchronous,
has no deadline of its own over a whole call, and would double the daemon's memory. Out: one JSON
object on standard output, `{"answer": ...}` or `{"error": {code, message, hint}}`.
`host/containers.py` is the other end.
"""
