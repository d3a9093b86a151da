#!/usr/bin/python3 -ISB
# SPDX-License-Identifier: MulanPSL-2.0
"""Inside a host and a unit's sandbox: tries what a restriction forbids, and changes nothing by it.

In: names of restrictions, as in a unit file. Out: for each a line "NAME worked" or "NAME refused:
WHY". Standard library only.
"""

import ctypes
import errno
import mmap
import os
import platform
import socket
import sys
from collections.abc import Callable

# What the table has put there (sandbox_table.py).
FOLDER = "/run/sandbox"
CLONE_NEWUSER = 0x10000000
PR_GET_NO_NEW_PRIVS = 39
PER_LINUX32 = 0x0008
PTRACE_TRACEME = 0
SYSLOG_ACTION_SIZE_BUFFER = 10
TIMEX_BYTES = 512
# mov eax, 20 (getpid of i386); int 0x80; ret
I386_GETPID = bytes.fromhex("b814000000cd80c3")
libc = ctypes.CDLL(None, use_errno=True)


class Refused(Exception):
    """Told why."""


def call(name: str, *arguments: object) -> int:
    result: int = getattr(libc, name)(*arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def new_privileges() -> None:
    if call("prctl", PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0):
        raise Refused("the flag is set")


def other_users_file() -> None:
    """Mode 0000, of another user."""
    with open(f"{FOLDER}/other-users", "rb"):
        pass


def write_anywhere() -> None:
    os.close(os.open("/usr/share/sandbox", os.O_CREAT | os.O_WRONLY))
    os.unlink("/usr/share/sandbox")


def write_at_home() -> None:
    os.close(os.open("/root/sandbox", os.O_WRONLY))


def see_temporary_files() -> None:
    os.stat("/var/tmp/sandbox")


def see_an_npu() -> None:
    os.stat("/dev/davinci0")


def open_a_tunable() -> None:
    os.close(os.open("/proc/sys/kernel/panic", os.O_WRONLY))


def see_modules() -> None:
    os.stat("/usr/lib/modules/sandbox")


def ask_the_kernel_log() -> None:
    call("klogctl", SYSLOG_ACTION_SIZE_BUFFER, None, 0)


def open_a_control_group() -> None:
    os.close(os.open(f"{os.environ['CGROUP']}/cgroup.procs", os.O_WRONLY))


def ask_the_clock() -> None:
    """Modes = 0 changes nothing; the filter knows no modes."""
    call("adjtimex", ctypes.create_string_buffer(TIMEX_BYTES))


def have_the_hosts_name() -> None:
    have_the_hosts("uts")


def have_the_hosts_network() -> None:
    have_the_hosts("net")


def have_the_hosts(kind: str) -> None:
    """Name space."""
    if os.readlink(f"/proc/self/ns/{kind}") != os.environ[kind]:
        raise Refused("a name space of its own")


def be_another_machine() -> None:
    call("personality", PER_LINUX32)


def write_and_execute() -> None:
    mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()


def be_scheduled_in_real_time() -> None:
    """With a priority that there is not: EINVAL where the call comes through to the kernel."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(0))
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise


def make_a_suid_file() -> None:
    os.fchmod(os.memfd_create("suid"), 0o4755)


def unshare() -> None:
    call("unshare", CLONE_NEWUSER)


def make_a_socket() -> None:
    """Neither the agent nor attach needs packets."""
    socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM).close()


def call_as_a_program_of_32_bits() -> None:
    if platform.machine() != "x86_64":
        raise Refused("this machine has no other architecture")
    code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(I386_GETPID)
    address = ctypes.addressof(ctypes.c_char.from_buffer(code))
    pid = ctypes.CFUNCTYPE(ctypes.c_int)(address)()
    if pid != os.getpid():
        raise OSError(-pid, os.strerror(-pid))


def trace() -> None:
    call("ptrace", PTRACE_TRACEME, 0, None, None)


def swap() -> None:
    """Of a file that is no swap: the kernel looks at it only when the call is let through."""
    try:
        call("swapoff", f"{FOLDER}/other-users".encode())
    except OSError as error:
        if error.errno == errno.EPERM:
            raise


def write_for_everybody() -> None:
    mask = os.umask(0)
    if mask & 0o077 == 0o077:
        raise Refused(f"{mask:03o}")


PROBES: dict[str, Callable[[], None]] = {
    "CapabilityBoundingSet": other_users_file,
    "InaccessiblePaths": see_temporary_files,
    "LockPersonality": be_another_machine,
    "MemoryDenyWriteExecute": write_and_execute,
    "NoNewPrivileges": new_privileges,
    "PrivateDevices": see_an_npu,
    "PrivateNetwork": have_the_hosts_network,
    "PrivateTmp": see_temporary_files,
    "ProtectClock": ask_the_clock,
    "ProtectControlGroups": open_a_control_group,
    "ProtectHome": write_at_home,
    "ProtectHostname": have_the_hosts_name,
    "ProtectKernelLogs": ask_the_kernel_log,
    "ProtectKernelModules": see_modules,
    "ProtectKernelTunables": open_a_tunable,
    "ProtectSystem": write_anywhere,
    "RestrictAddressFamilies": make_a_socket,
    "RestrictNamespaces": unshare,
    "RestrictRealtime": be_scheduled_in_real_time,
    "RestrictSUIDSGID": make_a_suid_file,
    "SystemCallArchitectures": call_as_a_program_of_32_bits,
    "SystemCallFilter": swap,
    "UMask": write_for_everybody,
}


def attempt(probe: Callable[[], None]) -> str:
    """In a child, which what it has done to itself ends with."""
    out, end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            probe()
            word = "worked"
        except (OSError, Refused) as error:
            word = f"refused: {error}"
        os.write(end, word.encode())
        os._exit(0)
    os.close(end)
    with os.fdopen(out) as told:
        word = told.read()
    _, status = os.waitpid(child, 0)
    return word or f"refused: killed by signal {os.WTERMSIG(status)}"


def main() -> None:
    for name in sys.argv[1:]:
        print(name, attempt(PROBES[name]), flush=True)


if __name__ == "__main__":
    main()
