# SPDX-License-Identifier: MulanPSL-2.0
"""All texts that are shown to people: what is given to `tr`, help, and messages that come whole."""

import argparse
import ast
import re
from collections.abc import Iterator
from pathlib import Path

from agent.cli_acts import ACTS
from agent.doctor.show import NO_MODEL
from agent.status.npus import HEAD
from agent.status.text import STEPS
from agent.support.manifest import LOOK, NOT_ROOT
from tests.language.failures import PARTS, SIGNS, failures
from tests.language.strings import messages, messages_at_the_top, with_constants
from tests.texts.parsers import verbs_of, whole_parser

PACKAGE = Path(__file__).resolve().parents[2] / "agent"
# Where messages and hints are written that `translate` finds by their template.
WHOLE = (
    "doctor/agent.py",
    "doctor/host.py",
    "doctor/npus.py",
    "doctor/patient.py",
    "doctor/podman.py",
    "doctor/sources.py",
    "doctor/verdict.py",
    "doctoring/gather.py",
    "doctoring/npus.py",
    "doctoring/patients.py",
    "host/look.py",
    "plan/holders.py",
    "plan/needs.py",
    "plan/any_npus.py",
    "plan/demand.py",
    "plan/named_npus.py",
    "plan/npus.py",
    "status/chat.py",
    "status/client.py",
    "status/unknown.py",
)
# What has so few letters of its own is the same in all languages,
FEW_LETTERS = 4
# as commands are, and names.
SAME = re.compile(
    r"(systemctl|dnf|journalctl) [\w -]+(\{0\})?"
    r"|deepseekctl (config check|verify \{0\})"
    r"|cannot be told: see [\w-]+"
    r"|container deepseek-vllm-|data: |cannot |cannot serve \{0\}: |\[supply\] fetch = false"
    r"|(Podman|Python|systemd|cgroup v|Bearer) ?\{0\}(, cgroup v\{1\})?"
    r"|cannot (assign to|delete) field \{0\}"  # Python's words, of a mistake in the program
    r"|HTTP \{0\}: \{1\}|\{0\} of \{1\} GiB"
)


# Put together of several.
COMPOSED = {
    "memory {0} ({1}) is in use",
    "{0}: set aside: {1}",
    "set aside: {0}",
    "answers, by {0}",
    "{0} GiB of weights, {1}",
}


def texts() -> set[str]:
    """Keys of `Tables.texts`."""
    sources = [path for path in PACKAGE.rglob("*.py") if "chinese" not in path.parts]
    found = {text for path in sources for text in _given_to_tr(path)}
    told = {said for _, said in ACTS.values()}
    steps = {text for text in STEPS.values() if text}
    return (
        found
        | told
        | steps
        | set(HEAD)
        | {NO_MODEL, LOOK, NOT_ROOT}
        | set(_help_of(whole_parser()))
    )


def _given_to_tr(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "tr":
            (first, *_) = node.args
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield first.value


def _help_of(parser: argparse.ArgumentParser) -> Iterator[str]:
    if parser.description:
        yield parser.description
    for action in parser._actions:
        if action.help and action.help != argparse.SUPPRESS:
            yield action.help
    verbs = verbs_of(parser)
    if verbs is not None:
        yield from (one.help for one in verbs._choices_actions if one.help)
        for below in verbs.choices.values():
            yield from _help_of(below)


def templates() -> set[str]:
    """Keys of `Tables.templates`."""
    found = {*COMPOSED, *PARTS, *(text for text in failures() if _is_worded(text))}
    for name in WHOLE:
        tree = ast.parse((PACKAGE / name).read_text(encoding="utf-8"))
        found |= {text for text in messages(tree) if _is_worded(text)}
    return found


def _is_worded(template: str) -> bool:
    letters = re.findall(r"[A-Za-z]", re.sub(r"\{\d+\}", "", template))
    enough = len(letters) >= FEW_LETTERS and " " in template
    return enough and SAME.fullmatch(template) is None


def kinds() -> set[str]:
    """Kinds of events, but for phases and codes: what is given to `note`, or kept for it."""
    found: set[str] = set()
    for folder in ("control", "policy"):
        for path in (PACKAGE / folder).rglob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            found |= {kind for node in ast.walk(tree) for kind in _kinds(node)}
    return found


def _kinds(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Call(func=ast.Attribute(attr="note" | "note_npu"), args=[_, kind, *_]):
            yield from _words(kind)
        case ast.Call(func=ast.Name(id="News"), args=[kind, *_]):
            yield from _words(kind)
        case ast.Call(func=ast.Attribute(attr="_take_trouble"), args=[_, kind]):
            yield from _words(kind)
        case ast.Assign(targets=[ast.Name(id="kind")], value=value):
            yield from _words(value)
        case _:
            pass


def _words(node: ast.AST) -> Iterator[str]:
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.value


# --- hints ---------------------------------------------------------------------------------------

FAILURES = {"Failure", "AgentError", "HostError", "HostUnavailable", "ConfigError"}
# Processes of their own, whose words are for the agent, and the tables themselves.
UNHEARD = ("chinese", "npud", "evidence", "drain")
# Hints that are not written where a failure is made.
TABLES = ("health/acl.py", "health/signs.py", "health/words.py", "host/pull_failures.py")


def hints() -> set[str]:
    """What a failure says that a person can do, wherever in the agent it is made."""
    found = {sign.hint for sign in SIGNS}
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).as_posix()
        if name.startswith(UNHEARD):
            continue
        tree = with_constants(ast.parse(path.read_text(encoding="utf-8")))
        found |= {text for node in ast.walk(tree) for text in _hints(node)}
        if name in TABLES:
            found |= {text for node in tree.body for text in _constants(node)}
    return {text for text in found if _is_worded(text)}


def _hints(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Call(func=ast.Name(id=made), args=[_, _, hint, *_]) if made in FAILURES:
            yield from messages_at_the_top(hint)
        case ast.Call(func=ast.Name(id="SourceUnreachable"), args=[_, hint, *_]):
            yield from messages_at_the_top(hint)
        case ast.Call(func=ast.Name(id="_sign"), args=[_, _, hint, *_]):
            yield from messages_at_the_top(hint)
        case ast.Assign(targets=[ast.Name(id="hint" | "HINT")], value=hint):
            yield from messages_at_the_top(hint)
        case _:
            pass


def _constants(node: ast.stmt) -> Iterator[str]:
    match node:
        case ast.Assign(value=ast.Constant(value=str(text)), targets=[ast.Name(id=name)]):
            yield from () if name in ("WORD", "REST") else (text,)
        case (
            ast.Assign(value=ast.Dict(values=values), targets=[ast.Name(id="HINTS")])
            | ast.AnnAssign(value=ast.Dict(values=values), target=ast.Name(id="HINTS"))
        ):
            for value in values:
                yield from messages_at_the_top(value)
        case _:
            pass
