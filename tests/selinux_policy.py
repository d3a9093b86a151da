# SPDX-License-Identifier: MulanPSL-2.0
"""A host's SELinux policy with our module in it, to be asked. No kernel has a part in this.

In: rpm/selinux, Debian's base policy (tests/prepare puts it into .venv). Out: what may be done, and
the type of a path.
"""

import re
import subprocess
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

TREE = Path(__file__).resolve().parents[1]
MODULES = TREE / "rpm/selinux"
BASE = TREE / ".venv/selinux"
NAMES_OF_OPENEULER = TREE / "tests/fakes/selinux/openeuler.cil"
LIMIT_S = 120
RULE = re.compile(r"^allow (\S+) (\S+):(\S+) (?:\{ ([^}]*) \}|(\w+));(.*)$", re.MULTILINE)
TRANSITION = re.compile(r"^type_transition (\S+) (\S+):(\S+) (\S+);", re.MULTILINE)
TYPE = re.compile(r"^   type ([^;]+);", re.MULTILINE)


def run(*argv: str) -> str:
    """Fails on any word of complaint, also of a program that goes on."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    assert (done.returncode, done.stderr) == (0, ""), f"{' '.join(argv)[:200]}\n{done.stderr}"
    return done.stdout


@dataclass(frozen=True)
class Policy:
    binary: Path
    contexts: Path

    @cached_property
    def _names(self) -> dict[str, frozenset[str]]:
        """Of each type: its own name and its attributes."""
        names = {}
        for line in TYPE.findall(run("seinfo", str(self.binary), "--type", "-x")):
            name, *attributes = re.split(r", | alias \{? ?", line.strip(" }"))
            names[name] = frozenset((name, *attributes))
        return names

    @cached_property
    def _rules(self) -> dict[str, list[tuple[str, str, frozenset[str], bool]]]:
        """The last: whether a boolean decides, which sesearch names behind such a rule."""
        rules = defaultdict(list)
        for source, target, kind, many, one, condition in RULE.findall(
            run("sesearch", "--allow", str(self.binary))
        ):
            some = frozenset((many or one).split())
            rules[kind].append((source, target, some, bool(condition)))
        return rules

    @cached_property
    def _transitions(self) -> list[tuple[str, ...]]:
        return TRANSITION.findall(run("sesearch", "--type_trans", str(self.binary)))

    @cached_property
    def permissive(self) -> frozenset[str]:
        lines = run("seinfo", str(self.binary), "--permissive").splitlines()
        return frozenset(line.strip() for line in lines if line.startswith("   "))

    def is_one_of(self, name: str, attribute: str) -> bool:
        return attribute in self._names[name]

    @property
    def types(self) -> frozenset[str]:
        return frozenset(self._names)

    def allowed(
        self, source: str, target: str, kind: str, everywhere: bool = False
    ) -> frozenset[str]:
        """`everywhere`: not what hangs on a boolean, nor what Debian's base allows only because it
        leaves the domain unconfined, as it does init_t."""
        ours, theirs = self._names[source], self._names[target]
        return frozenset().union(
            *(
                some
                for one, other, some, depends in self._rules[kind]
                if one in ours and other in theirs
                if not everywhere or not (depends or one.endswith("unconfined_type"))
            )
        )

    def next_type(self, source: str, target: str, kind: str) -> str:
        """Of a process that is started, or a file that is made; empty: that of its parent."""
        ours, theirs = self._names[source], self._names[target]
        found = {
            result
            for one, other, what, result in self._transitions
            if what == kind and one in ours and other in theirs
        }
        assert len(found) <= 1, found
        return found.pop() if found else ""

    def types_of(self, kind: str, *paths: str) -> dict[str, str]:
        """`kind`: as matchpathcon's -m has it: file, dir, sock, c, ..."""
        answer = run("matchpathcon", "-f", str(self.contexts), "-m", kind, *paths)
        found = dict(line.split("\t") for line in answer.splitlines())
        return {path: context.split(":")[2] for path, context in found.items()}


def link(folder: Path, *others: Path, ours: str = "*.cil") -> Policy:
    """All neverallow rules of the base hold, or this fails. `ours`: which of our modules."""
    modules: Sequence[Path] = [*sorted(BASE.glob("*.cil")), *sorted(MODULES.glob(ours)), *others]
    policy = Policy(folder / "policy", folder / "file_contexts")
    output = ("-o", str(policy.binary), "-f", str(policy.contexts))
    assert run("secilc", "--mls", "true", *output, *map(str, modules)) == ""
    return policy
