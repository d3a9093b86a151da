# SPDX-License-Identifier: MulanPSL-2.0
"""What would be written, or why not: the process behind `deepseekctl render` and `facts`.

In: the configuration, and facts of this host or from a file. Out: text on standard output; exit
status 0, or that of the refusal (`exits`). Needs no running agent and no root, and changes nothing:
whoever is not root cannot ask Podman, and then the facts say so. A composition root, as daemon.py.
"""

import argparse
import asyncio
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import assert_never

import msgspec

from agent import exits
from agent.action.facts import look
from agent.config.values import Config, Profile, RendererChoice, find_profile
from agent.control.controller import HOLDING
from agent.errors import AgentError, Code, ConfigError, Failure, Remedy
from agent.facts import Facts, Neighbor, PodmanSurvey
from agent.host.config import read_config
from agent.host.containers import Podman
from agent.host.machine import LocalMachine
from agent.host.npu import read_inventory
from agent.host.process import run
from agent.model import DriverState, Inventory
from agent.plan.plan import build_plan
from agent.render.render import render
from agent.status.client import SOCKET, AgentClient
from agent.status.facts import show_facts
from agent.status.snapshot import Snapshot

NPU_SOCKET = "/run/deepseek-agent/npu.sock"
ETC, SHARE = "/etc/deepseek-agent", "/usr/share/deepseek-agent"
VERSION = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")
NO_PODMAN = (0, 0, 0)
PODMAN_DEADLINE_S = 10.0


def main(argv: Sequence[str] | None = None) -> int:
    """The process's entry point; returns the exit status."""
    options = _parser().parse_args(argv)
    try:
        sys.stdout.write(asyncio.run(options.run(options)))
    except AgentError as error:
        return _refuse(error.failure)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="deepseekctl")
    verbs = parser.add_subparsers(required=True)
    folders = argparse.ArgumentParser(add_help=False)
    folders.add_argument("--etc", metavar="DIR", default=ETC, help="instead of %(default)s")
    folders.add_argument("--share", metavar="DIR", default=SHARE, help="instead of %(default)s")

    text = "the unit file as it would be written; nothing is changed, no agent is asked"
    preview = verbs.add_parser("render", help=text, description=text, parents=[folders])
    preview.add_argument("instance")
    preview.add_argument("--facts", metavar="FILE", help="of another host; - for standard input")
    preview.add_argument("--podman-version", metavar="V", help="as if Podman were of that version")
    preview.add_argument("--cgroup", choices=("v1", "v2"), help="as if the host had booted so")
    preview.add_argument("--renderer", choices=("quadlet", "unit"), help="instead of agent.toml's")
    preview.set_defaults(run=_render)

    text = "what a plan is made of: host, Podman, models, NPUs"
    facts = verbs.add_parser("facts", help=text, description=text, parents=[folders])
    facts.add_argument("--json", action="store_true", help="as `render --facts` reads it")
    facts.set_defaults(run=_facts)
    return parser


async def _facts(options: argparse.Namespace) -> str:
    config = await _read_config(options)
    facts = await look_here(config, config.profiles)
    if options.json:
        return msgspec.json.format(msgspec.json.encode(facts), indent=2).decode() + "\n"
    return show_facts(facts)


async def _render(options: argparse.Namespace) -> str:
    config = await _read_config(options)
    profile = find_profile(config, options.instance)
    if options.facts:
        facts = read_facts(options.facts, Path(options.share))
    else:
        facts = await look_here(config, (profile,))
    plan = build_plan(profile, _as_if(facts, options))
    if isinstance(plan, Failure):
        raise AgentError(plan.code, plan.message, plan.hint)
    if not facts.podman_seen:
        sys.stderr.write(
            "deepseekctl: Podman was not asked, so the image is named and not given by its id\n"
        )
    wanted = RendererChoice(options.renderer) if options.renderer else config.renderer
    file = render(plan, wanted)
    return f"# {file.path}\n{file.text}"


def _refuse(failure: Failure) -> int:
    sys.stderr.write(f"deepseekctl: {failure.message} [{failure.code}]\n")
    if failure.hint:
        sys.stderr.write(f"  hint: {failure.hint}\n")
    match failure.remedy:
        case Remedy.PERSON:
            return exits.PERSON
        case Remedy.CHANGE:
            return exits.HELD
        case Remedy.RETRY | Remedy.EVENT:
            return exits.LATER
        case _:
            assert_never(failure.remedy)


async def _read_config(options: argparse.Namespace) -> Config:
    return await read_config(("--etc", options.etc, "--share", options.share))


# --- facts from a file ---------------------------------------------------------------------------


def read_facts(name: str, share: Path) -> Facts:
    """From a file, from standard input ("-"), or of an example in `share` by its name. Raises
    ConfigError when they cannot be understood."""
    example = share / "facts" / f"{name}.json"
    try:
        if name == "-":
            text = sys.stdin.buffer.read()
        elif "/" not in name and not Path(name).exists() and example.exists():
            text = example.read_bytes()
        else:
            text = Path(name).read_bytes()
        return msgspec.json.decode(text, type=Facts)
    except (OSError, msgspec.MsgspecError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        there = ", ".join(sorted(path.stem for path in (share / "facts").glob("*.json")))
        raise ConfigError(
            Code.CONFIG_INVALID,
            f"cannot read the facts in {name}: {why}",
            f"write them with: deepseekctl facts --json (examples: {there or 'none'})",
        ) from error


def _as_if(facts: Facts, options: argparse.Namespace) -> Facts:
    """With what the command line says instead."""
    host = facts.host
    if options.podman_version:
        host = replace(host, podman_version=parse_version(options.podman_version))
    if options.cgroup:
        host = replace(host, cgroup_version=int(options.cgroup.removeprefix("v")))
    return replace(facts, host=host)


def parse_version(text: str) -> tuple[int, int, int]:
    """Raises ConfigError for what is no version: "4.9" and "4.9.4-dev" are."""
    found = VERSION.match(text)
    if found is None:
        raise ConfigError(
            Code.CONFIG_INVALID,
            f"cannot take {text!r} for a version of Podman",
            "write it as 4.9.4",
        )
    major, minor, patch = found.groups(default="0")
    return int(major), int(minor), int(patch)


# --- facts of this host --------------------------------------------------------------------------


async def look_here(config: Config, profiles: Sequence[Profile]) -> Facts:
    """The facts for `profiles`, as far as this user may see them."""
    snapshot = await asyncio.to_thread(_ask_agent)
    if snapshot is not None and snapshot.inventory.driver is not DriverState.UNKNOWN:
        inventory = snapshot.inventory
    else:
        inventory = await read_inventory(NPU_SOCKET)
        if snapshot is None and inventory.driver is DriverState.UNKNOWN:
            silence = "neither deepseek-agent nor deepseek-npud answers"
            inventory = replace(inventory, detail=silence)
    survey, seen = await _survey(profiles, inventory)
    neighbors = _neighbors(snapshot, config) if snapshot is not None else ()
    facts = look(profiles, inventory, neighbors, survey, LocalMachine())
    if seen:
        return facts
    # Without Podman it cannot be told who listens: it may be the instance itself.
    return replace(facts, podman_seen=False, listeners=())


def _ask_agent() -> Snapshot | None:
    client = AgentClient(SOCKET)
    try:
        return client.status()
    except AgentError:
        return None
    finally:
        client.close()


async def _survey(profiles: Sequence[Profile], inventory: Inventory) -> tuple[PodmanSurvey, bool]:
    """Podman's answer, or else its version alone."""
    references = sorted({profile.image_for(inventory) for profile in profiles})
    if os.geteuid() == 0:
        try:
            return await Podman().survey(references), True
        except AgentError:
            pass  # not installed, or its socket is off
    return PodmanSurvey(await _podman_version(), (), ()), False


async def _podman_version() -> tuple[int, int, int]:
    """Podman 5.4 makes folders in the caller's HOME even for --version, and fails where it cannot;
    so it gets one that is thrown away."""
    with tempfile.TemporaryDirectory(prefix="deepseekctl-") as home:
        try:
            done = await run(
                ("podman", "--version"),
                deadline_s=PODMAN_DEADLINE_S,
                environment={"HOME": home, "XDG_RUNTIME_DIR": home},
            )
        except AgentError:
            return NO_PODMAN
    found = VERSION.search(done.output)
    return parse_version(found[0]) if found else NO_PODMAN


def _neighbors(snapshot: Snapshot, config: Config) -> tuple[Neighbor, ...]:
    up = {view.name: view.npus for view in snapshot.instances if view.phase in HOLDING}
    return tuple(
        Neighbor(profile.name, up[profile.name], profile.listen, profile.port)
        for profile in config.profiles
        if profile.name in up
    )


if __name__ == "__main__":
    sys.exit(main())
