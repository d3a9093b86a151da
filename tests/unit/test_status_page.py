# SPDX-License-Identifier: MulanPSL-2.0
"""The status at a glance: its first line, its width, its color."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import Code, Failure
from agent.model import DriverState, Inventory, Phase
from agent.status.page import Look, Row, Tone, lay_out
from agent.status.show import show
from agent.status.snapshot import DiskView, FetchView, InstanceView, Snapshot, UpdateView
from agent.status.verdict import verdict
from agent.supplies import Item, Progress, Stage, Supply
from tests.build import build_inventory, build_npu, build_snapshot, build_view

NOW = 1_700_000_090.0
BAD = Failure(Code.CONFIG_INVALID, "cannot use the file")
DIED = Failure(Code.ENGINE_DIED, "cannot keep serving: it ended, and said nothing of why", "look")
FULL = DiskView("/var", 1, 10**12, low=True, low_below_bytes=20)
TRIAL = UpdateView(False, None, None, Supply("image", "abc", "", "", "", 0.0), NOW + 9, None, 0.0)
GONE = build_inventory([build_npu(0), build_npu(1, device_present=False)])
IDLE = build_view(Phase.IDLE, name="7b")


@pytest.mark.parametrize(
    ("snapshot", "line"),
    [
        (build_snapshot(build_view(), IDLE), "all well: 8b serves"),
        (build_snapshot(build_view(), build_view(name="7b")), "all well: 8b, 7b serve"),
        (
            build_snapshot(IDLE),
            "idle: no model is to serve here; start one with: systemctl enable --now deepseek@NAME",
        ),
        (
            build_snapshot(build_view(Phase.HELD, failure=DIED)),
            "TROUBLE: 8b does not serve, and waits for somebody",
        ),
        (
            build_snapshot(build_view(Phase.BACKOFF, failure=DIED), build_view(name="7b")),
            "TROUBLE: 8b does not serve, and is tried anew; 7b serves",
        ),
        (
            build_snapshot(build_view(Phase.WAITING, failure=DIED)),
            "TROUBLE: 8b waits, and does not serve",
        ),
        (
            build_snapshot(build_view(), replace(IDLE, refused=True, failure=BAD)),
            "TROUBLE: 7b was refused, and waits for: systemctl start deepseek@7b; 8b serves",
        ),
        (
            build_snapshot(build_view(), without_profile=("7b",)),
            "TROUBLE: 7b is to serve, and has no profile; 8b serves",
        ),
        (build_snapshot(build_view(trouble=DIED)), "TROUBLE: 8b serves badly"),
        (build_snapshot(build_view(Phase.FETCHING)), "not yet: 8b is being fetched"),
        (build_snapshot(build_view(Phase.LOADING)), "not yet: 8b is being started"),
        (
            build_snapshot(build_view(Phase.LOADING, failures=2, failure=DIED)),
            "TROUBLE: 8b does not serve, and is tried anew",
        ),
        (
            build_snapshot(build_view(), config_problem=BAD),
            "TROUBLE: the configuration cannot be used; 8b serves",
        ),
        (
            build_snapshot(build_view(), broken=("a", "b")),
            "TROUBLE: 2 profiles cannot be used; 8b serves",
        ),
        (
            build_snapshot(build_view(degraded="why"), inventory=GONE),
            "serving, but: 8b has fewer NPUs than it should; 1 NPU gone",
        ),
        (
            build_snapshot(build_view(update=TRIAL)),
            "serving, but: an update of 8b is on trial",
        ),
        (build_snapshot(build_view(), disks=(FULL,)), "serving, but: a disk is too full"),
        (
            build_snapshot(
                build_view(Phase.HELD),
                build_view(Phase.BACKOFF, name="7b"),
                inventory=Inventory(DriverState.FAILED),
                systemd_problem=BAD,
            ),
            "TROUBLE: systemd does not answer, what follows may be old; 8b does not serve, and "
            "waits for somebody; 7b does not serve, and is tried anew; 1 more",
        ),
    ],
)
def test_the_first_line_says_how_it_is(snapshot: Snapshot, line: str) -> None:
    assert show(snapshot, NOW).splitlines()[0] == line


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("failure", [None, DIED])
@pytest.mark.parametrize("trouble", [None, DIED])
def test_well_is_said_of_what_serves_alone(
    phase: Phase, failure: Failure | None, trouble: Failure | None
) -> None:
    view = build_view(phase, failure=failure, trouble=trouble)
    said = verdict(build_snapshot(view)).label
    well = phase is Phase.SERVING and trouble is None
    assert (said == "all well: ") is well
    assert (said == "idle: ") is (phase is Phase.IDLE and failure is None)
    assert (said == "idle, but: ") is (phase is Phase.IDLE and failure is not None)


def test_what_is_wrong_is_told_once_and_before_what_it_is() -> None:
    view = build_view(Phase.HELD, status=f"held: {DIED.message}", failure=DIED)
    lines = show(build_snapshot(view), NOW).splitlines()
    assert lines[2:5] == [
        "○ 8b       held until something changes, 1 min 30 s",
        f"    reason    {DIED.message} [engine-died]",
        "    hint      look",
    ]


@pytest.mark.parametrize("quiet", [(), (IDLE, build_view(Phase.IDLE, name="1b"))])
def test_what_was_refused_and_what_to_do(quiet: tuple[InstanceView, ...]) -> None:
    view = build_view(Phase.IDLE, refused=True, failure=replace(BAD, hint="correct it"))
    lines = show(build_snapshot(view, *quiet), NOW).splitlines()
    assert lines[2:5] == [
        "○ 8b       refused; when it is mended: systemctl start deepseek@8b",
        "    reason    cannot use the file [config-invalid]",
        "    hint      correct it",
    ]


def test_who_has_no_profile_and_what_to_do() -> None:
    lines = show(build_snapshot(build_view(), without_profile=("8bb",)), NOW).splitlines()
    assert lines[2:5] == [
        "○ 8bb      is to serve, and has no profile",
        "    hint      write /etc/deepseek-agent/models.d/8bb.toml, then: systemctl start "
        "deepseek@8bb",
        "              or, if it is not to serve: systemctl disable --now deepseek@8bb",
    ]


def test_an_agent_that_is_new_knows_not_why_it_was_refused() -> None:
    lines = show(build_snapshot(build_view(Phase.IDLE, refused=True)), NOW).splitlines()
    assert lines[3] == "    reason    see: systemctl status deepseek@8b"


def test_what_nobody_started_comes_last() -> None:
    page = show(build_snapshot(IDLE, build_view(Phase.HELD)), NOW)
    assert page.index("○ 8b") < page.index("○ 7b")


def test_a_fetch_is_told_once() -> None:
    progress = Progress(Item.MODEL, Stage.FETCHING, "hub", 5, 10)
    view = build_view(Phase.FETCHING, status="fetching", fetch=FetchView(NOW, progress, 9))
    page = show(build_snapshot(view), NOW)
    assert "[############............]" in page
    assert "supply" not in page


# --- width and color -----------------------------------------------------------------------------

LONG = build_snapshot(
    build_view(Phase.HELD, status=f"held: {DIED.message}", failure=DIED),
    build_view(name="7b", degraded="one of its NPUs is broken, and there is no spare " * 3),
    inventory=GONE,
    config_problem=BAD,
)


@pytest.mark.parametrize("width", [60, 80, 132])
def test_lines_are_no_longer_than_the_terminal(width: int) -> None:
    for line in show(LONG, NOW, Look(width)).splitlines():
        table = re.search(r"NPU  product|910B3", line)
        assert len(line) <= width or table or " " not in line.strip()


def test_what_is_wrapped_stays_under_its_column() -> None:
    row = Row("    reason    ", "one two three four five six seven", Tone.TROUBLE)
    assert lay_out([row], Look(38)).splitlines() == [
        "    reason    one two three four five",
        "              six seven",
    ]


@given(
    st.text(st.characters(max_codepoint=0x2E7F, exclude_categories=("C", "Z")) | st.just(" ")),
    st.integers(1, 300),
)
def test_wrapping_loses_no_word(text: str, width: int) -> None:
    page = lay_out([Row("  label  ", text)], Look(width))
    assert page.split() == ["label", *text.split()]


def test_the_first_line_comes_again_where_it_has_scrolled_away() -> None:
    page = show(LONG, NOW, Look(80, height=100)).splitlines()
    short = show(LONG, NOW, Look(80, height=len(page))).splitlines()
    assert short == [*page, "", *page[: len(short) - len(page) - 1]]
    assert short[-1] == page[len(short) - len(page) - 2]


def test_color_is_nothing_but_color() -> None:
    plain, colored = show(LONG, NOW, Look(80)), show(LONG, NOW, Look(80, color=True))
    assert "\033" not in plain
    assert re.sub(r"\033\[[\d;]*m", "", colored) == plain
    assert colored.startswith("\033[1;31mTROUBLE:\033[0m ")
    assert "\033[1;31m○ 8b\033[0m " in colored
    assert "\033[32m● 7b\033[0m " in colored
    for line in colored.splitlines():
        assert line.count("\033[") % 2 == 0  # each ends in its line
