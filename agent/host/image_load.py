# SPDX-License-Identifier: MulanPSL-2.0
"""One image out of an archive: in come its path and how Podman calls it, out the image's id.

The command, not the API: the API takes an archive as a stream and writes all of it into a file of
its own first (pkg/api/handlers, 4.3 to 5.4), a second copy of 10 to 20 GB. `podman pull` with the
transport, not `podman load`: load takes all images of an archive, and unpacks a docker-archive as
an oci-archive before it sees what it is (4.3.1, seen). What it costs in the temporary folder of
Podman (seen with 4.3.1): the layers, as with every image; as much again for an oci-archive, and for
a docker-archive that is compressed. It is put into a folder of its own there (`podman_folder`).
"""

import gzip
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from agent.errors import AgentError, Code
from agent.host.podman_folder import OwnFolder, end, own_folder
from agent.host.pull_failures import explain_load

PODMAN = "/usr/bin/podman"
SAMPLE_S = 1.0
DEADLINE_S = 6 * 3600.0
TEXT_LIMIT_BYTES = 64 * 1024
COPY_BYTES = 1024 * 1024
GZIP = b"\x1f\x8b"
Tell = Callable[[int, int], None]


def load(
    path: str, kind: str, selector: str, temporary: str, tell: Tell, podman: str = PODMAN
) -> str:
    """The image's id. Raises AgentError. `tell`: bytes read, bytes there are, when that changes."""
    try:
        with ExitStack() as open_files:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            open_files.callback(os.close, handle)
            if kind == "docker-archive" and os.pread(handle, len(GZIP), 0) == GZIP:
                handle = open_files.enter_context(_unpacked(handle, temporary, tell))
            # By its descriptor: in a name, ":" would end the path, and what is unpacked has none.
            source = f"{kind}:/proc/{os.getpid()}/fd/{handle}"
            source = f"{source}:{selector}" if selector else source
            own = open_files.enter_context(own_folder(temporary))
            return _pull((podman, "pull", "--quiet", source), own, path, tell)
    except (OSError, EOFError) as error:
        failure = explain_load(path, str(error))
        raise AgentError(failure.code, failure.message, failure.hint) from error


@contextmanager
def _unpacked(handle: int, temporary: str, tell: Tell) -> Iterator[int]:
    """A descriptor of a file without a name, of which nothing stays, however we end.

    Podman 4.3.1 loses the end of a docker-archive that it decompresses from gzip (seen; xz and zstd
    are well, and so is 5.4.2), so that is done here: Podman would make the same copy.
    """
    total = os.fstat(handle).st_size
    with (
        os.fdopen(os.dup(handle), "rb") as raw,
        gzip.GzipFile(fileobj=raw) as source,
        tempfile.TemporaryFile(dir=temporary) as copy,
    ):
        while piece := source.read(COPY_BYTES):
            copy.write(piece)
            tell(raw.tell(), total)
        copy.flush()
        yield copy.fileno()


def _pull(argv: tuple[str, ...], own: OwnFolder, path: str, tell: Tell) -> str:
    if not shutil.which(argv[0]):
        raise AgentError(Code.PODMAN_UNAVAILABLE, f"cannot load {path}: there is no {argv[0]}")
    with (
        tempfile.TemporaryFile() as output,
        tempfile.TemporaryFile() as errors,
        _running(argv, own, output.fileno(), errors.fileno()) as child,
    ):
        status = _wait(child, _size(Path(path)), tell)
        output.seek(0)
        printed = output.read(TEXT_LIMIT_BYTES).decode(errors="replace").split()
        if status != 0 or not printed:
            errors.seek(0)
            text = errors.read(TEXT_LIMIT_BYTES).decode(errors="replace")
            failure = explain_load(path, text or f"exit status {status}")
            raise AgentError(failure.code, failure.message, failure.hint)
    return printed[-1].removeprefix("sha256:")


@contextmanager
def _running(
    argv: tuple[str, ...], own: OwnFolder, output: int, errors: int
) -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=errors,
        env=own.environment,
        pass_fds=own.open_files,
    )
    try:
        yield child
    finally:
        end(child)


def _wait(child: subprocess.Popen[bytes], total: int, tell: Tell) -> int:
    last = -1
    for _ in range(int(DEADLINE_S / SAMPLE_S)):
        try:
            return child.wait(SAMPLE_S)
        except subprocess.TimeoutExpired:
            read = _read_by(child.pid)
        if read != last:
            tell(min(read, total), total)
        last = read
    return -1


def _read_by(pid: int) -> int:
    """proc_pid_io(5), rchar. It reads an archive more than once, so this is an upper bound."""
    try:
        lines = Path(f"/proc/{pid}/io").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("rchar:")), 0)


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else iter((path,))
    return sum(os.lstat(file).st_size for file in files)
