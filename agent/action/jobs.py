# SPDX-License-Identifier: MulanPSL-2.0
"""What systemd's word on a job says of an engine. Pure."""

from agent.errors import Code, Failure
from agent.model import JobResult, UnitStatus

# Of ExecCondition= (units/front-is-up); the job itself ends with "done".
CONDITION_NOT_MET = "exec-condition"
# Of a start: the engine has been tried. With TimeoutStartSec= the job is "failed", too; any other
# result says that something else ended it (a stop, a reboot, a mount that fails, a full queue).
RAN = (JobResult.DONE, JobResult.FAILED)
# Where systemd and Podman write whatever they start; a full one has no word in their results.
RUN = "/run"


def why_not_down(status: UnitStatus, done: str) -> Failure | None:
    if status.active.is_down():
        return None
    return Failure(
        Code.UNIT_STOP_FAILED,
        f"cannot stop {status.name}: {done}, unit {status.active}",
        f"systemctl status {status.name}; a process that hangs in the driver needs a reboot",
    )


def why_not_started(result: JobResult, status: UnitStatus, has_room: bool) -> Failure:
    """Why the job did not end with "done"."""
    if status.result == CONDITION_NOT_MET:
        return Failure(Code.NOT_WISHED, f"cannot start {status.name}: its front unit is not active")
    if not has_room:
        return Failure(
            Code.RUN_TOO_FULL,  # the host's trouble: no update is undone for it
            f"cannot start {status.name}: job {result}, no room is left in {RUN}",
            f"see: df -h {RUN}",
        )
    if result not in RAN:
        return Failure(
            Code.JOB_NOT_RUN,
            f"cannot start {status.name}: job {result}",
            f"journalctl -b -u {status.name}; systemctl list-jobs",
        )
    detail = f"result {status.result}, exit status {status.exit_status}"
    return Failure(
        Code.UNIT_START_FAILED,
        f"cannot start {status.name}: job {result}, {detail}",
        f"journalctl -b -u {status.name}",
    )
