# SPDX-License-Identifier: MulanPSL-2.0
"""Waits until the engine of one instance answers a completion.

In: the endpoint's address. Out: `Health.HEALTHY` once, when a completion of one token has come back
through the same door that users take. Refused and timeout are no verdict while it loads.
"""

import asyncio

import httpx

from agent.model import Health

# While the model loads the port is closed and a look costs next to nothing.
POLL_S = 0.25
CONNECT_TIMEOUT_S = 2.0
# The first completion may compile kernels: 105 s were seen (facts: serving-health).
FIRST_COMPLETION_TIMEOUT_S = 300.0


async def wait_until_healthy(client: httpx.AsyncClient, endpoint: str, served_name: str) -> Health:
    """Returns HEALTHY; ends otherwise only by cancellation, which the caller bounds."""
    while True:
        if (
            await _listens(client, endpoint) is Health.HEALTHY
            and await canary(client, endpoint, served_name) is Health.HEALTHY
        ):
            return Health.HEALTHY
        await asyncio.sleep(POLL_S)


async def canary(client: httpx.AsyncClient, endpoint: str, served_name: str) -> Health:
    """Asks for one token. UNKNOWN when nothing answered at all."""
    request = {
        "model": served_name,
        "prompt": "1",
        "max_tokens": 1,
        "temperature": 0,
        "user": "deepseek-agent-canary",
    }
    timeout = httpx.Timeout(FIRST_COMPLETION_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
    try:
        answer = await client.post(f"{endpoint}/v1/completions", json=request, timeout=timeout)
    except httpx.HTTPError:
        return Health.UNKNOWN
    return Health.HEALTHY if answer.status_code == httpx.codes.OK else Health.UNHEALTHY


async def _listens(client: httpx.AsyncClient, endpoint: str) -> Health:
    try:
        answer = await client.get(f"{endpoint}/health", timeout=CONNECT_TIMEOUT_S)
    except httpx.HTTPError:
        return Health.UNKNOWN
    return Health.HEALTHY if answer.status_code == httpx.codes.OK else Health.UNHEALTHY
