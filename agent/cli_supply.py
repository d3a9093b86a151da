# SPDX-License-Identifier: MulanPSL-2.0
"""The verbs of deepseekctl about images and models: fetched, updated, checked, removed."""

import argparse
import sys
import time

from agent.errors import AgentError, Code
from agent.language import tr
from agent.status.client import AgentClient
from agent.status.disks import show_pruned
from agent.status.snapshot import FetchEnd, InstanceView
from agent.status.unknown import unknown_instance
from agent.terminal import ProgressLine, become
from agent.wording import say_supply

LOOK_EVERY_S = 1.0


def add_supply_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    pull = verbs.add_parser("pull", help="fetch image and model ahead of time")
    pull.add_argument("instance")
    pull.set_defaults(run=_pull)

    update = verbs.add_parser("update", help="try a new image or model; back by itself")
    update.add_argument("instance")
    update.add_argument("--image", default="", help="another one than its profile names")
    update.add_argument("--revision", default="", help="of the model: a branch, tag or commit")
    update.set_defaults(run=_update)

    rollback = verbs.add_parser("rollback", help="back to the image and model of before")
    rollback.add_argument("instance")
    rollback.set_defaults(run=_rollback)
    verify = verbs.add_parser("verify", help="read a model against its checksums")
    verify.add_argument("instance")
    verify.set_defaults(run=_verify)

    prune = verbs.add_parser("prune", help="remove models and images of ours that nobody uses")
    prune.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    prune.add_argument("--json", action="store_true", help="as JSON, with its schema number")
    prune.set_defaults(run=_prune)


def _pull(options: argparse.Namespace) -> int:
    """What is being fetched goes on when this is interrupted."""
    client = AgentClient(options.socket)
    before = _latest_end(client, options.instance)
    client.pull(options.instance)
    _follow_fetch(client, options.instance, before)
    print(tr("{name}: image and model are there", name=options.instance))
    return 0


def _latest_end(client: AgentClient, instance: str) -> FetchEnd | None:
    view = client.status().instance(instance)
    return None if view is None else view.fetch_end


def _follow_fetch(
    client: AgentClient, instance: str, before: FetchEnd | None, *, is_update: bool = False
) -> InstanceView:
    """To its end. Raises AgentError when it did not come to a good one. An update may have to make
    way for something else that is fetched first. `before`: the end of the one before this."""
    line = ProgressLine(sys.stdout)
    while True:
        view = client.status().instance(instance)
        if view is None:
            raise unknown_instance("fetch", instance)
        waits = is_update and view.update is not None and view.update.fetching
        if view.fetch is None and not waits:
            break
        if view.fetch is not None and view.fetch.progress is not None:
            line.show(view.fetch.progress)
        time.sleep(LOOK_EVERY_S)
    line.end()
    end = view.fetch_end
    failure = None if end is None or end == before else end.failure
    if failure is not None:
        raise AgentError(failure.code, failure.message, failure.hint)
    return view


def _update(options: argparse.Namespace) -> int:
    """What is being fetched, and the trial, go on when this is interrupted."""
    name, client = options.instance, AgentClient(options.socket)
    before = _latest_end(client, name)
    client.update(name, options.image, options.revision)
    update = _follow_fetch(client, name, before, is_update=True).update
    if update is None or update.checked_at:
        print(tr("{name} is up to date", name=name))
    elif update.undone is not None:
        raise AgentError(update.undone.failure.code, update.undone.failure.message)
    elif update.trial is not None:
        what = say_supply(update.trial)
        print(tr("{name}: {what} is there and goes on trial", name=name, what=what))
        print(tr("see: deepseekctl status --watch"))
    else:
        ended = f"cannot go on: the update of {name} was ended meanwhile"
        raise AgentError(Code.UPDATE_REFUSED, ended)
    return 0


def _rollback(options: argparse.Namespace) -> int:
    name = options.instance
    AgentClient(options.socket).rollback(name)
    text = tr("{name} goes back to what it ran on before; see: deepseekctl events", name=name)
    print(text)
    return 0


def _verify(options: argparse.Namespace) -> int:
    view = AgentClient(options.socket).status().instance(options.instance)
    if view is None:
        raise unknown_instance("verify", options.instance)
    become("agent.supply", ["verify", view.model])


def _prune(options: argparse.Namespace) -> int:
    client = AgentClient(options.socket)
    raw = client.prune_json(options.dry_run)
    print(raw.decode() if options.json else show_pruned(client.decode_pruned(raw)))
    return 0
