# SPDX-License-Identifier: MulanPSL-2.0
"""Facts of the machine: `ports.Machine` from /proc, /sys and the model's directory. Read-only."""

import hashlib
import os
import platform
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import msgspec

from agent.decoding import decode_json
from agent.facts import FileFacts, HostFacts, Listener, ModelFacts, ProcessFacts
from agent.host.reading import read_regular
from agent.host.secrets import why_unusable
from agent.ports import FileKind
from agent.supplies import revision_folder

KERNEL_THREAD = 0x00200000  # PF_KTHREAD, include/linux/sched.h; flags are field 9 of proc(5)'s stat
LISTENING = "0A"  # TCP_LISTEN, include/net/tcp_states.h
# containers.conf(5), helper_binaries_dir: where Podman looks for catatonit by default.
HELPER_FOLDERS = (
    "/usr/local/libexec/podman",
    "/usr/local/lib/podman",
    "/usr/libexec/podman",
    "/usr/lib/podman",
)
WEIGHTS = (".safetensors", ".bin")
# What is left when the last write did not fit may be somewhat less than what it needed.
LEAST_ROOM_BYTES = 2**20


Heads = Annotated[int, msgspec.Meta(gt=0, le=2**20)]  # more fit into no answer of the agent's


class _ModelConfig(msgspec.Struct):
    """The part of a Hugging Face config.json that planning needs."""

    num_attention_heads: Heads
    num_key_value_heads: Heads | None = None


class LocalMachine:
    """This host."""

    def facts(self, podman_version: tuple[int, int, int], driver_paths: Sequence[str]) -> HostFacts:
        return HostFacts(
            cgroup_version=cgroup_version(),
            podman_version=podman_version,
            cpu_cores=os.cpu_count() or 1,
            ram_mib=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20,
            architecture=platform.machine(),
            driver_paths=tuple(path for path in driver_paths if Path(path).exists()),
            container_init=any(Path(folder, "catatonit").exists() for folder in HELPER_FOLDERS),
            pids_controller=has_pids_controller(),
        )

    def model(self, directory: str, revision: str = "") -> ModelFacts:
        """Heads from config.json, and whether there are weights beside it."""
        folder = Path(directory)
        disk_mib = _disk_mib(folder)
        in_use = _revision(folder)
        if in_use and revision and os.path.isdir(revision_folder(directory, revision)):
            folder, in_use = Path(revision_folder(directory, revision)), revision

        def bad(problem: str, present: bool = True) -> ModelFacts:
            return ModelFacts(directory, 0, problem, present, disk_mib=disk_mib, revision=in_use)

        try:
            files = _read_files(folder)
            config = decode_json(read_regular(folder / "config.json"), _ModelConfig)
        except OSError as error:
            if not os.path.isdir(folder):  # False also where nothing may be looked at
                return bad("there is no such directory", present=False)
            return bad(f"cannot read {Path(str(error.filename)).name}: {error.strerror}")
        except ValueError as error:
            return bad(f"config.json is damaged: {error}")
        sizes = [size for name, size, _ in files if name.endswith(WEIGHTS)]
        if not sizes:
            return bad("there are no weights (*.safetensors)")
        return ModelFacts(
            directory,
            config.num_attention_heads,
            kv_heads=config.num_key_value_heads or 0,
            disk_mib=disk_mib,
            weights_mib=sum(sizes) // 2**20,
            identity=hashlib.sha256(repr(files).encode()).hexdigest(),
            revision=in_use,
        )

    def processes(self, pids: Sequence[int]) -> Sequence[ProcessFacts]:
        """One that has ended, or of which only the entry is left (a zombie), is not listed."""
        return [found for pid in pids if (found := read_process(pid)) is not None]

    def listeners(self) -> Sequence[Listener]:
        found: set[Listener] = set()
        for table in ("tcp", "tcp6"):
            with suppress(OSError), open(f"/proc/net/{table}", encoding="ascii") as lines:
                found.update(parse_listeners(lines))
        return sorted(found, key=lambda one: (one.port, one.address))

    def file(self, path: str, kind: FileKind) -> FileFacts:
        return FileFacts(path, why_unusable(path, kind))

    def has_room(self, folder: str) -> bool:
        try:
            status = os.statvfs(folder)
        except OSError:
            return True  # another trouble, which has a name of its own
        room_bytes = status.f_bfree * status.f_frsize
        # Some file systems count no inodes.
        return room_bytes >= LEAST_ROOM_BYTES and (status.f_files == 0 or status.f_ffree > 0)


def _revision(folder: Path) -> str:
    """Where the link leads that `supply` makes (its place.py): .store/NAME/REVISION."""
    try:
        store, name, revision = os.readlink(folder).split("/")
    except (OSError, ValueError):
        return ""
    return revision if (store, name) == (".store", folder.name) else ""


def _read_files(folder: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of change of each, sorted; of one that cannot be looked at its name."""
    found = []
    for entry in os.scandir(folder):
        size, changed_at = 0, 0
        with suppress(OSError):
            status = entry.stat()
            size, changed_at = status.st_size, status.st_mtime_ns
        found.append((entry.name, size, changed_at))
    return sorted(found)


def read_process(pid: int, proc: Path = Path("/proc")) -> ProcessFacts | None:
    """None when it does not live. A leader that has exited while a thread of it hangs in the kernel
    still holds what it held, and counts."""
    folder = proc / str(pid)
    try:
        fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
        state, flags = fields[0], int(fields[6])
        threads = len(os.listdir(folder / "task"))
        cgroup = (folder / "cgroup").read_text(errors="replace")
    except (OSError, IndexError, ValueError):
        return None
    if flags & KERNEL_THREAD:
        return None  # it has no memory of its own: the driver means a pid of another namespace
    return None if state in ("Z", "X") and threads <= 1 else ProcessFacts(pid, cgroup)


def parse_listeners(lines: Iterator[str]) -> Iterator[Listener]:
    """/proc/net/tcp and tcp6: `sl local_address rem_address st ...`; an address is in 32-bit words
    of the machine's byte order, each in hexadecimal."""
    for line in lines:
        fields = line.split()
        if len(fields) < 4 or fields[3] != LISTENING:
            continue
        address, _, port = fields[1].partition(":")
        words = [int(address[at : at + 8], 16) for at in range(0, len(address), 8)]
        packed = struct.pack(f"={len(words)}I", *words)
        family = socket.AF_INET if len(words) == 1 else socket.AF_INET6
        yield Listener(socket.inet_ntop(family, packed), int(port, 16))


def _disk_mib(folder: Path) -> int:
    """Size of the file system that holds `folder`, or would; 0 when it cannot be told."""
    for place in (folder, *folder.parents):
        with suppress(OSError):
            status = os.statvfs(place)
            return status.f_blocks * status.f_frsize // 2**20
    return 0


def read_forwarding(address: str, proc: Path = Path("/proc")) -> bool | None:
    """Whether the kernel forwards packets of other hosts to an address of that kind; None when it
    cannot be told."""
    name = "ipv6/conf/all/forwarding" if ":" in address else "ipv4/ip_forward"
    try:
        return (proc / "sys/net" / name).read_text(encoding="ascii").strip() != "0"
    except (OSError, ValueError):
        return None


def read_boot_id() -> str:
    """Another one with each boot; empty when it cannot be told."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def cgroup_version(root: Path = Path("/sys/fs/cgroup")) -> int:
    """2 when the unified hierarchy is mounted there, else 1 (also for systemd's hybrid mode,
    in which Podman uses the v1 controllers)."""
    return 2 if (root / "cgroup.controllers").exists() else 1


def has_pids_controller(root: Path = Path("/sys/fs/cgroup")) -> bool:
    """Without it crun and runc refuse a container that has a limit (docs/doctor.md, cgroup)."""
    try:
        return "pids" in (root / "cgroup.controllers").read_text(encoding="ascii").split()
    except FileNotFoundError:
        return (root / "pids").is_dir()
    except OSError:
        return False
