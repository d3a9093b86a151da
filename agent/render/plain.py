# SPDX-License-Identifier: MulanPSL-2.0
"""Workload -> plain systemd unit that calls podman: cgroup v1, or Podman without quadlet. Pure."""

from collections.abc import Iterator

from agent.render.escape import argument
from agent.render.options import (
    CAPABILITIES,
    LABEL,
    LOG_DRIVER,
    OOM_SCORE,
    PULL_NEVER,
    pids_limit,
    shm_size,
    stop_timeout,
    working_directory,
)
from agent.render.sections import HEADER, section, service_lines, unit_section
from agent.render.workload import Workload

PODMAN = "/usr/bin/podman"


def render_unit(workload: Workload) -> str:
    """The whole file. Type, cgroups and sd-notify mode as `podman generate systemd` used them:
    conmon is the main process, and systemd reports what conmon reports."""
    return "\n".join(
        (
            "\n".join(HEADER) + "\n",
            unit_section(workload),
            section("Service", (*service_lines(workload), *_service(workload))),
        )
    )


def _service(workload: Workload) -> Iterator[str]:
    # Waits for the container's own --stop-timeout; its option -t is too new (Podman 4.0).
    remove = (PODMAN, "rm", "-f", "-i", workload.container)
    yield "Type=notify"
    yield "NotifyAccess=all"
    yield "Delegate=yes"
    yield "Environment=PODMAN_SYSTEMD_UNIT=%n"
    # A cid file of a start that failed blocks every later start (tried with Podman 4.3.1).
    yield "ExecStartPre=-/bin/rm -f %t/%N.cid"
    yield "ExecStart=" + " ".join(_run(workload))
    yield "ExecStop=-" + " ".join(remove)
    yield "ExecStopPost=-" + " ".join(remove)


def _run(workload: Workload) -> Iterator[str]:
    yield from (PODMAN, "run", f"--name={workload.container}", "--cidfile=%t/%N.cid", "--replace")
    # cgroups=no-conmon: the payload gets a scope of its own, so the slice is named for it.
    yield from ("--rm", "--cgroups=no-conmon", "--cgroup-parent=deepseek.slice")
    yield from ("--sdnotify=conmon", "-d", PULL_NEVER, f"--log-driver={LOG_DRIVER}")
    yield from (stop_timeout(), shm_size(workload), OOM_SCORE)
    if workload.host.pids_controller:
        yield pids_limit()
    if workload.read_only_root:
        yield from ("--read-only", working_directory())
    if workload.host.container_init:
        yield "--init"
    yield from ("--security-opt=no-new-privileges", "--cap-drop=all")
    yield from (f"--cap-add={capability}" for capability in CAPABILITIES)
    yield argument(f"--label={LABEL}={workload.label_instance}")
    for device in workload.devices:
        yield f"--device={device}"
    for mount in workload.mounts:
        yield argument(f"--volume={mount.text}")
    for name, value in workload.environment:
        yield argument(f"--env={name}={value}")
    if workload.environment_file:
        yield f"--env-file={workload.environment_file}"
    yield f"--publish={workload.publish}"
    yield argument(workload.image)
    for part in workload.command:
        yield argument(part)
