# SPDX-License-Identifier: MulanPSL-2.0
"""Which renderer, and where its file goes (design: two renderers, one Workload). Pure."""

from pathlib import PurePosixPath
from typing import assert_never

from agent.config.values import RendererChoice
from agent.facts import HostFacts
from agent.model import container_name, engine_unit

RUN_QUADLET = PurePosixPath("/run/containers/systemd")
ETC_QUADLET = PurePosixPath("/etc/containers/systemd")
RUN_UNIT = PurePosixPath("/run/systemd/system")


def choose_renderer(wanted: RendererChoice, host: HostFacts) -> RendererChoice:
    """QUADLET or UNIT, never AUTO. Quadlet needs Podman >= 4.4 and cgroup v2 (podman#17456)."""
    match wanted:
        case RendererChoice.QUADLET | RendererChoice.UNIT:
            return wanted
        case RendererChoice.AUTO:
            if host.cgroup_version == 2 and host.podman_version >= (4, 4, 0):
                return RendererChoice.QUADLET
            return RendererChoice.UNIT
        case _:
            assert_never(wanted)


def file_path(renderer: RendererChoice, host: HostFacts, instance: str) -> PurePosixPath:
    """Where the file of `instance` goes. /run is searched for quadlets from Podman 5.3 on."""
    match renderer:
        case RendererChoice.QUADLET:
            folder = RUN_QUADLET if host.podman_version >= (5, 3, 0) else ETC_QUADLET
            return folder / f"{container_name(instance)}.container"
        case RendererChoice.UNIT | RendererChoice.AUTO:
            return RUN_UNIT / engine_unit(instance)
        case _:
            assert_never(renderer)


def other_paths(chosen: PurePosixPath, instance: str) -> tuple[PurePosixPath, ...]:
    """Where a file of the same unit may be left from another renderer or an older Podman."""
    return tuple(place for place in all_paths(instance) if place != chosen)


def all_paths(instance: str) -> tuple[PurePosixPath, ...]:
    """Where a file of `instance` may stand."""
    quadlet = f"{container_name(instance)}.container"
    return (RUN_QUADLET / quadlet, ETC_QUADLET / quadlet, RUN_UNIT / engine_unit(instance))
