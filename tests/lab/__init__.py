# SPDX-License-Identifier: MulanPSL-2.0
"""Real hosts in folders: systemd as PID 1, D-Bus, Podman, without a virtual machine.

See README.md beside this file. Needs root and Linux namespaces, touches only its cache, the
folder it is given, its own control groups and the processes it started.
"""
