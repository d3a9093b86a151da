# SPDX-License-Identifier: MulanPSL-2.0
"""The lab by hand: `python3 -m tests.lab --help`. Exit status 2: the machine is not fit for it."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from . import product
from .cache import cache_directory, hold_lock, remove_tree
from .host import LabHost
from .machine import MachineUnfit, prepare_machine
from .nspawn import ENVIRONMENT
from .process import LabError
from .rootfs import Flavour
from .state import list_hosts

KINDS = ("root", "package", "next-package")
CACHED = (
    "image",
    "libdcmi",
    "vllm",
    "tiny-model",
    *(f"{kind}-{flavour}" for kind in KINDS for flavour in Flavour),
)


def hosts_directory() -> Path:
    return cache_directory() / "hosts"


def pick(name: str | None) -> str:
    """The named host, or the only one that runs."""
    if name:
        return name
    running = [host for host in list_hosts(hosts_directory()) if attach(host).is_running()]
    if len(running) != 1:
        raise LabError(f"say which host: {', '.join(running) or 'none runs'}")
    return running[0]


def attach(name: str) -> LabHost:
    return LabHost.attach(name, hosts_directory())


def check(_: argparse.Namespace) -> None:
    prepare_machine()
    print("this machine is fit for the lab")


def up(wanted: argparse.Namespace) -> None:
    flavour = Flavour(wanted.flavour)
    host = LabHost.create(flavour, wanted.name or flavour.value, hosts_directory())
    try:
        product.adapt(host)
        host.boot(detached=True)
        host.wait_booted()
        if not wanted.bare:
            product.supply(host, wanted.npus)
        if wanted.install:
            product.add_repository(host)
            product.install(host)
    except BaseException:
        host.destroy()
        raise
    print(f"{host.name} runs ({flavour}), its files are in {host.root}")


def shell(wanted: argparse.Namespace) -> None:
    host = attach(pick(wanted.name))
    entry = host.build_entry(wanted.command or ["/bin/bash", "-l"])
    environment = {**ENVIRONMENT, "TERM": os.environ.get("TERM", "dumb")}
    os.execve(entry[0], entry, environment)  # noqa: S606 - it becomes that command


def stop(wanted: argparse.Namespace) -> None:
    """Clean power-off where that works, and the host is gone."""
    names = list_hosts(hosts_directory()) if wanted.all else [pick(wanted.name)]
    for name in names:
        host = attach(name)
        if host.is_running() and not wanted.now:
            try:
                host.shutdown()
            except LabError as error:
                print(error, file=sys.stderr)
        host.destroy()
        print(f"{name} is gone")


def list_all(_: argparse.Namespace) -> None:
    for name in list_hosts(hosts_directory()):
        host = attach(name)
        print(name, host.flavour, "running" if host.is_running() else "off", host.folder)


def clean_cache(_: argparse.Namespace) -> None:
    """Root file systems and images. Hosts that exist are copies, they stay."""
    for name in CACHED:
        with hold_lock(name):
            for path in cache_directory().glob(f"{name}-*"):
                remove_tree(path)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m tests.lab", description=__doc__)
    commands = parser.add_subparsers(required=True)

    def add(
        name: str, run: Callable[[argparse.Namespace], None], text: str
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        return command

    add("check", check, "install what the machine lacks, or say what cannot be had")
    start = add("up", up, "make a host and boot it; it runs until it is stopped")
    start.add_argument("flavour", choices=[str(flavour) for flavour in Flavour])
    start.add_argument("--name", help="default: the flavour")
    start.add_argument("--npus", type=int, default=8)
    start.add_argument("--bare", action="store_true", help="no NPUs, no model, no image")
    start.add_argument("--install", action="store_true", help="build the RPM, dnf install it")
    enter = add("shell", shell, "a root shell, or one command, inside a host")
    enter.add_argument("name", nargs="?", help="default: the only one that runs")
    enter.add_argument("command", nargs="*", help="after NAME and --")
    end = add("stop", stop, "power a host off and remove it")
    end.add_argument("name", nargs="?", help="default: the only one that runs")
    end.add_argument("--all", action="store_true")
    end.add_argument("--now", action="store_true", help="no clean power-off")
    add("list", list_all, "what hosts there are")
    add("clean-cache", clean_cache, "remove the cached root file systems and images")
    return parser


def main(arguments: Sequence[str]) -> int:
    wanted = build_parser().parse_args(arguments)
    try:
        wanted.run(wanted)
    except MachineUnfit as error:
        print(f"the lab cannot run here: {error}", file=sys.stderr)
        return 2
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
