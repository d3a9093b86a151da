# SPDX-License-Identifier: MulanPSL-2.0
"""What an engine was doing, written down before it is killed: a short-lived process of root's.

agentd is sandboxed and sees no kernel stacks, so `deepseek-evidence@.service` runs this. In: the
notes of the agent (/run/deepseek-agent/evidence/INSTANCE.json), /proc, systemd, the journal, and
py-spy where the image has it. Out: one text file. All of it within 4 s, whatever hangs.

Never touches the NPU driver: its sandbox has no such device.
"""
