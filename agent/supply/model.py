# SPDX-License-Identifier: MulanPSL-2.0
"""Brings a model: in a `ModelOrder`, out its manifest when all of it is there, or an AgentError
that names each source and why it was of no use."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from agent.errors import AgentError, Code
from agent.supplies import Manifest, ModelFile, ModelOrder, ModelSource, Stage
from agent.supply.checksum import sha256_of
from agent.supply.disk import only_one, remove_tree, writing
from agent.supply.download import Download
from agent.supply.hub.ask import list_files
from agent.supply.hub.listing import COMMIT, Listing, RemoteFile, choose_files
from agent.supply.meter import Count, Meter, Tell
from agent.supply.net import HubClient
from agent.supply.operators import look_at_operators
from agent.supply.parts import key_of
from agent.supply.patience import Patience, ask_patiently
from agent.supply.place import (
    Home,
    Revision,
    list_revisions,
    place,
    switch_to,
)
from agent.supply.room import NO_IMAGE, ImageNeed, claim_room
from agent.supply.staging import open_parts, take_over, tidy_staging

# Of these another source may do better; all others are about this host.
OF_A_SOURCE = (
    Code.SOURCE_UNREACHABLE,
    Code.CONTENT_DAMAGED,
    Code.SOURCE_NOT_FOUND,
    Code.SOURCE_REFUSED,
    Code.SOURCE_UNTRUSTED,
    Code.CONFIG_INVALID,  # its address
)
THREADS_LIMIT = 32


@dataclass(frozen=True, slots=True)
class Errand:
    """What stays the same while one source after the other is tried."""

    home: Home
    parallel: int
    keep_free_mib: int
    image: ImageNeed
    meter: Meter
    patience: Patience
    revisions: list[Revision]  # in the store
    usable: list[Revision]  # those of them that may be what is asked for
    switch: bool  # what is brought is seen at once


def bring_model(
    order: ModelOrder,
    parallel: int,
    keep_free_mib: int,
    tell: Tell,
    *,
    switch: bool = True,
    patience: Patience | None = None,
    image: ImageNeed = NO_IMAGE,
) -> Manifest:
    """Ends when the model can be seen at its directory; without `switch`, when it is in the store.
    What lies there counts by names and sizes; see `mend` for its bytes. Raises AgentError."""
    home, meter = Home(order.directory), Meter(tell)
    if home.is_operators():
        return look_at_operators(home.link, meter)
    home.prepare()
    with only_one(home.lock, f"bring {home.link}"):
        home.tidy()
        revisions = list_revisions(order.directory)
        for revision in revisions:
            if _is_asked_for(revision, order):
                return _use(home, revision, switch)
        errand = Errand(
            home,
            threads(parallel),
            keep_free_mib,
            image,
            meter,
            patience or Patience(),
            revisions,
            usable=revisions,
            switch=switch,
        )
        return bring_from_any(errand, order.sources)


def folder_of(directory: str, manifest: Manifest) -> str:
    """The name of its folder in the store; empty for a model that is an operator's."""
    found = (one.name for one in list_revisions(directory) if one.manifest == manifest)
    return next(found, "")


def use_revision(directory: str, name: str) -> None:
    """The next start finds this one. Raises AgentError. It does not wait for what is being fetched
    for hours."""
    home = Home(directory)
    if all(one.name != name for one in list_revisions(directory)):
        raise AgentError(
            Code.MODEL_MISSING,
            f"cannot use revision {name} of {directory}: it is not there, or not whole",
        )
    switch_to(home, name)


def threads(parallel: int) -> int:
    return min(max(parallel, 1), THREADS_LIMIT)


def _is_asked_for(revision: Revision, order: ModelOrder) -> bool:
    """Without asking anybody: a pinned commit is what it is."""
    return any(
        COMMIT.fullmatch(source.revision)
        and (revision.manifest.repo, revision.manifest.revision) == (source.repo, source.revision)
        for source in order.sources
    )


def _use(home: Home, revision: Revision, switch: bool) -> Manifest:
    if switch:
        switch_to(home, revision.name)
    with writing(f"remove {home.staging}"):
        remove_tree(home.staging)
    return revision.manifest


def bring_from_any(errand: Errand, sources: Iterable[ModelSource]) -> Manifest:
    """What the first of them has that is of use. Raises AgentError."""
    failures: list[AgentError] = []
    for source in sources:
        try:
            return _bring_from(errand, source)
        except AgentError as error:
            if error.failure.code not in OF_A_SOURCE:
                raise
            failures.append(error)
    raise all_failed(errand.home.link, failures)


def all_failed(link: Path, failures: Sequence[AgentError]) -> AgentError:
    """Of several reasons the one that may pass decides."""
    if not failures:
        return AgentError(
            Code.MODEL_MISSING,
            f"cannot fetch {link}: no source is configured",
            f"name one, or copy the model to {link}",
        )
    if len(failures) == 1:
        return failures[0]
    worst = min(failures, key=lambda one: OF_A_SOURCE.index(one.failure.code))
    reasons = "; ".join(one.failure.message for one in failures)
    return AgentError(
        worst.failure.code, f"cannot fetch {link} from any source: {reasons}", worst.failure.hint
    )


def _bring_from(errand: Errand, source: ModelSource) -> Manifest:
    client = HubClient(source, errand.parallel, errand.patience.silence_s)
    try:
        listing = ask_hub(errand, client, source)
        files = choose_files(listing.files, client.host)
        for revision in errand.usable:
            if _is_same(revision.manifest, listing, files):
                return _use(errand.home, revision, errand.switch)
        fetch(errand, client, files)
    finally:
        client.close()
    return _place(errand, source, listing, files)


def ask_hub(errand: Errand, client: HubClient, source: ModelSource) -> Listing:
    """Raises AgentError."""
    show = partial(errand.meter.show, Stage.ASKING, client.host)
    show()
    return ask_patiently(
        lambda: list_files(client, source),
        errand.patience,
        lambda trouble: show(trouble=trouble),
    )


def _is_same(manifest: Manifest, listing: Listing, files: tuple[RemoteFile, ...]) -> bool:
    """Whether this revision is what the hub offers now."""
    if [(one.path, one.size) for one in manifest.files] != [(one.path, one.size) for one in files]:
        return False
    if listing.revision:
        return manifest.revision == listing.revision
    return [one.sha256 for one in manifest.files] == [one.sha256 for one in files]


def fetch(errand: Errand, client: HubClient, files: tuple[RemoteFile, ...]) -> None:
    """Then all of them are in staging, checked. Raises AgentError."""
    staging, total = errand.home.staging, sum(file.size for file in files)
    others = tidy_staging(staging, files)
    count = Count(errand.meter, Stage.CHECKING, str(staging), total)
    take_over(staging, files, errand.revisions, count.add)
    with open_parts(staging, files) as parts:

        def missing_bytes() -> int:
            return sum(part.missing_bytes() for _, part in parts)

        there = total - sum(part.size for _, part in parts)
        room = claim_room(
            "fetch the model", staging, missing_bytes(), errand.keep_free_mib, errand.image, others
        )
        with room as claimed:
            Download(
                client,
                parts,
                errand.parallel,
                errand.patience,
                lambda: claimed.look(missing_bytes()),
            ).run(
                lambda done, trouble: errand.meter.show(
                    Stage.FETCHING, client.host, there + done, total, trouble
                )
            )


def _place(
    errand: Errand, source: ModelSource, listing: Listing, files: tuple[RemoteFile, ...]
) -> Manifest:
    home = errand.home
    manifest, contents = build_manifest(errand, source, listing, files), staged(home, files)
    name = place(home, manifest, contents, errand.revisions)
    if errand.switch:
        switch_to(home, name)
    with writing(f"remove {home.staging}"):
        remove_tree(home.staging)
    return manifest


def build_manifest(
    errand: Errand, source: ModelSource, listing: Listing, files: tuple[RemoteFile, ...]
) -> Manifest:
    """Of files in staging, that are to be placed. Raises AgentError."""
    home, total = errand.home, sum(file.size for file in files)
    errand.meter.show(Stage.PLACING, str(home.link), total, total)
    with writing(f"read below {home.staging}"):
        return Manifest(
            hub=source.hub.value,
            repo=source.repo,
            revision=listing.revision,
            files=tuple(
                ModelFile(file.path, file.size, file.sha256 or sha256_of(content))
                for file, (_, content) in zip(files, staged(home, files), strict=True)
            ),
        )


def staged(home: Home, files: Iterable[RemoteFile]) -> list[tuple[str, Path]]:
    """Path in the model, and where it lies."""
    return [(file.path, home.staging / key_of(file)) for file in files]
