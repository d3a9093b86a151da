# SPDX-License-Identifier: MulanPSL-2.0
"""The journal of engines without what the agent's own looks leave in it.

An engine writes a line for each request, so for each look at /health and /metrics as well: one or
two a second for as long as it is taken for hung. They would push its last words out of the file.
"""

import os
import re
import subprocess
import sys
from collections.abc import Sequence

# As uvicorn writes them, with vLLM's "(APIServer pid=1) " before them in newer ones. One that was
# not answered well says something, and so does an error that names the canary.
_LOOKS = re.compile(
    rb'INFO: +\S+ - "GET /(?:health|metrics) HTTP/[0-9.]+" 200\b'
    rb"|\bINFO\b.*\bdeepseek-agent-canary\b"
)


def tell(argv: Sequence[str], output: int) -> None:
    """For a process of its own: what journalctl says goes to `output` line by line, so that a
    deadline leaves what came before it. How much is left out is its last line."""
    left_out = 0
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as journal:
        for line in journal.stdout or ():
            if _LOOKS.search(line):
                left_out += 1
            else:
                os.write(output, line)
    if left_out:
        said = f"({left_out} lines about requests for /health, /metrics and a token are left out)\n"
        os.write(output, said.encode())
    if journal.returncode:
        sys.exit(1)
