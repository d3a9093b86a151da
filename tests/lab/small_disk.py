# SPDX-License-Identifier: MulanPSL-2.0
"""A small disk of a lab host: an ext4 in a file, so that it can be full, and what lies on it can be
old. The kernel sets a file's ctime, nobody else can; debugfs can, while nothing is mounted.
"""

import shlex
import time
from collections.abc import Mapping

from .host import LabHost
from .process import LabError, run_command

FILE = "/var/lib/lab-disk.ext4"
DAY_S = 86_400
LIMIT_S = 20
# Nodes that a host in a folder lacks; the loop devices are the machine's.
NODES = """
test -e /dev/loop-control || mknod /dev/loop-control c 10 237
for number in $(seq 0 31); do
    test -e /dev/loop$number || mknod /dev/loop$number b 7 $number
done
"""
# An agent that looks how full it is holds it for a moment. Mounts in other namespaces go with it.
UMOUNT = f"""
for try in $(seq 50); do umount "$1" && break; sleep 0.1; done
for try in $(seq 50); do
    test -z "$(losetup --associated {FILE})" && exit 0
    sleep 0.1
done
exit 1
"""


class SmallDisk:
    """Empty at first. `place`: where it is mounted."""

    def __init__(self, host: LabHost, place: str, mib: int) -> None:
        self._host, self._place = host, place
        self._file = host.root / FILE.removeprefix("/")
        run_command(["truncate", f"--size={mib}M", str(self._file)])
        # No reserve for root: what is free is free for all.
        run_command(["mkfs.ext4", "-q", "-m", "0", "-F", str(self._file)])
        host.run(["sh", "-c", NODES])
        host.run(["mkdir", "-p", place])
        self._mount()
        host.run(["rmdir", f"{place}/lost+found"])

    def age(self, days: Mapping[str, float]) -> None:
        """By path: so long ago it was changed, and all in it."""
        paths = {path: self._host.run(["find", path]).stdout.splitlines() for path in days}
        lines = []
        for path, inner in paths.items():
            at = int(time.time() - days[path] * DAY_S)
            for one in inner:
                name = one.removeprefix(self._place)
                lines += [f'sif "{name}" {field} @{at}' for field in ("ctime", "mtime")]
        self._host.run(["sh", "-c", UMOUNT, "sh", self._place], timeout_s=LIMIT_S)
        run_command(["debugfs", "-w", "-f", "/dev/stdin", str(self._file)], input="\n".join(lines))
        self._mount()
        for path, age in days.items():
            changed_at = int(self._host.run(["stat", "--format=%Z", path]).stdout)
            if abs(changed_at - (time.time() - age * DAY_S)) > DAY_S / 24:
                raise LabError(f"cannot make {path} older: its ctime is {changed_at}")

    def fill(self, name: str, mib: int) -> None:
        """With a file that has no content yet, and its room."""
        path = shlex.quote(f"{self._place}/{name}")
        self._host.run(["sh", "-c", f"fallocate --length={mib}M {path}"])

    def _mount(self) -> None:
        self._host.run(["mount", "-o", "loop", FILE, self._place])
