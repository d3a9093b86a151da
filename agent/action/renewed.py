# SPDX-License-Identifier: MulanPSL-2.0
"""Finds files that were renewed since an engine was started. It goes on with what it read then,
however often a timer renews them: users with the new key get 401, and one day all of them see a
certificate whose time is over.

Not the certificate's private key: another one comes with another certificate. One that was replaced
alone does not go with the certificate, and a restart for it would end what still works.
"""

import asyncio
import re
from functools import partial
from pathlib import PurePosixPath

from agent.action.running import Running
from agent.certificate import expires_at
from agent.errors import HostError
from agent.ports import UnitFiles
from agent.render.workload import certificate_copy, key_file, parse_key
from agent.threads import in_thread

# Of any of OpenSSL's names for it; a file without one is damaged, or is just being written.
CERTIFICATE = re.compile(r"-----END [A-Z0-9 ]*CERTIFICATE-----")


def may_renew(running: Running) -> bool:
    """Whether there is anything to look at."""
    return bool(running.profile.api_key_file or running.profile.tls_certificate)


def certificate_end(running: Running, files: UnitFiles) -> float | None:
    """When the time of the certificate that the engine shows is over, whatever its file says now.
    Seconds since the epoch; None: it has none, or nobody can tell."""
    if not running.profile.tls_certificate:
        return None
    try:
        copy = files.read(PurePosixPath(certificate_copy(running.profile.name)))
    except HostError:
        return None
    return None if copy is None else expires_at(copy)


async def look_for_renewed(
    running: Running, files: UnitFiles, before: tuple[str, ...], deadline_s: float
) -> tuple[str, ...]:
    """As `find_renewed`, and all as it was `before` while the disk does not answer."""
    profile = running.profile
    look = partial(find_renewed, running, files, before)
    try:
        async with asyncio.timeout(deadline_s):
            # Where one hangs no second one begins.
            key = ("renewed", profile.api_key_file, profile.tls_certificate)
            return await in_thread(look, key=key)
    except (TimeoutError, RuntimeError):  # or no thread can be started now
        return before


def find_renewed(
    running: Running, files: UnitFiles, before: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """Paths of those that say something else now. One that cannot be told is as it was `before`.
    May hang with the disk."""
    profile = running.profile
    looks = (
        (profile.api_key_file, _is_other_key),
        (profile.tls_certificate, _is_other_certificate),
    )
    found = []
    for path, look in looks:
        is_other = look(profile.name, path, files) if path else False
        if path in before if is_other is None else is_other:
            found.append(path)
    return tuple(found)


def _is_other_key(instance: str, path: str, files: UnitFiles) -> bool | None:
    """None: it cannot be told."""
    try:
        given = parse_key(files.read(PurePosixPath(key_file(instance))) or "")
        return files.read_key(path) != given if given else None
    except HostError:
        return None


def _is_other_certificate(instance: str, path: str, files: UnitFiles) -> bool | None:
    """None: it cannot be told."""
    try:
        given = files.read(PurePosixPath(certificate_copy(instance)))
        now = files.read_public(path)
    except HostError:
        return None
    if given is None or CERTIFICATE.search(now) is None:
        return None
    return now != given
