# SPDX-License-Identifier: MulanPSL-2.0
"""Reads and writes rendered unit files; runs the host's own quadlet generator over them."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from agent.errors import Code, HostError
from agent.host.atomic import remove_unfinished, write_atomically
from agent.host.process import run
from agent.host.reading import read_regular
from agent.host.secrets import read_key

GENERATORS = (
    "/usr/lib/systemd/system-generators/podman-system-generator",
    "/usr/libexec/podman/quadlet",
)
GENERATOR_DEADLINE_S = 20.0
# Not /tmp: if its disk is full while the agent starts, systemd gives the agent one that cannot be
# written for as long as it lives (seen with 257).
SCRATCH = "/run/deepseek-agent"


class RenderedFiles:
    """`ports.UnitFiles` on the real file system."""

    def __init__(self, generators: Sequence[str] = GENERATORS, scratch: str = SCRATCH) -> None:
        """`generators`: the first that can be run is asked. `scratch`: below it, it reads."""
        self._generators = generators
        self._scratch = scratch

    def tidy(self, paths: Iterable[PurePosixPath]) -> None:
        """What was being written there when an agent before this one ended is removed."""
        for path in paths:
            remove_unfinished(Path(path))

    def read(self, path: PurePosixPath) -> str | None:
        """The text, or None when there is no such file, or one that we cannot have written."""
        try:
            return read_regular(str(path)).decode()
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        except OSError as error:
            raise HostError(Code.FILE_NOT_WRITTEN, f"cannot read {path}: {error}") from error

    def read_key(self, path: str) -> str:
        return read_key(path)

    def read_public(self, path: str) -> str:
        """A file that the operator names, as text. Raises HostError."""
        try:
            return read_regular(path).decode()
        except UnicodeDecodeError as error:
            raise HostError(Code.FILE_UNUSABLE, f"cannot read {path}: it is not text") from error
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise HostError(Code.FILE_UNUSABLE, f"cannot read {path}: {why}") from error

    def write(self, path: PurePosixPath, text: str, *, private: bool = False) -> None:
        """Whole or not at all, also over a power cut: temporary file, fsync, rename, fsync."""
        try:
            write_atomically(Path(path), text, mode=0o600 if private else 0o644)
        except OSError as error:
            raise HostError(
                Code.FILE_NOT_WRITTEN,
                f"cannot write {path}: {error}",
                "see: df -h, and: systemctl show -p ReadWritePaths deepseek-agent",
            ) from error

    def is_mask(self, path: PurePosixPath) -> bool:
        """Whether `systemctl mask` has put its link to /dev/null there."""
        try:
            return os.readlink(path) == os.devnull
        except OSError:
            return False

    def remove(self, path: PurePosixPath) -> None:
        """A file that is not there is no error."""
        try:
            with suppress(FileNotFoundError, NotADirectoryError):
                os.unlink(path)
        except OSError as error:
            raise HostError(Code.FILE_NOT_WRITTEN, f"cannot remove {path}: {error}") from error

    async def generator_refusal(self, file_name: str, text: str) -> str | None:
        """Why the host's generator does not make a unit of `text`; None when it does.

        Old generators swallow errors and exit with 0 (Podman 4.9.4, facts 1.3), so what counts is
        that the unit's name appears in the output.
        """
        generator = next((path for path in self._generators if os.access(path, os.X_OK)), None)
        if generator is None:
            return "this host has no quadlet generator"
        try:
            with _folder_at(Path(self._scratch, f".generate-{file_name}")) as folder:
                (folder / file_name).write_text(text, encoding="utf-8")
                done = await run(
                    (generator, "--dryrun"),
                    deadline_s=GENERATOR_DEADLINE_S,
                    environment={"QUADLET_UNIT_DIRS": str(folder)},
                )
        except HostError as error:
            return error.failure.message
        except OSError as error:
            raise HostError(
                Code.FILE_NOT_WRITTEN,
                f"cannot try the rendered file: {error}",
                f"see: df -h {self._scratch}",
            ) from error
        service = file_name.removesuffix(".container") + ".service"
        if done.status == 0 and service in done.output:
            return None
        return (done.errors or done.output or f"exit status {done.status}").strip()[-500:]


@contextmanager
def _folder_at(folder: Path) -> Iterator[Path]:
    """Gone at the end, with the files in it, and those that an agent which was killed has left.
    (tempfile would stay, with shutil, bz2 and lzma.) Raises OSError."""
    _remove(folder)
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        _remove(folder)


def _remove(folder: Path) -> None:
    with suppress(OSError):
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
