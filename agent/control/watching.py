# SPDX-License-Identifier: MulanPSL-2.0
"""What runs beside an engine that is up: its probe, its guard, the search for its container. Called
by the pilot, after policy has decided."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import structlog

from agent.action.prepare import find_container
from agent.control.messages import ContainerFound
from agent.control.record import UP, PortCare, Record
from agent.control.tasks import Tasks
from agent.control.work_seen import WorkSeen
from agent.control.worker import Worker
from agent.errors import AgentError
from agent.model import Phase, container_name
from agent.ports import ContainerEngine

log = structlog.get_logger(__name__)

# Podman is looked after meanwhile (`action.healing`).
SEARCH_AGAIN_S = 15.0
SEARCH_AGAIN_MAX_S = 60.0


class Watching:
    """Begins and ends them with the phases."""

    def __init__(self, worker: Worker, tasks: Tasks) -> None:
        self._worker = worker
        self._tasks = tasks

    def follow(self, record: Record, before: Phase) -> None:
        self._follow_probe(record)
        self._follow_guard(record)
        self._follow_search(record, before)

    def _follow_probe(self, record: Record) -> None:
        """A probe runs exactly while the instance loads."""
        loading = record.state.phase is Phase.LOADING
        if loading and record.probe is None:
            record.probe = self._tasks.spawn(self._worker.watch(record.in_force))
            # Of the engine before this one.
            record.container, record.metrics = None, ""
        elif not loading and record.probe is not None:
            record.probe.cancel()
            record.probe = None

    def _follow_guard(self, record: Record) -> None:
        """It is watched exactly while it serves."""
        serving = record.state.phase is Phase.SERVING
        if serving and record.guard is None:
            if record.engine is not None:
                record.answered_as = record.engine.invocation_id
            record.work = WorkSeen()
            watch = self._worker.guard(record.in_force, lambda: record.container, record.work.take)
            record.guard = self._tasks.spawn(watch)
        elif not serving and record.guard is not None:
            record.guard.cancel()
            record.guard, record.ill, record.port = None, None, PortCare()
            record.uncounted = None
            record.work = WorkSeen()

    def _follow_search(self, record: Record, before: Phase) -> None:
        """Without its container a port that is cut cannot be told from an engine that is dead, and
        none that hangs be killed: it is searched for as long as the engine is up."""
        up = record.state.phase in UP
        if up and before not in UP and record.container is None:
            record.search_over = asyncio.Event()
            podman, put = self._worker.actions.podman, self._worker.put
            self._tasks.spawn(search(record.name, podman, put, record.search_over))
        elif not up:
            record.search_over.set()


async def search(
    instance: str,
    podman: ContainerEngine,
    put: Callable[[ContainerFound], None],
    over: asyncio.Event,
) -> None:
    """What is asked of Podman is not broken off when it is `over`: that may be the mending of its
    API."""
    name, told, again_s = container_name(instance), "", SEARCH_AGAIN_S
    while not over.is_set():
        found, why = None, f"Podman knows no container {name}"
        try:
            found = find_container(await podman.survey(()), name)
        except AgentError as error:
            why = error.failure.message
        except Exception as error:  # the root of a task
            log.exception("internal-error", instance=instance)
            why = repr(error)
        if over.is_set():
            return
        if found is not None:
            put(ContainerFound(instance, *found))
            return
        if why != told:
            log.warning("adoption-incomplete", instance=instance, reason=why)
            told = why
        with suppress(TimeoutError):
            async with asyncio.timeout(again_s):
                await over.wait()
        again_s = min(2 * again_s, SEARCH_AGAIN_MAX_S)
