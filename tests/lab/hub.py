# SPDX-License-Identifier: MulanPSL-2.0
"""The double of a model hub, on a lab host's own loopback; what goes wrong is set while it runs."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .host import LabHost
from .models import MODEL_8B, add_model

FAKES = Path(__file__).resolve().parent.parent / "fakes"
PLACE = "/opt/lab-hub"
FOLDER = "/srv/hub"
REPO = f"deepseek-ai/{MODEL_8B}"
UNIT = "lab-hub.service"
PORT = 8081
# In each address to which the hub sends its clients for large files.
CDN = "Signature="
ADDRESS = f"http://127.0.0.1:{PORT}"


def add_hub(host: LabHost, weights_mib: int = 0) -> None:
    """Copies it in, with the model as its repository, and starts it."""
    host.run(["mkdir", "-p", f"{PLACE}/tests/fakes"])
    for init in (f"{PLACE}/tests/__init__.py", f"{PLACE}/tests/fakes/__init__.py"):
        host.write(init, "")
    host.copy_in(FAKES / "hub", f"{PLACE}/tests/fakes/hub")
    add_model(host, REPO, FOLDER)
    if weights_mib:
        grow_weights(host, weights_mib)
    start_hub(host)


def grow_weights(host: LabHost, mib: int) -> None:
    """More of them, of random bytes: nothing can be guessed, squeezed or left out."""
    target = f"{FOLDER}/{REPO}/model-extra.safetensors"
    host.run(["sh", "-c", f"head -c {mib}M /dev/urandom > {target}"], timeout_s=300)


def start_hub(host: LabHost) -> None:
    host.run(
        [
            *("systemd-run", f"--unit={UNIT}", "--collect", f"--working-directory={PLACE}"),
            *("python3", "-m", "tests.fakes.hub", "--folder", FOLDER, "--port", str(PORT)),
        ]
    )
    probe = f"curl -sS -o /dev/null --retry 30 --retry-delay 1 --retry-all-errors {ADDRESS}/"
    host.run(["sh", "-c", probe], timeout_s=60)


@contextmanager
def hub_away(host: LabHost) -> Iterator[None]:
    """Nobody listens there."""
    host.run(["systemctl", "stop", UNIT])
    try:
        yield
    finally:
        start_hub(host)


def set_faults(host: LabHost, *rules: dict[str, object]) -> None:
    """See tests/fakes/hub/faults.py."""
    body = json.dumps(list(rules))
    host.run(
        ["curl", "-sS", "--fail", "-X", "PUT", "--data-binary", "@-", f"{ADDRESS}/_faults"],
        input=body.encode(),
    )


def asked(host: LabHost, words: str) -> list[str]:
    """The paths with `words` that were asked for since the faults were set."""
    return [one["path"] for one in _asked(host) if words in one["path"]]


def ranges_asked(host: LabHost, words: str) -> list[str]:
    """ "bytes=1000-1999" of each of those that was asked for in part."""
    return [one["range"] for one in _asked(host) if words in one["path"] and "range" in one]


def _asked(host: LabHost) -> list[dict[str, str]]:
    asked: list[dict[str, str]] = json.loads(
        host.run(["curl", "-sS", "--fail", f"{ADDRESS}/_asked"]).stdout
    )
    return asked
