# SPDX-License-Identifier: MulanPSL-2.0
"""What an engine of an instance whose unit is down has left behind. Pure.

Unit state is not container state: where the payload has a scope of its own, killing conmon, or the
unit, leaves the engine running, and it keeps its NPUs (design, section 3; tried on cgroup v1).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from agent.facts import ContainerFacts, PayloadFacts, PodmanSurvey
from agent.model import container_name, engine_unit


@dataclass(frozen=True, slots=True)
class Leftovers:
    """To be cleared before the next start."""

    containers: tuple[ContainerFacts, ...]  # of this instance, under whatever name
    payloads: tuple[PayloadFacts, ...]  # processes of theirs, or of one of its that is gone
    # Of a container that is gone: another instance's, whose unit is down, or nobody knows whose.
    strays: tuple[PayloadFacts, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.containers or self.payloads or self.strays)

    def of_sweep(self) -> "Leftovers":
        """What others left is theirs to clear; what may be its own is told of."""
        maybe_own = tuple(one for one in self.strays if not one.unit)
        return Leftovers(self.containers, self.payloads + maybe_own)


def find_leftovers(
    instance: str,
    payloads: Sequence[PayloadFacts],
    survey: PodmanSurvey,
    in_use: Collection[str] = (),
    outlived: Collection[PayloadFacts] = (),
    known: Collection[PayloadFacts] = (),
) -> Leftovers:
    """`payloads` have to be looked for before `survey`: then one whose container Podman does not
    list has lost it, and is not one that has just been started. `in_use`: units of others that are
    not down. What runs in them serves, and Podman alone has lost it. `outlived`: strays that did
    not end by SIGKILL, and will do nothing any more but hold what they hold. `known`: what an
    earlier look found to be its own, whatever is left by now to tell it."""
    containers = tuple(one for one in survey.containers if is_of(instance, one))
    own = {one.container_id for one in containers}
    lost = find_lost(payloads, survey)
    unit = engine_unit(instance)
    # Not by its unit, which nobody may know any more.
    over, before = ({(one.pid, one.started) for one in some} for some in (outlived, known))
    its = tuple(
        one
        for one in payloads
        if one.container_id in own
        or (one.unit == unit and one in lost)
        or (one.pid, one.started) in before
    )
    strays = (one for one in lost if one.unit not in (unit, *in_use) and one not in its)
    return Leftovers(
        containers,
        its,
        tuple(one for one in strays if (one.pid, one.started) not in over),
    )


def find_lost(payloads: Sequence[PayloadFacts], survey: PodmanSurvey) -> Sequence[PayloadFacts]:
    """Those whose container Podman does not list. It forgets one that it takes for stopped, and
    all of them when its database is moved, reset or given up for another (podman#28216)."""
    known = {one.container_id for one in survey.containers}
    return [one for one in payloads if one.container_id not in known]


def is_of(instance: str, container: ContainerFacts) -> bool:
    """By its label too: a person may have renamed it."""
    return container.name == container_name(instance) or container.unit == engine_unit(instance)
