# SPDX-License-Identifier: MulanPSL-2.0
"""`make test-aarch64`: the RPM for aarch64, built, installed by rpm and used under qemu-user.

In: the source package that is built for x86_64; the wheels for aarch64 are in it. Tried: each
command of COMMANDS, the compiled wheels, and the unit suite with the installed package. Out: a
table; exit status 1 when something failed that is not in qemu_limits.py. --all: also the tests that
are left out there; --no-suite: none.
"""

import shutil
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

from agent import __version__

from . import arm_root, product
from .build import Place, prepare_sources, rebuild_rpm
from .cache import build_key, ensure_built
from .linting import rpmlint
from .machine import prepare_machine
from .process import LabError, run_command
from .qemu_limits import NOT_RUN, reason_for
from .rootfs import Flavour, run_in_root

PRIVATE = "/usr/lib64/deepseek-agent"
SOURCES = "/src"
TOOLS = "/opt/tools"
REPORT = "report.xml"
COMMAND_LIMIT_S = 300
SUITE_LIMIT_S = 7200
REPORTED = "see above"
# They are compiled: from where they come, and what they decide.
COMPILED = f"""
import platform, sys
sys.path[:0] = ["{PRIVATE}/vendor"]
import charset_normalizer.md, msgspec, pydantic, pydantic_core
assert platform.machine() == "aarch64", platform.machine()
for module in (msgspec._core, pydantic_core._pydantic_core, charset_normalizer.md):
    assert module.__file__.startswith("{PRIVATE}/vendor/"), module.__file__
    assert module.__file__.endswith("-aarch64-linux-gnu.so"), module.__file__
class Point(msgspec.Struct):
    x: int
assert msgspec.json.decode(b'{{"x": 1}}', type=Point) == Point(1)
for refused in (lambda: msgspec.json.decode(b'{{"x": "1"}}', type=Point),
                lambda: pydantic.TypeAdapter(int).validate_python("one")):
    try:
        refused()
    except (msgspec.ValidationError, pydantic.ValidationError) as error:
        print(type(error).__name__, str(error).splitlines()[0])
    else:
        sys.exit("accepted")
"""


@dataclass(frozen=True, slots=True)
class Expected:
    """A command, its exit status, and what its output must have."""

    argv: tuple[str, ...]
    text: str
    status: int = 0


# doctor's exit status tells of problems: there is no NPU, and no systemd runs.
COMMANDS = (
    Expected(("deepseekctl", "--version"), __version__),
    Expected(("deepseekctl", "config", "check"), "the configuration can be used"),
    Expected(("deepseekctl", "render", "8b", "--facts", "atlas-800i-a2"), "/dev/davinci0"),
    Expected(("deepseekctl", "doctor"), "cannot see an NPU driver", status=1),
    Expected(("systemctl", "--root=/", "is-enabled", "deepseek-agent.socket"), "enabled"),
    Expected(("rpm", "--verify", "--nodeps", "deepseek-agent"), ""),
    Expected(("python3", "-ISB", "-c", COMPILED), "ValidationError"),
)


@dataclass(frozen=True, slots=True)
class Suite:
    """The outcomes of the unit suite, by test."""

    passed: int
    skipped: int
    failed: frozenset[str]


def source_package() -> Path:
    (found,) = (rpm for rpm in product.packages(Flavour.LEGACY) if rpm.name.endswith(".src.rpm"))
    return found


def packages(source: Path) -> list[Path]:
    """That for aarch64, then those for all; built once for the same source package."""
    key = build_key(source.read_bytes(), arm_root.RECIPE)
    built = ensure_built(f"package-{arm_root.ARCH}", key, lambda out: _rebuild(source, out))
    return [*built.glob(f"*.{arm_root.ARCH}.rpm"), *built.glob("*.noarch.rpm")]


def _rebuild(source: Path, out: Path) -> None:
    rebuild_rpm(arm_root.copy_root, source, out, Place())


def install(rpm: Path, root: Path) -> None:
    """By rpm itself, with its scriptlets. What it requires is Debian's here, and rpm knows none."""
    shutil.copy(rpm, root / "var/tmp/agent.rpm")
    done = run_in_root(root, ["rpm", "-i", "--nodeps", "/var/tmp/agent.rpm"], timeout_s=600)
    if "scriptlet failed" in done.stderr:
        raise LabError(done.stderr)


def unpack_tests(root: Path) -> None:
    """The tree of the source package; what it tests is what has been installed."""
    with tempfile.TemporaryDirectory(prefix="deepseek-sources-") as folder:
        prepare_sources(arm_root.TREE, Path(folder))
        (archive,) = Path(folder).glob("*.tar.gz")
        place = root / SOURCES.lstrip("/")
        place.mkdir()
        extract = ["tar", "--extract", "--strip-components=1", f"--directory={place}"]
        run_command([*extract, f"--file={archive}"])
    shutil.rmtree(place / "agent")
    (place / "agent").symlink_to(f"{PRIVATE}/agent")


def run_suite(root: Path) -> Suite:
    """As %check does, with more tools, and two processes at once."""
    path = f"{PRIVATE}/vendor:{SOURCES}:{TOOLS}"
    pytest = ["python3", "-B", "-m", "pytest", "-q", "-c", "/dev/null", f"--rootdir={SOURCES}"]
    options = ["-p", "no:cacheprovider", "-p", "no:schemathesis", "--ignore-glob=*_double.py"]
    left_out = () if "--all" in sys.argv else NOT_RUN
    options += [f"--ignore=tests/unit/{one}" for one in left_out]
    run = [*pytest, *options, "-n", "2", "--timeout=600", f"--junit-xml=/var/tmp/{REPORT}"]
    script = 'cd "$1" && shift && exec "$@" tests/unit > /var/tmp/suite.log 2>&1 || :'
    run_in_root(
        root,
        ["/usr/bin/env", f"PYTHONPATH={path}", "sh", "-c", script, "sh", SOURCES, *run],
        binds={arm_root.ensure_tools(): TOOLS},
        timeout_s=SUITE_LIMIT_S,
    )
    return read_report(root / "var/tmp" / REPORT)


def read_report(report: Path) -> Suite:
    passed, skipped, failed = 0, 0, set[str]()
    for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314 - ours
        outcomes = {child.tag for child in case}
        if outcomes & {"failure", "error"}:
            failed.add(f"{case.get('classname')}::{case.get('name')}")
        elif "skipped" in outcomes:
            skipped += 1
        else:
            passed += 1
    return Suite(passed, skipped, frozenset(failed))


def try_command(root: Path, expected: Expected) -> str:
    """What is wrong with what it did; nothing, when nothing is."""
    show = 'status=0; "$@" || status=$?; echo "exit status $status"'
    done = run_in_root(root, ["sh", "-c", show, "sh", *expected.argv], timeout_s=COMMAND_LIMIT_S)
    if f"exit status {expected.status}\n" not in done.stdout or expected.text not in done.stdout:
        return f"{done.stdout}{done.stderr}"
    return ""


def report(what: str, trouble: str) -> bool:
    print(f"{'FAILED' if trouble else 'good':<6}  {what}", flush=True)
    if trouble:
        print(trouble, flush=True)
    return bool(trouble)


def main() -> int:
    prepare_machine()
    source = source_package()
    rpm, *others = packages(source)
    failures = int(report("rpmlint", "\n".join(rpmlint([rpm, *others, source]))))
    with tempfile.TemporaryDirectory(prefix="deepseek-lab-", dir="/var/tmp") as folder:
        root = Path(folder, "root")
        arm_root.copy_root(root)
        install(rpm, root)
        for expected in COMMANDS:
            failures += report(" ".join(expected.argv[:3]), try_command(root, expected))
        if "--no-suite" not in sys.argv:
            unpack_tests(root)
            suite = run_suite(root)
            print(f"unit suite: {suite.passed} passed, {suite.skipped} skipped")
            for test in sorted(suite.failed):
                reason = reason_for(test)
                failures += report(f"{test}: {reason or 'unexplained'}", "" if reason else REPORTED)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
