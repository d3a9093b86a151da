# SPDX-License-Identifier: MulanPSL-2.0
"""Clients that keep an engine busy: `load_client.py URL MODEL CLIENTS PROMPT_CHARS MAX_TOKENS`.

Runs inside a lab host, on the standard library alone, until it is killed. Each client asks, reads
the answer to its end and asks again; what fails is tried again a moment later.
"""

import contextlib
import http.client
import json
import sys
import threading
import time
from urllib.parse import urlsplit

PAUSE_S = 0.5
LIMIT_S = 600


def ask(host: str, body: bytes) -> None:
    with contextlib.closing(http.client.HTTPConnection(host, timeout=LIMIT_S)) as connection:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/v1/completions", body, headers)
        connection.getresponse().read()


def go_on(host: str, model: str, number: int, chars: int, max_tokens: int) -> None:
    # Each client has a prompt of its own: what was computed for another is of no use to it.
    prompt = f"{number} " * (chars // 2)
    body = {"model": model, "prompt": prompt, "max_tokens": max_tokens, "ignore_eos": True}
    while True:
        try:
            ask(host, json.dumps(body).encode())
        except (OSError, http.client.HTTPException):
            time.sleep(PAUSE_S)


def main() -> None:
    url, model, clients, chars, max_tokens = sys.argv[1:]
    for number in range(int(clients)):
        arguments = (urlsplit(url).netloc, model, number % 10, int(chars), int(max_tokens))
        threading.Thread(target=go_on, args=arguments, daemon=True).start()
    time.sleep(10**9)


if __name__ == "__main__":
    main()
