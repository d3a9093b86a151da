# SPDX-License-Identifier: MulanPSL-2.0
"""Log lines for the journal: structlog, key=value, the priority as systemd's "<N>" prefix."""

import logging
import sys

import structlog
from structlog.typing import EventDict, WrappedLogger

# sd-daemon(3).
_PRIORITY = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}


def set_up(debug: bool = False) -> None:
    """Once, at the start of a process that logs to the journal."""
    # Libraries that use the standard library's logging (uvicorn, asyncio): what matters of it.
    logging.basicConfig(stream=sys.stderr, format="<4>%(name)s: %(message)s", level="WARNING")
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            _drop_empty,
            _prefix,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(10 if debug else 20),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _drop_empty(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    return {key: value for key, value in event.items() if value not in ("", None)}


def _prefix(logger: WrappedLogger, method: str, event: EventDict) -> str:
    """`<6>event key=value ...`; a traceback follows in lines of its own with the same priority."""
    priority = _PRIORITY.get(str(event.pop("level", "info")), 6)
    trace = str(event.pop("exception", ""))
    name = str(event.pop("event", ""))
    pairs = " ".join(f"{key}={_quote(str(value))}" for key, value in event.items())
    lines = [f"{name} {pairs}".strip(), *trace.splitlines()]
    return "\n".join(f"<{priority}>{line}" for line in lines)


def _quote(value: str) -> str:
    flat = value.replace("\n", " ")
    return f'"{flat}"' if " " in flat or not flat else flat
