# SPDX-License-Identifier: MulanPSL-2.0
"""Checks of the machine itself: systemd, control groups, limits, SELinux, clock, room. Pure."""

from agent.config.values import Config
from agent.disks import GIB
from agent.doctor.checkup import Checkup, day
from agent.doctor.looks import SelinuxMode
from agent.doctor.verdict import Verdict, error, lean, need, ok, skipped, some, warning
from agent.policy.disks import judge
from agent.wording import gib

OLDEST_SYSTEMD = 249  # openEuler 22.03
OLDEST_PYTHON = (3, 11)
# Podman limits a container's processes (pids) unless told otherwise, and an operator may limit its
# memory; devices has no controller of that name on cgroup v2.
CONTROLLERS = ("memory", "pids")
# vLLM with eight NPUs runs some thousand threads and opens some thousand files.
LEAST_PIDS, LEAST_FILES = 16_384, 65_536
DEFAULT_KEEP_FREE_GIB = 20  # etc/agent.toml


def systemd(checkup: Checkup) -> Verdict:
    version = need(checkup.systemd)
    if version < OLDEST_SYSTEMD:
        return error(
            f"cannot run the units: systemd is {version}, needed is {OLDEST_SYSTEMD} or newer",
            "upgrade the system: dnf upgrade systemd (openEuler 24.03 LTS or newer)",
        )
    return ok(f"systemd {version}")


def cgroup(checkup: Checkup) -> Verdict:
    kernel = need(checkup.kernel)
    missing = [one for one in CONTROLLERS if one not in kernel.controllers]
    version = f"cgroup v{kernel.cgroup_version}"
    if missing:
        return warning(
            f"cannot limit containers: {version} has no controller {' and '.join(missing)}, and "
            "Podman refuses containers with such a limit",
            "enable it on the kernel's command line (cgroup_enable=memory), or set pids_limit = 0 "
            "in /etc/containers/containers.conf",
        )
    return ok(f"{version}, with {' and '.join(CONTROLLERS)}")


def python(checkup: Checkup) -> Verdict:
    version = ".".join(str(part) for part in checkup.python)
    if checkup.python < OLDEST_PYTHON:
        return error(
            f"cannot run the agent: Python is {version}, needed is 3.11 or newer",
            "install the package made for this release: dnf install deepseek-agent",
        )
    return ok(f"Python {version}")


def kernel_limits(checkup: Checkup) -> Verdict:
    kernel = lean(checkup.kernel, "cgroup")
    limits = (
        ("kernel.pid_max", kernel.pid_max, LEAST_PIDS),
        ("kernel.threads-max", kernel.threads_max, LEAST_PIDS),
        ("fs.nr_open", kernel.open_files, LEAST_FILES),
    )
    low = [(name, value, least) for name, value, least in limits if value and value < least]
    if low:
        told = some(f"{name} is {value}, {least} are wise" for name, value, least in low)
        first, _, least = low[0]
        return warning(
            f"cannot be sure that an engine with many threads starts: {told}",
            f"sysctl -w {first}={least}, and a file in /etc/sysctl.d for the next boot",
        )
    if not any(value for _, value, _ in limits):
        return skipped("the kernel does not show its limits here")
    return ok(", ".join(f"{name} {value}" for name, value, _ in limits if value))


def selinux(checkup: Checkup) -> Verdict:
    seen = need(checkup.selinux)
    if seen.mode is not SelinuxMode.ENFORCING:
        return ok(f"SELinux is {seen.mode}")
    if not seen.has_module:
        return warning(
            "cannot be sure that a container may read models and use NPUs: SELinux is enforcing, "
            "and the module of deepseek-agent is not in force",
            "dnf install deepseek-agent-selinux; where it is installed: restorecon -RF "
            "/var/lib/deepseek /dev; what was denied: ausearch -m avc -ts recent",
        )
    return ok("SELinux is enforcing, with the module of deepseek-agent")


def clock(checkup: Checkup) -> Verdict:
    seen = need(checkup.clock)
    now = day(seen.now)
    if seen.built_at is not None and seen.now < seen.built_at:
        return error(
            f"cannot trust the clock: it says {now}, and the package was made on "
            f"{day(seen.built_at)}; certificates are refused then",
            "set it: timedatectl set-time, or: systemctl enable --now chronyd",
        )
    if seen.synchronized is None:
        return skipped(f"the kernel does not say whether the clock is synchronized; it is {now}")
    if not seen.synchronized:
        return warning(
            f"cannot trust the clock for long: nothing synchronizes it (it says {now})",
            "systemctl enable --now chronyd; see: timedatectl",
        )
    return ok(f"synchronized, {now}")


def disk_room(checkup: Checkup) -> Verdict:
    """What the agent itself would call low."""
    seen = need(checkup.disks)
    keep = DEFAULT_KEEP_FREE_GIB
    if isinstance(checkup.config, Config):
        keep = checkup.config.supply.keep_free_gib
    disks = judge((), seen, keep * GIB)
    low = [disk for disk in disks if disk.is_low]
    if not disks:
        return error("cannot look at any disk: none answers", "see: df -h, findmnt, dmesg")
    if low:
        told = some(
            f"{one.place} has {gib(one.free_bytes)} of {gib(one.size_bytes)} GiB free, "
            f"{gib(one.mark_bytes)} are to be"
            for one in low
        )
        full = any(one.free_bytes < one.mark_bytes / 20 for one in low)
        found = f"cannot keep on writing for long: {told}"
        hint = "deepseekctl prune --dry-run shows what of ours can go; see: df -h, podman system df"
        return error(found, hint) if full else warning(found, hint)
    return ok(", ".join(f"{one.place}: {gib(one.free_bytes)} GiB free" for one in disks))
