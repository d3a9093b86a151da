# SPDX-License-Identifier: MulanPSL-2.0
"""`deepseekctl bundle`: an instance's image and model onto a disk, and off it on another host.

In: arguments, the configuration. Out: what `agent.supply.bundle` makes of them. On a machine with
internet what is missing is fetched first. A composition root, as daemon.py, since it knows both the
configuration and the supply; it needs no agent, and no NPU.
"""

import argparse
import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from agent.command_line import parse
from agent.config.values import Config, Profile, find_profile
from agent.errors import AgentError, Code
from agent.host.config import read_config
from agent.model import ProductLine
from agent.pins import Carried
from agent.plan.supply import order_image, order_model
from agent.status.client import SOCKET, AgentClient
from agent.status.snapshot import InstanceView
from agent.supplies import ImageOrder, Progress
from agent.supply.bundle.__main__ import describe_import, part_size
from agent.supply.bundle.__main__ import main as bundle
from agent.supply.bundle.bring import ARCHITECTURES, Target, import_opened
from agent.supply.bundle.create import require_output
from agent.supply.bundle.format import PART_BYTES
from agent.supply.bundle.images import PodmanImages
from agent.supply.bundle.opened import open_bundle
from agent.supply.foreign_image import order_foreign
from agent.supply.image import bring_image
from agent.supply.image_room import bytes_beside, measure_image
from agent.supply.model import bring_model
from agent.supply.room import NO_IMAGE, ImageNeed
from agent.supply.signers import SIGNERS_FILE
from agent.supply.stored_images import note_brought
from agent.terminal import ProgressLine, run_command

ETC, SHARE = "/etc/deepseek-agent", "/usr/share/deepseek-agent"
IMPORTS = "/var/lib/deepseek/import"
EXIT_FAILED = 1
SYSTEMCTL_LIMIT_S = 30.0

Tell = Callable[[Progress], None]


def main(argv: Sequence[str] | None = None) -> int:
    """The process's entry point; returns the exit status."""
    options = parse(_parser(), argv)
    return run_command(lambda: int(options.run(options)), lambda code: EXIT_FAILED)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="deepseekctl bundle")
    folders = argparse.ArgumentParser(add_help=False)
    folders.add_argument("--etc", metavar="DIR", default=ETC, help="instead of %(default)s")
    folders.add_argument("--share", metavar="DIR", default=SHARE, help="instead of %(default)s")
    commands = parser.add_subparsers(required=True, metavar="create|import|verify")

    text = "image and model of an instance into a folder, to be carried"
    make = commands.add_parser("create", help=text, description=text, parents=[folders])
    make.add_argument("instance")
    make.add_argument("-o", "--output", required=True, metavar="DIR")
    lines = [line.value for line in ProductLine if line is not ProductLine.UNKNOWN]
    make.add_argument("--product", choices=lines, help="line of NPUs; default: the profile's first")
    text = "of the servers that it is for; default: this machine's"
    make.add_argument("--arch", choices=tuple(ARCHITECTURES.values()), help=text)
    make.add_argument("--sign", metavar="KEY", help="an SSH key")
    make.add_argument("--part-size", metavar="SIZE", help="of a file, 2G as it stands, 4G at most")
    make.add_argument("--check", action="store_true", help="read it back when it is written")
    make.set_defaults(run=_create)

    text = "image and model out of such a folder, into place"
    bring = commands.add_parser("import", help=text, description=text, parents=[folders])
    bring.set_defaults(run=_import)
    text = "read all of such a folder; nothing is written"
    check = commands.add_parser("verify", help=text, description=text)
    check.set_defaults(run=lambda options: bundle(["verify", options.folder, *_signers(options)]))
    for command in (bring, check):
        command.add_argument("folder", metavar="DIR")
        command.add_argument("--signers", metavar="FILE", default=str(SIGNERS_FILE))
    return parser


def _signers(options: argparse.Namespace) -> list[str]:
    return ["--signers", options.signers]


def _read_config(options: argparse.Namespace) -> Config:
    return asyncio.run(read_config(("--etc", options.etc, "--share", options.share)))


def _create(options: argparse.Namespace) -> int:
    _require_root("make a bundle")
    if options.part_size is not None:
        _check_size(options.part_size)
    require_output(Path(options.output), Path(options.sign) if options.sign else None)
    config = _read_config(options)
    profile = find_profile(config, options.instance)
    line = ProductLine(options.product) if options.product else profile.products[0]
    image, architecture = profile.images.of(line), options.arch or _own_architecture()
    shown = ProgressLine(sys.stderr)
    try:
        image_id = _fetch(profile, image, architecture, config, shown.show)
    finally:
        shown.end()
    more = ["--check"] if options.check else []
    more += ["--sign", options.sign] if options.sign else []
    more += ["--image-id", image_id] if image_id else []
    more += ["--part-size", options.part_size or str(PART_BYTES), "--arch", architecture]
    what = ["--image", image, "--product-line", line.value, "--model", profile.model]
    return bundle(["create", profile.name, "--output", options.output, *what, *more])


def _require_root(what: str) -> None:
    """Another user's Podman has other images, and may write none of it."""
    if os.geteuid() != 0:
        raise AgentError(
            Code.NOT_PERMITTED, f"cannot {what}: only root may ask Podman for it", "run it as root"
        )


def _own_architecture() -> str:
    machine = os.uname().machine
    return ARCHITECTURES.get(machine, machine)


def _check_size(text: str) -> None:
    """Before anything is fetched for it."""
    try:
        part_size(text)
    except ValueError as error:
        raise AgentError(
            Code.REQUEST_INVALID, f"cannot make parts of {text!r}", "write it as 512M or 2G"
        ) from error


def _fetch(profile: Profile, image: str, architecture: str, config: Config, tell: Tell) -> str:
    """What this host lacks of it. The id of an image that has another name here, since this host
    calls one for other servers by that; else empty."""
    supply = config.supply
    keep_free_mib = supply.keep_free_gib * 1024
    wanted = _lacking_image(profile, image, architecture, config)
    if not Path(profile.model).exists():
        need = NO_IMAGE
        if wanted is not None:
            beside = bytes_beside(Path(profile.model), measure_image(wanted, IMPORTS))
            need = ImageNeed(wanted.reference, beside)
        bring_model(
            order_model(profile, supply),
            supply.parallel,
            keep_free_mib,
            tell,
            image=need,
        )
    if wanted is None:
        return ""
    brought = bring_image(wanted, IMPORTS, keep_free_mib, tell)
    _note(brought.image_id, (wanted.reference, *(one.reference for one in wanted.sources)))
    return "" if wanted.reference == image else brought.image_id


def _lacking_image(
    profile: Profile, image: str, architecture: str, config: Config
) -> ImageOrder | None:
    """None when Podman has it."""
    found = PodmanImages().find(image)
    if found is not None and found.architecture == architecture:
        return None
    _open_podman()
    wanted = order_image(image, config.supply)
    if found is None and architecture == _own_architecture():
        return wanted
    return order_foreign(wanted, profile.name, architecture)


def _open_podman() -> None:
    """The agent has it opened where there is one; whether it answers is seen when it is asked."""
    start = ("systemctl", "start", "podman.socket")
    with suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(start, check=False, timeout=SYSTEMCTL_LIMIT_S, stderr=subprocess.DEVNULL)


def _import(options: argparse.Namespace) -> int:
    _require_root("import a bundle")
    config = _read_config(options)
    signers = Path(options.signers)
    opened = open_bundle(Path(options.folder), signers)
    held = opened.bundle
    profile = find_profile(config, held.instance)
    keep_free_mib = config.supply.keep_free_gib * 1024
    models_dir = Path(profile.model).parent
    carried = Carried(held, models_dir, config, _ask_agent())
    target = Target(
        models_dir, PodmanImages(), keep_free_mib, signers, keeps_model=carried.is_pinned
    )
    shown = ProgressLine(sys.stderr)
    try:
        imported = import_opened(opened, target, shown.show)
    finally:
        shown.end()
    sys.stdout.write(f"{describe_import(imported, signers)}\n")
    if held.image is not None:
        _note(held.image.image_id, (held.image.reference,))
    for line in carried.say_pinned():
        sys.stdout.write(f"{line}\n")
    _tell_agent(held.instance)
    return 0


def _ask_agent() -> tuple[InstanceView, ...]:
    """None where no agent answers: what lies there is then for its next start to see."""
    client = AgentClient(SOCKET)
    try:
        return client.status().instances
    except AgentError:
        return ()
    finally:
        client.close()


def _note(image_id: str, references: tuple[str, ...]) -> None:
    """So that it may be pruned one day; without that it stays."""
    with suppress(OSError):
        note_brought(image_id, references)


def _tell_agent(instance: str) -> None:
    """So that it need not find out; where none runs there is nobody to wait."""
    client = AgentClient(SOCKET)
    try:
        with suppress(AgentError):
            client.pull(instance)
    finally:
        client.close()


if __name__ == "__main__":
    sys.exit(main())
