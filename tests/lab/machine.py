# SPDX-License-Identifier: MulanPSL-2.0
"""What the machine must have for the lab: checked, and installed by apt-get where that is possible.

Run as `python3 -m tests.lab check`: exit status 2 and one line for each thing that is missing.
"""

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from .process import LabError, run_command

APT_LIMIT_S = 1200
# What is looked for -> the Debian package that has it.
TOOLS = {
    "mmdebstrap": "mmdebstrap",
    "systemd-nspawn": "systemd-container",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "rpm": "rpm",
    "rpmbuild": "rpm",
    "createrepo_c": "createrepo-c",
    "cc": "gcc",
    "mkfs.ext4": "e2fsprogs",
    "debugfs": "e2fsprogs",
    "strace": "strace",
}
C_HEADER = Path("/usr/include/stdlib.h")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
TRIXIE_KEYS = Path("/usr/share/keyrings/debian-archive-trixie-automatic.gpg")
LISTS = Path("/var/lib/apt/lists")
NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "uts")


class MachineUnfit(LabError):
    """Something is missing that the lab cannot bring."""


def list_missing_packages() -> list[str]:
    missing = {package for tool, package in TOOLS.items() if shutil.which(tool) is None}
    if not TRIXIE_KEYS.exists():
        missing.add("debian-archive-keyring")
    if not C_HEADER.exists():
        missing.add("libc6-dev")
    return sorted(missing)


def list_unfit() -> list[str]:
    """What no package can mend, in words."""
    unfit = []
    if os.geteuid() != 0:
        unfit.append("root: the lab mounts, makes device nodes and enters namespaces")
    unfit += [
        f"{name} namespaces in the kernel"
        for name in NAMESPACES
        if not Path(f"/proc/self/ns/{name}").exists()
    ]
    filesystems = Path("/proc/filesystems").read_text().split()
    if not {"cgroup", "cgroup2"} & set(filesystems):
        unfit.append("control groups in the kernel")
    if "overlay" not in filesystems:
        unfit.append("overlay file systems in the kernel (Podman's storage)")
    return unfit


def try_namespaces() -> None:
    """Many containers are refused new namespaces, whatever the kernel has: tried, not guessed."""
    with tempfile.TemporaryDirectory(prefix="deepseek-lab-") as folder:
        inside = f"mount -t tmpfs lab {folder} && mknod {folder}/null c 1 3 && : > {folder}/null"
        done = run_command(
            [
                *("unshare", "--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup", "--fork"),
                *("--mount-proc", "/bin/sh", "-c", inside),
            ],
            check=False,
        )
    if done.returncode != 0:
        raise MachineUnfit(f"cannot enter new namespaces: {done.stderr.strip()}")


def apt_environment() -> Mapping[str, str]:
    return {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}


def apt_get(*arguments: str) -> None:
    run_command(["apt-get", "-qq", *arguments], timeout_s=APT_LIMIT_S, env=apt_environment())


def install(packages: list[str]) -> None:
    if shutil.which("apt-get") is None:
        raise MachineUnfit(f"missing, and no apt-get to install them: {' '.join(packages)}")
    try:
        if not any(LISTS.glob("*_Packages*")):
            apt_get("update")
        try:
            apt_get("install", "-y", "--no-install-recommends", *packages)
        except LabError:  # the lists may be older than the mirror
            apt_get("update")
            apt_get("install", "-y", "--no-install-recommends", *packages)
    except LabError as error:
        raise MachineUnfit(f"cannot install {' '.join(packages)}: {error}") from error


def prepare_machine() -> None:
    """Makes the machine fit for the lab, or raises MachineUnfit with all that is missing."""
    unfit = list_unfit()
    if unfit:
        raise MachineUnfit("missing: " + "; ".join(unfit))
    packages = list_missing_packages()
    if packages:
        install(packages)
        still = list_missing_packages()
        if still:
            raise MachineUnfit(f"still missing after installation: {' '.join(still)}")
    try_namespaces()
