# SPDX-License-Identifier: MulanPSL-2.0
"""`deepseekctl quarantine`: NPUs that are set aside by a person, and used again."""

import argparse
from collections.abc import Mapping, Sequence

from agent.language import tr
from agent.status.client import AgentClient


def add_quarantine(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = verbs.add_parser("quarantine", help="set NPUs aside, or use them again")
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


def _set_aside(options: argparse.Namespace) -> int:
    client = AgentClient(options.socket)
    done: list[int] = []
    used: Mapping[int, str] = {}
    try:
        for npu in options.npus:
            client.quarantine(npu, options.reason)
            done.append(npu)
        used = {npu: one.name for one in client.status().instances for npu in one.npus}
    finally:  # also what was done before one was refused
        _tell_set_aside(done, used)
    return 0


def _tell_set_aside(npus: Sequence[int], used: Mapping[int, str]) -> None:
    for npu in npus:
        name = used.get(npu)
        command = f"deepseekctl quarantine clear {npu}"
        text = tr("NPU {npu} is set aside until: {command}", npu=npu, command=command)
        if name:
            command = f"deepseekctl restart {name}"
            text += tr("; {name} stays on it until: {command}", name=name, command=command)
        print(text)


def _clear(options: argparse.Namespace) -> int:
    client = AgentClient(options.socket)
    for npu in options.npus:
        if npu is None:
            client.trust_host()
            print(tr("the host is trusted again"))
        else:
            client.clear(npu)
            text = tr(
                "NPU {npu} is used again; faults that are there count when they come anew", npu=npu
            )
            print(text)
    return 0
