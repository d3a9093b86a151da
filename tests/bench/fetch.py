# SPDX-License-Identifier: MulanPSL-2.0
"""How fast a model comes, beside curl with the same files from the same server.

    python -m tests.bench.fetch [--gib 1] [--parallel 4] [--rounds 3] [--folder DIR]

The server is the double of a hub with sendfile, a process of its own on loopback; the weights are
random. curl only writes, we compute sha256 as well and sync; so curl is timed alone, with a `sync`
of what it wrote, and with `sha256sum` too, which an operator needs for as much. Rounds are
interleaved. Memory is the peak of VmHWM and of Pss, read ten times a second.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from agent.supplies import Hub, ModelSource
from agent.supply.hub.ask import list_files
from agent.supply.net import HubClient
from tests.fakes.hub import HubDouble

REPOSITORY = Path(__file__).parents[2]
REPO = "deepseek-ai/bench"
SHARDS = 4
MIB = 2**20
# What runs is what its launcher and its unit make of it.
OF_THE_UNIT = {"MALLOC_ARENA_MAX": "1"}
FETCH = """
import json, sys
from agent.lean import spare_supply
spare_supply()
import agent.supply.__main__
from agent.supplies import Hub, ModelOrder, ModelSource
from agent.supply.model import bring_model
endpoint, repo, folder, parallel = sys.argv[1:]
source = ModelSource(Hub.HUGGINGFACE, endpoint, repo, "main")
bring_model(ModelOrder(folder, (source,)), int(parallel), 0, lambda progress: None)
"""


@dataclass
class Result:
    """One run."""

    seconds: float
    pss_mib: float = 0.0
    rss_mib: float = 0.0
    cpu_s: float = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gib", type=float, default=1.0)
    parser.add_argument("--parallel", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=None, help="on the disk that is meant")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        size = make_model(folder / "hub" / REPO, options.gib)
        with HubDouble(folder / "hub", "--page-size", "1000") as hub:
            urls = list_urls(hub.endpoint)
            measure(folder, hub.endpoint, urls, size, options.parallel, options.rounds)


def make_model(folder: Path, gib: float) -> int:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    block = os.urandom(16 * MIB)
    blocks = max(round(gib * 1024 / 16 / SHARDS), 1)
    for shard in range(SHARDS):
        with (folder / f"model-{shard}.safetensors").open("wb") as stream:
            for number in range(blocks):
                stream.write(b"%16d" % (shard * blocks + number) + block[16:])
    return blocks * SHARDS * len(block)


def list_urls(endpoint: str) -> list[str]:
    source = ModelSource(Hub.HUGGINGFACE, endpoint, REPO, "main")
    client = HubClient(source, 1)
    try:
        return [file.url for file in list_files(client, source).files]
    finally:
        client.close()


def measure(
    folder: Path, endpoint: str, urls: list[str], size: int, parallel: int, rounds: int
) -> None:
    target = folder / "target"
    curl = [
        "curl",
        "-sSfL",
        "--no-progress-meter",
        "--remove-on-error",
        "--output-dir",
        str(target),
    ]
    each = [word for number, url in enumerate(urls) for word in ("-o", f"file-{number}", url)]
    fetch = [sys.executable, "-c", FETCH, endpoint, REPO, str(target / "model"), str(parallel)]
    together = ["--parallel", "--parallel-max", str(parallel)]
    one_by_one, at_once = [*curl, *each], [*curl, *together, *each]
    ways: dict[str, tuple[list[str], tuple[str, ...]]] = {
        "curl": (one_by_one, ()),
        "curl + sync": (one_by_one, ("sync",)),
        "curl --parallel": (at_once, ()),
        "curl --parallel + sync": (at_once, ("sync",)),
        "curl --parallel + sha256sum + sync": (at_once, ("sha256sum", "sync")),
        "bring_model": (fetch, ()),
    }
    found: dict[str, list[Result]] = {}
    for _ in range(rounds):
        for name, (command, then) in ways.items():
            found.setdefault(name, []).append(run(command, target, then))
    for name, results in found.items():
        best = min(results, key=lambda one: one.seconds)
        print(
            json.dumps(
                {
                    "what": name,
                    "seconds": [round(one.seconds, 2) for one in results],
                    "best_mb_per_s": round(size / best.seconds / 1e6),
                    "cpu_s": round(best.cpu_s, 2),
                    "peak_pss_mib": round(max(one.pss_mib for one in results), 1),
                    "peak_rss_mib": round(max(one.rss_mib for one in results), 1),
                }
            )
        )


def run(command: list[str], target: Path, then: tuple[str, ...]) -> Result:
    """`then`: programs for the files that it has written."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    os.sync()  # what was there before shall not be paid for here
    before = os.times()
    started_at = time.monotonic()
    process = subprocess.Popen(command, cwd=REPOSITORY, env={**os.environ, **OF_THE_UNIT})
    result = Result(0.0)
    while process.poll() is None:
        look(process.pid, result)
        time.sleep(0.05)
    assert process.returncode == 0, command
    for program in then:
        files = map(str, target.iterdir())
        subprocess.run([program, *files], stdout=subprocess.DEVNULL, check=True)
    result.seconds = time.monotonic() - started_at
    after = os.times()
    result.cpu_s = (
        after.children_user + after.children_system - before.children_user - before.children_system
    )
    return result


def look(pid: int, result: Result) -> None:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return
    for name, text in (("rss_mib", status), ("pss_mib", rollup)):
        word = "VmHWM:" if name == "rss_mib" else "Pss:"
        for line in text.splitlines():
            if line.startswith(word):
                setattr(result, name, max(getattr(result, name), int(line.split()[1]) / 1024))


if __name__ == "__main__":
    main()
