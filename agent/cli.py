# SPDX-License-Identifier: MulanPSL-2.0
"""deepseekctl: what a person asks of the agent.

Exit status: 0 well, 1 an instance that is wished does not serve or a file of the configuration
cannot be used, 2 wrong usage, 3 the agent cannot be reached, 4 it refused, 78 the configuration
cannot be used.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from agent import __version__, exits
from agent.cli_acts import add_acts
from agent.cli_look import WATCH_EVERY_S, add_looks, look_of_terminal
from agent.cli_quarantine import add_quarantine
from agent.cli_supply import add_supply_verbs
from agent.command_line import parse
from agent.errors import AgentError, Code
from agent.model import (
    AGENT_UNIT,
    INSTANCE_FIELD,
    engine_unit,
    front_unit,
    is_instance_name,
)
from agent.ports import EventQuery
from agent.render.workload import KEY_VARIABLE, key_file, parse_key
from agent.status.chat import chat
from agent.status.client import SOCKET, AgentClient
from agent.status.events import show_events
from agent.status.snapshot import EventView, InstanceView
from agent.status.unknown import unknown_instance
from agent.terminal import become, run_command

EXIT_UNREACHABLE = 3
EXIT_REFUSED = 4
LOG_LINES = 50
LINES = 1000  # that one answer of the agent has at most
# In a process of their own: they look at the host, and bring what deepseekctl does without.
OTHERS = {
    "render": ("agent.preview", "the unit file as it would be written, or why there can be none"),
    "facts": ("agent.preview", "what a plan is made of: host, Podman, models, NPUs"),
    "doctor": ("agent.doctoring", "what keeps a model from serving here, and what to do about it"),
    "bundle": ("agent.bundling", "image and model onto a disk, for a host without internet"),
    "support-bundle": ("agent.support", "one file with what a developer needs from this host"),
}
IMAGE = "image"
ETC = "/etc/deepseek-agent"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    verb_at = 2 if arguments[:1] == ["--socket"] else 0
    verb_at += sum(one.startswith("--socket=") for one in arguments[:1])
    for verb in arguments[verb_at : verb_at + 1]:
        if verb in OTHERS:
            module = OTHERS[verb][0]
            become(module, arguments[verb_at + (module != "agent.preview") :])
    if arguments[verb_at : verb_at + 1] == [IMAGE]:
        become("agent.image_build", arguments[verb_at + 1 :])
    options = parse(_parser(), arguments)

    def command() -> int:
        status: int = options.run(options)
        return status

    return run_command(command, _exit_status)


def _exit_status(code: Code) -> int:
    if code is Code.AGENT_UNREACHABLE:
        return EXIT_UNREACHABLE
    return exits.PERSON if code is Code.CONFIG_INVALID else EXIT_REFUSED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="deepseekctl", description="Shows and steers the DeepSeek models of this host."
    )
    parser.add_argument("--version", action="version", version=f"deepseekctl {__version__}")
    parser.add_argument("--socket", type=Path, default=SOCKET, help=argparse.SUPPRESS)
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")

    add_looks(verbs)

    talk = verbs.add_parser("chat", help="ask the model; the answer comes as it is made")
    talk.add_argument("instance")
    talk.add_argument("prompt", nargs="?", help="without it, lines are read from standard input")
    talk.set_defaults(run=_chat)

    for verb, (_, text) in OTHERS.items():
        verbs.add_parser(verb, help=text)
    verbs.add_parser(IMAGE, help="build an image of one's own on a CANN base")

    add_acts(verbs)
    add_supply_verbs(verbs)

    add_quarantine(verbs)

    events = verbs.add_parser("events", help="what happened, why, and what was done")
    events.add_argument("instance", nargs="?", help="what is about this one alone")
    events.add_argument("--json", action="store_true", help="one JSON object for each")
    events.add_argument("-f", "--follow", action="store_true", help="and what happens from now on")
    events.add_argument("-n", "--lines", type=_count, default=50, help="so many; 50 unless said")
    events.set_defaults(run=_events)

    text = "journal of the engine, of its front unit, and what the agent says about it"
    logs = verbs.add_parser("logs", help=text)
    logs.add_argument("instance")
    logs.add_argument("-f", "--follow", action="store_true", help="and what comes from now on")
    logs.add_argument(
        "-n", "--lines", type=_count, help=f"so many; {LOG_LINES} unless said, with --since all"
    )
    logs.add_argument("--since", metavar="TIME", help="as journalctl takes it: --since=-1h, today")
    logs.set_defaults(run=_logs)

    text = "check the configuration, show it as understood, or put it in force"
    config = verbs.add_parser("config", help=text)
    config.add_argument("what", choices=("check", "show", "reload"))
    config.add_argument("--etc", metavar="DIR", default=ETC, help="instead of %(default)s")
    config.set_defaults(run=_config)
    return parser


def _count(word: str) -> int:
    """How many lines. Raises ValueError, which argparse makes a message of."""
    if not word.isdecimal() or not 0 < int(word) <= LINES:
        raise ValueError(word)
    return int(word)


def _chat(options: argparse.Namespace) -> int:
    view = AgentClient(options.socket).status().instance(options.instance)
    if view is None:
        raise unknown_instance("chat with", options.instance)
    key = _read_key(view)
    if options.prompt is not None:
        chat(view, options.prompt, sys.stdout, key)
        return 0
    prompt = "> " if sys.stdin.isatty() else ""
    while True:
        try:
            line = input(prompt).strip()
        except EOFError:
            return 0
        if line:
            chat(view, line, sys.stdout, key)


def _read_key(view: InstanceView) -> str:
    """The API key that the engine was started with: root may read it, others bring their own."""
    if given := os.environ.get(KEY_VARIABLE):
        return given
    try:
        return parse_key(Path(key_file(view.name)).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ""
    except OSError as error:
        if not view.key_file:
            return ""  # it needs none, as far as the settings tell
        raise AgentError(
            Code.NOT_PERMITTED,
            f"cannot read the API key of {view.name} in {view.key_file}: {error.strerror}",
            f"run it as root, or put the key into the variable {KEY_VARIABLE}",
        ) from error


def _events(options: argparse.Namespace) -> int:
    client = AgentClient(options.socket)
    name = options.instance or ""
    page = client.events(EventQuery(instance=name, limit=options.lines, newest=True))
    if name and not page.events and client.status().instance(name) is None:
        raise unknown_instance("show the events of", name)
    for event in page.events:
        _print_event(event, options.json)
    after = page.next
    while options.follow:
        try:
            for event in client.watch(after):
                after = event.id
                if name in ("", event.instance):
                    _print_event(event, options.json)
        except AgentError as error:
            if error.failure.code is not Code.AGENT_UNREACHABLE:
                raise
        time.sleep(WATCH_EVERY_S)  # the agent is restarted, or upgraded
    return 0


def _print_event(event: EventView, as_json: bool) -> None:
    text = (
        msgspec.json.encode(event).decode() if as_json else show_events([event], look_of_terminal())
    )
    print(text, flush=True)


def _logs(options: argparse.Namespace) -> int:
    if not is_instance_name(options.instance):
        raise unknown_instance("show the logs of", options.instance)
    argv = ["journalctl"]
    if options.since:
        argv.append(f"--since={options.since}")
    if options.lines or not options.since:
        argv.append(f"--lines={options.lines or LOG_LINES}")
    if options.follow:
        argv.append("--follow")
    argv += [word for match in _about(options.instance) for word in ("+", *match)][1:]
    os.execvp(argv[0], argv)  # noqa: S606 - its output, its pager, its exit status


def _about(instance: str) -> Iterator[tuple[str, ...]]:
    """What journalctl is to look for. It has no option for "this unit, or these lines of another",
    so units are asked for as its own --unit does: what they say, and what systemd says of them."""
    for unit in (engine_unit(instance), front_unit(instance)):
        yield (f"_SYSTEMD_UNIT={unit}",)
        yield f"UNIT={unit}", "_PID=1"
        yield f"OBJECT_SYSTEMD_UNIT={unit}", "_UID=0"
    yield f"_SYSTEMD_UNIT={AGENT_UNIT}", f"{INSTANCE_FIELD}={instance}"


def _config(options: argparse.Namespace) -> int:
    """The very code that the agent runs; or the agent, which then returns when it is in force."""
    if options.what != "reload":
        become("agent.config", [f"--{options.what}", f"--etc={options.etc}"])
    if options.etc != ETC:
        raise AgentError(
            Code.CONFIG_INVALID,
            f"cannot put {options.etc} in force: the agent reads {ETC} alone",
            "copy the files there, then: deepseekctl config reload",
        )
    AgentClient(options.socket).reload()
    return 0


if __name__ == "__main__":
    sys.exit(main())
