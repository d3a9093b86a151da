# SPDX-License-Identifier: MulanPSL-2.0
"""Files that the operator names for the engine: whether they can be used, and the API key in one.

Nothing here waits: what is no regular file is not opened. A key never gets into a message.
"""

import os
import re

from agent.errors import Code, HostError
from agent.host.reading import read_regular
from agent.ports import FileKind

# RFC 6750, b64token: what an Authorization header can carry. And no env file gives any of these
# characters a meaning (Podman 4.7.0 cut values at "#": containers/podman#20255).
API_KEY = re.compile(r"[A-Za-z0-9._~+/-]{16,512}={0,2}")
NO_KEY = "it must hold one line of 16 to 512 letters, digits and ._~+/-"


def why_unusable(path: str, kind: FileKind) -> str:
    """Empty for a file that can be read. A secret must also be root's (or the caller's own) and
    closed to everybody else, and an API key be one."""
    try:
        status = os.stat(path)
        text = read_regular(path)
    except OSError as error:
        return str(error.strerror).lower()
    except ValueError as error:
        return str(error)
    if kind is not FileKind.PUBLIC and (problem := _why_not_secret(path, status)):
        return problem
    return NO_KEY if kind is FileKind.API_KEY and _key_in(text) is None else ""


def read_key(path: str) -> str:
    """The API key, without the line's end. Raises HostError when the file holds none."""
    try:
        key = _key_in(read_regular(path))
    except OSError as error:
        raise _no_key(path, str(error.strerror)) from error
    except ValueError as error:
        raise _no_key(path, str(error)) from error
    if key is None:
        raise _no_key(path, NO_KEY)
    return key


def _key_in(text: bytes) -> str | None:
    key = text.decode(errors="replace").strip()
    return key if API_KEY.fullmatch(key) else None


def _why_not_secret(path: str, status: os.stat_result) -> str:
    if status.st_uid not in (0, os.geteuid()):
        return f"it belongs to uid {status.st_uid}, not to root"
    if status.st_mode & 0o077:
        return f"others can read it (mode {status.st_mode & 0o777:04o}); chmod 600 {path}"
    return ""


def _no_key(path: str, why: str) -> HostError:
    return HostError(
        Code.FILE_UNUSABLE,
        f"cannot use api_key_file {path}: {why}",
        f"umask 077; openssl rand -hex 32 > {path}",
    )
