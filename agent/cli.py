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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, TypeVar

from agent import __version__, exits
from agent.errors import AgentError, Code
from agent.model import engine_unit, front_unit, is_instance_name
from agent.render.workload import KEY_VARIABLE, key_file, parse_key
from agent.status.chat import chat
from agent.status.client import SOCKET, AgentClient
from agent.status.npus import show_npus
from agent.status.show import show
from agent.status.snapshot import InstanceView
from agent.terminal import run_command

EXIT_NOT_SERVING = 1
EXIT_UNREACHABLE = 3
EXIT_REFUSED = 4
WATCH_EVERY_S = 1.0
# In a process of their own: they look at the host, and bring what deepseekctl does without.
PREVIEWS = {
    "render": "the unit file as it would be written, or why there can be none",
    "facts": "what a plan is made of: host, Podman, models, NPUs",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    verb_at = 2 if arguments[:1] == ["--socket"] else 0
    verb_at += sum(one.startswith("--socket=") for one in arguments[:1])
    if set(arguments[verb_at : verb_at + 1]) & set(PREVIEWS):
        _become("agent.preview", arguments[verb_at:])
    options = _parser().parse_args(arguments)

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

    status = verbs.add_parser("status", help="what runs, on which NPUs, how healthy")
    status.add_argument("--json", action="store_true", help="as JSON, with its schema number")
    status.add_argument("--watch", action="store_true", help="again every second")
    status.set_defaults(run=_status)

    talk = verbs.add_parser("chat", help="ask the model; the answer comes as it is made")
    talk.add_argument("instance")
    talk.add_argument("prompt", nargs="?", help="without it, lines are read from standard input")
    talk.set_defaults(run=_chat)

    for verb, text in PREVIEWS.items():
        verbs.add_parser(verb, help=text)

    restart = verbs.add_parser("restart", help="stop the engine, plan anew, start it")
    restart.add_argument("instance")
    restart.set_defaults(run=_restart)

    replan = verbs.add_parser("replan", help="restart it, when that brings more NPUs than it has")
    replan.add_argument("instance")
    replan.set_defaults(run=_replan)

    npus = verbs.add_parser("npus", help="the NPUs: health, readings, who uses them, faults")
    npus.add_argument("--json", action="store_true", help="as JSON, with its schema number")
    npus.add_argument("--watch", action="store_true", help="again every second")
    npus.set_defaults(run=_npus)

    _add_quarantine(verbs.add_parser("quarantine", help="set NPUs aside, or use them again"))

    logs = verbs.add_parser("logs", help="journal of the engine and of its front unit")
    logs.add_argument("instance")
    logs.add_argument("-f", "--follow", action="store_true")
    logs.add_argument("-n", "--lines", type=int, default=50)
    logs.set_defaults(run=_logs)

    config = verbs.add_parser("config", help="check the configuration, or show it as understood")
    config.add_argument("what", choices=("check", "show"))
    config.set_defaults(run=_config)
    return parser


def _add_quarantine(parser: argparse.ArgumentParser) -> None:
    what = parser.add_subparsers(required=True, metavar="add|clear")
    add = what.add_parser("add", help="no model is started on these NPUs any more")
    add.add_argument("npus", nargs="+", type=_npu, metavar="NPU")
    add.add_argument("--reason", default="")
    add.set_defaults(run=_set_aside)
    clear = what.add_parser("clear", help="they are used again, whatever their faults now")
    clear.add_argument("npus", nargs="+", type=_npu_or_host, metavar="NPU|host")
    clear.set_defaults(run=_clear)


def _npu_or_host(word: str) -> int | None:
    """None for the host, when its NPUs are not trusted."""
    return None if word == "host" else _npu(word)


def _npu(word: str) -> int:
    """A logic id. Raises ValueError, which argparse makes a message of."""
    if not word.isdecimal():
        raise ValueError(word)
    return int(word)


def _npus(options: argparse.Namespace) -> int:
    client = AgentClient(options.socket)
    _show(options, client.npus_json, client.decode_npus, show_npus)
    return 0


Shown = TypeVar("Shown")


def _show(
    options: argparse.Namespace,
    ask: Callable[[], bytes],
    decode: Callable[[bytes], Shown],
    show_text: Callable[[Shown, float], str],
) -> Shown:
    """Once, or every second until it is interrupted; as text, or as the agent wrote it. Returns
    what was shown."""
    while True:
        raw = ask()
        answer = decode(raw)
        if options.watch and sys.stdout.isatty():
            print("\033[H\033[2J", end="")
        print(raw.decode() if options.json else show_text(answer, time.time()), flush=True)
        if not options.watch:
            return answer
        time.sleep(WATCH_EVERY_S)


def _set_aside(options: argparse.Namespace) -> int:
    client = AgentClient(options.socket)
    for npu in options.npus:
        client.quarantine(npu, options.reason)
    used = {npu: one.name for one in client.status().instances for npu in one.npus}
    for npu in options.npus:
        name = used.get(npu)
        stays = f"; {name} stays on it until: deepseekctl restart {name}" if name else ""
        print(f"NPU {npu} is set aside until: deepseekctl quarantine clear {npu}{stays}")
    return 0


def _clear(options: argparse.Namespace) -> int:
    client = AgentClient(options.socket)
    for npu in options.npus:
        if npu is None:
            client.trust_host()
            print("the host is trusted again")
        else:
            client.clear(npu)
            print(f"NPU {npu} is used again; faults that are there count when they come anew")
    return 0


def _replan(options: argparse.Namespace) -> int:
    AgentClient(options.socket).replan(options.instance)
    print(f"{options.instance} is being restarted on a new plan; see: deepseekctl status --watch")
    return 0


def _status(options: argparse.Namespace) -> int:
    client = AgentClient(options.socket)
    snapshot = _show(options, client.status_json, client.decode, show)
    serving = all(one.phase == "serving" for one in snapshot.instances if one.wished)
    whole = not (
        snapshot.config_problem
        or snapshot.broken
        or snapshot.systemd_problem
        or snapshot.faults_problem
    )
    return 0 if serving and whole else EXIT_NOT_SERVING


def _chat(options: argparse.Namespace) -> int:
    view = AgentClient(options.socket).status().instance(options.instance)
    if view is None:
        raise _unknown("chat with", options.instance)
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


def _unknown(verb: str, instance: str) -> AgentError:
    return AgentError(
        Code.INSTANCE_UNKNOWN,
        f"cannot {verb} {instance!r}: there is no such instance",
        "deepseekctl status shows what there is",
    )


def _restart(options: argparse.Namespace) -> int:
    AgentClient(options.socket).restart(options.instance)
    print(f"{options.instance} is being restarted; see: deepseekctl status --watch")
    return 0


def _logs(options: argparse.Namespace) -> int:
    if not is_instance_name(options.instance):
        raise _unknown("show the logs of", options.instance)
    units = (engine_unit(options.instance), front_unit(options.instance))
    argv = ["journalctl", f"--lines={options.lines}"]
    argv += [f"--unit={unit}" for unit in units]
    if options.follow:
        argv.append("--follow")
    os.execvp(argv[0], argv)  # noqa: S606 - its output, its pager, its exit status


def _config(options: argparse.Namespace) -> int:
    """The very code that the agent runs."""
    _become("agent.config", [f"--{options.what}"])


def _become(module: str, arguments: list[str]) -> NoReturn:
    """This process goes on as that module, with its output and its exit status."""
    sys.stdout.flush()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    argv = (sys.executable, "-sPB", "-m", module, *arguments)
    os.execve(sys.executable, argv, environment)  # noqa: S606


if __name__ == "__main__":
    sys.exit(main())
