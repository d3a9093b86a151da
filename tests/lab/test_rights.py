# SPDX-License-Identifier: MulanPSL-2.0
"""Who may do what over the real socket: every route of the package's own description, asked by
root, by a member of the group, by a member in the second place, and by anybody else.

`pytest -s` shows the table.
"""

import json
import shlex
import time
from dataclasses import dataclass

import pytest

from agent.status.api.access import GROUP, Access
from agent.status.api.openapi import ACCESS

from .host import LabHost

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

SOCKET = "/run/deepseek-agent/agent.sock"
USERS = {
    "root": ("root", "root", "--clear-groups"),
    "member": ("operator1", GROUP, "--clear-groups"),
    "2nd group": ("operator1", "operator1", "--init-groups"),
    "other": ("stranger", "stranger", "--init-groups"),
}
MAY = {
    Access.ANYONE: frozenset(USERS),
    Access.OPERATOR: frozenset(USERS) - {"other"},
    Access.ROOT: frozenset({"root"}),
}
PLACES = {"{name}": "8b", "{npu}": "3", "{change}": "1"}


@dataclass(frozen=True, slots=True)
class Route:
    """As the description has it. `path` with something that is there."""

    method: str
    path: str
    access: Access


def read_routes(host: LabHost) -> list[Route]:
    """As the agent of that host tells them; and the one whose right depends on its query."""
    told = host.run(["curl", "-s", "--unix-socket", SOCKET, "http://agent/v1/openapi.json"]).stdout
    known = {text: access for access, text in ACCESS.items()}
    routes = []
    for path, methods in json.loads(told)["paths"].items():
        for placeholder, value in PLACES.items():
            path = path.replace(placeholder, value)
        for method, operation in methods.items():
            access = known[operation["description"]]
            if path == "/v1/prune":  # anybody may ask what would go
                routes.append(Route("POST", f"{path}?dry_run=1", access))
                access = Access.OPERATOR
            routes.append(Route(method.upper(), path, access))
    return routes


def ask_all(host: LabHost, routes: list[Route], user: str) -> list[int]:
    """What is answered to each. Of a stream, which goes on, its first line is enough."""
    curl = f"curl -s -o /dev/null -w '%{{http_code}}\\n' --unix-socket {SOCKET}"
    script = []
    for route in routes:
        stream = "watch" in route.path or "attach" in route.path
        script.append(f"{curl} -m {1 if stream else 30} -X {route.method} 'http://a{route.path}'")
    uid, gid, groups = USERS[user]
    become = f"setpriv --reuid={uid} --regid={gid} {groups} -- bash -c"
    done = host.run(["bash", "-c", f"{become} {shlex.quote('; '.join(script))}"], check=False)
    return [int(line) for line in done.stdout.split()]


@pytest.fixture(scope="module")
def users(host: LabHost) -> None:
    host.run(["useradd", "--groups", GROUP, "operator1"])
    host.run(["useradd", "stranger"])
    host.run(["systemctl", "start", "deepseek-agent"])  # and with it npud
    deadline = time.monotonic() + 30
    while not json.loads(host.run(["deepseekctl", "npus", "--json"]).stdout)["npus"]:
        assert time.monotonic() < deadline
        time.sleep(0.3)


def test_every_route_as_every_user(host: LabHost, users: None) -> None:
    routes = read_routes(host)
    assert len(routes) > 25
    # Whoever may nothing goes first: nothing is to have changed for the others.
    answers = {user: ask_all(host, routes, user) for user in reversed(USERS)}
    wrong = []
    print(f"\n{'':42}" + "".join(f"{user:>11}" for user in USERS))
    for number, route in enumerate(routes):
        row = {user: answers[user][number] for user in USERS}
        words = f"{route.method} {route.path}"
        print(f"{words:42}" + "".join(f"{row[user]:>11}" for user in USERS))
        for user, code in row.items():
            if (code == 403) is (user in MAY[route.access]) or code in (0, 500):
                wrong.append((words, user, code))
    assert wrong == []


def test_what_was_asked_is_written_down_with_its_user(host: LabHost, users: None) -> None:
    routes = [Route("POST", "/v1/npus/3/quarantine", Access.OPERATOR)]
    for user in ("other", "2nd group"):
        ask_all(host, routes, user)
    said = host.run(["deepseekctl", "events", "--json"]).stdout.splitlines()
    asked = [one["message"] for one in map(json.loads, said) if one["kind"] == "asked"]
    assert asked[-1] == "quarantine NPU 3, by operator1"
    assert not [one for one in asked if "stranger" in one]
