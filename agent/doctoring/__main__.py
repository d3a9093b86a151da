# SPDX-License-Identifier: MulanPSL-2.0
"""What keeps a model from serving here: the process behind `deepseekctl doctor`.

Out: findings on standard output, as text or JSON; exit status 0 when nothing is wrong (there may be
warnings), 1 when something is, 2 for wrong usage. Changes nothing and needs neither agent nor root:
what only root may see is skipped, and said so.
"""

import argparse
import asyncio
import os
import shutil
import sys
from collections.abc import Sequence

from agent import __version__
from agent.command_line import parse
from agent.doctor.checks import examine
from agent.doctor.checkup import Checkup
from agent.doctor.show import is_well, show, to_json
from agent.doctoring.gather import Places, look_at_host
from agent.errors import Code
from agent.model import INSTANCE_NAME, is_instance_name
from agent.preview import ETC, NPU_SOCKET, SHARE
from agent.status.client import SOCKET
from agent.terminal import run_command

EXIT_ERROR, EXIT_USAGE = 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """The process's entry point; returns the exit status."""
    options = parse(_parser(), argv)
    return run_command(lambda: _doctor(options), exit_status)


def exit_status(_code: Code) -> int:
    return EXIT_ERROR


def _parser() -> argparse.ArgumentParser:
    text = "what keeps a model from serving on this host, and what to do about it"
    parser = argparse.ArgumentParser(prog="deepseekctl doctor", description=text)
    parser.add_argument(
        "instances",
        nargs="*",
        type=_instance,
        metavar="INSTANCE",
        help="models to look at; without one, those that are enabled or run",
    )
    parser.add_argument("--json", action="store_true", help="as JSON, with its schema number")
    parser.add_argument("--etc", metavar="DIR", default=ETC, help=argparse.SUPPRESS)
    parser.add_argument("--share", metavar="DIR", default=SHARE, help=argparse.SUPPRESS)
    return parser


def _instance(name: str) -> str:
    if not is_instance_name(name):
        raise argparse.ArgumentTypeError(f"{name!r} is no name of a model: it fits {INSTANCE_NAME}")
    return name


def _doctor(options: argparse.Namespace) -> int:
    places = Places(options.etc, options.share, SOCKET, NPU_SOCKET)
    names = tuple(dict.fromkeys(options.instances))
    checkup: Checkup = asyncio.run(look_at_host(names, places))
    findings = examine(checkup)
    if options.json:
        sys.stdout.write(to_json(findings, __version__))
    else:
        wide = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        sys.stdout.write(show(findings, colored=_has_colors(), wide=wide))
    return 0 if is_well(findings) else EXIT_ERROR


def _has_colors() -> bool:
    """https://no-color.org: any value but an empty one."""
    dumb = os.environ.get("TERM") == "dumb"
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and not dumb


if __name__ == "__main__":
    sys.exit(main())
