# SPDX-License-Identifier: MulanPSL-2.0
"""Reads from the machine's apt configuration where Debian packages come from, and how."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from .process import LabError, run_command


def parse_deb822(text: str) -> Iterator[tuple[str, list[str]]]:
    for stanza in re.split(r"\n\s*\n", text):
        lines = [line for line in stanza.splitlines() if not line.startswith("#")]
        fields = dict(re.findall(r"^([\w-]+):\s*(.*)$", "\n".join(lines), re.MULTILINE))
        if "deb" in fields.get("Types", "").split() and fields.get("Enabled", "yes") == "yes":
            for uri in fields.get("URIs", "").split():
                yield uri, fields.get("Suites", "").split()


def parse_one_line(text: str) -> Iterator[tuple[str, list[str]]]:
    for line in text.splitlines():
        words = re.sub(r"\[.*?\]", "", line).split()
        if len(words) >= 4 and words[0] == "deb":
            yield words[1], [words[2]]


def find_mirror(apt: Path = Path("/etc/apt"), os_release: Path = Path("/etc/os-release")) -> str:
    """Where this machine gets its own Debian release from: the mirror has the other release too."""
    if given := os.environ.get("DEEPSEEK_LAB_MIRROR"):
        return given
    found = re.search(r"^VERSION_CODENAME=(\w+)", os_release.read_text(), re.MULTILINE)
    codename = found[1] if found else ""
    sources: list[tuple[str, list[str]]] = []
    for path in [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))]:
        if path.suffix == ".sources":
            sources += parse_deb822(path.read_text())
        elif path.suffix == ".list" and path.is_file():
            sources += parse_one_line(path.read_text())
    for uri, suites in sources:
        if codename in suites:
            return uri
    raise LabError(
        f"cannot find a mirror: no source for {codename!r} in {apt} "
        "(set DEEPSEEK_LAB_MIRROR, or use Debian)"
    )


def apt_options() -> list[str]:
    """The machine's own ways to reach the mirror: proxy, certificates, a clock that is off."""
    keys = ["Acquire::http", "Acquire::https", "Acquire::Check-Valid-Until", "Acquire::Check-Date"]
    dump = run_command(["apt-config", "dump", "--no-empty", *keys])
    return [f"--aptopt={line}" for line in dump.stdout.splitlines()]
