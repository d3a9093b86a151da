# SPDX-License-Identifier: MulanPSL-2.0
"""Mends a revision of a model: in goes a `ModelOrder` for one that an engine cannot read, out comes
its manifest when each byte is what it was, or an AgentError.

What is wrong comes from a copy in the import folder, or from a hub. It is the same commit again,
wherever the branch of the hub is by now: anything else is an update, which has to be tried. It
stays in its folder, so that what is known by the name of that (what instances are pinned to, what
can be gone back to) stays true.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from agent.errors import AgentError, Code
from agent.host.atomic import sync_folder
from agent.supplies import Manifest, ModelFile, ModelOrder, ModelSource
from agent.supply import gone
from agent.supply.carried import Search, find_missing
from agent.supply.damaged import Damaged, look, read_all
from agent.supply.disk import make_folders, only_one, remove_tree, writing
from agent.supply.holdings import suffix_of
from agent.supply.hub.listing import Listing, RemoteFile, choose_files
from agent.supply.manifest import write_manifest
from agent.supply.meter import Meter, Tell
from agent.supply.model import (
    OF_A_SOURCE,
    Errand,
    all_failed,
    ask_hub,
    bring_from_any,
    bring_model,
    build_manifest,
    fetch,
    staged,
    threads,
)
from agent.supply.net import HubClient
from agent.supply.patience import Patience
from agent.supply.place import (
    NEW,
    Home,
    Revision,
    link_content,
    list_revisions,
    remove_revision,
)
from agent.supply.room import NO_IMAGE, ImageNeed
from agent.supply.users import PROC, find_users
from agent.supply.verify import find_problems
from agent.supply.whole import name_some

GONE_OR_SILENT = {Code.SOURCE_NOT_FOUND, Code.SOURCE_UNREACHABLE}


@dataclass(frozen=True, slots=True)
class Mended:
    """It is as it was, or as a hub has it now."""

    manifest: Manifest
    source: str = ""  # in the import folder; empty: from elsewhere, or nothing was wrong
    given_up: tuple[str, ...] = ()  # names of revisions that cannot come again


def mend_model(
    order: ModelOrder,
    parallel: int,
    keep_free_mib: int,
    tell: Tell,
    *,
    patience: Patience | None = None,
    image: ImageNeed = NO_IMAGE,
    search: Search | None = None,
    proc: Path = PROC,
) -> Mended:
    """Where names and sizes are right every byte is read first, and where all of them are right
    nobody is asked. Raises AgentError."""
    home, meter, patience = Home(order.directory), Meter(tell), patience or Patience()
    name = _choose(home, order.revision)
    if not name:
        return Mended(
            bring_model(order, parallel, keep_free_mib, tell, patience=patience, image=image)
        )
    home.prepare()
    with only_one(home.lock, f"mend {home.link}"):
        home.tidy()
        count = threads(parallel)
        errand = Errand(home, count, keep_free_mib, image, meter, patience, [], [], switch=True)
        mended = _mend(errand, order, name, search or Search())
        with writing(f"remove {home.staging}"):
            remove_tree(home.staging)
        gone.forget(home.staging)
        for one in mended.given_up:
            _remove_unused(home, one, proc)
    return mended


def _choose(home: Home, wanted: str) -> str:
    """The name of the revision that is to be mended; empty where it is an operator's, or gone by
    now."""
    linked = home.linked()
    if linked is None:
        return ""
    return next((one for one in (wanted, linked) if home.has(one)), "")


def _mend(errand: Errand, order: ModelOrder, name: str, search: Search) -> Mended:
    home = errand.home
    damaged = look(home, name, errand.meter)
    if damaged.manifest is not None and not damaged.problems:
        return Mended(damaged.manifest)
    others = [one for one in list_revisions(order.directory) if one.name != name]
    errand = replace(errand, revisions=others)
    carried = _take_carried(errand, damaged, search)
    if carried is not None:
        return carried
    if not order.sources:
        raise _no_source(home, damaged)
    same = _bring_same(errand, damaged, order.sources)
    if same is not None:
        return Mended(same)
    linked = home.linked()
    if linked is None or linked == name or not home.has(linked):
        return Mended(_bring_other(errand, order), given_up=(name,))
    # A twin has moved the link, and may run on that one: it stays in use, and is what there is now.
    mended = _mend(errand, order, linked, search)
    return replace(mended, given_up=(*mended.given_up, name))


def _take_carried(errand: Errand, damaged: Damaged, search: Search) -> Mended | None:
    """None when not all that is wrong is in the import folder; what is there is in staging then."""
    manifest, home = damaged.manifest, errand.home
    if manifest is None:
        return None
    copies = search.find(home.link.name, manifest)
    if not copies:
        return None
    paths = damaged.wrong or read_all(damaged.folder, manifest, errand.meter).keys()
    wrong = tuple(
        RemoteFile(one.path, one.size, "", one.sha256)
        for one in manifest.files
        if one.path in paths
    )
    used = search.stage(copies, errand, wrong)
    if find_missing(home.staging, wrong):
        return None
    _replace_files(errand, damaged, manifest, wrong)
    return Mended(manifest, ", ".join(str(one) for one in used))


def _no_source(home: Home, damaged: Damaged) -> AgentError:
    hint = (
        "put the bundle or the folder that it came from into /var/lib/deepseek/import, or allow "
        "that it is fetched ([supply] fetch, `sources`); then: deepseekctl restart INSTANCE"
    )
    if damaged.manifest is None:  # nothing tells whether a copy is the same
        hint = (
            "allow that it is fetched ([supply] fetch, `sources`), then: deepseekctl restart "
            f"INSTANCE; or remove {damaged.folder}, and put the model or a bundle into "
            "/var/lib/deepseek/import"
        )
    return AgentError(
        Code.MODEL_INVALID,
        f"cannot mend {home.link}, as there is no source to bring it from: "
        f"{name_some(damaged.problems)}",
        hint,
    )


def _bring_same(
    errand: Errand, damaged: Damaged, sources: tuple[ModelSource, ...]
) -> Manifest | None:
    """None where it cannot come again: its own hub does not know that commit any more at any
    address that can be reached (see `gone`), or is not among the sources, and none of them has the
    same files."""
    if not damaged.commit and damaged.manifest is None:
        return None
    failures: list[tuple[ModelSource, AgentError]] = []
    for source in sources:
        try:
            return _mend_from(errand, damaged, source)
        except AgentError as error:
            if error.failure.code not in OF_A_SOURCE:
                raise
            failures.append((source, error))
    own = [error for source, error in failures if damaged.came_from(source)]
    said = {error.failure.code for error in own or [error for _, error in failures]}
    if said == {Code.SOURCE_NOT_FOUND}:
        return None
    if said == GONE_OR_SILENT and gone.has_been_for_long(errand.home.staging):
        return None
    raise all_failed(errand.home.link, [error for _, error in failures])


def _mend_from(errand: Errand, damaged: Damaged, source: ModelSource) -> Manifest:
    if damaged.came_from(source):
        source = replace(source, revision=damaged.commit)
    client = HubClient(source, errand.parallel, errand.patience.silence_s)
    try:
        listing = ask_hub(errand, client, source)
        files = _choose_same(damaged.manifest, listing, source, client.host)
        # The last of them counts where several have a file.
        known = [*errand.revisions, _as_revision(damaged, files)]
        fetch(replace(errand, revisions=known), client, files)
    finally:
        client.close()
    manifest = damaged.manifest or build_manifest(errand, source, listing, files)
    _replace_files(errand, damaged, manifest, files)
    return manifest


def _choose_same(
    manifest: Manifest | None, listing: Listing, source: ModelSource, host: str
) -> tuple[RemoteFile, ...]:
    """Raises AgentError when the hub offers something else. Where it tells no sha256 the content
    is held to ours while it is fetched."""
    if manifest is None:
        return choose_files(listing.files, host)
    offered = {one.path: one for one in listing.files}
    found = []
    for file in manifest.files:
        one = offered.get(file.path)
        if one is None or one.size != file.size or one.sha256 not in ("", file.sha256):
            raise AgentError(
                Code.SOURCE_NOT_FOUND,
                f"cannot bring the same model again from {source.repo} on {host}: "
                f"{file.path} is another one there",
            )
        found.append(replace(one, sha256=file.sha256))
    return tuple(found)


def _as_revision(damaged: Damaged, files: Iterable[RemoteFile]) -> Revision:
    """What of it is right need not be fetched."""
    contents = tuple(ModelFile(one.path, one.size, one.sha256) for one in files if one.sha256)
    manifest = damaged.manifest or Manifest("", "", "", contents)
    return Revision(damaged.name, damaged.folder, manifest, in_use=True)


def _replace_files(
    errand: Errand, damaged: Damaged, manifest: Manifest, files: tuple[RemoteFile, ...]
) -> None:
    """One rename for each that is wrong: whoever looks sees a file that is damaged or one that is
    right. After a cut the next try finds what is left to do."""
    home, folders = errand.home, set[Path]()
    with home.alone(), writing(f"write below {damaged.folder}"):
        for path, content in staged(home, files):
            for target in (damaged.folder / path, *_same_file(errand.revisions, damaged, path)):
                if _is_same(content, target):
                    continue
                make_folders(target.parent, damaged.folder.parent)
                fresh = home.staging / NEW
                fresh.unlink(missing_ok=True)
                link_content(content, fresh)
                if target.is_dir() and not target.is_symlink():
                    remove_tree(target)
                os.replace(fresh, target)
                folders.add(target.parent)
        for folder in folders:
            sync_folder(folder)
        write_manifest(damaged.folder, manifest)


def _same_file(revisions: Iterable[Revision], damaged: Damaged, path: str) -> list[Path]:
    """Other names of it: what revisions have in common is on the disk once, damaged or not."""
    places = (one.folder / file.path for one in revisions for file in one.manifest.files)
    return [place for place in places if _is_same(damaged.folder / path, place)]


def _is_same(one: Path, other: Path) -> bool:
    with suppress(OSError):
        return os.path.samefile(one, other)
    return False


def _bring_other(errand: Errand, order: ModelOrder) -> Manifest:
    """What the hub has by now: better than nothing, and policy tells that it is another one."""
    usable = [one for one in errand.revisions if not find_problems(one.folder, one.manifest)]
    return bring_from_any(
        replace(errand, revisions=list_revisions(order.directory), usable=usable), order.sources
    )


def _remove_unused(home: Home, name: str, proc: Path) -> None:
    """Another instance may run on it, to which it is whole, or was when it was started: pruning
    takes it later, and whatever else is of no use. That knows who is pinned to what."""
    folder = home.store / name
    try:
        users = find_users({folder: suffix_of(str(folder))}, proc)
    except OSError:  # somebody could not be looked at
        return
    if not users:
        remove_revision(str(home.link), name)
