# SPDX-License-Identifier: MulanPSL-2.0
"""Notes when an engine answers: `answers_client.py URL MODEL FILE`, a line for each answer.

Runs inside a lab host, on the standard library alone, until it is killed.
"""

import contextlib
import http.client
import json
import sys
import time
from urllib.parse import urlsplit

EVERY_S = 0.2
LIMIT_S = 5.0


def main() -> None:
    url, model, file = sys.argv[1:]
    body = json.dumps({"model": model, "prompt": "1", "max_tokens": 1}).encode()
    headers = {"Content-Type": "application/json"}
    with open(file, "a", encoding="ascii", buffering=1) as answers:
        while True:
            connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=LIMIT_S)
            with (
                contextlib.suppress(OSError, http.client.HTTPException),
                contextlib.closing(connection),
            ):
                connection.request("POST", "/v1/completions", body, headers)
                answer = connection.getresponse()
                answer.read()
                if answer.status == http.client.OK:
                    answers.write(f"{time.time():.3f}\n")
            time.sleep(EVERY_S)


if __name__ == "__main__":
    main()
