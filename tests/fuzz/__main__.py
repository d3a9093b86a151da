# SPDX-License-Identifier: MulanPSL-2.0
"""`python -m tests.fuzz [TARGET ...] --minutes N`: fuzzes each for so long, one after the other.

What reaches more of our code than before gets into tests/fuzz/corpus, as long as it is small, and
docs/fuzzing.md adds up the minutes. A find stays in build/fuzz/TARGET, beside what libFuzzer said,
and exit status 1 tells of it; copied into tests/fuzz/corpus/TARGET it fails in
tests/unit/test_fuzz_corpus.py, which needs no atheris. Needs Python 3.11 on x86_64: atheris comes
from PyPI by tests/fuzz.lock into a folder outside the tree, and is kept there.
"""

import argparse
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

from tests.fuzz.record import read_run, record
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS
from tests.lab.cache import build_key, ensure_built
from tests.lab.process import LabError, run_command
from tests.lab.vllm_env import PIP

TREE = Path(__file__).resolve().parents[2]
LOCK = TREE / "tests/fuzz.lock"
FINDS = TREE / "build/fuzz"
PIP_LIMIT_S = 600
MERGE_LIMIT_S = 900
SHOWN_LINES = 40  # what a find prints, or the final numbers
CORPUS_LIMIT_BYTES = 10 * 1024  # of each target


def ensure_atheris() -> Path:
    """Raises LabError."""
    found = (sys.version_info[:2], platform.machine())
    if found != ((3, 11), "x86_64"):
        raise LabError(f"{LOCK.name} is for Python 3.11 on x86_64, and this is {found}")

    def build(site: Path) -> None:
        install = [*PIP, "install", "--no-deps", "--require-hashes", "--only-binary=:all:"]
        options = [f"--target={site}", f"--requirement={LOCK}"]
        run_command([*install, *options], timeout_s=PIP_LIMIT_S)

    return ensure_built("atheris", build_key(LOCK.read_bytes()), build)


def fuzz(target: Target, site: Path, seconds: int) -> bool:
    """False: it has found something, and said so."""
    finds = FINDS / target.name
    work = finds / "corpus"
    work.mkdir(parents=True, exist_ok=True)
    target.corpus.mkdir(parents=True, exist_ok=True)
    dictionary = finds / "words"
    dictionary.write_text("".join(f'"{word}"\n' for word in sorted(target.words)))
    limits = (f"-max_total_time={seconds}", f"-artifact_prefix={finds}/", "-print_final_stats=1")
    hints = (f"-dict={dictionary}",) if target.words else ()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    log = finds / "log"
    with log.open("wb") as output:
        done = _run(target, site, *limits, *hints, str(work), str(target.corpus), output=output)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    # Beside others, or at a low priority, it is less than what the clock says.
    used = f"== {target.name}: {used_s / 60:.1f} minutes of a processor"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    print("\n".join([*lines[-SHOWN_LINES:], used]), flush=True)
    if (run := read_run(target.name, used_s / 60, lines)) is not None:
        record(run)
    return done == 0


def keep(target: Target, site: Path) -> None:
    """The smallest inputs that reach more than what is kept already, as far as there is room. What
    is kept stays: of decoders in C nobody sees how far an input gets."""
    work = FINDS / target.name / "corpus"
    with tempfile.TemporaryDirectory(prefix="deepseek-fuzz-") as name:
        merged = Path(name, "merged")
        shutil.copytree(target.corpus, merged)
        known = {file.name for file in merged.iterdir()}
        room = CORPUS_LIMIT_BYTES - sum(file.stat().st_size for file in merged.iterdir())
        _run(target, site, "-merge=1", str(merged), str(work), output=subprocess.DEVNULL)
        new = [file for file in merged.iterdir() if file.name not in known]
        for file in sorted(new, key=lambda one: (one.stat().st_size, one.name)):
            room -= file.stat().st_size
            if room < 0:
                break
            shutil.copyfile(file, target.corpus / file.name[:16])


def _run(target: Target, site: Path, *arguments: str, output: IO[bytes] | int) -> int:
    environment = {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{TREE}", "PYTHONHASHSEED": "0"}
    command = (sys.executable, "-m", "tests.fuzz.run", target.name, *arguments)
    return subprocess.run(
        command, cwd=TREE, env=environment, stdout=output, stderr=output, check=False
    ).returncode


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("target", nargs="*", choices=[[], *TARGETS])
    parser.add_argument("--minutes", type=float, default=1.0)
    given = parser.parse_args()
    try:
        site = ensure_atheris()
    except LabError as error:
        print(error, file=sys.stderr)
        return 2
    well = True
    for name in given.target or TARGETS:
        print(f"== {name}", flush=True)
        well &= fuzz(TARGETS[name], site, max(1, int(given.minutes * 60)))
        keep(TARGETS[name], site)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
