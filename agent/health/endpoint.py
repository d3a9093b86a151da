# SPDX-License-Identifier: MulanPSL-2.0
"""Waits until the engine of one instance answers a completion.

In: where it listens. Out: `Health.HEALTHY` once, when a completion of one token has come back
through the same door that users take. Refused and timeout are no verdict while it loads.
"""

import asyncio

import msgspec

from agent.model import Health
from agent.ports import Answer, Ask, Http, Server

# While the model loads the port is closed and a look costs next to nothing.
POLL_S = 0.25
# A connection made while Podman starts a container can fall to conmon, which never answers it.
LOOK_DEADLINE_S = 1.0
# The first completion may compile kernels: 105 s were seen (facts: serving-health).
FIRST_COMPLETION_DEADLINE_S = 300.0


async def wait_until_healthy(http: Http, server: Server, served_name: str, key: str = "") -> Health:
    """Returns HEALTHY; ends otherwise only by cancellation, which the caller bounds."""
    while True:
        if (
            await _listens(http, server) is Health.HEALTHY
            and await canary(http, server, served_name, key) is Health.HEALTHY
        ):
            return Health.HEALTHY
        await asyncio.sleep(POLL_S)


async def canary(http: Http, server: Server, served_name: str, key: str = "") -> Health:
    """Asks for one token. UNKNOWN when nothing answered at all."""
    wanted = {
        "model": served_name,
        "prompt": "1",
        "max_tokens": 1,
        "temperature": 0,
        "user": "deepseek-agent-canary",
    }
    request = Ask("POST", "/v1/completions", msgspec.json.encode(wanted), key)
    return _judge(await http.ask(server, request, FIRST_COMPLETION_DEADLINE_S))


async def _listens(http: Http, server: Server) -> Health:
    return _judge(await http.ask(server, Ask("GET", "/health"), LOOK_DEADLINE_S))


def _judge(answer: object) -> Health:
    if not isinstance(answer, Answer):
        return Health.UNKNOWN
    return Health.HEALTHY if answer.status == 200 else Health.UNHEALTHY
