# SPDX-License-Identifier: MulanPSL-2.0
"""Who has a folder mounted, or files of it open: in come folders, out the process of each.

By paths of mounts as the kernel tells them (proc_pid_mountinfo(5)), because a container sees a
model under another name than this host; by device and inode of open and mapped files for the same
reason. A file of any other file system is not looked at: that may be of a FUSE that is another
user's, or of an NFS whose server is gone, where stat(2) fails, or waits for ever.
"""

import errno
import os
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

PROC = Path("/proc")
MOUNTS = PROC / "self/mountinfo"
FILES_LIMIT = 100_000  # in the folders that are asked about
# proc_pid_maps(5): address, permissions, offset, device, inode
_MAPPED = re.compile(rb"^\S+ \S+ \S+ ([0-9a-f]+):([0-9a-f]+) ([1-9][0-9]*) ", re.MULTILINE)
# proc_pid_fdinfo(5); of the host as a whole, whoever's namespace it is mounted in
_MOUNT_ID = re.compile(rb"^mnt_id:\s*([0-9]+)$", re.MULTILINE)
# Their files have another device in maps than for stat (btrfs: of the whole, and of a subvolume).
OTHER_DEVICES = ("btrfs", "bcachefs", "overlay")
_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class _Mount:
    """A line of mountinfo."""

    number: int
    device: int
    root: str  # of what of its file system is seen
    place: str
    kind: str  # empty: unknown


@dataclass
class _Asked:
    """What is looked for."""

    suffixes: dict[str, Path]  # the end of a mount's root -> the folder
    inodes: dict[tuple[int, int], Path] = field(default_factory=dict)
    devices: set[int] = field(default_factory=set)
    numbers: dict[int, Path] = field(default_factory=dict)  # of those that maps tell otherwise

    def below(self, path: str) -> set[Path]:
        """Those that it is, or lies in."""
        return {
            folder
            for suffix, folder in self.suffixes.items()
            if f"{suffix}/" in f"{path}/" or path.endswith(f"{suffix}//deleted")
        }

    def may_be_on(self, mount: _Mount) -> bool:
        is_other = mount.kind in (*OTHER_DEVICES, "")
        return mount.device in self.devices or (is_other and bool(self.numbers))


def find_users(
    folders: Mapping[Path, str], proc: Path = PROC, mounts: Path = MOUNTS
) -> dict[Path, str]:
    """`folders`: each with the end of its path that no other has (".store/8b/abc"). Out: why it is
    in use. Raises OSError when a process that lives cannot be looked at."""
    asked = _Asked({f"/{suffix}": folder for folder, suffix in folders.items()})
    _index(folders, asked, _same_devices(mounts))
    looking = _Looking(asked)
    users: dict[Path, str] = {}
    pids = sorted(int(name) for name in os.listdir(proc) if name.isdecimal())
    # What a process has open may be mounted in the namespace of another one only.
    for look in (looking.mounted, looking.used):
        for pid in pids:
            for folder in _of_threads(proc / str(pid), look):
                users.setdefault(folder, f"process {pid}")
    return users


def _same_devices(mounts: Path) -> frozenset[int]:
    """Of file systems that are called the same everywhere. Raises OSError."""
    return frozenset(
        one.device for one in _read_mounts(mounts) if one.kind not in (*OTHER_DEVICES, "")
    )


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
                asked.devices.add(status.st_dev)
                if status.st_dev not in same_devices:
                    asked.numbers[status.st_ino] = folder


def _of_threads(process: Path, look: Callable[[Path], set[Path]]) -> set[Path]:
    """Of a leader that has exited nothing is told, while its other threads may go on."""
    try:
        return look(process)
    except (FileNotFoundError, ProcessLookupError):
        pass
    found: set[Path] = set()
    with suppress(FileNotFoundError, ProcessLookupError):  # all of it has ended
        for thread in os.listdir(process / "task"):
            with suppress(FileNotFoundError, ProcessLookupError):
                found |= look(process / "task" / thread)
    return found


class _Looking:
    """At one process after the other."""

    def __init__(self, asked: _Asked) -> None:
        self._asked = asked
        self._views: dict[tuple[str, str], tuple[_Mount, ...]] = {}
        self._ours: dict[int, bool] = {}  # by number of a mount

    def mounted(self, process: Path) -> set[Path]:
        """What is mounted somewhere, and where somebody has mounted something. Each namespace
        once: on a host with many processes most share one."""
        seen = len(self._views)
        mounts = self._view(process)
        if len(self._views) == seen:
            return set()
        paths = {path for one in mounts for path in (one.root, one.place)}
        return {folder for path in paths for folder in self._asked.below(path)}

    def used(self, process: Path) -> set[Path]:
        found = self.mounted(process) | self._mapped(process)
        for name in os.listdir(process / "fd"):
            found |= self._opened(process, name)
        return found | self._stands(process, "cwd") | self._stands(process, "root")

    def _view(self, process: Path) -> tuple[_Mount, ...]:
        """As a process sees it: without what is mounted outside of its root."""
        key = os.readlink(process / "ns/mnt"), _readlink(process / "root")
        if key not in self._views:
            mounts = tuple(_read_mounts(process / "mountinfo"))
            self._ours.update((one.number, self._asked.may_be_on(one)) for one in mounts)
            self._views[key] = mounts
        return self._views[key]

    def _mapped(self, process: Path) -> set[Path]:
        asked, found = self._asked, set()
        for major, minor, inode in set(_MAPPED.findall((process / "maps").read_bytes())):
            file = (os.makedev(int(major, 16), int(minor, 16)), int(inode))
            if folder := asked.inodes.get(file) or asked.numbers.get(file[1]):
                found.add(folder)
        return found

    def _opened(self, process: Path, name: str) -> set[Path]:
        """What is mounted nowhere (a socket, a pipe, an NFS after `umount -l`) is not ours."""
        try:
            told = _MOUNT_ID.search((process / "fdinfo" / name).read_bytes())
            if told is not None and not self._ours.get(int(told[1]), False):
                return set()
            status = os.stat(process / "fd" / name)
        except FileNotFoundError:  # closed meanwhile
            return set()
        folder = self._asked.inodes.get((status.st_dev, status.st_ino))
        return {folder} if folder else set()

    def _stands(self, process: Path, name: str) -> set[Path]:
        """Of these no number of a mount is told: by the path in the file system."""
        path = _readlink(process / name)
        found = self._asked.below(path)
        mounts = reversed(self._view(process))  # what is mounted over another comes later
        above = [one for one in mounts if f"{path}/".startswith(f"{one.place.rstrip('/')}/")]
        if inner := max(above, key=lambda one: len(one.place), default=None):
            rest = path.removeprefix(inner.place.rstrip("/"))
            found |= self._asked.below(f"{inner.root.rstrip('/')}{rest}")
        return found


def _readlink(link: Path) -> str:
    """Empty where there is none, as of a kernel thread, and for a path that is longer than any of
    ours."""
    try:
        return os.readlink(link)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENAMETOOLONG):
            return ""
        raise


def _read_mounts(file: Path) -> list[_Mount]:
    """Raises OSError."""
    found = []
    for line in file.read_text(errors="surrogateescape").splitlines():
        fields = line.split(" ")
        if len(fields) > 4:
            major, _, minor = fields[2].partition(":")
            kind = fields[fields.index("-") + 1] if "-" in fields else ""
            device = os.makedev(int(major), int(minor))
            root, place = _plain(fields[3]), _plain(fields[4])
            found.append(_Mount(int(fields[0]), device, root, place, kind))
    return found


def _plain(escaped: str) -> str:
    """Blanks and the like are octal there."""
    return _ESCAPE.sub(lambda found: chr(int(found[1], 8)), escaped)
