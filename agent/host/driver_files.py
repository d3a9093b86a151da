# SPDX-License-Identifier: MulanPSL-2.0
"""What the driver's package has left on the disk, its nodes in /dev, and the firmware of each card.

A node is never opened: opening a davinci device occupies it (facts: ascend, 1.6). npu-smi does,
so only root in the host's own mount namespace may run it.
"""

import grp
import os
import pwd
import re
import stat
from collections.abc import Sequence
from pathlib import Path

from agent.doctor.looks import DriverFiles, Firmware, Node
from agent.host.process import run

NAME = re.compile(r"davinci[0-9]{1,4}|davinci_manager|devmm_svm|hisi_hdc")
PLACES = ("/usr/local/bin/npu-smi", "/usr/local/sbin/npu-smi", "/usr/bin/npu-smi")
VERSION = "usr/local/Ascend/driver/version.info"
INSTALLED = "etc/ascend_install.info"
# As npud gives it to npu-smi (npud/smi_run.py): the loader finds the driver's libraries there.
LIBRARIES = (
    "/usr/local/Ascend/driver/lib64:/usr/local/Ascend/driver/lib64/common"
    ":/usr/local/Ascend/driver/lib64/driver:/usr/local/dcmi"
)


def read_driver_files(driver_paths: Sequence[str], root: Path = Path("/")) -> DriverFiles:
    """`root`: a test's stand-in for the whole file system."""
    return DriverFiles(
        nodes=tuple(_nodes(root / "dev")),
        version=_value(root / VERSION, "Version"),
        install_status=_value(root / INSTALLED, "Driver_Install_Status"),
        paths=tuple(one for one in driver_paths if (root / one.lstrip("/")).exists()),
        npu_smi=next((one for one in PLACES if os.access(root / one.lstrip("/"), os.X_OK)), ""),
    )


def _nodes(folder: Path) -> list[Node]:
    found = []
    for name in sorted(os.listdir(folder), key=lambda one: (len(one), one)):
        if not NAME.fullmatch(name):
            continue
        try:
            status = os.stat(folder / name)
        except OSError:
            continue
        found.append(
            Node(
                f"/dev/{name}",
                stat.S_ISCHR(status.st_mode),
                stat.S_IMODE(status.st_mode),
                _user(status.st_uid),
                _group(status.st_gid),
            )
        )
    return found


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def _value(path: Path, key: str) -> str:
    """Of a file of KEY=VALUE lines; empty when it does not say."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    values = (line.partition("=")[2].strip() for line in lines if line.startswith(f"{key}="))
    return next(values, "")


def is_in_hosts_namespace(proc: Path = Path("/proc")) -> bool:
    """Whether this process has the mount namespace of PID 1; False where that cannot be told."""
    try:
        return os.readlink(proc / "self/ns/mnt") == os.readlink(proc / "1/ns/mnt")
    except OSError:
        return False


async def read_firmware(
    npu_smi: str, cards: Sequence[int], deadline_s: float
) -> tuple[Firmware, ...]:
    """One after the other, as npud asks: the driver answers one at a time."""
    found = []
    for card in cards:
        done = await run(
            (npu_smi, "info", "-t", "board", "-i", str(card)),
            deadline_s=deadline_s,
            environment={"LANG": "C", "LD_LIBRARY_PATH": LIBRARIES},
        )
        if done.status is None:
            raise TimeoutError
        found.append(parse_board(card, done.output))
    return tuple(found)


def parse_board(card: int, text: str) -> Firmware:
    """`npu-smi info -t board`: "	Firmware Version               : 7.8.0.6.201"."""
    pairs = (line.partition(":") for line in text.splitlines()[:100])
    values = {name.strip(): value.strip()[:80] for name, _, value in pairs}
    return Firmware(card, values.get("Firmware Version", ""), values.get("Compatibility", ""))
