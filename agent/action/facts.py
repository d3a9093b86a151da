# SPDX-License-Identifier: MulanPSL-2.0
"""Gathers what planning has to know, through the ports. Touches nothing; raises what they raise."""

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial

from agent.config.values import Profile
from agent.errors import Code, HostUnavailable
from agent.facts import Facts, Neighbor, PodmanSurvey
from agent.model import Inventory, Unfit
from agent.plan.plan import DRIVER_PATHS
from agent.ports import FileKind, Machine
from agent.supplies import Supply
from agent.threads import in_thread

# Names and a small file of each model, from a cold disk.
LOOK_DEADLINE_S = 20.0


def images_of(profiles: Iterable[Profile], inventory: Inventory) -> list[str]:
    """The references that these profiles have on a host with these NPUs."""
    return sorted({profile.image_for(inventory) for profile in profiles})


async def read_facts(
    profiles: Sequence[Profile],
    inventory: Inventory,
    neighbors: Iterable[Neighbor],
    survey: PodmanSurvey,
    machine: Machine,
    unfit: Iterable[Unfit] = (),
    pinned: Supply | None = None,
    deadline_s: float = LOOK_DEADLINE_S,
) -> Facts:
    """All but Podman's part; of a model that is `pinned`, that revision.

    Models and keys may be on a disk that hangs, so a thread looks. Raises HostUnavailable when it
    does not answer.
    """
    try:
        async with asyncio.timeout(deadline_s):
            look = partial(
                _read_facts, profiles, inventory, neighbors, survey, machine, tuple(unfit), pinned
            )
            # Where one hangs no second one begins: a try every few minutes for a year would leave
            # as many threads.
            return await in_thread(look, key=frozenset(_paths(profiles)))
    except TimeoutError:
        raise HostUnavailable(
            Code.DISK_SILENT,
            f"cannot look at the files of the model: no answer within {deadline_s:g} s",
            "is a network file system hung? see: dmesg, findmnt",
        ) from None


def _read_facts(
    profiles: Sequence[Profile],
    inventory: Inventory,
    neighbors: Iterable[Neighbor],
    survey: PodmanSurvey,
    machine: Machine,
    unfit: tuple[Unfit, ...],
    pinned: Supply | None,
) -> Facts:
    pids = {process.pid for npu in inventory.npus for process in npu.processes}
    return Facts(
        host=machine.facts(survey.version, DRIVER_PATHS),
        podman=survey,
        inventory=inventory,
        models=tuple(
            machine.model(path, _revision(path, pinned))
            for path in sorted({one.model for one in profiles})
        ),
        files=tuple(machine.file(path, kind) for path, kind in sorted(_files(profiles))),
        processes=tuple(machine.processes(sorted(pids))),
        listeners=tuple(machine.listeners()),
        neighbors=tuple(neighbors),
        unfit=unfit,
    )


def _revision(directory: str, pinned: Supply | None) -> str:
    """Empty: whatever is in use there."""
    if pinned is None or pinned.model_directory != directory:
        return ""
    return pinned.model_revision


def _files(profiles: Iterable[Profile]) -> set[tuple[str, FileKind]]:
    return {
        (path, kind)
        for one in profiles
        for path, kind in (
            (one.api_key_file, FileKind.API_KEY),
            (one.tls_key, FileKind.PRIVATE),
            (one.tls_certificate, FileKind.PUBLIC),
        )
        if path
    }


def _paths(profiles: Sequence[Profile]) -> set[str]:
    """Whatever is looked at that may be on another disk."""
    return {one.model for one in profiles} | {path for path, _ in _files(profiles)}
