# SPDX-License-Identifier: MulanPSL-2.0
"""What a unit's properties on D-Bus say of it, org.freedesktop.systemd1(5)."""

from agent.model import UnitActive, UnitStatus

CLD_EXITED = 1  # <signal.h>
STOP_WAS_ASKED = 3  # what units/front-stopped ends with


def read_status(name: str, unit: dict[str, object], service: dict[str, object]) -> UnitStatus:
    """By its properties as a unit, and as a service (none when it is not one)."""
    return UnitStatus(
        name=name,
        load_state=_text(unit, "LoadState"),
        active=UnitActive(_text(unit, "ActiveState")),
        sub_state=_text(unit, "SubState"),
        result=_text(service, "Result"),
        exit_status=_number(service, "ExecMainStatus"),
        fragment_path=_text(unit, "FragmentPath"),
        source_path=_text(unit, "SourcePath"),
        need_daemon_reload=_text(unit, "NeedDaemonReload") == "True",
        unit_file_state=_text(unit, "UnitFileState"),
        invocation_id=_text(unit, "InvocationID"),
        stop_asked=_stop_was_asked(service),
    )


def _text(properties: dict[str, object], key: str) -> str:
    value = properties.get(key, "")
    return value.hex() if isinstance(value, bytes) else str(value)


def _number(properties: dict[str, object], key: str) -> int:
    value = properties.get(key, 0)
    return value if isinstance(value, int) else 0


def _stop_was_asked(service: dict[str, object]) -> bool:
    """By the exit status of ExecStopPost= (units/front-stopped): (path, argv, ignore, four times,
    pid, si_code, status). And by that of attach, which ends with 0 only when it is told to: what
    has failed then came after it."""
    if (_number(service, "ExecMainCode"), _number(service, "ExecMainStatus")) == (CLD_EXITED, 0):
        return True
    commands = service.get("ExecStopPost", [])
    ends = [tuple(one[-2:]) for one in commands] if isinstance(commands, list) else []
    return (CLD_EXITED, STOP_WAS_ASKED) in ends
