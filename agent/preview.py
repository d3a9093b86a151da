# SPDX-License-Identifier: MulanPSL-2.0
"""What would be written, or why not: the process behind `deepseekctl render` and `facts`.

In: the configuration, and facts of this host or from a file. Out: text on standard output; exit
status 0, or that of the refusal (`exits`). Needs no running agent and no root, and changes nothing:
whoever is not root cannot ask Podman, and then the facts say so. What an instance is pinned to is
told by the agent, else read where the agent has written it. A composition root, as daemon.py.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path, PurePosixPath

import msgspec

from agent import exits
from agent.action.facts import images_of
from agent.action.facts import read_facts as read_here
from agent.command_line import parse
from agent.config.values import Config, Profile, RendererChoice, find_profile
from agent.control.memory import decode_memory
from agent.decoding import decode_json
from agent.errors import AgentError, Code, ConfigError, Failure, Remedy, remedy
from agent.facts import SCHEMA, Facts, Neighbor, PodmanSurvey, parse_version
from agent.host.config import read_config
from agent.host.containers import Podman
from agent.host.machine import LocalMachine
from agent.host.npu import read_inventory
from agent.host.podman_version import read_podman_version
from agent.host.reading import read_regular
from agent.model import HOLDING, DriverState, Inventory
from agent.npud.devices import logic_id_of
from agent.plan.plan import build_plan
from agent.render.choose import choose_renderer
from agent.render.render import render
from agent.status.client import SOCKET, AgentClient
from agent.status.facts import show_facts
from agent.status.snapshot import Snapshot
from agent.supplies import Supply
from agent.terminal import run_command

NPU_SOCKET = "/run/deepseek-agent/npu.sock"
ETC, SHARE = "/etc/deepseek-agent", "/usr/share/deepseek-agent"
STATE = Path("/var/lib/deepseek-agent/state.json")


def main(argv: Sequence[str] | None = None) -> int:
    """The process's entry point; returns the exit status."""
    options = parse(_parser(), argv)

    def command() -> int:
        sys.stdout.write(asyncio.run(options.run(options)))
        return 0

    return run_command(command, exit_status)


def exit_status(code: Code) -> int:
    """As the front unit would end, or 75 where it would wait."""
    match remedy(code):
        case Remedy.PERSON:
            return exits.PERSON
        case Remedy.CHANGE:
            return exits.HELD
        case Remedy.RETRY | Remedy.SOON | Remedy.EVENT:
            return exits.LATER


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="deepseekctl")
    verbs = parser.add_subparsers(required=True)
    folders = argparse.ArgumentParser(add_help=False)
    folders.add_argument("--etc", metavar="DIR", default=ETC, help="instead of %(default)s")
    folders.add_argument("--share", metavar="DIR", default=SHARE, help="instead of %(default)s")

    text = "the unit file as it would be written; nothing is changed, no agent is needed"
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
    snapshot = await asyncio.to_thread(_ask_agent)
    facts, unseen = await look_here(config, config.profiles, snapshot)
    if unseen is not None:
        _warn(f"Podman was not asked: {unseen.message}")
    if options.json:
        return msgspec.json.format(msgspec.json.encode(facts), indent=2).decode() + "\n"
    return show_facts(facts)


async def _render(options: argparse.Namespace) -> str:
    config = await _read_config(options)
    profile = find_profile(config, options.instance)
    pinned = None
    if options.facts is not None:
        facts = with_model(read_facts(options.facts, Path(options.share)), profile)
    else:
        snapshot = await asyncio.to_thread(_ask_agent)
        pinned = pin_of(profile.name, snapshot, STATE)
        facts, unseen = await look_here(config, (profile,), snapshot, pinned)
        if unseen is not None and os.geteuid() == 0 and any(facts.host.podman_version):
            raise AgentError(unseen.code, unseen.message, unseen.hint)  # so would the agent
    plan = build_plan(profile, _as_if(facts, options), pinned)
    if isinstance(plan, Failure):
        raise AgentError(plan.code, plan.message, plan.hint)
    if not facts.podman_seen:
        _warn("Podman was not asked, so the image is named and not given by its id")
    if plan.degraded:
        _warn(f"degraded: {plan.degraded}")
    wanted = RendererChoice(options.renderer) if options.renderer else config.renderer
    file = render(plan, wanted)
    fitting = choose_renderer(RendererChoice.AUTO, plan.host)
    if file.renderer is RendererChoice.QUADLET and fitting is RendererChoice.UNIT:
        _warn("that host has no quadlet: its agent would fall back to a plain unit")
    return f"# {file.path}\n{file.text}"


def _warn(text: str) -> None:
    sys.stderr.write(f"deepseekctl: {text}\n")


async def _read_config(options: argparse.Namespace) -> Config:
    return await read_config(("--etc", options.etc, "--share", options.share))


# --- facts from a file ---------------------------------------------------------------------------


def read_facts(name: str, share: Path) -> Facts:
    """From a file, from standard input ("-"), or of an example in `share` by its name. Raises
    ConfigError when they cannot be understood."""
    try:
        return _check(decode_json(_read_text(name, share), Facts))
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)[:300]
        there = ", ".join(sorted(path.stem for path in (share / "facts").glob("*.json")))
        raise ConfigError(
            Code.CONFIG_INVALID,
            f"cannot read the facts in {name!r}: {why}",
            f"write them with: deepseekctl facts --json (examples: {there or 'none'})",
        ) from error


def _read_text(name: str, share: Path) -> bytes:
    example = share / "facts" / f"{name}.json"
    if name == "-":
        return sys.stdin.buffer.read()
    if name and "/" not in name and not Path(name).exists() and example.exists():
        return example.read_bytes()
    return Path(name).read_bytes()


def _check(facts: Facts) -> Facts:
    """What types do not say. Raises ValueError."""
    if facts.schema != SCHEMA:
        raise ValueError(f"schema {facts.schema} is not known here, only {SCHEMA}")
    for address in (
        *(listener.address for listener in facts.listeners),
        *(neighbor.listen for neighbor in facts.neighbors),
    ):
        ip_address(address)
    for npu in facts.inventory.npus:
        if logic_id_of(PurePosixPath(npu.device).name) != npu.logic_id:
            raise ValueError(f"{npu.device!r} is not the device of NPU {npu.logic_id}")
    if any(model.attention_heads < 0 or model.kv_heads < 0 for model in facts.models):
        raise ValueError("a model with fewer than no heads")
    return facts


def with_model(facts: Facts, profile: Profile) -> Facts:
    """A model that the facts do not know is looked for here: it is the same on every host."""
    if facts.model(profile.model) is not None:
        return facts
    here = LocalMachine().model(profile.model)
    return facts if here.problem else replace(facts, models=(*facts.models, here))


def _as_if(facts: Facts, options: argparse.Namespace) -> Facts:
    """With what the command line says instead."""
    host = facts.host
    if options.podman_version is not None:
        version = parse_version(options.podman_version)
        if version is None:
            raise ConfigError(
                Code.CONFIG_INVALID,
                f"cannot take {options.podman_version[:40]!r} for a version of Podman",
                "write it as 4.9.4",
            )
        host = replace(host, podman_version=version)
    if options.cgroup:
        host = replace(host, cgroup_version=int(options.cgroup.removeprefix("v")))
    return replace(facts, host=host)


# --- facts of this host --------------------------------------------------------------------------


async def look_here(
    config: Config,
    profiles: Sequence[Profile],
    snapshot: Snapshot | None,
    pinned: Supply | None = None,
) -> tuple[Facts, Failure | None]:
    """The facts for `profiles`, as far as this user may see them; and why Podman was not asked."""
    if snapshot is not None and snapshot.inventory.driver is not DriverState.UNKNOWN:
        inventory = snapshot.inventory
    else:
        inventory = await read_inventory(NPU_SOCKET)
        if snapshot is None and inventory.driver is DriverState.UNKNOWN:
            silence = "neither deepseek-agent nor deepseek-npud answers"
            inventory = replace(inventory, detail=silence)
    survey = await _survey(profiles, inventory, pinned)
    neighbors = neighbors_in(snapshot, config) if snapshot is not None else ()
    shared = any(config.shares_model(profile) for profile in profiles)

    async def read(seen: PodmanSurvey) -> Facts:
        pin = pinned if shared else None
        return await read_here(profiles, inventory, neighbors, seen, LocalMachine(), pinned=pin)

    if isinstance(survey, PodmanSurvey):
        return await read(survey), None
    facts = await read(PodmanSurvey(await read_podman_version(), (), ()))
    # Without Podman it cannot be told who listens: it may be the instance itself. And who may not
    # ask Podman may not read keys either.
    files = facts.files if os.geteuid() == 0 else ()
    return replace(facts, podman_seen=False, listeners=(), files=files), survey


def _ask_agent() -> Snapshot | None:
    client = AgentClient(SOCKET)
    try:
        return client.status()
    except AgentError:
        return None
    finally:
        client.close()


def pin_of(name: str, snapshot: Snapshot | None, state: Path) -> Supply | None:
    """What the next start runs on, while the profile names the same; None: what it says now."""
    view = snapshot.instance(name) if snapshot is not None else None
    if view is not None:
        return (view.update.trial or view.update.current) if view.update is not None else None
    try:
        return decode_memory(read_regular(state).decode()).of(name).update.pin
    except (OSError, ValueError):  # also of who is not root, and does not learn ids at all
        return None


async def _survey(
    profiles: Sequence[Profile], inventory: Inventory, pinned: Supply | None
) -> PodmanSurvey | Failure:
    """Podman's answer, or why there is none."""
    if os.geteuid() != 0:
        return Failure(Code.NOT_PERMITTED, "cannot ask Podman: only root may")
    ids = () if pinned is None else (pinned.image_id,)
    try:
        return await Podman().survey(sorted({*images_of(profiles, inventory), *ids}))
    except AgentError as error:
        return error.failure


def neighbors_in(snapshot: Snapshot, config: Config) -> tuple[Neighbor, ...]:
    up = {view.name: view.npus for view in snapshot.instances if view.phase in HOLDING}
    return tuple(
        Neighbor(profile.name, up[profile.name], profile.listen, profile.port)
        for profile in config.profiles
        if profile.name in up
    )


if __name__ == "__main__":
    sys.exit(main())
