# SPDX-License-Identifier: MulanPSL-2.0
"""What happened, as text: one line an event, and below it where what was seen is kept. Pure."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from agent.language import meaning, tr, translate
from agent.status.snapshot import EventView


def show_events(events: Sequence[EventView]) -> str:
    """With the host's local time, as the journal shows it."""
    return "\n".join(line for event in events for line in _lines(event))


def say(event: EventView) -> str:
    """Who, what and why."""
    who = f"{event.instance} " if event.instance else ""
    who += f"NPU {event.npu} " if event.npu is not None else ""
    meant = meaning(event.kind)
    what = f"{event.kind} {meant}" if meant else event.kind
    message = translate(event.message)
    return f"{who}{what}" + (f"{tr(': ')}{message}" if message else "")


def _lines(event: EventView) -> Iterator[str]:
    at = datetime.fromtimestamp(event.at).astimezone()
    yield f"{at:%Y-%m-%d %H:%M:%S}  {say(event)}"
    if event.file:
        yield f"{'':21}{event.file}"
