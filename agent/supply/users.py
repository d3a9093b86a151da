# SPDX-License-Identifier: MulanPSL-2.0
"""Who has a folder mounted, or files of it open: in come folders, out the process of each.

By paths of mounts as the kernel tells them (proc_pid_mountinfo(5)), because a container sees a
model under another name than this host; by device and inode of open and mapped files for the same
reason.
"""

import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

PROC = Path("/proc")
MOUNTS = PROC / "self/mountinfo"
FILES_LIMIT = 100_000  # in the folders that are asked about
# proc_pid_maps(5): address, permissions, offset, device, inode
_MAPPED = re.compile(rb"^\S+ \S+ \S+ ([0-9a-f]+):([0-9a-f]+) ([1-9][0-9]*) ", re.MULTILINE)
# Their files have another device in maps than for stat (btrfs: of the whole, and of a subvolume).
OTHER_DEVICES = ("btrfs", "bcachefs", "overlay")
_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass
class _Asked:
    """What is looked for."""

    suffixes: dict[str, Path]  # the end of a mount's root -> the folder
    inodes: dict[tuple[int, int], Path] = field(default_factory=dict)
    numbers: dict[int, Path] = field(default_factory=dict)  # of those that maps tell otherwise


def find_users(
    folders: Mapping[Path, str], proc: Path = PROC, mounts: Path = MOUNTS
) -> dict[Path, str]:
    """`folders`: each with the end of its path that no other has (".store/8b/abc"). Out: why it is
    in use. Raises OSError when a process that lives cannot be looked at."""
    asked = _Asked({f"/{suffix}": folder for folder, suffix in folders.items()})
    _index(folders, asked, _same_devices(mounts))
    users: dict[Path, str] = {}
    seen_mounts: set[str] = set()
    for pid in sorted(int(name) for name in os.listdir(proc) if name.isdecimal()):
        for folder in _of_threads(proc / str(pid), asked, seen_mounts):
            users.setdefault(folder, f"process {pid}")
    return users


def _same_devices(mounts: Path) -> frozenset[int]:
    """Of file systems that are called the same everywhere. Raises OSError."""
    found = set()
    for line in mounts.read_text(errors="surrogateescape").splitlines():
        fields = line.split(" ")
        kind = fields[fields.index("-") + 1] if "-" in fields else ""
        if kind not in (*OTHER_DEVICES, ""):
            major, _, minor = fields[2].partition(":")
            found.add(os.makedev(int(major), int(minor)))
    return frozenset(found)


def _index(folders: Iterable[Path], asked: _Asked, same_devices: frozenset[int]) -> None:
    left = FILES_LIMIT
    for folder in folders:
        for inner, _, names in os.walk(folder):
            for path in (inner, *(os.path.join(inner, name) for name in names)):
                left -= 1
                if left < 0:
                    raise OSError(f"there are more than {FILES_LIMIT} files in {folder}")
                status = os.lstat(path)
                asked.inodes[status.st_dev, status.st_ino] = folder
                if status.st_dev not in same_devices:
                    asked.numbers[status.st_ino] = folder


def _of_threads(process: Path, asked: _Asked, seen_mounts: set[str]) -> set[Path]:
    """Of a leader that has exited nothing is told, while its other threads may go on."""
    try:
        return _of_process(process, asked, seen_mounts)
    except (FileNotFoundError, ProcessLookupError):
        pass
    found: set[Path] = set()
    with suppress(FileNotFoundError, ProcessLookupError):  # all of it has ended
        for thread in os.listdir(process / "task"):
            with suppress(FileNotFoundError, ProcessLookupError):
                found |= _of_process(process / "task" / thread, asked, seen_mounts)
    return found


def _of_process(process: Path, asked: _Asked, seen_mounts: set[str]) -> set[Path]:
    found = _mounted(process, asked, seen_mounts) | _mapped(process, asked)
    for name in os.listdir(process / "fd"):
        found |= _opened(process / "fd" / name, asked)
    return found | _opened(process / "cwd", asked) | _opened(process / "root", asked)


def _mounted(process: Path, asked: _Asked, seen: set[str]) -> set[Path]:
    """Each namespace once: on a host with many processes most share one."""
    namespace = os.readlink(process / "ns/mnt")
    if namespace in seen:
        return set()
    text = (process / "mountinfo").read_text(errors="surrogateescape")
    seen.add(namespace)
    lines = [fields for line in text.splitlines() if len(fields := line.split(" ")) > 4]
    # What is mounted somewhere, and where somebody has mounted something.
    paths = {_plain(path) for fields in lines for path in fields[3:5]}
    return {
        folder
        for path in paths
        for suffix, folder in asked.suffixes.items()
        if f"{suffix}/" in f"{path}/" or path.endswith(f"{suffix}//deleted")
    }


def _mapped(process: Path, asked: _Asked) -> set[Path]:
    found = set()
    for major, minor, inode in set(_MAPPED.findall((process / "maps").read_bytes())):
        file = (os.makedev(int(major, 16), int(minor, 16)), int(inode))
        if folder := asked.inodes.get(file) or asked.numbers.get(file[1]):
            found.add(folder)
    return found


def _opened(link: Path, asked: _Asked) -> set[Path]:
    try:
        if not os.readlink(link).startswith("/"):
            return set()  # a socket, a pipe
        status = os.stat(link)
    except FileNotFoundError:  # closed meanwhile, or of a kernel thread
        return set()
    folder = asked.inodes.get((status.st_dev, status.st_ino))
    return {folder} if folder else set()


def _plain(escaped: str) -> str:
    """Blanks and the like are octal there."""
    return _ESCAPE.sub(lambda found: chr(int(found[1], 8)), escaped)
