# SPDX-License-Identifier: MulanPSL-2.0
"""Exit statuses that mean something to systemd and to the agent; from sysexits.h.

A module of its own without imports: attach is kept small.
"""

# The *held* status of design.md: the agent starts the front unit again when the cause changes.
HELD = 69
# What keeps it from serving may pass by itself.
LATER = 75
# Only a person can mend it.
PERSON = 78
