# SPDX-License-Identifier: MulanPSL-2.0
"""What a registry is shown, and what it has to show: credentials, and a CA for it alone.

In: files that the operator names, `$CREDENTIALS_DIRECTORY`. Out: a user and a password, never in a
message; and while a pull lasts, a file below /etc/containers/certs.d.
"""

import base64
import binascii
import fcntl
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from agent.errors import AgentError, Code
from agent.host.atomic import remove_unfinished, write_atomically
from agent.host.reading import read_regular
from agent.json_text import load_json
from agent.references import Reference

AUTH_LIMIT_BYTES = 1024 * 1024
CA_LIMIT_BYTES = 1024 * 1024
CREDENTIAL = "credential:"
CREDENTIAL_NAME = re.compile(r"[A-Za-z0-9_.-]{1,255}")
# containers-certs.d(5). Podman's API takes no folder of certificates for a pull (5.4.2, api.md).
CERTIFICATES = Path("/etc/containers/certs.d")
OURS = "deepseek-agent.crt"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Of one registry."""

    user: str
    password: str = field(repr=False)

    @property
    def header(self) -> str:
        """X-Registry-Auth, as Docker's API and Podman's have it."""
        text = json.dumps({"username": self.user, "password": self.password})
        return base64.urlsafe_b64encode(text.encode()).decode()

    @property
    def basic(self) -> str:
        """RFC 7617."""
        return base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


def read_credentials(auth_file: str, reference: Reference) -> Credentials | None:
    """None when the file says nothing about that registry. Raises AgentError."""
    if not auth_file:
        return None
    try:
        document = load_json(read_regular(_find(auth_file), AUTH_LIMIT_BYTES))
    except OSError as error:
        raise _unusable(auth_file, str(error.strerror)) from error
    except ValueError as error:
        # json's own message tells a place, and no content.
        why = error.msg if isinstance(error, json.JSONDecodeError) else "it cannot be read as JSON"
        raise _unusable(auth_file, why) from error
    auths = document.get("auths") if isinstance(document, dict) else None
    if not isinstance(auths, dict):
        raise _unusable(auth_file, 'it has no "auths"')
    entry = next((auths[key] for key in _keys(reference) if key in auths), None)
    return None if entry is None else _decode(auth_file, entry)


def _find(auth_file: str) -> Path:
    if not auth_file.startswith(CREDENTIAL):
        return Path(auth_file)
    name = auth_file.removeprefix(CREDENTIAL)
    folder = os.environ.get("CREDENTIALS_DIRECTORY", "")
    if not CREDENTIAL_NAME.fullmatch(name) or name in (".", ".."):
        raise _unusable(auth_file, "that is no name of a credential")
    if not folder:
        raise _unusable(auth_file, "systemd has passed no credentials")
    return Path(folder) / name


def _keys(reference: Reference) -> Iterator[str]:
    """From the repository up to its registry, then what Docker has always written
    (containers-auth.json(5))."""
    parts = reference.name.split("/")
    for length in range(len(parts), 0, -1):
        yield "/".join(parts[:length])
    yield f"https://{reference.registry}"
    if reference.registry == "docker.io":
        yield "https://index.docker.io/v1/"


def _decode(auth_file: str, entry: object) -> Credentials:
    auth = entry.get("auth") if isinstance(entry, dict) else None
    if not isinstance(auth, str) or not auth:
        raise _unusable(auth_file, "its entry for the registry holds no user and password")
    try:
        text = base64.b64decode(auth, validate=True).decode()
    except (binascii.Error, ValueError):
        text = ""  # what cannot be read is not shown either
    user, colon, password = text.partition(":")
    if not colon or not user:
        raise _unusable(auth_file, "its entry for the registry cannot be decoded")
    return Credentials(user, password)


def _unusable(auth_file: str, why: str) -> AgentError:
    return AgentError(
        Code.FILE_UNUSABLE,
        f"cannot use auth_file {auth_file}: {why}",
        "it is written by: podman login --authfile FILE REGISTRY",
    )


@contextmanager
def trusted_ca(registry: str, ca_file: str, folder: Path = CERTIFICATES) -> Iterator[None]:
    """While this lasts, Podman trusts that CA for this registry, and for no other.

    Of it an empty folder stays: what a writer before this one has left behind is removed or
    replaced. Several pulls share the file; the last one removes it, as a lock on the folder tells.
    """
    home = folder / registry
    if not ca_file and not (home / OURS).exists():
        yield
        return
    text = _read_ca(ca_file) if ca_file else ""
    lock = _open_folder(home)
    try:
        if text:
            _place(text, lock, home)
        else:
            _remove_if_last(lock, home)
        yield
    finally:
        _remove_if_last(lock, home)
        os.close(lock)


def _open_folder(home: Path) -> int:
    try:
        home.mkdir(parents=True, exist_ok=True)
        return os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise _not_placed(home, error) from error


def _place(text: str, lock: int, home: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
        with _alone(home.parent):
            write_atomically(home / OURS, text)
    except OSError as error:
        raise _not_placed(home, error) from error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """The lock of a registry is one that pulls share, and so is the name of what is not finished:
    who writes has a lock of its own, for a moment."""
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _not_placed(home: Path, error: OSError) -> AgentError:
    return AgentError(
        Code.FILE_NOT_WRITTEN,
        f"cannot put a CA into {home}: {error.strerror}",
        "see: df -h /etc, and: systemctl show -p ReadWritePaths deepseek-supply@8b",
    )


def _remove_if_last(lock: int, home: Path) -> None:
    with suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        (home / OURS).unlink(missing_ok=True)
        remove_unfinished(home / OURS)
        fcntl.flock(lock, fcntl.LOCK_UN)


def _read_ca(ca_file: str) -> str:
    try:
        text = read_regular(ca_file, CA_LIMIT_BYTES).decode()
    except (OSError, ValueError) as error:
        why = str(error.strerror) if isinstance(error, OSError) else "it is no text"
        raise _unusable_ca(ca_file, why) from error
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise _unusable_ca(ca_file, "it holds no certificate in PEM")
    return text


def _unusable_ca(ca_file: str, why: str) -> AgentError:
    return AgentError(
        Code.FILE_UNUSABLE,
        f"cannot use ca_file {ca_file}: {why}",
        "it is the certificate, in PEM, of who has signed that of the registry",
    )
