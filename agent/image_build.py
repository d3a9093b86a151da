# SPDX-License-Identifier: MulanPSL-2.0
"""`deepseekctl image build`: becomes `podman build` with the Containerfile that is shipped.

In: what is put on which base. Out: Podman's own output and exit status.
"""

import argparse
import os
import re
import sys
from collections.abc import Sequence

from agent.command_line import parse
from agent.language import tr, translate

CONTAINERFILE = "/usr/share/deepseek-agent/Containerfile"
TAG = "localhost/deepseek-vllm:latest"
PODMAN = "podman"
EXIT_NOT_RUN = 69  # sysexits.h, EX_UNAVAILABLE


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns only when Podman cannot be run."""
    words = parse(_parser(), arguments)
    try:
        # From standard input: without a context, since it copies nothing.
        os.dup2(os.open(words.file, os.O_RDONLY), sys.stdin.fileno())
        argv = command(words)
        os.execvp(argv[0], argv)  # noqa: S606 - it becomes that command
    except OSError as error:
        what = error.filename or PODMAN
        why = translate(error.strerror or str(error))
        sys.stderr.write(
            tr("deepseekctl: cannot build an image: {what}: {why}\n", what=what, why=why)
        )
    return EXIT_NOT_RUN


def command(words: argparse.Namespace) -> list[str]:
    """What Podman is asked for."""
    given = [f"BASE={words.base}"] if words.base else []
    arguments = [f"--build-arg={one}" for one in (*given, *words.build_arg)]
    return [PODMAN, "build", f"--tag={words.tag}", *arguments, "-"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="deepseekctl image", description="An image of one's own.")
    verbs = parser.add_subparsers(required=True, metavar="build")
    build = verbs.add_parser("build", help="vLLM and vllm-ascend on a CANN base image")
    build.add_argument("--base", help="the CANN image (default: in the Containerfile)")
    build.add_argument("--tag", default=TAG, help="name of what is built (default: %(default)s)")
    text = "for the Containerfile, which has their names"
    build.add_argument(
        "--build-arg", action="append", default=[], type=_argument, metavar="NAME=X", help=text
    )
    build.add_argument("--file", default=CONTAINERFILE, help="another Containerfile")
    return parser


def _argument(text: str) -> str:
    """Raises ValueError, which argparse makes a message of."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*=.*", text):
        raise ValueError(text)
    return text


if __name__ == "__main__":
    sys.exit(main())
