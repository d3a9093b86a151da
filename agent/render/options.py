# SPDX-License-Identifier: MulanPSL-2.0
"""Workload -> options of `podman run`, for what is written as options by a renderer. Pure."""

from agent.render.workload import STOP_TIMEOUT_S, Workload


def stop_timeout() -> str:
    return f"--stop-timeout={STOP_TIMEOUT_S}"


def shm_size(workload: Workload) -> str:
    return f"--shm-size={workload.shm_size}"


# Never pulled behind the agent's back: the plan names an image that is there.
PULL_NEVER = "--pull=never"
LOG_DRIVER = "journald"
LABEL = "org.openeuler.deepseek-agent.instance"

# Root inside the container keeps only what file access needs: the driver's device nodes belong to
# HwHiAiUser with mode 0660 (facts: ascend, 1.6), which root without DAC_OVERRIDE cannot open.
CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL")
