# SPDX-License-Identifier: MulanPSL-2.0
"""The verbs of deepseekctl that have something done with an instance, and may wait for its end."""

import argparse
import sys
import time

from agent.errors import AgentError
from agent.language import tr, translate
from agent.status.changes import Outcome
from agent.status.client import AgentClient

LOOK_EVERY_S = 0.5
ACTS = {
    "start": (
        "as systemctl start, for members of the group deepseek too",
        "{name} is being started; see: deepseekctl status --watch",
    ),
    "stop": (
        "as systemctl stop: until it is started, or a boot",
        "{name} is being stopped; see: deepseekctl status --watch",
    ),
    "restart": (
        "stop the engine, plan anew, start it",
        "{name} is being restarted; see: deepseekctl status --watch",
    ),
    "replan": (
        "restart it, when that brings more NPUs than it has",
        "{name} is being restarted anew; see: deepseekctl status --watch",
    ),
    "hold": (
        "stop it, and do not start it whoever wishes it",
        "{name} is being stopped, on hold; see: deepseekctl status --watch",
    ),
    "release": (
        "it is not on hold any more",
        "{name} is not on hold any more; see: deepseekctl status --watch",
    ),
}


def add_acts(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    for verb, (text, _) in ACTS.items():
        parser = verbs.add_parser(verb, help=text)
        parser.add_argument("instance")
        parser.add_argument("--wait", action="store_true", help="until it is done, or has failed")
        if verb == "hold":
            parser.add_argument("--reason", default="", help="for those who look at it later")
        parser.set_defaults(run=_act, verb=verb)


def _act(options: argparse.Namespace) -> int:
    verb, name, client = options.verb, options.instance, AgentClient(options.socket)
    change = client.act(name, verb, {"reason": options.reason} if verb == "hold" else None)
    if not options.wait:
        print(tr(ACTS[verb][1], name=name))
        return 0
    return _wait(client, change)


def _wait(client: AgentClient, number: int) -> int:
    """To the end of a change. What has begun goes on when this is interrupted."""
    told = ""
    while True:
        change = client.change(number)
        match change.outcome:
            case Outcome.DONE:
                print(tr("{name}: done", name=change.instance))
                return 0
            case Outcome.FAILED if change.failure is not None:
                failure = change.failure
                raise AgentError(failure.code, failure.message, failure.hint)
            case _:
                if change.message != told and sys.stdout.isatty():
                    told = change.message
                    print(f"{change.instance}: {translate(told)}", flush=True)
                time.sleep(LOOK_EVERY_S)
