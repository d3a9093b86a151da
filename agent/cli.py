# SPDX-License-Identifier: MulanPSL-2.0
"""deepseekctl: what a person asks of the agent.

Exit status: 0 well, 1 an instance that is wished does not serve, 2 wrong usage, 3 the agent cannot
be reached, 4 it refused, 78 the configuration cannot be used.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from agent import __version__, exits
from agent.errors import AgentError, Code
from agent.model import engine_unit, front_unit
from agent.status.chat import chat
from agent.status.client import SOCKET, AgentClient
from agent.status.show import show

EXIT_NOT_SERVING = 1
EXIT_UNREACHABLE = 3
EXIT_REFUSED = 4
WATCH_EVERY_S = 1.0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command."""
    options = _parser().parse_args(argv)
    try:
        status: int = options.run(options)
    except AgentError as error:
        failure = error.failure
        print(f"deepseekctl: {failure.message}", file=sys.stderr)
        if failure.hint:
            print(f"  hint: {failure.hint}", file=sys.stderr)
        return _exit_status(failure.code)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing at exit either
        return 141
    return status


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

    render = verbs.add_parser("render", help="the unit file as it would be written now")
    render.add_argument("instance")
    render.set_defaults(run=_render)

    restart = verbs.add_parser("restart", help="stop the engine, plan anew, start it")
    restart.add_argument("instance")
    restart.set_defaults(run=_restart)

    logs = verbs.add_parser("logs", help="journal of the engine and of its front unit")
    logs.add_argument("instance")
    logs.add_argument("-f", "--follow", action="store_true")
    logs.add_argument("-n", "--lines", type=int, default=50)
    logs.set_defaults(run=_logs)

    config = verbs.add_parser("config", help="check the configuration, or show it as understood")
    config.add_argument("what", choices=("check", "show"))
    config.set_defaults(run=_config)
    return parser


def _status(options: argparse.Namespace) -> int:
    client = AgentClient(options.socket)
    while True:
        raw = client.status_json()
        snapshot = client.decode(raw)
        if options.watch and sys.stdout.isatty():
            print("\033[H\033[2J", end="")
        print(raw.decode() if options.json else show(snapshot, time.time()), flush=True)
        if not options.watch:
            serving = all(one.phase == "serving" for one in snapshot.instances if one.wished)
            return 0 if serving and snapshot.config_problem is None else EXIT_NOT_SERVING
        time.sleep(WATCH_EVERY_S)


def _chat(options: argparse.Namespace) -> int:
    view = AgentClient(options.socket).status().instance(options.instance)
    if view is None:
        raise AgentError(
            Code.INSTANCE_UNKNOWN,
            f"cannot chat with {options.instance}: there is no such instance",
            "deepseekctl status shows what there is",
        )
    if options.prompt is not None:
        chat(view, options.prompt, sys.stdout)
        return 0
    prompt = "> " if sys.stdin.isatty() else ""
    while True:
        try:
            line = input(prompt).strip()
        except EOFError:
            return 0
        if line:
            chat(view, line, sys.stdout)


def _render(options: argparse.Namespace) -> int:
    print(AgentClient(options.socket).render(options.instance), end="")
    return 0


def _restart(options: argparse.Namespace) -> int:
    AgentClient(options.socket).restart(options.instance)
    print(f"{options.instance} is being restarted; see: deepseekctl status --watch")
    return 0


def _logs(options: argparse.Namespace) -> int:
    units = (engine_unit(options.instance), front_unit(options.instance))
    argv = ["journalctl", f"--lines={options.lines}"]
    argv += [f"--unit={unit}" for unit in units]
    if options.follow:
        argv.append("--follow")
    os.execvp(argv[0], argv)  # noqa: S606 - its output, its pager, its exit status


def _config(options: argparse.Namespace) -> int:
    """In a process of its own, the very code that the agent runs."""
    done = subprocess.run(
        (sys.executable, "-sP", "-m", "agent.config", f"--{options.what}"),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        check=False,
    )
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
