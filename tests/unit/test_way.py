# SPDX-License-Identifier: MulanPSL-2.0
"""Users on other hosts who are cut off while this host is answered."""

from dataclasses import replace

import pytest

from agent.errors import Code, Failure
from agent.facts import ContainerFacts
from agent.health import way
from agent.health.way import Way
from tests.build import build_container

ALL = "0.0.0.0"  # noqa: S104
V4, V6 = "10.88.0.7", "fd00::7"


def container_at(address: str) -> ContainerFacts:
    return replace(build_container("deepseek-vllm-8b"), address=address)


@pytest.fixture(autouse=True)
def _always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(way, "EVERY_S", 0.0)


def looks(listen: str, container: ContainerFacts | None, *forwards: bool | None) -> list[str]:
    """What is told at each look, in that order; empty: that it is over."""
    told: list[Failure | None] = []
    answers = iter(forwards)
    one = Way(listen, lambda: container, lambda _: next(answers), told.append)
    for _ in forwards:
        one.look()
    assert {each.code for each in told if each is not None} <= {Code.PORT_CUT}
    return ["" if each is None else each.message for each in told]


def test_it_is_told_as_long_as_it_is_so_and_once_that_it_is_over() -> None:
    told = looks(ALL, container_at(V4), True, False, False, True, True)
    assert len(told) == 3
    assert "net.ipv4.ip_forward is 0" in told[0]
    assert told[1:] == [told[0], ""]


@pytest.mark.parametrize(
    ("listen", "address", "setting"),
    [
        ("192.0.2.1", V4, "net.ipv4.ip_forward"),
        ("::", V6, "net.ipv6.conf.all.forwarding"),
        ("127.0.0.1", V4, ""),
        ("127.0.0.2", V4, ""),
        ("::1", V6, ""),
        ("::", V4, ""),  # nothing of IPv6 comes to it at all
        (ALL, "", ""),
    ],
)
def test_which_of_them_need_it(listen: str, address: str, setting: str) -> None:
    told = looks(listen, container_at(address), False)
    assert [setting in one for one in told] == ([True] if setting else [])


def test_what_is_not_known_is_no_reason() -> None:
    assert looks(ALL, None, False) == []
    assert looks(ALL, container_at(V4), None) == []


def test_it_does_not_look_at_each_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(way, "EVERY_S", 60.0)
    assert len(looks(ALL, container_at(V4), False, False)) == 1
