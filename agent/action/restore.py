# SPDX-License-Identifier: MulanPSL-2.0
"""Puts the unit file of a running engine back when somebody has removed or changed it.

With its file gone and a daemon-reload the unit stays active without ExecStop= and PartOf=; a stop
then hangs, and Podman is left with a container that it cannot remove (design, section 3; tried).
"""

from pathlib import PurePosixPath

from agent.action.running import Running
from agent.errors import Code, HostError
from agent.model import UnitStatus, engine_unit
from agent.ports import UnitFiles, UnitManager


def is_in_force(running: Running, seen: UnitStatus, files: UnitFiles) -> bool:
    """Whether all is as it should be. `seen`: its unit, as systemd has told it last, which is after
    each daemon-reload. (Asked anew it answers with 15 KiB: too much for every few seconds.)"""
    if seen.load_state != "loaded" or is_shadowed(seen, running.path):
        return False
    try:
        return files.read(PurePosixPath(running.path)) == running.text
    except HostError:
        return False


async def restore_file(running: Running, files: UnitFiles, units: UnitManager) -> str:
    """What was found and mended; empty when all is as it should be. Raises what the ports raise,
    and HostError when another file stands in for ours."""
    path = PurePosixPath(running.path)
    text = files.read(path)
    unit = engine_unit(running.profile.name)
    status = await units.status(unit)
    if text == running.text and status.load_state == "loaded":
        _check_origin(status, running)
        return ""
    if text != running.text:
        files.write(path, running.text)
    # Also when systemd has not read the changed file: its time has changed.
    await units.reload()
    status = await units.status(unit)
    if status.load_state != "loaded":
        raise HostError(
            Code.UNIT_NOT_LOADED,
            f"cannot mend {unit}: with {path} as it was it is {status.load_state}",
            f"systemctl status {unit}",
        )
    if text is None:
        return f"{path} had been removed"
    return f"{path} had been changed" if text != running.text else f"{unit} had not been loaded"


def _check_origin(status: UnitStatus, running: Running) -> None:
    if is_shadowed(status, running.path):
        raise shadowed(status, running.path)


def is_shadowed(status: UnitStatus, path: str) -> bool:
    """Whether systemd has the unit from another file than the one that we have rendered."""
    return bool(status.fragment_path) and path not in (status.fragment_path, status.source_path)


def shadowed(status: UnitStatus, path: str) -> HostError:
    """Quadlet's output and /run/systemd/system yield to /etc/systemd/system, systemd.unit(5)."""
    return HostError(
        Code.UNIT_SHADOWED,
        f"cannot use {path}: systemd takes {status.name} from {status.fragment_path} instead",
        f"remove {status.fragment_path}, then: systemctl daemon-reload",
    )
