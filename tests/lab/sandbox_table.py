# SPDX-License-Identifier: MulanPSL-2.0
"""`python -m tests.lab.sandbox_table modern|legacy`: each restriction of each unit, tried.

What it forbids is refused in the unit's whole sandbox; refused, too, when those that would refuse
it as well are taken away; and works when it is taken away itself. So it is in force, and needed.
"""

import argparse
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import product, sandbox_probe
from .host import LabHost
from .rootfs import Flavour

UNITS = Path(__file__).resolve().parents[2] / "units"
FOLDER = sandbox_probe.FOLDER
PROBE = f"{FOLDER}/probe.py"
CGROUP = {Flavour.MODERN: "/sys/fs/cgroup", Flavour.LEGACY: "/sys/fs/cgroup/systemd"}
# systemd.exec(5), "Sandboxing" and what belongs to it.
SHUTS = re.compile(
    "Ambient|Capability|Device|Exec.*Paths|Inaccessible|IPAddress|Keyring|Lock|MemoryDeny|NoExec|"
    "NoNew|Private|Proc|Protect|Read(Only|Write)|Restrict|SystemCall|TemporaryFile|UMask"
)
# These say what is let through, or how it is refused.
GRANTS = ("ReadWritePaths", "SystemCallErrorNumber")
# What refuses the same thing, and has to be out of the way to see one alone.
ALSO: Mapping[str, tuple[str, ...]] = {
    "ProtectClock": ("SystemCallFilter",),
    "ProtectControlGroups": ("ProtectSystem", "PrivateDevices"),
    "ProtectKernelLogs": ("SystemCallFilter", "CapabilityBoundingSet"),
    "ProtectKernelTunables": ("ProtectSystem",),
    "RestrictAddressFamilies": ("CapabilityBoundingSet",),
    "RestrictNamespaces": ("SystemCallFilter",),
    "RestrictRealtime": ("SystemCallFilter",),
    "SystemCallArchitectures": ("MemoryDenyWriteExecute",),
    "SystemCallFilter": ("CapabilityBoundingSet",),
}
# Values with which there is nothing to see: who has that capability may read all files.
NOT_FORBIDDEN = {
    "CapabilityBoundingSet": ("CAP_DAC_READ_SEARCH", "CAP_DAC_OVERRIDE"),
    "UMask": ("0022",),
}


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What a unit file says of it: each restriction with its values, line for line."""

    unit: str
    lines: tuple[tuple[str, str], ...]

    @property
    def restrictions(self) -> tuple[str, ...]:
        """That there is something to see of, in the order of the file."""
        names = dict.fromkeys(name for name, _ in self.lines if name not in GRANTS)
        return tuple(name for name in names if not self._lets_through(name))

    def without(self, *names: str) -> "Sandbox":
        return Sandbox(self.unit, tuple(line for line in self.lines if line[0] not in names))

    def _lets_through(self, name: str) -> bool:
        values = " ".join(value for key, value in self.lines if key == name)
        return any(word in values for word in NOT_FORBIDDEN.get(name, ()))


@dataclass(frozen=True, slots=True)
class Row:
    """One restriction of a unit: what came of trying what it forbids."""

    unit: str
    restriction: str
    whole: str  # in the unit's sandbox
    alone: str  # without the others that refuse it
    without: str  # without itself, too

    @property
    def problem(self) -> str:
        """Empty when it is in force, and nothing else here does its work."""
        if self.whole == "worked" or self.alone == "worked":
            return "not in force"
        return "" if self.without == "worked" else "not seen here"


def read_sandbox(unit: str) -> Sandbox:
    """Of a unit file of the package."""
    text = (UNITS / unit).read_text(encoding="utf-8")
    pairs = (line.partition("=") for line in text.splitlines())
    return Sandbox(unit, tuple((name, value) for name, _, value in pairs if SHUTS.match(name)))


def units() -> list[str]:
    """Those with a sandbox."""
    files = sorted(path.name for path in UNITS.glob("*.service"))
    return [unit for unit in files if read_sandbox(unit).lines]


# In a container it is read-only.
PREPARE = f"""
mount -o remount,bind,rw /proc/sys
mkdir -p {FOLDER} /usr/lib/modules/sandbox
touch {FOLDER}/other-users /var/tmp/sandbox /root/sandbox
chown 65534 {FOLDER}/other-users
chmod 0 {FOLDER}/other-users
"""


def prepare(host: LabHost) -> None:
    """The probe, and what it looks for."""
    host.run(["sh", "-ec", PREPARE])
    host.write(PROBE, Path(sandbox_probe.__file__).read_text(encoding="utf-8"))


def attempt(host: LabHost, sandbox: Sandbox, names: Sequence[str]) -> dict[str, str]:
    """What the probe says of each, in that sandbox."""
    names_of = {kind: os.readlink(f"/proc/{host.leader()}/ns/{kind}") for kind in ("uts", "net")}
    facts = {**names_of, "CGROUP": CGROUP[host.flavour]}
    done = host.run(
        [
            *("systemd-run", "--quiet", "--wait", "--pipe", "--collect"),
            *(f"--property={name}={value}" for name, value in sandbox.lines),
            *(f"--setenv={name}={value}" for name, value in facts.items()),
            *("/usr/bin/python3", "-ISB", PROBE, *names),
        ]
    )
    told = (line.split(" ", 1) for line in done.stdout.splitlines())
    return {name: word for name, word in told}  # noqa: C416 - the pairs are lists


def look(host: LabHost, unit: str) -> Iterator[Row]:
    """A row for each restriction of it."""
    sandbox = read_sandbox(unit)
    whole = attempt(host, sandbox, sandbox.restrictions)
    for name in sandbox.restrictions:
        others = ALSO.get(name, ())
        alone = attempt(host, sandbox.without(*others), [name])[name]
        without = attempt(host, sandbox.without(name, *others), [name])[name]
        yield Row(unit, name, whole[name], alone, without)


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.lab.sandbox_table", description=__doc__)
    parser.add_argument("flavour", type=Flavour, choices=list(Flavour))
    parser.add_argument("--unit", action="append", choices=units())
    wanted = parser.parse_args()
    rows: list[Row] = []
    with product.supplied_host(wanted.flavour, f"sandbox-{wanted.flavour.value}") as host:
        product.install(host)
        prepare(host)
        print("unit | restriction | in the sandbox | alone | without it | verdict")
        for unit in wanted.unit or units():
            for row in look(host, unit):
                rows.append(row)
                cells = (row.unit, row.restriction, row.whole, row.alone, row.without)
                print(" | ".join((*cells, row.problem or "in force")), flush=True)
    missed = sum(row.problem == "not in force" for row in rows)
    unseen = sum(row.problem == "not seen here" for row in rows)
    print(f"{len(rows)} restrictions, {missed} not in force, {unseen} not seen here")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
