# SPDX-License-Identifier: MulanPSL-2.0
"""The verbs of deepseekctl that show how it is: once, or again and again."""

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable
from itertools import chain, repeat
from typing import TypeVar

from agent.screen import Screen
from agent.status.client import AgentClient
from agent.status.npus import show_npus
from agent.status.page import Look
from agent.status.show import show
from agent.status.top import Paces, show_top
from agent.status.verdict import is_well

EXIT_NOT_SERVING = 1
WATCH_EVERY_S = 1.0
TOP_EVERY_S = 2.0  # as often as the agent asks an engine

Shown = TypeVar("Shown")


def add_looks(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    status = verbs.add_parser("status", help="what runs, on which NPUs, how healthy")
    _add_how(status)
    status.set_defaults(run=_status)

    text = "live: what models and NPUs do now; q ends it"
    verbs.add_parser("top", help=text).set_defaults(run=_top)

    text = "the NPUs: health, readings, who uses them, faults"
    npus = verbs.add_parser("npus", help=text)
    _add_how(npus)
    npus.set_defaults(run=_npus)


def _add_how(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="as JSON, with its schema number")
    parser.add_argument("--watch", action="store_true", help="again every second; q ends it")


def _status(options: argparse.Namespace) -> int:
    client = AgentClient(options.socket)
    snapshot = _show(options, client.status_json, client.decode, show)
    return 0 if is_well(snapshot) else EXIT_NOT_SERVING


def _npus(options: argparse.Namespace) -> int:
    client = AgentClient(options.socket)
    _show(options, client.npus_json, client.decode_npus, show_npus)
    return 0


def _show(
    options: argparse.Namespace,
    ask: Callable[[], bytes],
    decode: Callable[[bytes], Shown],
    show_text: Callable[[Shown, float, Look], str],
) -> Shown:
    """Once, or every second until it is ended; as text, or as the agent wrote it. Returns what was
    shown."""
    screen = Screen(moves=sys.stdout.isatty() and options.watch and not options.json)
    with screen.opened():
        while True:
            raw = ask()
            answer = decode(raw)
            look = look_of_terminal(scrolls=not screen.moves)
            text = raw.decode() if options.json else show_text(answer, time.time(), look)
            screen.show(text)
            if not options.watch or not screen.wait(WATCH_EVERY_S):
                return answer


def _top(options: argparse.Namespace) -> int:
    """On a terminal until it is ended; elsewhere one page, once there is something to compare."""
    client, paces = AgentClient(options.socket), Paces()
    screen = Screen(moves=sys.stdout.isatty())
    with screen.opened():
        for is_first in chain((True,), repeat(False)):
            npus = client.decode_npus(client.npus_json())  # read now: what follows is as fresh
            snapshot = client.status()
            paces.take(snapshot)
            if screen.moves or not is_first:
                screen.show(show_top(snapshot, npus, paces, look_of_terminal()))
            if not is_first and not screen.moves:
                break
            if not screen.wait(TOP_EVERY_S):
                break
    return 0


def look_of_terminal(*, scrolls: bool = False) -> Look:
    """Color for a terminal alone, and not where it is unwanted (no-color.org)."""
    if not sys.stdout.isatty():
        return Look()
    color = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    size = shutil.get_terminal_size()
    return Look(size.columns, color, size.lines if scrolls else None)
