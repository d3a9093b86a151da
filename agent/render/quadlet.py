# SPDX-License-Identifier: MulanPSL-2.0
"""Workload -> Podman quadlet (.container). Pure.

One key that the host's Podman does not know, and the unit silently does not exist; so every key
newer than 4.4 is guarded by the version that brought it (facts: podman-systemd, 1.3), and what
has no key yet goes through PodmanArgs=, which stands right before the image, so it wins.
"""

from collections.abc import Iterator

from agent.render.escape import argument, specifiers, unquoted
from agent.render.options import (
    CAPABILITIES,
    LABEL,
    LOG_DRIVER,
    OOM_SCORE,
    PIDS_LIMIT,
    PULL_NEVER,
    pids_limit,
    read_only_tmpfs,
    shm_size,
    stop_timeout,
    working_directory,
)
from agent.render.sections import HEADER, section, service_lines, unit_section
from agent.render.workload import STOP_TIMEOUT_S, WRITABLE, Workload

LOG_DRIVER_SINCE = (4, 5, 0)
PULL_SINCE = (4, 6, 0)
WORKING_DIRECTORY_SINCE = (4, 6, 0)
SHM_SIZE_SINCE = PIDS_LIMIT_SINCE = (4, 7, 0)
READ_ONLY_TMPFS_SINCE = (4, 8, 0)
STOP_TIMEOUT_SINCE = (5, 0, 0)


def render_quadlet(workload: Workload) -> str:
    """The whole file."""
    return "\n".join(
        (
            "\n".join(HEADER) + "\n",
            unit_section(workload),
            section("Container", tuple(_container(workload))),
            section("Service", service_lines(workload)),
        )
    )


def _container(workload: Workload) -> Iterator[str]:
    yield f"ContainerName={workload.container}"
    yield f"Image={unquoted(workload.image)}"
    yield f"Label={LABEL}={workload.label_instance}"
    for device in workload.devices:
        # Without the "-" that would drop a device whose driver is late (facts, section 2).
        yield f"AddDevice={device}"
    for mount in workload.mounts:
        # Taken as it stands, without unquoting (seen with 5.4.2).
        yield f"Volume={unquoted(mount.text)}"
    for name, value in workload.environment:
        # It ends up on a command line, where "$" is expanded (seen with 5.4.2).
        yield f"Environment={argument(f'{name}={value}')}"
    if workload.environment_file:
        yield f"EnvironmentFile={workload.environment_file}"
    yield f"PublishPort={workload.publish}"
    yield "NoNewPrivileges=true"
    yield "DropCapability=all"
    yield "AddCapability=" + " ".join(CAPABILITIES)
    if workload.host.container_init:
        yield "RunInit=true"
    if workload.read_only_root:
        yield "ReadOnly=true"
    yield from _versioned(workload)
    yield "Exec=" + " ".join(argument(part) for part in workload.command)


def _versioned(workload: Workload) -> Iterator[str]:
    version = workload.host.podman_version
    arguments = [OOM_SCORE]  # no release has a key for it
    for since, key, option in _newer(workload):
        if version >= since:
            yield key
        else:
            arguments.append(option)
    yield "PodmanArgs=" + specifiers(" ".join(arguments))


def _newer(workload: Workload) -> Iterator[tuple[tuple[int, int, int], str, str]]:
    """The release that brought a key, the key, and the option for those before."""
    yield LOG_DRIVER_SINCE, f"LogDriver={LOG_DRIVER}", f"--log-driver={LOG_DRIVER}"
    yield PULL_SINCE, "Pull=never", PULL_NEVER
    yield SHM_SIZE_SINCE, f"ShmSize={workload.shm_size}", shm_size(workload)
    yield STOP_TIMEOUT_SINCE, f"StopTimeout={STOP_TIMEOUT_S}", stop_timeout()
    if workload.host.pids_controller:
        yield PIDS_LIMIT_SINCE, f"PidsLimit={PIDS_LIMIT}", pids_limit()
    if workload.read_only_root:
        yield WORKING_DIRECTORY_SINCE, f"WorkingDir={WRITABLE}", working_directory()
        # Before 4.8 the generator makes "--read-only --read-only-tmpfs=false" of ReadOnly=true
        # (podman#20439), and nothing could be written at all.
        yield READ_ONLY_TMPFS_SINCE, "ReadOnlyTmpfs=true", read_only_tmpfs()
