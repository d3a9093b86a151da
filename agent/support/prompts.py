# SPDX-License-Identifier: MulanPSL-2.0
"""Takes lines out that may hold what people asked a model, or what it answered. Pure.

vLLM logs prompts with --enable-log-requests ("Received request X: prompt: '...', params: ..."),
answers with --enable-log-outputs ("Generated response X: output: '...'"), whole requests when
they cannot be understood (pydantic's "input_value=...") and when its core dies ("Dumping input
data"): vllm/entrypoints/logger.py, vllm/logging_utils/dump_input.py.
Rather too many lines than too few.
"""

import re
from collections.abc import Iterator

DROPPED = "[a line that may hold a prompt is removed]"

_RISKY = re.compile(
    r"\bprompts?\b|prompt_token_ids|prompt_embeds\b|\bmessages\b|\bcontent\b|\binput_value\b|"
    r"sampling_?params|\b(?:output_)?token_ids\b|\breceived request\b|\bgenerated response\b|"
    r"\bdumping input\b|\b(?:output|completion|reasoning|reasoning_content|answer)[\"']?[:=]|"
    r"[\"'](?:role|choices|delta|text|input|tool_calls|arguments)[\"'][ \t]*:",
    re.IGNORECASE,
)
# The line of numbers that vLLM writes every ten seconds (vllm/v1/metrics/loggers.py), as a whole.
_NUMBERS = re.compile(
    r"(?:Engine \d+: )?Avg prompt throughput: [\d.]+ tokens/s"
    r"(?:, [A-Za-z ]+: [\d.]+(?: tokens/s| reqs|%)?)*\.?"
)
# "2026-11-29T23:37:00.123456+0000 host vllm[123]: ", as journalctl writes it (short-iso-precise).
_ENTRY = re.compile(r"\d{4}-\d\d-\d\dT\S+ \S+ (?P<who>[^\[\s]+(?:\[\d+\])?): ")
# vLLM writes it before each line of a message, so that its second line begins like the first;
# uvicorn has the level alone (vllm/logging_utils/formatter.py).
_HEAD = re.compile(
    r"(?:\([^()]*\) )*(?:DEBUG|INFO|WARNING|ERROR|CRITICAL)"
    r"(?: \d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)? \[[^\]\s]+\]|:) ?"
)
# What begins something new without such a head: Python's errors, CANN's lines and fault codes.
_BEGINS = re.compile(r"Traceback |\[(?:ERROR|WARNING|INFO|EVENT)\]|E[A-Z]\d{4}: ")
# These write one line at a time. (The container's lines have the name of the container.)
_OURS = ("agentd", "npud", "attach", "drain", "evidence", "supply", "systemd", "kernel", "podman")
_SECTION = "== "  # of an evidence file


def is_risky(text: str) -> bool:
    return _RISKY.search(text) is not None and _NUMBERS.fullmatch(text.strip()) is None


def drop_prompts(text: str) -> tuple[str, int]:
    """The lines that stay, and how many do not. What follows such a line and begins nothing new is
    taken for a part of it."""
    kept: list[str] = []
    dropped = 0
    for line, risky in _judge(text):
        if not risky:
            kept.append(line)
            continue
        dropped += 1
        if not kept or kept[-1] != DROPPED:
            kept.append(DROPPED)
    return "\n".join(kept), dropped


def _judge(text: str) -> Iterator[tuple[str, bool]]:
    """Each line, and whether it goes. Of several that write at the same time each has its own."""
    gone: dict[str, str] = {}  # who wrote a line that went -> how that line began
    who = ""
    for line in text.split("\n"):
        entry = _ENTRY.match(line)
        message = line
        if entry is not None:
            who, message = entry["who"], line[entry.end() :]
        elif line.startswith(_SECTION):
            who = ""
        found = _HEAD.match(message)
        head = found[0] if found is not None else ""
        risky = is_risky(message[len(head) :])
        if not risky and who in gone:
            risky = _goes_on(message, head, gone[who])
        if not risky:
            gone.pop(who, None)
        elif head or (who and who.partition("[")[0] not in _OURS):
            gone[who] = head or gone.get(who, "")
        yield line, risky


def _goes_on(message: str, head: str, before: str) -> bool:
    if head:
        return head == before and not head.rstrip().endswith(":")
    return _BEGINS.match(message) is None
