# SPDX-License-Identifier: MulanPSL-2.0
"""What goes into a bundle: commands with their deadlines, and folders. What says most comes first,
as the bundle has a limit."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.support.clean import Kind

OWN_S = 20.0  # the agent, or a process of ours, on a host that is busy
COMMAND_S = 10.0
JOURNAL_S = 20.0
EVENTS_S = 20.0
SINCE = "-14days"  # as long as the agent keeps events
ETC = Path("etc/deepseek-agent")


@dataclass(frozen=True, slots=True)
class Command:
    """A program whose output becomes the file `name`; `of_engines`: it is their journal, from its
    end, and what the agent's own looks leave in it is not taken."""

    name: str
    about: str
    argv: tuple[str, ...]
    kind: Kind = Kind.TEXT
    limit_s: float = COMMAND_S
    of_engines: bool = False


@dataclass(frozen=True, slots=True)
class Files:
    """Files by a pattern below the root, to stand under `name`."""

    name: str
    about: str
    pattern: str
    kind: Kind
    newest_first: bool = False


def _ours(module: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-sPB", "-m", module, *arguments)


def _journal(*arguments: str) -> tuple[str, ...]:
    options = ("--no-pager", "--quiet", "--output=short-iso-precise")
    return ("journalctl", *options, *arguments)


def _of_units(lines: int, *units: str) -> tuple[str, ...]:
    chosen = (f"--unit={unit}" for unit in units)
    return _journal(f"--lines={lines}", f"--since={SINCE}", *chosen)


COMMANDS = (
    Command(
        "status.json",
        "deepseekctl status --json",
        _ours("agent.cli", "status", "--json"),
        Kind.JSON,
        OWN_S,
    ),
    Command(
        "npus.json",
        "deepseekctl npus --json",
        _ours("agent.cli", "npus", "--json"),
        Kind.JSON,
        OWN_S,
    ),
    Command(
        "config.json",
        "the configuration as it is understood",
        _ours("agent.config", "--show"),
        Kind.JSON,
        OWN_S,
    ),
    Command(
        "facts.json",
        "what a plan is made of",
        _ours("agent.preview", "facts", "--json"),
        Kind.JSON,
        3 * OWN_S,
    ),
    Command(
        "journal/agent.txt",
        "journal of the agent",
        _of_units(8000, "deepseek-agent.service", "deepseek-agent.socket"),
        limit_s=JOURNAL_S,
    ),
    Command(
        "journal/npud.txt",
        "journal of what asks the NPUs",
        _of_units(4000, "deepseek-npud.service"),
        limit_s=JOURNAL_S,
    ),
    Command(
        "journal/front.txt",
        "journal of the front units",
        _of_units(2000, "deepseek@*.service"),
        limit_s=JOURNAL_S,
    ),
    Command(
        "journal/engines.txt",
        "journal of the engines",
        (*_of_units(60_000, "deepseek-vllm-*.service"), "--reverse"),
        limit_s=JOURNAL_S,
        of_engines=True,
    ),
    Command(
        "journal/errands.txt",
        "journal of fetches, updates, evidence and pruning",
        _of_units(
            2000,
            *("deepseek-supply@*.service", "deepseek-switch@*.service"),
            *("deepseek-evidence@*.service", "deepseek-network@*.service"),
            "deepseek-prune.service",
        ),
        limit_s=JOURNAL_S,
    ),
    Command("kernel.txt", "the kernel about NPUs, memory and disks", ("dmesg", "-T"), Kind.KERNEL),
    Command(
        "systemd/status.txt",
        "systemctl status",
        ("systemctl", "--no-pager", "--full", "--all", "--lines=0", "status", "deepseek*"),
        Kind.UNITS,
    ),
    Command(
        "systemd/show.txt",
        "systemctl show",
        ("systemctl", "--no-pager", "show", "deepseek*"),
        Kind.UNITS,
    ),
    Command(
        "systemd/cat.txt",
        "the units with their drop-ins",
        ("systemctl", "--no-pager", "cat", "deepseek*"),
        Kind.UNITS,
    ),
    Command("podman/info.json", "podman info", ("podman", "info", "--format=json"), Kind.JSON),
    Command("podman/ps.json", "podman ps", ("podman", "ps", "--all", "--format=json"), Kind.JSON),
    Command(
        "podman/inspect.json",
        "the engines' containers",
        (
            *("sh", "-c"),
            "names=$(podman ps --all --filter=name=deepseek-vllm- --format='{{.Names}}') || exit; "
            '[ -z "$names" ] && echo "there is no container of an engine" || '
            "exec podman inspect $names",
        ),
        Kind.JSON,
    ),
    Command("podman/images.json", "the images", ("podman", "images", "--format=json"), Kind.JSON),
    Command(
        "versions.txt",
        "of what is installed",
        (
            *("sh", "-c"),
            "rpm -q deepseek-agent podman crun runc conmon systemd kernel selinux-policy; "
            "podman --version; systemctl --version; python3 --version; uname -a; "
            "cat /etc/os-release; stat -fc 'cgroup: %T' /sys/fs/cgroup; getenforce; "
            "cat /usr/local/Ascend/driver/version.info /etc/ascend_install.info",
        ),
    ),
    Command("disks.txt", "df", ("df", "-hT")),
    Command("memory.txt", "free", ("free", "-m")),
    Command("addresses.txt", "ip addr", ("ip", "addr")),
    Command("ports.txt", "who listens", ("ss", "-ltnp")),
    Command("devices.txt", "NPU device files", ("sh", "-c", "ls -l /dev/davinci* /dev/devmm_svm")),
    Command("npu-smi.txt", "npu-smi info", ("npu-smi", "info"), limit_s=OWN_S),
)

FILES = (
    Files("etc", "settings, without comments", "etc/deepseek-agent/**/*.toml", Kind.TOML),
    Files(
        "units/quadlet-run",
        "quadlets of the engines",
        "run/containers/systemd/deepseek-*.container",
        Kind.UNITS,
    ),
    Files(
        "units/quadlet-etc",
        "quadlets of the engines",
        "etc/containers/systemd/deepseek-*.container",
        Kind.UNITS,
    ),
    Files("units/run", "units of the engines", "run/systemd/system/deepseek-*.service", Kind.UNITS),
    Files(
        "evidence",
        "how engines were when they were ended",
        "var/lib/deepseek-agent/evidence/*.txt",
        Kind.TEXT,
        newest_first=True,
    ),
)


def find(files: Files, root: Path) -> Iterator[Path]:
    paths = [path for path in root.glob(files.pattern) if path.is_file()]
    if files.newest_first:
        # They end with the time at which they were written.
        return iter(sorted(paths, key=lambda path: path.stem.rpartition("-")[2], reverse=True))
    return iter(sorted(paths))
