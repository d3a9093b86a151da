# SPDX-License-Identifier: MulanPSL-2.0
"""Links from one of our pages to another lead somewhere, also to a heading; each page is found."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[2]
PAGES = sorted([*TREE.glob("*.md"), *TREE.glob("docs/**/*.md")])
LINK = re.compile(r"\[[^\]]*\]\((?!https?:)(?P<file>[^)#\s]*)(?:#(?P<anchor>[^)\s]+))?\)")
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def anchor(heading: str) -> str:
    """As GitHub and Gitee make it."""
    words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")


def anchors_of(page: Path) -> set[str]:
    return {anchor(one) for one in re.findall(r"^#+ (.*)$", text_of(page), re.MULTILINE)}


def links_of(page: Path) -> list[tuple[Path, str]]:
    """The file that is meant, and the anchor in it or nothing."""
    found = LINK.finditer(CODE.sub("", text_of(page)))
    return [
        (page.parent / one["file"] if one["file"] else page, one["anchor"] or "") for one in found
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TREE)))
def test_links_lead_somewhere(page: Path) -> None:
    for target, name in links_of(page):
        assert target.exists(), target
        assert not name or name in anchors_of(target), f"{target}#{name}"


def test_links_lead_somewhere_where_the_package_puts_the_pages(tmp_path: Path) -> None:
    """All of them are inside of that folder, and go with it."""
    words = (TREE / "rpm/install-docs", TREE, tmp_path / "doc")
    command = [sys.executable, "-ISB", *map(str, words)]
    subprocess.run(command, check=True)
    pages = sorted(tmp_path.glob("doc/**/*.md"))
    shipped = {page.name for page in PAGES if page.parent.name != "man"}
    assert {page.name for page in pages} == shipped - {"CONTRIBUTING.md"}
    links = [link for page in pages for link in links_of(page)]
    assert len(links) > 100
    for target, name in links:
        assert target.resolve().is_relative_to(tmp_path / "doc"), target
        assert target.exists(), target
        assert not name or name in anchors_of(target), f"{target}#{name}"


@pytest.mark.parametrize("page", sorted(TREE.glob("docs/*.md")), ids=lambda page: page.name)
def test_every_page_can_be_found_from_the_readme(page: Path) -> None:
    seen, waiting = set[Path](), [TREE / "README.md"]
    while waiting:
        one = waiting.pop().resolve()
        if one.suffix == ".md" and one not in seen:
            seen.add(one)
            waiting += [target for target, _ in links_of(one)]
    assert page in seen
