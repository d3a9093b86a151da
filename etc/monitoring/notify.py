# SPDX-License-Identifier: MulanPSL-2.0
"""Posts or mails that a model does not serve, and why: `notify.py 8b`, by deepseek-notify@8b.

In: NOTIFY_URL, NOTIFY_BODY, NOTIFY_MAIL of the environment; what systemd says of deepseek@8b. Exit
status 1 when somebody could not be told. An example: Python 3.9 or newer, standard library only.
"""

import json
import os
import socket
import subprocess
import sys
import urllib.request

DEADLINE_S = 20
# Statuses of the front unit (states.md): both wait for a person. Anything else that makes a unit
# "failed" is a crash, after which the agent has started it again.
HELD, REFUSED = "69", "78"
TEST = "test"
BODY = '{"text": "%s"}'


def ask_systemd(unit: str) -> dict[str, str]:
    """What is known of the unit."""
    names = "ActiveState,Result,ExecMainStatus,StatusText"
    argv = ["systemctl", "show", unit, f"--property={names}"]
    shown = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=DEADLINE_S)
    pairs = (line.partition("=") for line in shown.stdout.splitlines())
    return {name: value for name, _, value in pairs}


def build_words(instance: str, seen: dict[str, str]) -> str:
    """Empty when nobody has to do anything."""
    host = socket.gethostname()
    waits = seen["Result"] == "exit-code" and seen["ExecMainStatus"] in (HELD, REFUSED)
    if seen["ActiveState"] == "failed" and waits:
        why = seen["StatusText"] or "see deepseekctl status"
        return f"{host}: deepseek@{instance} does not serve: {why}"
    return f"{host}: this is a test" if instance == TEST else ""


def post(url: str, body: str, words: str) -> None:
    """`words` in the place of %s, written as JSON wants it."""
    data = body.replace("%s", json.dumps(words)[1:-1]).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=DEADLINE_S):  # noqa: S310
        pass


def mail(address: str, words: str) -> None:
    text = f"To: {address}\nSubject: {words[:200]}\n\n{words}\n"
    argv = ["/usr/sbin/sendmail", "-t", "-i"]
    subprocess.run(argv, input=text, text=True, check=True, timeout=DEADLINE_S)


def main(instance: str) -> int:
    words = build_words(instance, ask_systemd(f"deepseek@{instance}.service"))
    if not words:
        print("nobody is told: it has been started again, or is about to be")
        return 0
    url, address = os.environ.get("NOTIFY_URL", ""), os.environ.get("NOTIFY_MAIL", "")
    if not url and not address:
        print("cannot tell anybody: neither NOTIFY_URL nor NOTIFY_MAIL is set", file=sys.stderr)
        return 1
    try:
        if url:
            post(url, os.environ.get("NOTIFY_BODY", BODY), words)
        if address:
            mail(address, words)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        print(f"cannot tell anybody: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
