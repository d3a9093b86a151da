# SPDX-License-Identifier: MulanPSL-2.0
"""Brings an image: in comes an `ImageOrder`, out an image in Podman's storage under that name.

First the import folder, then the sources in their order, each a few times when its trouble may
pass. Podman keeps the layers that it has: what was cut goes on, at the next source too. The work is
done by a child (`host.images`), since podman-py is big.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from agent.errors import AgentError, Code, Failure, Remedy
from agent.references import carried_name, parse_reference
from agent.supplies import ImageOrder, ImageSource, Item, KeptImage, Progress, Stage
from agent.supply.archive_search import Search, find_archive
from agent.supply.archives import ArchiveImage
from agent.supply.child import Silent, converse, module
from agent.supply.meter import Meter
from agent.supply.pace import Pace
from agent.supply.signers import SIGNERS_FILE, require_none

NAME_HINT = "name it in the configuration as registry.example/name:tag, in small letters"
NO_DIGEST = (
    "archives have no digest: bring it in a bundle (deepseekctl bundle create INSTANCE), or have "
    "`image` name a tag"
)
STILL = "it stands still"
PAUSES_S = (5.0, 20.0)  # between the tries at one source
# Podman tells bytes each second while there are any. What it unpacks it does not tell: a layer of
# 10 GB takes minutes on a slow disk. Which of both it is `host.arrival` tells.
FETCHING_PATIENCE_S = 300.0
PLACING_PATIENCE_S = 3600.0
# Another source would not help.
OF_THIS_HOST = (
    Code.DISK_TOO_FULL,
    Code.PODMAN_UNAVAILABLE,
    Code.PODMAN_SILENT,
    Code.IMAGE_MISSING,
    Code.INTERNAL,
)

Tell = Callable[[Progress], None]
PULLER = module("agent.host.images")


@dataclass(frozen=True, slots=True)
class BroughtImage:
    """An image that is in Podman's storage."""

    image_id: str  # 64 hex digits
    digest: str  # of its manifest; empty when it came in an archive


@dataclass(frozen=True, slots=True)
class _Answer:
    """Of the child, about one image."""

    image_id: str
    digest: str
    is_new_name: bool  # nothing had the source's name before


def bring_image(
    order: ImageOrder,
    import_folder: str,
    keep_free_mib: int,
    tell: Tell,
    *,
    signers: Path = SIGNERS_FILE,
    puller: tuple[str, ...] = PULLER,
    pause: Callable[[float], None] = time.sleep,
) -> BroughtImage:
    """Raises AgentError, which says of each source why not. `puller`, `pause`: for tests."""
    if parse_reference(order.reference) is None:
        raise AgentError(
            Code.CONFIG_INVALID,
            f"cannot bring {order.reference!r}: it is no name of an image",
            NAME_HINT,
        )
    bringing = _Bringing(order, keep_free_mib, tell, puller, pause)
    tell(Progress(Item.IMAGE, Stage.ASKING, import_folder, at=time.time()))
    search = find_archive(Path(import_folder), order.reference)
    if search.image and (brought := bringing.from_archive(search.image, signers)):
        return brought
    for source in order.sources:
        if brought := bringing.from_source(source):
            return brought
    raise bringing.give_up(search, import_folder)


def refresh_image(
    order: ImageOrder,
    keep_free_mib: int,
    tell: Tell,
    *,
    puller: tuple[str, ...] = PULLER,
    pause: Callable[[float], None] = time.sleep,
) -> BroughtImage:
    """What the name means by now: at its sources; without any, in Podman's storage. An archive in
    the import folder may be older than what is in use. Raises AgentError."""
    bringing = _Bringing(order, keep_free_mib, tell, puller, pause)
    if not order.sources:
        return bringing.find()
    for source in order.sources:
        if brought := bringing.from_source(source):
            return brought
    raise bringing.give_up(Search(None), "")


def keep_image(image: KeptImage, name: str, *, puller: tuple[str, ...] = PULLER) -> None:
    """Under a name of ours, so that it is not taken for one that nobody needs; one that is gone
    needs none. Raises AgentError."""
    order = ImageOrder(name, ())
    bringing = _Bringing(order, 0, lambda progress: None, puller, time.sleep)
    try:
        bringing.keep(image.image_id)
    except AgentError as error:
        if error.failure.code is not Code.IMAGE_MISSING:
            raise
        bringing.keep("")


class _Bringing:
    """One order, and what has failed of it so far."""

    def __init__(
        self,
        order: ImageOrder,
        keep_free_mib: int,
        tell: Tell,
        puller: tuple[str, ...],
        pause: Callable[[float], None],
    ) -> None:
        self._order = order
        self._keep_free_mib = keep_free_mib
        self._tell = tell
        self._puller = puller
        self._pause = pause
        self._failures: list[Failure] = []

    def from_archive(self, image: ArchiveImage, signers: Path) -> BroughtImage | None:
        order = {"archive": asdict(image), "keep_free_mib": self._keep_free_mib}
        try:
            require_none(image.path, signers)
            answer = self._ask("load", order, image.path)
        except AgentError as error:
            if error.failure.code in OF_THIS_HOST:
                raise
            self._failures.append(error.failure)
            return None
        return self._named(answer, None)

    def from_source(self, source: ImageSource) -> BroughtImage | None:
        registry = registry_of(source.reference)
        for pause_s in (*PAUSES_S, None):
            failure = self._try(source, registry)
            if isinstance(failure, BroughtImage):
                return failure
            if failure.remedy is not Remedy.RETRY or pause_s is None:
                self._failures.append(failure)
                break
            now = time.time()
            self._tell(
                Progress(Item.IMAGE, Stage.ASKING, registry, trouble=failure.message, at=now)
            )
            self._pause(pause_s)
        return None

    def find(self) -> BroughtImage:
        answer = self._ask("find", {"reference": self._order.reference}, "podman")
        return BroughtImage(answer.image_id, answer.digest)

    def keep(self, image_id: str) -> None:
        """Without an id nothing has that name any more."""
        name = {"image_id": image_id, "reference": self._order.reference}
        self._ask("tag" if image_id else "untag", name, "podman")

    def _try(self, source: ImageSource, registry: str) -> BroughtImage | Failure:
        """Raises AgentError for what no other source would help against."""
        order = {"source": asdict(source), "keep_free_mib": self._keep_free_mib}
        try:
            return self._named(self._ask("pull", order, registry), source)
        except AgentError as error:
            if error.failure.code in OF_THIS_HOST:
                raise
            return error.failure

    def give_up(self, search: Search, import_folder: str) -> AgentError:
        """What a later try may mend is told as such, though other sources want a person."""
        reasons = [failure.message for failure in self._failures]
        reasons += [f"{import_folder}/{one}" for one in search.unusable]
        if not self._failures:
            code = Code.SOURCE_UNREACHABLE if search.is_settling else Code.IMAGE_MISSING
            hint = f"put an archive of it into {import_folder} (podman save -o FILE.tar IMAGE)"
            hint = NO_DIGEST if carried_name(self._order.reference) else hint
            reasons = reasons or [f"no archive in {import_folder} holds it, and there is no source"]
        else:
            retried = [one for one in self._failures if one.remedy is Remedy.RETRY]
            told = (retried or self._failures)[-1]
            code, hint = told.code, told.hint
        return AgentError(code, f"cannot bring {self._order.reference}: {'; '.join(reasons)}", hint)

    def _named(self, answer: _Answer, source: ImageSource | None) -> BroughtImage:
        """Under the name by which it was ordered, and no other that we have made."""
        brought = BroughtImage(answer.image_id, answer.digest)
        if source is None or parse_reference(source.reference) != parse_reference(
            self._order.reference
        ):
            name = {"image_id": brought.image_id, "reference": self._order.reference}
            self._ask("tag", name, "podman")
            if source is not None and answer.is_new_name:
                self._drop_name(source.reference)
        return brought

    def _drop_name(self, reference: str) -> None:
        """Of a mirror. What cannot be dropped is a name too many, and goes with the image; Podman
        drops none with a digest."""
        parsed = parse_reference(reference)
        if parsed is not None and not parsed.digest:
            with suppress(AgentError):
                self._ask("untag", {"image_id": "", "reference": reference}, "podman")

    def _ask(self, verb: str, order: object, source: str) -> _Answer:
        """Raises AgentError."""
        stage, meter, arrival = Stage.ASKING, Meter(self._tell, Item.IMAGE), _Arrival()

        def patience_s() -> float:
            placing = stage is Stage.PLACING or verb != "pull"
            return PLACING_PATIENCE_S if placing else FETCHING_PATIENCE_S

        try:
            with closing(converse((*self._puller, verb), order, patience_s)) as said:
                for line in said:
                    if "answer" in line or "error" in line:
                        return _answer(line)
                    stage, done, total = _progress(line)
                    arrival.count(stage, done)
                    meter.show(stage, source, done, total)
        except Silent as silent:
            raise AgentError(
                Code.SOURCE_UNREACHABLE, f"cannot get on with {source}: {silent}"
            ) from silent
        except TimeoutError as trickle:
            raise AgentError(
                Code.SOURCE_UNREACHABLE, f"cannot get on with {source}: {STILL}"
            ) from trickle
        raise AgentError(Code.INTERNAL, f"cannot {verb} from {source}: no answer came")


class _Arrival:
    """Of the bytes of a pull. Podman tells of each, so one that trickles is never silent."""

    def __init__(self) -> None:
        self._pace = Pace(FETCHING_PATIENCE_S)
        self._done = 0
        self._at: float | None = None  # of the latest line, while it was about fetching

    def count(self, stage: Stage, done: int) -> None:
        """Raises TimeoutError. Bytes that have to come again are not taken away."""
        now = time.monotonic()
        if stage is Stage.FETCHING and self._at is not None:
            self._pace.count(max(done - self._done, 0), now - self._at)
        self._done, self._at = done, now if stage is Stage.FETCHING else None


def registry_of(reference: str) -> str:
    """What comes before the name; the text itself when it is no reference."""
    parsed = parse_reference(reference)
    return parsed.registry if parsed else reference


def _answer(line: Mapping[str, object]) -> _Answer:
    error, answer = line.get("error"), line.get("answer")
    if isinstance(error, dict):
        code = Code(str(error.get("code")))
        raise AgentError(code, str(error.get("message")), str(error.get("hint", "")))
    if not isinstance(answer, dict) or not answer.get("image_id"):
        raise AgentError(Code.INTERNAL, f"cannot understand {line!r}: it names no image")
    return _Answer(
        image_id=str(answer["image_id"]),
        digest=str(answer.get("digest", "")),
        is_new_name=answer.get("is_new_name") is True,
    )


def _progress(line: Mapping[str, object]) -> tuple[Stage, int, int]:
    """Stage, bytes that are there, bytes of all."""
    said = line.get("progress")
    told = said if isinstance(said, dict) else {}
    stage = Stage(str(told.get("stage", Stage.ASKING)))
    return stage, int(told.get("done", 0)), int(told.get("total", 0))
