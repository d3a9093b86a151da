# SPDX-License-Identifier: MulanPSL-2.0
"""Workload -> options of `podman run`, for what is written as options by a renderer. Pure."""

from agent.render.workload import STOP_TIMEOUT_S, WRITABLE, Workload


def stop_timeout() -> str:
    return f"--stop-timeout={STOP_TIMEOUT_S}"


def shm_size(workload: Workload) -> str:
    return f"--shm-size={workload.shm_size}"


def working_directory() -> str:
    return f"--workdir={WRITABLE}"


def read_only_tmpfs() -> str:
    return "--read-only-tmpfs=true"


def pids_limit() -> str:
    return f"--pids-limit={PIDS_LIMIT}"


# Never pulled behind the agent's back: the plan names an image that is there.
PULL_NEVER = "--pull=never"
LOG_DRIVER = "journald"
LABEL = "org.openeuler.deepseek-agent.instance"

# Processes and threads together. Podman's own 2048 is too few: libraries start a thread for each
# core in each worker, so 192 cores and eight NPUs come to more. 32768 is far above that, and far
# below what the kernel has for all (pid_max is 4194304 on a 64-bit host with systemd).
PIDS_LIMIT = 32768
# Should the host run out of memory, the engine goes before the host's services (0), and what only
# fetches goes before the engine (500, units/deepseek-supply@.service).
OOM_SCORE = "--oom-score-adj=100"

# Root inside the container keeps only what file access needs: the driver's device nodes belong to
# HwHiAiUser with mode 0660 (facts: ascend, 1.6), which root without DAC_OVERRIDE cannot open.
CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL")
