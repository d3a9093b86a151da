# SPDX-License-Identifier: MulanPSL-2.0
"""`deepseekctl support-bundle`: gathers, writes one file, and says what is in it."""

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from agent import __version__
from agent.command_line import parse
from agent.errors import AgentError, Code
from agent.host.atomic import sync_folder
from agent.language import tr
from agent.support.gather import Gathering
from agent.support.manifest import LOOK, NOT_ROOT, summary, write_manifest
from agent.support.pack import Packing
from agent.support.secrets import find_secrets
from agent.terminal import CLEAR_LINE, run_command
from agent.wording import size

MEBIBYTE = 1024 * 1024
DEFAULT_MIB = 20
EXIT_FAILED = 4  # as deepseekctl, when something is refused
ENVIRONMENT = {
    "LC_ALL": "C.UTF-8",
    "NO_COLOR": "1",
    "SYSTEMD_COLORS": "0",
    "SYSTEMD_PAGER": "",
    "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin:/usr/local/bin:/usr/local/sbin",
}


def main(argv: Sequence[str] | None = None) -> int:
    """The process's entry point; returns the exit status."""
    options = parse(_parser(), argv)
    return run_command(lambda: _run(options), lambda code: EXIT_FAILED)


def _parser() -> argparse.ArgumentParser:
    text = (
        "what a developer needs from a host that nobody can log in to, in one file to send; keys, "
        "passwords and prompts are taken out of it"
    )
    parser = argparse.ArgumentParser(prog="deepseekctl support-bundle", description=text)
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="ends with .tar.gz")
    parser.add_argument(
        "--max-mib",
        type=_mebibytes,
        default=DEFAULT_MIB,
        metavar="N",
        help="not longer than this; %(default)s unless said",
    )
    parser.add_argument("--root", type=Path, default=Path("/"), help=argparse.SUPPRESS)
    return parser


def _mebibytes(word: str) -> int:
    """Raises ValueError, which argparse makes a message of."""
    if not word.isdecimal() or not 0 < int(word) <= 1024:
        raise ValueError(word)
    return int(word)


def _run(options: argparse.Namespace) -> int:
    now = time.time()
    stamp = f"{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%SZ}"
    folder = f"deepseek-support-{platform.node() or 'host'}-{stamp}"
    target: Path = options.output or Path(f"{folder}.tar.gz")
    os.environ.update(ENVIRONMENT)
    with _Target(target) as file:
        packing = Packing(folder, options.max_mib * MEBIBYTE, now)
        gathering = Gathering(options.root, find_secrets(options.root), packing, _progress)
        try:
            gathering.run()
        finally:
            gathering.children.end()
            _progress("")
        title = f"deepseek-agent {__version__}: support bundle of {platform.node()}, {stamp}"
        title += "" if os.geteuid() == 0 else f"\n{NOT_ROOT}"
        content = packing.finish(write_manifest(title, gathering.entries))
        file.replace(content)
    for line in (
        f"{target} ({size(len(content))})",
        *summary(gathering.entries),
        *([] if os.geteuid() == 0 else [tr(NOT_ROOT)]),
        tr("look:     {advice}", advice=tr(LOOK)),
        f"          tar -xzf {target}; less {folder}/MANIFEST.txt",
    ):
        sys.stdout.write(f"{line}\n")
    return 0


def _progress(name: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"{CLEAR_LINE}{name}")
        sys.stderr.flush()


class _Target:
    """The file to be: whole or not at all, 0600. It is begun before anything is gathered, so that a
    folder that cannot be written to is told at once, and under a name that nobody can foresee."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle, self._temporary = -1, ""

    def __enter__(self) -> "_Target":
        try:
            self._handle, self._temporary = tempfile.mkstemp(
                ".new", ".deepseek-support-", self._path.parent
            )
        except OSError as error:
            raise self._cannot(error) from error
        return self

    def replace(self, content: bytes) -> None:
        try:
            with os.fdopen(self._handle, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(self._temporary, self._path)
            sync_folder(self._path.parent)
        except OSError as error:
            raise self._cannot(error) from error

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # it has its own name by now, or there shall be none
            os.unlink(self._temporary)

    def _cannot(self, error: OSError) -> AgentError:
        return AgentError(
            Code.FILE_NOT_WRITTEN,
            f"cannot write the bundle to {self._path}: {error.strerror}",
            "name another place: deepseekctl support-bundle -o /var/tmp/support.tar.gz",
        )


if __name__ == "__main__":
    sys.exit(main())
