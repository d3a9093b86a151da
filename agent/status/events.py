# SPDX-License-Identifier: MulanPSL-2.0
"""What happened, as text: one line an event, and below it where what was seen is kept. Pure."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from agent.language import meaning, tr, translate
from agent.status.page import PLAIN, Look, Row, lay_out
from agent.status.snapshot import EventView


def show_events(events: Sequence[EventView], look: Look = PLAIN) -> str:
    """With the host's local time, as the journal shows it."""
    return lay_out((row for event in events for row in _rows(event)), look)


def say(event: EventView) -> str:
    """Who, what and why."""
    who = f"{event.instance} " if event.instance else ""
    who += f"NPU {event.npu} " if event.npu is not None else ""
    meant = meaning(event.kind)
    what = f"{event.kind} {meant}" if meant else event.kind
    message = translate(event.message)
    return f"{who}{what}" + (f"{tr(': ')}{message}" if message else "")


def _rows(event: EventView) -> Iterator[Row]:
    at = datetime.fromtimestamp(event.at).astimezone()
    yield Row(f"{at:%Y-%m-%d %H:%M:%S}  ", say(event))
    if event.file:
        yield Row(f"{'':21}", event.file)
