# SPDX-License-Identifier: MulanPSL-2.0
"""An image for servers of another architecture: in comes an order by its name, out comes one by the
digest that it has for them, under a name of ours.

By the name itself Podman would give it the place of this host's own image (`podman pull --arch`).
Nothing is fetched yet.
"""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, replace

from agent.errors import AgentError, Code, Failure
from agent.references import parse_reference
from agent.supplies import ImageOrder, ImageSource
from agent.supply.child import Silent, converse
from agent.supply.image import FETCHING_PATIENCE_S, PULLER


def order_foreign(
    order: ImageOrder, instance: str, architecture: str, puller: tuple[str, ...] = PULLER
) -> ImageOrder:
    """Asks its sources in their order. Raises AgentError."""
    failures: list[Failure] = []
    for source in order.sources:
        try:
            digest = _ask(puller, source, architecture)
        except AgentError as error:
            failures.append(error.failure)
            continue
        sources = tuple(_by_digest(one, digest) for one in order.sources)
        return ImageOrder(foreign_name(instance, architecture), sources)
    raise _no_source(order.reference, architecture, failures)


def foreign_name(instance: str, architecture: str) -> str:
    """That of no instance, so `deepseekctl prune` may take it."""
    return f"localhost/deepseek-agent/bundle/{instance}:{architecture}"


def _by_digest(source: ImageSource, digest: str) -> ImageSource:
    reference = parse_reference(source.reference)
    name = reference.name if reference is not None else source.reference
    return replace(source, reference=f"{name}@{digest}")


def _no_source(reference: str, architecture: str, failures: list[Failure]) -> AgentError:
    if failures:
        why, last = "; ".join(one.message for one in failures), failures[-1]
        return AgentError(last.code, why, last.hint)
    return AgentError(
        Code.IMAGE_MISSING,
        f"cannot bring {reference} for {architecture}: no registry has it",
        f"make the bundle on a machine that has it for {architecture}",
    )


def _ask(puller: tuple[str, ...], source: ImageSource, architecture: str) -> str:
    order = {"source": asdict(source), "architecture": architecture}
    try:
        with closing(converse((*puller, "digest"), order, lambda: FETCHING_PATIENCE_S)) as said:
            line: Mapping[str, object] = next(iter(said), {})
    except Silent as silent:
        raise AgentError(
            Code.SOURCE_UNREACHABLE, f"cannot ask for {source.reference}: {silent}"
        ) from silent
    if isinstance(error := line.get("error"), dict):
        code, hint = Code(str(error.get("code"))), str(error.get("hint", ""))
        raise AgentError(code, str(error.get("message")), hint)
    answer = line.get("answer")
    if not isinstance(answer, dict) or not answer.get("digest"):
        raise AgentError(Code.INTERNAL, f"cannot ask for {source.reference}: no answer came")
    return str(answer["digest"])
