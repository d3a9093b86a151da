# SPDX-License-Identifier: MulanPSL-2.0
"""The whole text: every family, in a fixed order."""

from collections.abc import Iterable, Iterator

from agent.facts import OwnProcess
from agent.status.metrics.agent import AGENT, PROCESS
from agent.status.metrics.exposition import Family, Seen, expose
from agent.status.metrics.instances import INSTANCES
from agent.status.metrics.npus import NPUS, see
from agent.status.snapshot import Snapshot

# As Prometheus calls its text format; it is UTF-8.
MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def render_snapshot(snapshot: Snapshot) -> str:
    """While systemd cannot be asked nothing is told of instances: it would be old, or a guess."""
    instances = snapshot.instances if snapshot.systemd_problem is None else ()
    lines = [
        *_render(AGENT, [snapshot]),
        *_render(INSTANCES, instances),
        *_render(NPUS, tuple(see(snapshot))),
    ]
    return "".join(f"{line}\n" for line in lines)


def render_process(own: OwnProcess) -> str:
    return "".join(f"{line}\n" for line in _render(PROCESS, [own]))


def _render(families: Iterable[Family[Seen]], all_seen: Iterable[Seen]) -> Iterator[str]:
    for family in families:
        yield from expose(family, (one for seen in all_seen for one in family.read(seen)))
