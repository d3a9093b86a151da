# SPDX-License-Identifier: MulanPSL-2.0
"""Puts a rendered file in place so that systemd knows the unit.

Idempotent: identical bytes mean no write and no reload. Only called while the unit is down: a file
never vanishes or changes under a running unit (design, section 3).
"""

from dataclasses import replace

from agent.action.restore import is_shadowed, shadowed
from agent.config.values import RendererChoice
from agent.errors import Code, HostError
from agent.plan.plan import Plan
from agent.ports import UnitFiles, UnitManager
from agent.render.choose import all_paths, other_paths
from agent.render.render import RenderedFile, render


async def apply(
    plan: Plan, file: RenderedFile, files: UnitFiles, units: UnitManager
) -> RenderedFile:
    """Returns what was installed: `file`, or a plain unit when the host's generator refuses it."""
    if any(files.is_mask(path) for path in all_paths(plan.instance)):
        raise _masked(file)  # by mask --runtime; our file would take the mask's place
    changed = files.read(file.path) != file.text
    if changed and file.renderer is RendererChoice.QUADLET:
        refusal = await files.generator_refusal(file.path.name, file.text)
        if refusal is not None:
            file = replace(render(plan, RendererChoice.UNIT), refused=refusal)
            changed = files.read(file.path) != file.text
    stale = [path for path in other_paths(file.path, plan.instance) if files.read(path) is not None]
    if changed:
        files.write(file.path, file.text)
    for path in stale:
        files.remove(path)
    if changed or stale or await _is_outdated(file, units):
        await units.reload()
    await _verify(file, units)
    return file


async def _is_outdated(file: RenderedFile, units: UnitManager) -> bool:
    """The file is right, but systemd has not read it: a crash between write and reload."""
    status = await units.status(file.unit)
    return status.load_state != "loaded" or status.need_daemon_reload


async def _verify(file: RenderedFile, units: UnitManager) -> None:
    status = await units.status(file.unit)
    if status.load_state == "masked":
        raise _masked(file)
    if is_shadowed(status, str(file.path)):
        raise shadowed(status, str(file.path))
    if status.load_state != "loaded":
        raise HostError(
            Code.UNIT_NOT_LOADED,
            f"cannot load {file.unit} from {file.path}: it is {status.load_state}",
            f"systemctl status {file.unit}; "
            "journalctl -b -t quadlet-generator -t podman-system-generator",
        )


def _masked(file: RenderedFile) -> HostError:
    return HostError(
        Code.UNIT_MASKED,
        f"cannot start {file.unit}: it is masked",
        f"systemctl unmask {file.unit} (where it was masked so: --runtime)",
    )
