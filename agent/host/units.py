# SPDX-License-Identifier: MulanPSL-2.0
"""Units as systemctl shows them to anybody: without a connection that is kept, and without root."""

import asyncio
import re
import shlex
from collections.abc import Mapping, Sequence

from agent.errors import Code, HostUnavailable
from agent.host.process import Completed, run
from agent.host.proxies import only_proxies
from agent.model import UnitActive, UnitStatus

PROPERTIES = (
    "LoadState",
    "ActiveState",
    "SubState",
    "Result",
    "ExecMainStatus",
    "FragmentPath",
    "SourcePath",
    "NeedDaemonReload",
    "UnitFileState",
    "InvocationID",
)
_VERSION = re.compile(r"systemd ([0-9]{2,4})\b")
HINT = "is this host booted with systemd? see: systemctl is-system-running"


async def read_systemd_version(deadline_s: float) -> int:
    done = await _systemctl(("--version",), deadline_s)
    found = _VERSION.match(done.output)
    if found is None:
        raise _failed(f"its version is not understood: {done.output[:80]!r}")
    return int(found[1])


async def read_units(names: Sequence[str], deadline_s: float) -> tuple[UnitStatus, ...]:
    """In that order; one that systemd does not know has the load state "not-found"."""
    shown = f"--property={','.join(PROPERTIES)}"
    done = await _systemctl(("show", "--no-pager", shown, "--", *names), deadline_s)
    blocks = done.output.strip("\n").split("\n\n")
    if done.status != 0 or len(blocks) != len(names):
        raise _failed(done.errors.strip()[:200] or f"exit status {done.status}")
    return tuple(_unit(name, _pairs(text)) for name, text in zip(names, blocks, strict=True))


async def read_proxies(unit: str, deadline_s: float) -> dict[str, str]:
    """The proxies that a unit is given, by systemd's own environment (DefaultEnvironment=) or its
    own; empty when none."""
    shown = await asyncio.gather(_environment((), deadline_s), _environment((unit,), deadline_s))
    return only_proxies({**shown[0], **shown[1]})


async def _environment(unit: Sequence[str], deadline_s: float) -> dict[str, str]:
    """Without a unit: what all of them have."""
    done = await _systemctl(("show", "--no-pager", "--property=Environment", *unit), deadline_s)
    if done.status != 0:
        raise _failed(done.errors.strip()[:200] or f"exit status {done.status}")
    words = shlex.split(done.output.strip().partition("=")[2])
    return {name: value for name, _, value in (word.partition("=") for word in words)}


async def read_main_pid(unit: str, deadline_s: float) -> int:
    """0 when it does not run."""
    done = await _systemctl(("show", "--property=MainPID", "--value", unit), deadline_s)
    text = done.output.strip()
    return int(text) if text.isdecimal() else 0


async def _systemctl(arguments: Sequence[str], deadline_s: float) -> Completed:
    """Raises TimeoutError, and HostError when it cannot be started."""
    done = await run(
        ("systemctl", *arguments), deadline_s=deadline_s, environment={"LC_ALL": "C.UTF-8"}
    )
    if done.status is None:
        raise TimeoutError
    return done


def _failed(why: str) -> HostUnavailable:
    return HostUnavailable(Code.SYSTEMD_UNAVAILABLE, f"cannot ask systemd: {why}", HINT)


def _pairs(text: str) -> Mapping[str, str]:
    return {name: value for name, _, value in (line.partition("=") for line in text.splitlines())}


def _unit(name: str, values: Mapping[str, str]) -> UnitStatus:
    status = values.get("ExecMainStatus", "")
    return UnitStatus(
        name=name,
        load_state=values.get("LoadState", ""),
        active=UnitActive(values.get("ActiveState", "")),
        sub_state=values.get("SubState", ""),
        result=values.get("Result", ""),
        exit_status=int(status) if status.isdecimal() else 0,
        fragment_path=values.get("FragmentPath", ""),
        source_path=values.get("SourcePath", ""),
        need_daemon_reload=values.get("NeedDaemonReload") == "yes",
        unit_file_state=values.get("UnitFileState", ""),
        invocation_id=values.get("InvocationID", ""),
    )
