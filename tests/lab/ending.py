# SPDX-License-Identifier: MulanPSL-2.0
"""How it all ended: the whole of a lab host, compared with what the last commands said.

In: which instances shall serve or be held; every other one shall be stopped. Out: an AssertionError
that names what differs. Nothing may be left over, and it has to stay so for a while.
"""

import contextlib
import json
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum

from agent.model import container_name, engine_unit, front_unit

from . import product
from .host import LabHost
from .process import LabError

PORT = 2023
# So many instances beside 8b, with the ports after its own: things can be tried on all at once.
TWINS = tuple(f"twin{number}" for number in range(1, 7))
PORTS = {name: PORT + number * 10 for number, name in enumerate(("8b", *TWINS))}
PROFILE = """
served_name = "{name}"
model = "DeepSeek-R1-Distill-Llama-8B"
port = {port}
{more}
[needs]
cpu_cores = 1
ram_gib = 1
disk_gib = 1
"""
STAYS_S = 3.0
# These are deadlines for states, on a machine that may be busy; none of it is a measurement.
ENDS_LIMIT_S = 60.0
LOOK_EVERY_S = 0.1
LOOK = r"""
units=$1 fronts=$2 ports=$3
systemctl show --property=ActiveState --property=ExecMainStatus $fronts | xargs
systemctl show --property=ActiveState --value $units | xargs
podman ps --all --no-trunc --format='{{.Names}} {{.ID}} {{.Status}}' |
    sort | cut -d' ' -f1-3 | xargs
grep -hoE 'libpod-.*' /proc/[0-9]*/cgroup 2>&- | grep -oE '[0-9a-f]{64}' | sort -u | wc -l
ss -Hltn $ports | wc -l
systemctl list-units --failed --plain --no-legend 'deepseek*' | cut -d' ' -f1 | sort | xargs
systemctl list-jobs --plain --no-legend 'deepseek*' | xargs
deepseekctl status --json 2>/dev/null || true
"""
TELL = r"""
deepseekctl status | grep -v 'not started'
journalctl -b -n 300 --no-pager -o short-precise -t systemd -t agentd -t attach |
    grep -E 'deepseek|agentd|attach' | tail -n 80
"""
# Counts the containers that have processes, again and again, until the file is there.
COUNT = r"""
import glob, os, re, sys, time
most = 0
while not os.path.exists(sys.argv[1]):
    seen = set()
    for path in glob.glob("/proc/[0-9]*/cgroup"):
        try:
            text = open(path).read()
        except OSError:
            continue
        seen.update(re.findall(r"libpod-(?:payload-)?([0-9a-f]{64})", text))
    most = max(most, len(seen))
    time.sleep(0.01)
print(most)
"""
COUNTED = "/run/lab-counted"


class Ending(StrEnum):
    SERVING = "serving"
    STOPPED = "idle"
    HELD = "held"  # and the unit is enabled, so the wish stands
    HELD_ONCE = "held, not enabled"
    STOPPED_OR_KILLED = "idle; the main process of the front unit may have been killed on the way"


@dataclass(frozen=True, slots=True)
class Picture:
    """One look at a host. `front` is the state, for a failed one with its exit status."""

    front: dict[str, str]
    engine: dict[str, str]
    told: dict[str, str]  # wished or not, and the phase; empty when the agent does not answer
    containers: tuple[str, ...]  # with the first word of Podman's status
    failed: tuple[str, ...]
    jobs: str  # of systemd, with these units
    ports: int  # of all instances, listening
    payloads: int  # containers that have processes
    ids: tuple[str, ...] = field(compare=False)  # of the containers


def add_twins(host: LabHost) -> None:
    """Profiles like that of 8b, which a lab host can run all at once."""
    for name in TWINS:
        add_profile(host, name)


def add_profile(host: LabHost, name: str, more: str = "") -> None:
    text = PROFILE.format(name=name, port=PORTS[name], more=more)
    host.write(f"/etc/deepseek-agent/models.d/{name}.toml", text)


def look(host: LabHost) -> Picture:
    names = list(PORTS)
    fronts = " ".join(map(front_unit, names))
    units = " ".join(map(engine_unit, names))
    ports = " or ".join(f"sport = :{port}" for port in PORTS.values())
    done = host.run(["sh", "-c", LOOK, "sh", units, fronts, ports])
    front, engine, containers, payloads, listening, failed, jobs, told = done.stdout.split("\n", 7)
    words = containers.split()
    return Picture(
        front=dict(zip(names, _fronts(front), strict=True)),
        engine=dict(zip(names, engine.split(), strict=True)),
        told=_told(told),
        containers=tuple(f"{words[at]} {words[at + 2]}" for at in range(0, len(words), 3)),
        failed=tuple(failed.split()),
        jobs=jobs,
        ports=int(listening),
        payloads=int(payloads),
        ids=tuple(words[1::3]),
    )


def _fronts(text: str) -> Iterator[str]:
    """systemd shows the two properties of each unit in an order of its own."""
    words = sorted(enumerate(text.split()), key=lambda one: (one[0] // 2, one[1]))
    for (_, state), (_, status) in zip(words[::2], words[1::2], strict=True):
        name = state.partition("=")[2]
        yield f"failed {status.partition('=')[2]}" if name == "failed" else name


def _told(text: str) -> dict[str, str]:
    if not text.strip():
        return {}
    instances = {one["name"]: one for one in json.loads(text)["instances"]}
    wished = {True: "wished", False: "not wished"}
    return {
        name: f"{wished[instances[name]['wished']]}, {instances[name]['phase']}" for name in PORTS
    }


def expected(endings: Mapping[str, Ending], *, agent: bool = True) -> Picture:
    """`agent`: whether there is one to be asked."""
    every = {name: endings.get(name, Ending.STOPPED) for name in PORTS}
    serving = sorted(name for name, one in every.items() if one is Ending.SERVING)
    held = sorted(name for name, one in every.items() if one in (Ending.HELD, Ending.HELD_ONCE))
    front = {Ending.SERVING: "active", Ending.HELD: "failed 69", Ending.HELD_ONCE: "failed 69"}
    told = {Ending.SERVING: "wished, serving", Ending.HELD: "wished, held"}
    return Picture(
        front=_map(front, "inactive", every),
        engine={name: "active" if name in serving else "inactive" for name in PORTS},
        told={name: told.get(one, "not wished, idle") for name, one in every.items()}
        if agent
        else {},
        containers=tuple(f"{name} Up" for name in sorted(map(container_name, serving))),
        failed=tuple(sorted(map(front_unit, held))),
        jobs="",
        ports=len(serving),
        payloads=len(serving),
        ids=(),
    )


def _map(words: Mapping[Ending, str], other: str, endings: Mapping[str, Ending]) -> dict[str, str]:
    return {name: words.get(one, other) for name, one in endings.items()}


def excuse(seen: Picture, endings: Mapping[str, Ending]) -> Picture:
    """A front unit that was killed on its way down is failed, and no wish."""
    killed = [
        name
        for name, one in endings.items()
        if one is Ending.STOPPED_OR_KILLED and seen.front[name] == "failed 9"
    ]
    return replace(
        seen,
        front={**seen.front, **dict.fromkeys(killed, "inactive")},
        failed=tuple(one for one in seen.failed if one not in map(front_unit, killed)),
    )


def ends(
    host: LabHost,
    endings: Mapping[str, Ending],
    *,
    agent: bool = True,
    limit_s: float = ENDS_LIMIT_S,
    stays_s: float = STAYS_S,
) -> None:
    """It becomes so within the limit, then stays so, with the same containers; 8b answers."""
    wanted = expected(endings, agent=agent)
    deadline = time.monotonic() + limit_s
    while excuse(seen := look(host), endings) != wanted:
        assert time.monotonic() < deadline, f"after {limit_s} s {_differ(host, seen, wanted)}"
        time.sleep(LOOK_EVERY_S)
    until = time.monotonic() + stays_s
    while time.monotonic() < until:
        later = look(host)
        assert (later, later.ids) == (seen, seen.ids), f"it changed: {_differ(host, later, seen)}"
        time.sleep(LOOK_EVERY_S)
    if endings.get("8b") is Ending.SERVING:
        assert product.ask(host) is not None, tell(host)


def settled(host: LabHost) -> dict[str, Ending]:
    """What each ended in, serving or stopped, as its front unit says; the rest has to agree."""
    deadline = time.monotonic() + ENDS_LIMIT_S
    while True:
        seen = look(host)
        active = {name: Ending.SERVING for name in PORTS if seen.front[name] == "active"}
        if seen == expected(active):
            return active
        assert time.monotonic() < deadline, _differ(host, seen, expected(active))
        time.sleep(LOOK_EVERY_S)


def tell(host: LabHost) -> str:
    """For a failure's message: what the agent says, and how it came to that."""
    return host.run(["sh", "-c", TELL], check=False).stdout


def _differ(host: LabHost, seen: Picture, wanted: Picture) -> str:
    now, then = asdict(seen), asdict(wanted)
    differs = [f"{key}: {now[key]}, not {then[key]}" for key in now if now[key] != then[key]]
    return "\n".join([*differs, tell(host)])


@contextlib.contextmanager
def counting(host: LabHost) -> Iterator[list[int]]:
    """The list has the largest number of containers at a time when the block has ended."""
    most: list[int] = []

    def count() -> None:
        with contextlib.suppress(LabError):
            most.append(int(host.run(["python3", "-c", COUNT, COUNTED], timeout_s=300).stdout))

    host.run(["rm", "-f", COUNTED])
    counter = threading.Thread(target=count)
    counter.start()
    try:
        yield most
    finally:
        host.run(["touch", COUNTED])
        counter.join()
