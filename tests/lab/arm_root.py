# SPDX-License-Identifier: MulanPSL-2.0
"""An arm64 root of Debian bookworm (Python 3.11, as openEuler), which qemu-user runs on x86_64.

In: the machine's apt sources and pip. Out: the root, kept like those of the lab hosts, and the
tools of the tests as wheels for aarch64. qemu's user mode translates one process; the kernel, its
namespaces and /proc stay the machine's.
"""

import os
import sys
from pathlib import Path

from .cache import build_key, ensure_built
from .machine import MachineUnfit, install
from .process import run_command
from .rootfs import Recipe, copy_kept, run_mmdebstrap
from .vllm_env import PIP

ARCH = "aarch64"
TREE = Path(__file__).resolve().parents[2]
DEV_LOCK = TREE / "requirements-dev.lock"
# What the unit suite runs, besides Python.
PACKAGES = (
    *("python3", "rpm", "systemd", "dbus", "procps", "podman", "openssh-client", "openssl"),
    *("zstd", "gcc", "libc6-dev", "ca-certificates", "curl"),
)
SCRIPT = r"""
set -eu
root=$1
rm -rf "$root/etc/apt/apt.conf.d/99mmdebstrap" "$root/var/log/apt"
install -d "$root/etc/rpm"
printf '%%_dbpath /var/lib/rpm\n' > "$root/etc/rpm/macros"
printf 'disable *\n' > "$root/usr/lib/systemd/system-preset/99-default-disable.preset"
chroot "$root" rpm --initdb
"""
RECIPE = Recipe("bookworm", PACKAGES, SCRIPT)
NAME = f"root-{ARCH}"
BINFMT = Path("/proc/sys/fs/binfmt_misc")
HANDLER = "qemu-aarch64"
HANDLER_FILE = Path(f"/usr/lib/binfmt.d/{HANDLER}.conf")
PLATFORMS = ("manylinux_2_28", "manylinux_2_17", "manylinux2014")
PIP_LIMIT_S = 600


def prepare_emulation() -> None:
    """The kernel hands programs for arm64 to qemu, by the entry that Debian's package has. The
    entry stays until the next boot; F in its flags: qemu is found in any root."""
    if os.uname().machine == ARCH:
        return
    if not HANDLER_FILE.exists():
        install(["qemu-user-static", "arch-test"])
    if not (BINFMT / "register").exists():
        run_command(["mount", "-t", "binfmt_misc", "binfmt_misc", str(BINFMT)])
    if not (BINFMT / HANDLER).exists():
        (BINFMT / "register").write_text(HANDLER_FILE.read_text().strip())
    if run_command(["arch-test", "arm64"], check=False).returncode != 0:
        raise MachineUnfit("programs for arm64 do not run, in spite of qemu-user-static")


def ensure_root() -> Path:
    prepare_emulation()

    def build(target: Path) -> None:
        run_mmdebstrap(RECIPE, target, "--architectures=arm64")

    return ensure_built(NAME, build_key(RECIPE), build)


def copy_root(target: Path) -> None:
    copy_kept(NAME, ensure_root, target)


def ensure_tools() -> Path:
    """A folder with pytest and the other tools of requirements-dev.lock, for Python 3.11."""

    def build(target: Path) -> None:
        platforms = [f"--platform={platform}_{ARCH}" for platform in PLATFORMS]
        run_command(
            [
                *(*PIP, "install", "--quiet", "--no-deps", "--require-hashes", "--no-compile"),
                *("--only-binary=:all:", "--implementation=cp", "--python-version=3.11"),
                *("--abi=cp311", "--abi=abi3", "--abi=none", *platforms),
                *(f"--target={target}", f"--requirement={DEV_LOCK}"),
            ],
            timeout_s=PIP_LIMIT_S,
        )

    return ensure_built(f"tools-{ARCH}", build_key(DEV_LOCK.read_bytes(), sys.version), build)
