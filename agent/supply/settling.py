# SPDX-License-Identifier: MulanPSL-2.0
"""A folder that somebody may still be filling: in the folder, out whether and how that shows.

rsync keeps the times that content had elsewhere, and writes beside the name that it gives in the
end; downloads do the same in folders of their own; cp and tar write in place, and set times last.
"""

import os
import re
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

TIMES_LIMIT = 400_000  # four of each entry; somebody may have put anything there
# aria2 (beside a file that has its full length), curl, browsers, huggingface_hub, rclone, ossutil
UNFINISHED = (".aria2", ".part", ".partial", ".incomplete", ".crdownload", ".temp", ".tmp")
# rsync(1), --temp-dir: .NAME.XXXXXX
_OF_RSYNC = re.compile(r"\.(.+\..+)\.[A-Za-z0-9]{6}")


def is_being_copied(folder: Path, settled_s: float) -> bool:
    """Whether anything in it, hidden or not, has changed so lately: content, or anything else."""
    return is_any_recent(islice(_times(folder), TIMES_LIMIT), settled_s, time.time())


def is_any_recent(times: Iterable[float], settled_s: float, now: float) -> bool:
    """Each for itself: one may lie far ahead, from a host whose clock did, and hides no other."""
    return any(abs(now - at) < settled_s for at in times)


def _times(folder: Path) -> Iterator[float]:
    for inner, folders, names in os.walk(folder):
        for path in (inner, *(os.path.join(inner, name) for name in (*folders, *names))):
            for look in (os.lstat, os.stat):
                try:
                    status = look(path)
                except OSError:  # renamed meanwhile, or a link that leads nowhere
                    continue
                yield from (status.st_mtime, status.st_ctime)


def find_unfinished(folder: Path) -> list[str]:
    """What names tell, however long ago it was left. Raises OSError."""
    entries = sorted(os.scandir(folder), key=lambda one: one.name)
    names = {one.name for one in entries}
    found = []
    for one in entries:
        if one.name.endswith(UNFINISHED) and not one.name.startswith("."):
            found.append(f"{one.name}: it has not come to its end")
        elif (part := _OF_RSYNC.fullmatch(one.name)) and part[1] not in names:
            found.append(f"{part[1]}: missing")
        elif one.is_symlink() and not os.path.exists(one.path):
            found.append(f"{one.name}: missing")
    return found
