# SPDX-License-Identifier: MulanPSL-2.0
"""Tells at once that names in a folder came or went: inotify(7), through ctypes.

The standard library has no inotify, and the driver may come a minute after boot or years later:
events cost nothing until then. Comes in: a folder. Goes out: the names with news.
"""

import ctypes
import errno
import os
import struct
from dataclasses import dataclass

IN_ATTRIB, IN_MOVED_FROM, IN_MOVED_TO = 0x4, 0x40, 0x80
IN_CREATE, IN_DELETE, IN_DELETE_SELF, IN_MOVE_SELF = 0x100, 0x200, 0x400, 0x800
IN_Q_OVERFLOW, IN_IGNORED, IN_ONLYDIR = 0x4000, 0x8000, 0x01000000

_WATCHED = IN_ATTRIB | IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE
_WATCHED |= IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR
_CAME_OR_WENT = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO
_HEADER = struct.Struct("iIII")  # wd, mask, cookie, length of the name that follows
_READ_BYTES = 16384


@dataclass(frozen=True, slots=True)
class Event:
    """News about a name: it came or went, or (udev touches nodes) only its attributes changed."""

    name: str
    came_or_went: bool


class InotifyLost(Exception):
    """Events were dropped, or the folder itself went away: look at everything again."""


class Inotify:
    """Watches one folder. Raises OSError where the kernel has no inotify to give."""

    def __init__(self, folder: str) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        # CLOEXEC and NONBLOCK are the same bits as for open(2) on every Linux.
        self._fd = int(libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))
        if self._fd < 0:
            raise _last_error("inotify_init1")
        if int(libc.inotify_add_watch(self._fd, os.fsencode(folder), _WATCHED)) < 0:
            error = _last_error(folder)
            self.close()
            raise error

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        os.close(self._fd)

    def read(self) -> list[Event]:
        """The news, [] when there is none; raises InotifyLost."""
        try:
            data = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return []
        return parse_events(data)


def parse_events(data: bytes) -> list[Event]:
    """What the kernel wrote; raises InotifyLost."""
    events: list[Event] = []
    offset = 0
    while offset + _HEADER.size <= len(data):
        _wd, mask, _cookie, length = _HEADER.unpack_from(data, offset)
        if mask & (IN_Q_OVERFLOW | IN_IGNORED | IN_DELETE_SELF | IN_MOVE_SELF):
            raise InotifyLost(hex(mask))
        start = offset + _HEADER.size
        name = os.fsdecode(data[start : start + length].rstrip(b"\0"))
        events.append(Event(name, bool(mask & _CAME_OR_WENT)))
        offset = start + length
    return events


def _last_error(what: str) -> OSError:
    code = ctypes.get_errno() or errno.EIO
    return OSError(code, os.strerror(code), what)
