# SPDX-License-Identifier: MulanPSL-2.0
"""What a developer needs from a host that nobody can log in to: one .tar.gz to send.

In: the agent's answers, its files, the journal, systemd, Podman, the kernel; each with a deadline.
Out: one file, without secrets and prompts, that says in MANIFEST.txt what is inside, what was taken
out, and what could not be had. Needs neither the agent nor root, and changes nothing.
"""
