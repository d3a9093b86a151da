# SPDX-License-Identifier: MulanPSL-2.0
"""One lab host: a copy of a root file system, booted with systemd as PID 1.

In: a flavour, a name, a folder. Out: a running host to run commands in, to reboot and to break.
Everything of a host lives in one PID namespace, one set of control groups and one folder, so that
nothing of it can stay behind. Its state is on disk: another process can attach, enter and stop it.
"""

import contextlib
import os
import re
import secrets
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Self

from .cache import build_key, remove_tree
from .cgroups import create_groups, has_v1_controllers, joining, remove_group, shell_groups
from .machine import MachineUnfit
from .nspawn import ENVIRONMENT, build_command, build_environment, pack
from .process import Completed, LabError, read_start_time, run_command, wait_until_gone
from .release_agent import tell_of_empty_groups
from .rootfs import Flavour, copy_root
from .state import (
    Running,
    State,
    find_leader,
    list_children,
    read_state,
    start_guard,
    write_state,
)

BOOT_LIMIT_S = 60
STOP_LIMIT_S = 120
KILL_LIMIT_S = 10
# And its root and folder: in a chroot, the root is not that of the mount namespace.
NAMESPACES = ("-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w")
HAS_PIDS_CONTROLLER = (
    "grep -qsw pids /sys/fs/cgroup/cgroup.controllers || test -e /sys/fs/cgroup/pids/tasks"
)
NO_PIDS_LIMIT = "/etc/containers/containers.conf.d/lab-no-pids-limit.conf"
NO_BINDS: Mapping[Path, str] = MappingProxyType({})


class LabHost:
    def __init__(
        self,
        flavour: Flavour,
        name: str,
        base_dir: Path,
        binds: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self.flavour = flavour
        self.name = name
        self.binds = binds
        self.folder = base_dir.absolute() / name
        self.root = self.folder / "root"
        self.console = self.folder / "console.log"
        self._detached = True
        self._launcher: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    # --- life ---------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        flavour: Flavour,
        name: str,
        base_dir: Path,
        binds: Mapping[Path, str] = NO_BINDS,
    ) -> Self:
        """A fresh host, not booted. One of the same name that is not running is replaced.

        `binds`: folders of the machine, and where the host shall see them, read-only.
        """
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,39}", name):
            raise LabError(f"cannot name a host {name!r}: letters, digits and hyphens only")
        if flavour is Flavour.LEGACY and not has_v1_controllers():
            raise MachineUnfit("legacy hosts need a machine with its controllers on cgroup v1")
        mounts = tuple((str(here), inside) for here, inside in binds.items())
        host = cls(flavour, name, base_dir, mounts)
        if host.is_running():
            raise LabError(f"cannot create {name}: it runs already (stop it first)")
        if host.folder.exists() and read_state(host.folder) is None:
            raise LabError(f"cannot create {name}: {host.folder} is there and is no lab host")
        host.destroy()
        host.folder.mkdir(parents=True)
        write_state(host.folder, State(flavour, None, mounts))
        copy_root(flavour, host.root)
        (host.root / "etc/hostname").write_text(f"{name}\n")
        (host.root / "etc/machine-id").write_text(f"{secrets.token_hex(16)}\n")
        return host

    @classmethod
    def attach(cls, name: str, base_dir: Path) -> Self:
        """The host that another process created."""
        state = read_state(base_dir.absolute() / name)
        if state is None:
            raise LabError(f"cannot find host {name} in {base_dir}")
        return cls(state.flavour, name, base_dir, state.binds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.destroy()

    def boot(self, *, detached: bool = False) -> None:
        """Starts it and returns; see wait_booted. Unless detached, it ends with this process."""
        if self.is_running():
            raise LabError(f"cannot boot {self.name}: it runs already")
        groups = create_groups(f"deepseek-lab-{self.name}-{build_key(str(self.folder))}")
        if self.flavour is Flavour.LEGACY:
            tell_of_empty_groups(groups)
        with self.console.open("ab") as console:
            self._launcher = subprocess.Popen(
                joining(groups, build_command(self.flavour, self.root, self.name, self.binds)),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                env=build_environment(self.flavour),
                start_new_session=True,
            )
        self._detached = detached
        pid = self._launcher.pid
        if not detached:
            self._guard = start_guard(pid, groups)
        running = Running(pid, read_start_time(pid) or 0, tuple(groups))
        write_state(self.folder, State(self.flavour, running, self.binds))

    def wait_booted(self, timeout_s: float = BOOT_LIMIT_S) -> None:
        """Until multi-user.target is reached; jobs that need longer (a model loads) may be left."""
        deadline = time.monotonic() + timeout_s
        while (reason := self._why_not_booted()) is not None:
            if not self.is_running():
                raise LabError(f"{self.name} died while booting: {self.read_console()}")
            if time.monotonic() > deadline:
                raise LabError(
                    f"{self.name} not booted after {timeout_s} s: {reason}\n{self.read_console()}"
                )
            time.sleep(0.1)
        self._adapt_podman()

    def shutdown(self, timeout_s: float = STOP_LIMIT_S) -> float:
        """Clean power-off; the seconds it took. Past the limit: power cut, and LabError."""
        return self._leave("poweroff", timeout_s)

    def reboot(self, timeout_s: float = STOP_LIMIT_S) -> float:
        """Clean reboot, until it is booted again; the seconds for all of it."""
        started = time.monotonic()
        self._leave("reboot", timeout_s)
        self.boot(detached=self._detached)
        self.wait_booted()
        return time.monotonic() - started

    def power_cut(self) -> None:
        """All processes of the host are gone at once. What they had written stays (page cache)."""
        if (running := self._running()) is not None:
            # systemd-nspawn is PID 1 of a namespace that holds the whole host, which dies with it.
            # The launcher takes its exit status and ends too.
            for pid in list_children().get(running.pid) or [running.pid]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            wait_until_gone(running.pid, running.started, KILL_LIMIT_S)
        self._tidy()

    def destroy(self) -> None:
        """Power cut, and nothing is left of the host, its folder included."""
        self.power_cut()
        remove_tree(self.folder)

    # --- inside -------------------------------------------------------------------------------

    def run(
        self,
        argv: Sequence[str],
        *,
        input: str | bytes | None = None,
        timeout_s: float = 60,
        check: bool = True,
    ) -> Completed:
        """Runs a command inside, as root's login shell would. CommandFailed, CommandTimedOut."""
        return run_command(
            self.build_entry(argv),
            input=input,
            timeout_s=timeout_s,
            check=check,
            env=ENVIRONMENT,
            shown=argv,
        )

    def build_entry(self, argv: Sequence[str]) -> list[str]:
        """The command, for the machine, that runs argv inside."""
        leader = self.leader()
        enter = ["nsenter", f"--target={leader}", *NAMESPACES, "--", *argv]
        try:
            return joining(shell_groups(leader), enter)
        except OSError as error:
            raise LabError(f"cannot enter {self.name}: {error}") from error

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Folders on the way are made. /run and /tmp are the running host's own."""
        self.run(["install", "-D", "-m", f"{mode:o}", "/dev/stdin", path], input=text)

    def read(self, path: str) -> str:
        return self.run(["cat", path]).stdout

    def copy_in(self, source: Path, target: str) -> None:
        """A file or a folder of the machine, owned by root, under the name `target` inside."""

        parent, _, name = target.rstrip("/").rpartition("/")
        into = shlex.quote(parent or "/")
        unpack = f"mkdir -p {into} && tar -C {into} -xf -"
        self.run(["sh", "-c", unpack], input=pack(source, name), timeout_s=120)

    # --- facts --------------------------------------------------------------------------------

    def is_running(self) -> bool:
        return self._running() is not None

    def leader(self) -> int:
        """The machine's pid of the host's PID 1."""
        running = self._running()
        if running is None:
            raise LabError(f"{self.name} is not running")
        leader = find_leader(running.pid)
        if leader is None:
            raise LabError(f"{self.name} has no PID 1 yet")
        return leader

    def read_console(self, lines: int = 30) -> str:
        text = self.console.read_text(errors="replace") if self.console.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    # --- how ----------------------------------------------------------------------------------

    def _running(self) -> Running | None:
        if self._launcher is not None:
            self._launcher.poll()  # takes the exit status, so that no zombie looks alive
        state = read_state(self.folder)
        if state is None or state.running is None:
            return None
        return state.running if state.running.is_alive() else None

    def _why_not_booted(self) -> str | None:
        target = ["systemctl", "is-active", "multi-user.target"]
        try:
            done = self.run(target, check=False, timeout_s=10)
        except LabError as error:
            return str(error)
        return None if done.returncode == 0 else f"{done.stdout}{done.stderr}".strip()

    def _adapt_podman(self) -> None:
        """Podman's default limit of processes needs a controller that some machines do not lend."""
        if self.run(["sh", "-c", HAS_PIDS_CONTROLLER], check=False).returncode == 0:
            self.run(["rm", "-f", NO_PIDS_LIMIT])
        elif self.run(["test", "-e", NO_PIDS_LIMIT], check=False).returncode != 0:
            self.write(NO_PIDS_LIMIT, "[containers]\npids_limit = 0\n")

    def _leave(self, verb: str, timeout_s: float) -> float:
        started = time.monotonic()
        running = self._running()
        if running is None:
            raise LabError(f"cannot {verb} {self.name}: it is not running")
        # The command may be killed by what it starts, so its status says nothing.
        with contextlib.suppress(LabError):
            self.run(["systemctl", "--no-block", verb], check=False, timeout_s=30)
        ended = self._wait_ended(running, timeout_s)
        self.power_cut()
        if not ended:
            raise LabError(f"{self.name}: no {verb} within {timeout_s} s: {self.read_console()}")
        return time.monotonic() - started

    def _wait_ended(self, running: Running, timeout_s: float) -> bool:
        if self._launcher is None:
            return wait_until_gone(running.pid, running.started, timeout_s)
        try:
            self._launcher.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _tidy(self) -> None:
        if self._guard is not None:
            self._guard.kill()
            self._guard.communicate()
            self._guard = None
        state = read_state(self.folder)
        if state is not None and state.running is not None:
            for group in state.running.groups:
                remove_group(group)
        if self._launcher is not None:
            self._launcher.wait(KILL_LIMIT_S)
            self._launcher = None
        if state is not None:
            write_state(self.folder, State(state.flavour, None, state.binds))
