# SPDX-License-Identifier: MulanPSL-2.0
"""Workload -> text of a unit file, by either renderer. Pure."""

from dataclasses import dataclass
from pathlib import PurePosixPath

from agent.config.values import RendererChoice
from agent.plan.plan import Plan
from agent.render.choose import choose_renderer, file_path
from agent.render.plain import render_unit
from agent.render.quadlet import render_quadlet
from agent.render.workload import Workload, build_workload


@dataclass(frozen=True, slots=True)
class RenderedFile:
    """What shall stand where, and the unit that comes of it."""

    renderer: RendererChoice
    path: PurePosixPath
    text: str
    unit: str
    refused: str = ""  # what the quadlet generator said, when this is the fallback for it


def render(plan: Plan, wanted: RendererChoice) -> RenderedFile:
    """The unit file for `plan` on its host."""
    workload = build_workload(plan)
    renderer = choose_renderer(wanted, plan.host)
    return RenderedFile(
        renderer,
        file_path(renderer, plan.host, plan.instance),
        _text(renderer, workload),
        workload.unit,
    )


def _text(renderer: RendererChoice, workload: Workload) -> str:
    if renderer is RendererChoice.QUADLET:
        return render_quadlet(workload)
    return render_unit(workload)
