# SPDX-License-Identifier: MulanPSL-2.0
"""The operations guide has every code and every kind of event, and none that does not exist."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import Code, remedy
from agent.model import Phase
from tests.static.test_links import anchor

TREE = Path(__file__).resolve().parents[2]
CODES = {code.value: code for code in Code}
PAGES = {
    "docs/operations.md": ("Index", "Answers to a request", "answer", "news"),
    "docs/operations.zh.md": ("索引", "对请求的答复", "答复", "消息"),
}


# --- what the agent tells ------------------------------------------------------------------------


def trees(folder: str) -> list[ast.Module]:
    paths = sorted((TREE / "agent" / folder).rglob("*.py"))
    return [ast.parse(path.read_text(encoding="utf-8")) for path in paths]


def calls(tree: ast.AST, *names: str) -> Iterator[ast.Call]:
    """Calls of functions and methods of these names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if name in names:
                yield node


def news_of_updates() -> set[str]:
    kinds = [call.args[0] for tree in trees("policy") for call in calls(tree, "News")]
    return {str(ast.literal_eval(kind)) for kind in kinds}


def kinds(value: ast.expr, function: ast.FunctionDef, module: ast.Module) -> set[str]:
    """What the second argument of `note` may be, besides codes. AssertionError where that cannot be
    told: teach it here."""
    match value:
        case ast.Constant(value=str(kind)):
            return {kind}
        case ast.IfExp():
            return kinds(value.body, function, module) | kinds(value.orelse, function, module)
        case ast.Attribute(attr="code") | ast.Attribute(value=ast.Name(id="Code")):
            return set()  # of a failure: all codes are looked for anyway
        case ast.Attribute(attr="phase"):
            return {phase.value for phase in Phase}
        case ast.Attribute(attr="kind"):
            return news_of_updates()
        case ast.Name(id=name):
            return kinds_of_name(name, function, module)
        case _:
            raise AssertionError(f"line {value.lineno}: which kinds of event is this?")


def kinds_of_name(name: str, function: ast.FunctionDef, module: ast.Module) -> set[str]:
    """Of a variable, or of an argument that is given somewhere in the module."""
    parameters = [one.arg for one in function.args.args]
    if name in parameters:
        at = parameters.index(name) - 1  # without `self`
        given = [call.args[at] for call in calls(module, function.name)]
    else:
        given = [
            node.value
            for node in ast.walk(function)
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name
        ]
    assert given, f"where does {name} in {function.name} come from?"
    return {kind for one in given for kind in kinds(one, function, module)}


def told_kinds() -> set[str]:
    found: set[str] = set()
    for module in trees("control"):
        for function in (one for one in ast.walk(module) if isinstance(one, ast.FunctionDef)):
            for call in calls(function, "note", "note_npu"):
                found |= kinds(call.args[1], function, module)
    return found


def test_kinds_of_all_sorts_are_found() -> None:
    """A literal, one of two, an argument, a phase, news of an update."""
    assert {"asked", "npu-fault-over", "metrics-served", "backoff", "pin-lost"} <= told_kinds()


# --- what the page says --------------------------------------------------------------------------


def sections(page: str) -> dict[str, list[list[str]]]:
    """Heading -> rows of its table, without the head."""
    found: dict[str, list[list[str]]] = {}
    for line in (TREE / page).read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            found[line.removeprefix("## ")] = []
        elif found and line.startswith("| `"):
            found[list(found)[-1]].append(re.split(r" *\| *", line.strip("|").strip()))
    return found


def rows_of(page: str) -> dict[str, tuple[str, list[str]]]:
    """Code -> the section that explains it, and its row."""
    index = PAGES[page][0]
    rows = [
        (row[0].strip("`"), heading, row)
        for heading, table in sections(page).items()
        if heading != index
        for row in table
    ]
    names = [code for code, _, _ in rows]
    assert len(set(names)) == len(names), "explained twice"
    return {code: (heading, row) for code, heading, row in rows}


@pytest.mark.parametrize("page", PAGES)
def test_every_code_and_kind_is_explained_and_no_other(page: str) -> None:
    assert rows_of(page).keys() == CODES.keys() | told_kinds()


@pytest.mark.parametrize("page", PAGES)
def test_every_row_says_what_it_means_and_what_to_do(page: str) -> None:
    for code, (_, row) in rows_of(page).items():
        assert len(row) == 4, code
        assert row[1], code
        assert row[3], code


@pytest.mark.parametrize("page", PAGES)
def test_the_index_leads_to_each_and_says_who_mends_it(page: str) -> None:
    index, answers, answer, news = PAGES[page]
    wanted = []
    for code, (heading, _) in sorted(rows_of(page).items()):
        mends = f"`{remedy(CODES[code])}`" if code in CODES else news
        mends = answer if heading == answers else mends
        wanted.append([f"`{code}`", f"[{heading}](#{anchor(heading)})", mends])
    assert sections(page)[index] == wanted


def test_both_languages_explain_the_same_in_the_same_order() -> None:
    english, chinese = (list(rows_of(page)) for page in PAGES)
    assert english == chinese


def test_commands_and_files_are_the_same_in_both_languages() -> None:
    """What is to be typed must not be lost in a translation."""
    english, chinese = (
        {code: set(re.findall(r"`([^`]+)`", row[3])) for code, (_, row) in rows_of(page).items()}
        for page in PAGES
    )
    assert english == chinese
