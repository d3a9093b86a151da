# SPDX-License-Identifier: MulanPSL-2.0
"""All events that are kept, one JSON object a line: of the agent, or of its file without it."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec

from agent.errors import AgentError
from agent.ports import EventQuery
from agent.status.client import SOCKET, AgentClient

DATABASE = Path("var/lib/deepseek-agent/events.db")
PAGE = 1000
PAGES = 30  # far more than what the file holds
NEWEST_FIRST = "SELECT text FROM events ORDER BY id DESC LIMIT ?"


def read_events(root: Path) -> Iterator[bytes]:
    """Raises what sqlite3 raises, where the agent does not answer."""
    try:
        yield from _of_agent()
    except AgentError as error:
        yield f"(not of the agent: {error.failure.message}; out of {DATABASE}:)\n".encode()
        yield from _of_file(root / DATABASE)


def _of_agent() -> Iterator[bytes]:
    client = AgentClient(SOCKET)
    after = 0
    for _ in range(PAGES):
        page = client.events(EventQuery(after=after, limit=PAGE))
        yield from (msgspec.json.encode(event) + b"\n" for event in page.events)
        after = page.next
        if not page.more:
            return


def _of_file(path: Path) -> Iterator[bytes]:
    """Only read: a look must not make a file, or wait for the agent."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=1.0)) as database:
        rows = database.execute(NEWEST_FIRST, (PAGE * PAGES,)).fetchall()
    yield from (f"{text}\n".encode() for (text,) in reversed(rows))
