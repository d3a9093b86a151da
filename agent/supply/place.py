# SPDX-License-Identifier: MulanPSL-2.0
"""Where models lie, and the one moment in which another revision is seen.

    PARENT/NAME                          a relative link to the revision in use
    PARENT/.store/NAME/REVISION/         whole revisions, each with its manifest
    PARENT/.incoming/NAME/               staging of a fetch, see `parts`
    PARENT/.incoming/.bundle-INSTANCE/   staging of a bundle, see `bundle.bring`
    PARENT/.incoming/NAME.lock           who fetches it, or removes what a fetch has left: hours
    PARENT/.incoming/.NAME.lock          who changes store and link: moments
    PARENT/.incoming/.NAME@room          what is still to come, see `room`

A folder or a link at PARENT/NAME that we have not made is the operator's, and stays. Only the
second lock is waited for: a bundle that somebody has carried here, and a switch, do not wait for
a fetch.
"""

import errno
import os
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.errors import AgentError, Code
from agent.host.atomic import sync_folder
from agent.supplies import STORE, Manifest
from agent.supply.disk import make_folders, only_one, remove_tree, writing
from agent.supply.manifest import digest_of, read_manifest, write_manifest
from agent.supply.room import forget_claim
from agent.supply.verify import is_all_there

INCOMING = ".incoming"
BUNDLE = ".bundle-"  # what an import's staging is called, before the instance
NEW = ".new"
REVISIONS_LIMIT = 100  # of one model, side by side
# Links and renames; minutes where a file system has no hard links, or a revision is removed.
PLACING_WAIT_S = 600.0


@dataclass(frozen=True, slots=True)
class Revision:
    """A whole model in the store."""

    name: str  # of its folder
    folder: Path
    manifest: Manifest
    in_use: bool  # the link leads to it


class Home:
    """All places of one model."""

    def __init__(self, directory: str) -> None:
        """Raises AgentError when no model can lie there."""
        self.link = Path(directory)
        name = self.link.name
        if not self.link.is_absolute() or ".." in self.link.parts or name.startswith("."):
            raise AgentError(
                Code.CONFIG_INVALID,
                f"cannot put a model at {directory}: it has to be absolute, and not hidden",
                "correct `model` in the profile: the folder's name begins with no dot",
            )
        self.parent = self.link.parent
        self.store = self.parent / STORE / name
        self.staging = self.parent / INCOMING / name
        self.lock = self.parent / INCOMING / f"{name}.lock"
        self.placing = self.parent / INCOMING / f".{name}.lock"

    def prepare(self) -> None:
        """Makes the folders."""
        with writing(f"write below {self.parent}"):
            self.parent.mkdir(parents=True, exist_ok=True)
            make_folders(self.store, self.parent)
            self._prepare_locks()

    def _prepare_locks(self) -> None:
        make_folders(self.lock.parent, self.parent)
        self.lock.parent.chmod(0o700)

    def tidy(self) -> None:
        """Under `lock`: what a placing that was cut off has left is removed."""
        with self.alone(), writing(f"write below {self.parent}"):
            make_folders(self.staging, self.lock.parent)
            forget_claim(self.staging)
            for left in self.store.iterdir():
                if left.name.startswith("."):
                    remove_tree(left)
            _temporary(self.link).unlink(missing_ok=True)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else changes store and link meanwhile."""
        what = f"change what is at {self.link}"
        with writing(what):
            self._prepare_locks()
        with only_one(self.placing, what, PLACING_WAIT_S):
            yield

    def require_ours(self) -> None:
        if self.is_operators():
            raise AgentError(
                Code.MODEL_INVALID,
                f"cannot put a model at {self.link}: something else lies there",
                f"move {self.link} away, and it is brought",
            )

    def is_operators(self) -> bool:
        """Something is there that is not our link."""
        return os.path.lexists(self.link) and self.linked() is None

    def linked(self) -> str | None:
        """The name of the revision in use."""
        try:
            target = os.readlink(self.link)
        except OSError:
            return None
        name = target.removeprefix(f"{STORE}/{self.link.name}/")
        return name if name != target and "/" not in name and name not in ("", ".", "..") else None

    def has(self, name: str) -> bool:
        """A revision of that name is in the store, whole or not."""
        return _is_name(name) and (self.store / name).is_dir()


def list_revisions(directory: str) -> list[Revision]:
    """Those that are whole by name and size, the one in use first, then by name. A manifest that
    cannot be used is as if its revision were not there."""
    home = Home(directory)
    try:
        names = sorted(name for name in os.listdir(home.store) if not name.startswith("."))
    except OSError:
        return []
    linked = home.linked()
    found = []
    for name in names:
        folder = home.store / name
        try:
            manifest = read_manifest(folder)
        except AgentError:
            continue
        if manifest is not None and is_all_there(folder, manifest):
            found.append(Revision(name, folder, manifest, name == linked))
    return sorted(found, key=lambda one: (not one.in_use, one.name))


def remove_revision(directory: str, name: str) -> None:
    """Raises AgentError; the one in use is never removed."""
    home = Home(directory)
    if not _is_name(name):
        raise AgentError(Code.REQUEST_INVALID, f"cannot remove the revision {name!r}: no such name")
    with home.alone(), writing(f"remove {home.store / name}"):
        if home.linked() == name:
            raise AgentError(
                Code.REQUEST_INVALID,
                f"cannot remove {home.store / name}: it is in use",
                "switch to another revision first",
            )
        # Hidden first: half a revision must not look like a whole one.
        leaving = home.store / f".{name}.old"
        if (home.store / name).is_dir():
            os.rename(home.store / name, leaving)
            sync_folder(home.store)
        remove_tree(leaving)


def switch_to(home: Home, name: str) -> None:
    """From now on this revision is seen: one rename."""
    home.require_ours()
    if home.linked() == name:
        return
    with home.alone(), writing(f"switch {home.link}"):
        if not (home.store / name).is_dir():  # pruned since it was looked at
            raise AgentError(
                Code.MODEL_MISSING, f"cannot use revision {name} of {home.link}: it is not there"
            )
        temporary = _temporary(home.link)
        temporary.unlink(missing_ok=True)
        os.symlink(f"{STORE}/{home.link.name}/{name}", temporary)
        os.replace(temporary, home.link)
        sync_folder(home.parent)


def place(
    home: Home,
    manifest: Manifest,
    contents: Iterable[tuple[str, Path]],
    before: Collection[Revision] = (),
) -> str:
    """Makes a revision of checked files (path in the model, where it lies in staging), which stay
    where they are; its name. Nothing is seen of it until it is whole and synced.

    The same one that somebody else has placed meanwhile is taken; what was there `before` the files
    were brought was of no use to who brought them."""
    home.prepare()
    with home.alone():
        known = {one.name for one in before}
        for one in list_revisions(str(home.link)):
            if one.manifest == manifest and one.name not in known:
                return one.name
        return _make(home, manifest, contents)


def _make(home: Home, manifest: Manifest, contents: Iterable[tuple[str, Path]]) -> str:
    wanted = manifest.revision or digest_of(manifest)
    with writing(f"write below {home.store}"):
        name = _free_name(home.store, wanted)
        folder = home.store / f".{name}{NEW}"
        remove_tree(folder)
        folder.mkdir()
        folder.chmod(0o755)
        folders = {folder}
        for path, content in contents:
            target = folder / path
            make_folders(target.parent, folder)
            link_content(content, target)
            folders.add(target.parent)
    write_manifest(folder, manifest)
    with writing(f"write below {home.store}"):
        for one in folders:
            sync_folder(one)
        os.rename(folder, home.store / name)
        sync_folder(home.store)
    return name


def link_content(content: Path, target: Path) -> None:
    """A second name for what is checked and synced. Raises OSError."""
    try:
        os.link(content, target)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS):
            raise
        # A file system without hard links (exFAT, some NFS): a copy, synced like the original.
        shutil.copyfile(content, target)
        target.chmod(0o644)
        handle = os.open(target, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _free_name(store: Path, wanted: str) -> str:
    """What lies there under this name already was found to be wrong, and may be in use."""
    safe = "".join(
        one if one.isascii() and (one.isalnum() or one in "-_.") else "_" for one in wanted
    )
    safe = safe[:100].lstrip(".") or "revision"
    for number in range(REVISIONS_LIMIT):
        name = f"{safe}.{number}" if number else safe
        if not os.path.lexists(store / name):
            return name
    raise AgentError(
        Code.FILE_NOT_WRITTEN,
        f"cannot place {wanted}: there are {REVISIONS_LIMIT} of it in {store}",
        "remove those that are not in use",
    )


def _is_name(name: str) -> bool:
    """Of a folder in the store."""
    return name != "" and "/" not in name and not name.startswith(".")


def _temporary(link: Path) -> Path:
    return link.with_name(f".{link.name}.link")
