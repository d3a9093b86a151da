# SPDX-License-Identifier: MulanPSL-2.0
"""How a host is started: systemd-nspawn's command line and environment for each flavour."""

import io
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from .process import CONTAINED
from .rootfs import LEGACY_INIT, Flavour

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/root",
    "TERM": "dumb",
}
OPTIONS = (
    *("--register=no", "--keep-unit", "--private-network", "--capability=all"),
    *("--system-call-filter=@known", "--link-journal=no", "--resolv-conf=off", "--timezone=off"),
)
LEGACY_KERNEL_LINE = "systemd.unified_cgroup_hierarchy=0"


def build_command(
    flavour: Flavour, root: Path, name: str, binds: Sequence[tuple[str, str]] = ()
) -> list[str]:
    # SIGKILL to systemd-nspawn alone would leave alive all that runs inside (seen with systemd
    # 252); as PID 1 of a namespace of its own it takes everything with it.
    nspawn = ["systemd-nspawn", *OPTIONS, f"--directory={root}", f"--hostname={name}"]
    mounts = [f"--bind-ro={here}:{inside}" for here, inside in binds]
    command = [*CONTAINED, *nspawn, *mounts]
    match flavour:
        case Flavour.MODERN:
            return [*command, "--boot"]
        case Flavour.LEGACY:  # what --boot would do, with our init before systemd
            return [*command, "--kill-signal=SIGRTMIN+3", LEGACY_INIT, LEGACY_KERNEL_LINE]


def build_environment(flavour: Flavour) -> Mapping[str, str]:
    unified = "1" if flavour is Flavour.MODERN else "0"
    return {
        **ENVIRONMENT,
        "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": unified,
        "SYSTEMD_NSPAWN_USE_CGNS": "1",
    }


def pack(source: Path, name: str) -> bytes:
    """A tarball of a file or folder under another name, owned by root, without bytecode."""

    def as_root(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if "__pycache__" in info.name:
            return None
        info.uid = info.gid = 0
        info.uname = info.gname = "root"
        return info

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(source, name, filter=as_root)
    return packed.getvalue()
