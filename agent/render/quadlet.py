# SPDX-License-Identifier: MulanPSL-2.0
"""Workload -> Podman quadlet (.container). Pure.

One key that the host's Podman does not know, and the unit silently does not exist; so every key
newer than 4.4 is guarded by the version that brought it (facts: podman-systemd, 1.3), and what
has no key yet goes through PodmanArgs=, which stands right before the image, so it wins.
"""

from collections.abc import Iterator

from agent.render.escape import argument, specifiers, unquoted
from agent.render.options import CAPABILITIES, LABEL, LOG_DRIVER, PULL_NEVER, shm_size, stop_timeout
from agent.render.sections import HEADER, section, service_lines, unit_section
from agent.render.workload import STOP_TIMEOUT_S, Workload

LOG_DRIVER_SINCE = (4, 5, 0)
PULL_SINCE = (4, 6, 0)
SHM_SIZE_SINCE = (4, 7, 0)
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
    yield from _versioned(workload)
    yield "Exec=" + " ".join(argument(part) for part in workload.command)


def _versioned(workload: Workload) -> Iterator[str]:
    version = workload.host.podman_version
    arguments: list[str] = []
    for since, key, option in (
        (LOG_DRIVER_SINCE, f"LogDriver={LOG_DRIVER}", f"--log-driver={LOG_DRIVER}"),
        (PULL_SINCE, "Pull=never", PULL_NEVER),
        (SHM_SIZE_SINCE, f"ShmSize={workload.shm_size}", shm_size(workload)),
        (STOP_TIMEOUT_SINCE, f"StopTimeout={STOP_TIMEOUT_S}", stop_timeout()),
    ):
        if version >= since:
            yield key
        else:
            arguments.append(option)
    if arguments:
        yield "PodmanArgs=" + specifiers(" ".join(arguments))
