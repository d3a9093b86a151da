# SPDX-License-Identifier: MulanPSL-2.0
"""What the kernel says of itself: control groups, limits, SELinux, the clock. Read-only."""

import ctypes
import os
import time
from pathlib import Path

from agent.doctor.looks import Clock, Kernel, Selinux, SelinuxMode
from agent.host.machine import cgroup_version

SYS, PROC = Path("/sys"), Path("/proc")
MODELS, MODEL_TYPE = Path("/var/lib/deepseek"), b"deepseek_model_t"  # rpm/selinux/*.cil
# adjtimex(2) with modes = 0 only reads, and anybody may. struct timex on 64-bit machines: modes,
# offset, freq, maxerror, ... in longs; some 200 bytes, the rest is for what may come.
TIMEX_BYTES = 512
MAXERROR_AT = 24
# As systemd sees it (ntp_synced, src/basic/time-util.c): an unsynchronized kernel says 16 s.
LIMIT_US = 16_000_000


def read_kernel(sys: Path = SYS, proc: Path = PROC) -> Kernel:
    version = cgroup_version(sys / "fs/cgroup")
    if version == 2:
        controllers = _words(sys / "fs/cgroup/cgroup.controllers")
    else:
        controllers = _enabled(proc / "cgroups")
    return Kernel(
        cgroup_version=version,
        controllers=controllers,
        pid_max=_number(proc / "sys/kernel/pid_max"),
        threads_max=_number(proc / "sys/kernel/threads-max"),
        open_files=_number(proc / "sys/fs/nr_open"),
    )


def read_selinux(sys: Path = SYS, models: Path = MODELS) -> Selinux:
    """`models`: a folder that has a label of its own by our module (rpm/selinux)."""
    enforcing = _number(sys / "fs/selinux/enforce")
    if enforcing is None:
        return Selinux(SelinuxMode.OFF)
    mode = SelinuxMode.ENFORCING if enforcing else SelinuxMode.PERMISSIVE
    try:
        label = os.getxattr(models, "security.selinux")
    except OSError:
        label = b""
    # user:role:type:level; the kernel does not tell of a type that its policy does not have.
    return Selinux(mode, MODEL_TYPE in label.split(b":"))


def read_clock(package: Path) -> Clock:
    """`package`: a file of ours, as old as what is installed."""
    try:
        built_at = package.stat().st_mtime
    except OSError:
        built_at = None
    return Clock(time.time(), _is_synchronized(), built_at)


def _is_synchronized() -> bool | None:
    buffer = ctypes.create_string_buffer(TIMEX_BYTES)
    try:
        state = ctypes.CDLL(None).adjtimex(buffer)
    except (OSError, AttributeError):
        return None
    if state < 0:
        return None  # a container may not
    return ctypes.c_long.from_buffer(buffer, MAXERROR_AT).value < LIMIT_US


def _enabled(table: Path) -> tuple[str, ...]:
    """/proc/cgroups: name, hierarchy, number of groups, enabled. One that is on no hierarchy of v1
    cannot be used there."""
    rows = [line.split() for line in _text(table).splitlines() if not line.startswith("#")]
    return tuple(row[0] for row in rows if len(row) == 4 and row[3] == "1" and row[1] != "0")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _words(path: Path) -> tuple[str, ...]:
    return tuple(_text(path).split())


def _number(path: Path) -> int | None:
    words = _words(path)
    return int(words[0]) if words and words[0].isdecimal() else None
