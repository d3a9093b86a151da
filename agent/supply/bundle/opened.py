# SPDX-License-Identifier: MulanPSL-2.0
"""A folder that somebody has carried here: whose it is, whether it is whole, what is in it.

In: a folder, hostile until its list was checked, and then still a disk that fails. Out: an
`OpenedBundle`; parts, each checked while it is read. Nothing is written.
"""

import errno
import hashlib
import os
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from agent.errors import AgentError, Code
from agent.supplies import Item, Stage
from agent.supply.bundle import signing
from agent.supply.bundle.files import (
    CHUNK_BYTES,
    forget_cached,
    open_below,
    read_below,
    size_below,
)
from agent.supply.bundle.format import (
    BUNDLE_NAME,
    RECORDS_NAME,
    SIGNATURE_NAME,
    Bundle,
    Content,
    Part,
)
from agent.supply.bundle.text import JSON_LIMIT_BYTES, parse_bundle
from agent.supply.meter import Count, Meter, Tell
from agent.supply.settling import is_any_recent
from agent.supply.signers import SIGNERS_FILE

COPYING_S = 60.0  # a folder in which something changed so lately is still being copied
CARRY_AGAIN = "copy it again from the machine that made it, or try another disk"
Take = Callable[[memoryview], None]


@dataclass(frozen=True, slots=True)
class OpenedBundle:
    """One whose list can be trusted as far as this host wants it."""

    folder: Path
    bundle: Bundle
    signer: str  # empty: not checked, because this host names no signers


def open_bundle(folder: Path, signers: Path = SIGNERS_FILE) -> OpenedBundle:
    """Reads the list once; what is checked is what is used."""
    text = _read(folder, BUNDLE_NAME, JSON_LIMIT_BYTES)
    if text is None:
        raise AgentError(
            Code.SOURCE_NOT_FOUND,
            f"cannot find a bundle in {folder}: {_why_none(folder)}",
            "name the folder that `deepseekctl bundle create` has filled",
        )
    signature = _read(folder, SIGNATURE_NAME, signing.SIGNATURE_LIMIT_BYTES)
    signer = signing.check(text, signature, signers)
    try:
        return OpenedBundle(folder, parse_bundle(text), signer)
    except ValueError as error:
        raise damaged(BUNDLE_NAME, str(error)) from error


def _why_none(folder: Path) -> str:
    if not folder.is_dir():
        return "there is no such folder"
    is_begun = (folder / RECORDS_NAME).exists()
    return f"no {BUNDLE_NAME}, it is still being made" if is_begun else f"no {BUNDLE_NAME} in it"


def _read(folder: Path, name: str, limit_bytes: int) -> bytes | None:
    try:
        return read_below(folder, name, limit_bytes)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unreadable(name, error) from error
    except ValueError as error:
        raise damaged(name, str(error)) from error


def damaged(name: str, why: str) -> AgentError:
    return AgentError(Code.BUNDLE_DAMAGED, f"cannot use the bundle: {name}: {why}", CARRY_AGAIN)


def unreadable(name: str, error: OSError) -> AgentError:
    """A stick with a bad block, or one that was pulled out: it names the file."""
    hint = CARRY_AGAIN if error.errno == errno.EIO else "is the disk still there? see: dmesg"
    return AgentError(
        Code.BUNDLE_DAMAGED,
        f"cannot use the bundle: {name}: cannot read it: {error.strerror}",
        hint,
    )


# --- is it whole ---------------------------------------------------------------------------------


def require_whole(
    opened: OpenedBundle, parts: tuple[Part, ...], copying_s: float = COPYING_S
) -> None:
    """These parts are there in their full length; content is checked when it is read."""
    missing: list[str] = []
    for part in parts:
        try:
            size = size_below(opened.folder, part.name)
        except OSError as error:
            raise unreadable(part.name, error) from error
        if size is None:
            missing.append(f"{part.name}: it is not there")
        elif size > part.size:
            raise damaged(part.name, f"it has {size} bytes and should have {part.size}")
        elif size < part.size:
            missing.append(f"{part.name}: it has {size} bytes of {part.size}")
    if not missing:
        return
    if _is_being_copied(opened, copying_s):
        total = len(parts)
        raise AgentError(
            Code.SOURCE_UNREACHABLE,
            f"cannot use the bundle in {opened.folder}: it is not whole yet: "
            f"{total - len(missing)} of {total} files",
            "wait until it has been copied",
        )
    more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
    raise AgentError(Code.BUNDLE_DAMAGED, f"cannot use the bundle: {missing[0]}{more}", CARRY_AGAIN)


def _is_being_copied(opened: OpenedBundle, copying_s: float) -> bool:
    """Copies keep times of content, but a file's change of state is now."""
    names = (BUNDLE_NAME, *(part.name for part in opened.bundle.parts))
    folders = {str(Path(name).parent) for name in names}
    times: list[float] = []
    for name in (*names, *folders):
        with suppress(OSError):
            found = os.lstat(opened.folder / name)
            times += (found.st_ctime, found.st_mtime)
    return is_any_recent(times, copying_s, time.time())


# --- its content ---------------------------------------------------------------------------------


def read_part(handle: int, part: Part, take: Take) -> None:
    """Gives the content away as it is read; at the end it is known whether it was right.
    Raises `AgentError` that names the part."""
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(CHUNK_BYTES))
    left = part.size
    while left:
        try:
            size = os.readv(handle, (buffer[: min(left, CHUNK_BYTES)],))
        except OSError as error:
            raise unreadable(part.name, error) from error
        if size == 0:
            raise damaged(part.name, "it has become shorter while it was read")
        digest.update(buffer[:size])
        take(buffer[:size])
        left -= size
    if digest.hexdigest() != part.sha256:
        raise damaged(part.name, "its content is not what the checksum says")


def read_named_part(folder: Path, part: Part, take: Take) -> None:
    """As `read_part`. What `take` raises is the caller's: it is not the bundle that is wrong."""
    with ExitStack() as opened:
        try:
            handle = opened.enter_context(open_below(folder, part.name))
        except OSError as error:
            raise unreadable(part.name, error) from error
        except ValueError as error:
            raise damaged(part.name, str(error)) from error
        forget_cached(handle)
        read_part(handle, part, take)
        forget_cached(handle)


def verify(opened: OpenedBundle, tell: Tell, copying_s: float = COPYING_S) -> None:
    """Reads everything from the disk itself; raises at the first part that is wrong."""
    bundle = opened.bundle
    require_whole(opened, bundle.parts, copying_s)
    if bundle.image is not None:
        _verify_all(opened, Item.IMAGE, (bundle.image.archive,), tell)
    if bundle.model is not None:
        _verify_all(opened, Item.MODEL, bundle.model.contents, tell)


def _verify_all(
    opened: OpenedBundle, item: Item, contents: tuple[Content, ...], tell: Tell
) -> None:
    total = sum(content.size for content in contents)
    count = Count(Meter(tell, item), Stage.CHECKING, str(opened.folder), total)
    for content in contents:
        whole = hashlib.sha256()

        def take(chunk: memoryview, whole: "hashlib._Hash" = whole) -> None:
            whole.update(chunk)
            count.add(len(chunk))

        for part in content.parts:
            read_named_part(opened.folder, part, take)
        require_sum(content, whole.hexdigest())
    count.finish()


def require_sum(content: Content, sha256: str) -> None:
    if sha256 != content.sha256:
        raise damaged(
            content.path, "its parts are whole, but together they are not what its checksum says"
        )
