# SPDX-License-Identifier: MulanPSL-2.0
"""`python -m tests.lab.cuts modern|legacy`: power cuts at 20 moments; after each it serves again.

The instance is enabled, so whatever was cut, the next boot shall end in serving, by itself, and no
file of ours may be half there or left over. Where a transaction of the package was cut, what is
seen is told, and `dnf reinstall` shall heal it.

What this cannot find is a missing fsync: the page cache is the machine's and outlives the host, so
everything that was written stays written, in the order in which it was written. That each file is
written as temporary file, fsync, rename, fsync of the folder is for reviewers and strace. What it
does find is whatever depends on the order, on clean-up that never ran, and on what Podman, rpm and
systemd leave behind.
"""

import argparse
import json
import shlex
import shutil
import sqlite3
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from . import product
from .host import LabHost
from .moments import MOMENTS, RPM_TEMPORARY, Moment
from .process import LabError
from .rootfs import Flavour

SERVE_LIMIT_S = 90
WRITE_LIMIT_S = 5
DNF_LIMIT_S = 180
OURS = ("/etc/deepseek-agent", "/var/lib/deepseek-agent", "/run/deepseek-agent")
# Shared with others: what is ours has our name.
UNIT_FOLDERS = ("/etc/containers/systemd", "/run/containers/systemd", "/run/systemd/system")
SURVIVING = ("/etc/deepseek-agent", "/var/lib/deepseek-agent")
# Evidence is text for people; of what was being gathered at a cut some, or nothing, may be there.
PARSERS: Mapping[str, Callable[[str], object]] = {
    ".toml": tomllib.loads,
    ".json": json.loads,
    ".txt": str,
}
EVENTS = "/var/lib/deepseek-agent/events.db"
HISTORY = Path(EVENTS).name  # and its log and index beside it
PLACES_OF_RPM = "/usr /etc /var/lib/deepseek /var/lib/deepseek-agent"


@dataclass(frozen=True, slots=True)
class Outcome:
    """`served_s`: from the power being back to the first answer, if there was one without a
    person's help; `seen`: what the cut left behind."""

    faults: Sequence[str]
    served_s: float | None
    seen: str = ""


def cut(host: LabHost, moment: Moment) -> Outcome:
    """A serving host loses its power at that moment and gets it back."""
    moment.reach(host)
    host.power_cut()
    faults = list(faults_on_disk(host.root))
    seen = ", ".join(path.name for path in files_on_disk(host.root) if is_temporary(path.name))
    on_at = time.monotonic()
    host.boot()
    host.wait_booted()
    served_s = None
    try:
        product.ask_until_answered(host, SERVE_LIMIT_S)
        served_s = time.monotonic() - on_at
    except LabError as error:
        if not moment.in_package:
            return Outcome([*faults, str(error)], None, seen)
    try:
        if moment.in_package:
            seen = see_and_heal(host)
        product.wait_serving(host, limit_s=SERVE_LIMIT_S)
        faults += faults_in_files(host)
        faults += leftovers_that_stay(host)
    except LabError as error:
        faults.append(str(error))
    return Outcome(faults, served_s, seen)


# --- files ----------------------------------------------------------------------------------------


def faults_on_disk(root: Path) -> Iterator[str]:
    """What a cut has left half written, on the disk of a host without power. Temporary files may be
    there now; whether somebody removes them is seen later."""
    yield from fault_in_history(root / EVENTS.lstrip("/"))
    for path in files_on_disk(root):
        if not is_temporary(path.name) and not path.name.startswith(HISTORY):
            yield from fault_of(str(path.relative_to(root)), path.read_text(errors="replace"))


def fault_in_history(file: Path) -> Iterator[str]:
    """Nothing for a database that SQLite itself finds whole, with what stands in its log. Of a
    copy: to open it changes it."""
    if not file.exists():
        return
    with tempfile.TemporaryDirectory() as scratch:
        for part in file.parent.glob(f"{file.name}*"):
            shutil.copy(part, scratch)
        with closing(sqlite3.connect(Path(scratch, file.name))) as database:
            try:
                (found,) = database.execute("PRAGMA integrity_check(1)").fetchone()
            except sqlite3.DatabaseError as error:
                found = str(error)
    if found != "ok":
        yield f"damaged: {file.name}: {found}"


def files_on_disk(root: Path) -> list[Path]:
    folders = (root / folder.lstrip("/") for folder in SURVIVING)
    return sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())


def faults_in_files(host: LabHost) -> Iterator[str]:
    """Of a host that serves; temporary files are not looked at."""
    place, _, text = host.run(["deepseekctl", "render", "8b"]).stdout.partition("\n")
    rendered = place.removeprefix("# ")
    for path in list_files(host):
        if is_temporary(Path(path).name) or Path(path).name.startswith(HISTORY):
            continue
        if Path(path).parent.as_posix() not in UNIT_FOLDERS:
            yield from fault_of(path, host.read(path))
        elif path != rendered:
            yield f"not what would be rendered now: {path}"
        elif host.read(path) != text:
            yield f"other than rendered: {path}"


def leftovers_that_stay(host: LabHost) -> list[str]:
    """Temporary files that no agent writes just now."""
    deadline = time.monotonic() + WRITE_LIMIT_S
    while left := [path for path in list_files(host) if is_temporary(Path(path).name)]:
        if time.monotonic() > deadline:
            break
        time.sleep(product.ANSWER_EVERY_S)
    return [f"left over: {path}" for path in left]


def is_temporary(name: str) -> bool:
    return name.startswith(".") or RPM_TEMPORARY in name


def list_files(host: LabHost) -> list[str]:
    found = host.run(["find", *OURS, *UNIT_FOLDERS, "-type", "f"]).stdout.splitlines()
    return [path for path in found if path.startswith(OURS) or "deepseek" in Path(path).name]


def fault_of(path: str, text: str) -> Iterator[str]:
    """Nothing for a file that is whole."""
    parse = PARSERS.get(Path(path).suffix)
    if parse is None:
        yield f"cannot tell whether it is whole: {path}"
        return
    try:
        parse(text)
    except ValueError as error:
        yield f"half of a file: {path}: {error}"


# --- a transaction that was cut -------------------------------------------------------------------


def see_and_heal(host: LabHost) -> str:
    """What is there after it, in words; then a person installs the package again and starts what
    does not run. LabError when that does not mend it."""
    seen = describe_package(host)
    host.run(["dnf", "-y", "reinstall", "deepseek-agent"], timeout_s=DNF_LIMIT_S)
    serve(host)
    verified = host.run(["rpm", "-V", "deepseek-agent"], check=False)
    if verified.returncode != 0:
        raise LabError(f"{seen}; not healed by dnf reinstall: {verified.stdout}")
    host.run(["sh", "-c", f"{find_temporaries_of_rpm()} -delete"])
    return seen


def describe_package(host: LabHost) -> str:
    installed = host.run(["rpm", "-q", "deepseek-agent"], check=False).stdout.split()
    changed = host.run(["rpm", "-V", "deepseek-agent"], check=False).stdout.splitlines()
    left = host.run(["sh", "-c", find_temporaries_of_rpm()]).stdout.splitlines()
    return (
        f"{' and '.join(installed)}, {len(changed)} files differ, "
        f"{len(left)} temporary files of rpm left"
    )


def find_temporaries_of_rpm() -> str:
    return f"find {PLACES_OF_RPM} -xdev -type f -name {shlex.quote(f'*{RPM_TEMPORARY}*')}"


# --- all of it ------------------------------------------------------------------------------------


def serve(host: LabHost) -> None:
    """As every moment finds it."""
    product.set_engine(host, load_s=1)
    done = product.start(host, "enable", "--now")
    if done.returncode != 0:
        raise LabError(f"cannot serve: {done.stderr}\n{product.describe(host)}")


def pick(count: int) -> list[Moment]:
    """So many, spread over all."""
    return [MOMENTS[number * len(MOMENTS) // count] for number in range(count)]


def run(host: LabHost, moments: Sequence[Moment]) -> int:
    """Prints one line for each; returns how many failed."""
    failed, times = 0, []
    for number, moment in enumerate(moments, 1):
        serve(host)
        outcome = cut(host, moment)
        failed += bool(outcome.faults)
        times += [outcome.served_s] if outcome.served_s is not None else []
        word = "ok    " if not outcome.faults else "FAILED"
        took = "never" if outcome.served_s is None else f"{outcome.served_s:5.1f} s"
        print(f"{number:2} {word} {moment.name:<36} {took}  {outcome.seen}", flush=True)
        for fault in outcome.faults:
            print(f"          {fault}", flush=True)
    longest = f", power back to answer {min(times):.1f} to {max(times):.1f} s" if times else ""
    print(f"{len(moments)} cuts, {failed} failed{longest}")
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("flavour", type=Flavour, choices=list(Flavour))
    parser.add_argument("--moments", type=int, default=len(MOMENTS), help="default: all")
    options = parser.parse_args()
    with product.supplied_host(options.flavour, f"cuts-{options.flavour}") as host:
        product.install(host)
        return 1 if run(host, pick(options.moments)) else 0


if __name__ == "__main__":
    sys.exit(main())
