# SPDX-License-Identifier: MulanPSL-2.0
"""The journal of engines without what the agent's own looks leave in it.

An engine writes a line for each request, so for each look at /health and /metrics as well: one or
two a second for as long as it is taken for hung. They would push its last words out of the file.

It is read from its end: of a journal that is slow, on a disk that hangs, or too long, the beginning
is lost.
"""

import os
import re
import subprocess
import sys
from collections.abc import Sequence

from agent.evidence.children import OUTPUT_LIMIT_BYTES

# As uvicorn writes them, with vLLM's "(APIServer pid=1) " before them in newer ones. One that was
# not answered well says something, and so does an error that names the canary.
_LOOKS = re.compile(
    rb'INFO: +\S+ - "GET /(?:health|metrics) HTTP/[0-9.]+" 200\b'
    rb"|\bINFO\b.*\bdeepseek-agent-canary\b"
)
LEFT_OUT = "lines about requests for /health, /metrics and a token are left out"
# Who keeps more than its limit keeps what came last, which are the oldest lines here.
_MOST_BYTES = OUTPUT_LIMIT_BYTES - 1024


def tell(argv: Sequence[str], output: int, most_lines: int = sys.maxsize) -> None:
    """For a process of its own: what `journalctl --reverse` says goes to `output` line by line, so
    that a deadline leaves what came before it. It is ended when there is enough. How much is left
    out is the last line."""
    left_out = lines = size = 0
    enough = False
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as journal:
        for line in journal.stdout or ():
            if _LOOKS.search(line):
                left_out += 1
                continue
            size += len(line)
            if size <= _MOST_BYTES:
                os.write(output, line)
                lines += 1
            enough = lines >= most_lines or size > _MOST_BYTES
            if enough:
                journal.kill()
                break
        if left_out:
            os.write(output, f"({left_out} {LEFT_OUT})\n".encode())
    if journal.returncode and not enough:
        sys.exit(1)


def turn_round(told: str) -> str:
    """The latest entry last, and behind it what is said of all of them. Lines of one entry stay in
    their order: journalctl indents those after its first."""
    entries: list[str] = []
    for line in filter(None, told.split("\n")):
        if line.startswith(" ") and entries:
            entries[-1] += f"\n{line}"
        else:
            entries.append(line)
    notes = [one for one in entries if one.startswith("(")]  # an entry begins with its time
    turned = [one for one in reversed(entries) if not one.startswith("(")]
    return "".join(f"{one}\n" for one in (*turned, *notes))
