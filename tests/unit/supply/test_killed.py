# SPDX-License-Identifier: MulanPSL-2.0
"""kill -9 at any moment: never half a model to be seen, and the next try goes on."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.supplies import MANIFEST_NAME
from agent.supply.place import list_revisions
from tests.fakes.hub import HubDouble, Kind
from tests.unit.supply.hubs import BIG_BYTES, Bringing, make_repo, wanted

TREE = Path(__file__).parents[3]
MOMENTS = 20
RATE = 6_000_000  # bytes per second: slow enough to be hit in the middle
FETCH = """
import sys
import agent.supply.parts
agent.supply.parts.SEGMENT_BYTES = 200_000
import agent.supply.download
agent.supply.download.RECORD_EVERY_S = 0.05
from agent.supplies import Hub, ModelOrder, ModelSource
from agent.supply.model import bring_model
source = ModelSource(Hub(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4])
print("starts", flush=True)
bring_model(ModelOrder(sys.argv[5], (source,)), 3, 0, lambda progress: None)
"""


def start(bringing: Bringing) -> "subprocess.Popen[str]":
    source = bringing.source()
    words = (source.hub.value, source.endpoint, source.repo, source.revision)
    process = subprocess.Popen(
        [sys.executable, "-c", FETCH, *words, str(bringing.link)],
        cwd=TREE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "starts\n"
    return process


def kill(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=10)
    assert process.stdout is not None
    process.stdout.close()


def assert_nothing_half(bringing: Bringing) -> None:
    """What can be seen is whole, by its bytes."""
    if not os.path.lexists(bringing.link):
        assert not any(one.in_use for one in list_revisions(str(bringing.link)))
        return
    contents = wanted(bringing.link.resolve())
    contents.pop(MANIFEST_NAME)
    assert contents == wanted(bringing.root)


@pytest.mark.timeout(300)
def test_killed_twenty_times(tmp_path: Path) -> None:
    """Each round is a model of its own, or goes on with the one before: as the dice fall."""
    dice = random.Random()  # noqa: S311
    root = make_repo(tmp_path / "hub")
    with HubDouble(tmp_path / "hub") as hub:
        bringing = Bringing(hub, root, tmp_path / "models-0")
        hub.spoil({"kind": Kind.SLOW, "rate": RATE, "times": -1, "match": "Signature"})
        for moment in range(MOMENTS):
            process = start(bringing)
            time.sleep(dice.uniform(0.0, 0.7))
            kill(process)
            assert_nothing_half(bringing)
            if dice.random() < 0.3:
                hub.spoil()
                bringing.assert_whole(bringing.bring())
                bringing = Bringing(hub, root, tmp_path / f"models-{moment + 1}")
                hub.spoil({"kind": Kind.SLOW, "rate": RATE, "times": -1, "match": "Signature"})
        hub.spoil()
        bringing.assert_whole(bringing.bring())


@pytest.mark.timeout(60)
def test_what_was_there_is_kept(tmp_path: Path) -> None:
    """Killed within a large file: bytes that had been recorded are not asked for again."""
    root = make_repo(tmp_path / "hub")
    with HubDouble(tmp_path / "hub") as hub:
        bringing = Bringing(hub, root, tmp_path / "models")
        hub.spoil({"kind": Kind.SLOW, "rate": 500_000, "times": -1, "match": "Signature"})
        process = start(bringing)
        while recorded_bytes(bringing) < 100_000:
            time.sleep(0.02)
        kill(process)
        kept = recorded_bytes(bringing)
        hub.spoil()
        bringing.assert_whole(bringing.bring())
        asked = [
            one["range"] for one in hub.asked() if "Signature" in one["path"] and "range" in one
        ]
    edges = [one.removeprefix("bytes=").split("-") for one in asked]
    assert sum(int(end) + 1 - int(start) for start, end in edges) <= BIG_BYTES - kept


def recorded_bytes(bringing: Bringing) -> int:
    """Of the large file."""
    for path in bringing.staging.glob("*.map"):
        try:
            record = json.loads(path.read_bytes())
        except FileNotFoundError:  # that file is whole by now
            continue
        if record["size"] == BIG_BYTES:
            return sum(int(done) - int(start) for start, _, done in record["segments"])
    return 0


@pytest.mark.timeout(60)
def test_a_reader_sees_one_revision_or_the_other(tmp_path: Path) -> None:
    root = make_repo(tmp_path / "hub")
    with HubDouble(tmp_path / "hub") as hub:
        bringing = Bringing(hub, root, tmp_path / "models")
        bringing.bring()
        before = wanted(bringing.link.resolve())
        (root / "config.json").write_text('{"changed": 1}')
        seen: list[bool] = []

        def look(progress: object) -> None:
            """The old one is seen to the last word before the end."""
            seen.append(wanted(bringing.link.resolve()) == before)

        bringing.assert_whole(bringing.bring(tell=look))
    assert seen
    assert all(seen)
