# SPDX-License-Identifier: MulanPSL-2.0
"""What people read: the line of STATUS=, and the page of `deepseekctl status`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import Code, Failure
from agent.model import DriverState, Inventory, NpuHealth, Phase, StartProgress, Step
from agent.status.show import EVENTS_SHOWN, show
from agent.status.snapshot import EventView, StartView
from agent.status.text import describe, say_progress
from agent.supplies import Item, Progress, Stage
from agent.wording import bar, duration
from tests.build import build_inventory, build_npu, build_snapshot, build_view

DIED = Failure(Code.ENGINE_DIED, "cannot keep serving: it ended", "see the journal")
NOW = 1_700_000_090.0  # the view's phase began 90 s before


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0 s"),
        (0, "0 s"),
        (0.99, "0 s"),
        (59.9, "59 s"),
        (60, "1 min 0 s"),
        (80, "1 min 20 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 0 min"),
        (7500, "2 h 5 min"),
        (86_399, "23 h 59 min"),
        (86_400, "1 d 0 h"),
        (86_400 * 365, "365 d 0 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@given(st.floats(0, 1e9), st.floats(0, 1e9))
def test_longer_never_looks_shorter(one: float, other: float) -> None:
    units = {"d": 86_400, "h": 3600, "min": 60, "s": 1}

    def read(text: str) -> int:
        words = text.split()
        return sum(int(n) * units[unit] for n, unit in zip(words[::2], words[1::2], strict=True))

    short, long = sorted((one, other))
    assert read(duration(short)) <= read(duration(long)) <= long


@pytest.mark.parametrize(
    ("phase", "failure", "text"),
    [
        (Phase.IDLE, None, "not started"),
        (Phase.WAITING, DIED, "waiting: cannot keep serving: it ended (1 min 20 s)"),
        (Phase.STARTING, None, "starting the container, 1 min 20 s"),
        (Phase.LOADING, None, "loading the model, 1 min 20 s"),
        (
            Phase.LOADING,
            DIED,
            "loading the model, 1 min 20 s; last: cannot keep serving: it ended",
        ),
        (Phase.SERVING, None, "serving"),
        (Phase.BACKOFF, DIED, "trying again in 16 s: cannot keep serving: it ended"),
        (Phase.HELD, DIED, "held: cannot keep serving: it ended"),
        (Phase.STOPPING, None, "stopping, 1 min 20 s"),
        (Phase.FETCHING, None, "looking for image and model"),
    ],
)
def test_one_line_per_phase(phase: Phase, failure: Failure | None, text: str) -> None:
    assert describe(phase, 80.0, failure, 16.0) == text


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("failure", [None, DIED])
def test_every_phase_has_one_line(phase: Phase, failure: Failure | None) -> None:
    text = describe(phase, 0.0, failure)
    assert text
    assert "\n" not in text


def test_serving_does_not_change_with_time() -> None:
    """systemd would be told every few seconds for a year."""
    assert describe(Phase.SERVING, 1.0, None) == describe(Phase.SERVING, 1e6, None)


# --- deepseekctl status --------------------------------------------------------------------------


def test_the_page() -> None:
    events = (EventView(NOW - 5, "8b", "serving", ""), EventView(NOW - 4, "", "npus", "8 NPUs"))
    page = show(build_snapshot(build_view(status="serving"), events=events), NOW)
    assert page.splitlines()[:6] == [
        "all well: 8b serves",
        "",
        "● 8b       serving for 1 min 30 s",
        "    model     deepseek-r1:8b at http://127.0.0.1:2023/v1",
        "    runs on   NPU 0",
        "    unit      deepseek-vllm-8b.service, from "
        "/run/containers/systemd/deepseek-vllm-8b.container",
    ]
    last = page.splitlines()[-1]
    assert last == "deepseek-agent 0.1.0, mode act, running for 18 min 10 s"
    assert "NPU driver 24.1.rc2: ready" in page
    assert "5 s ago  8b serving" in page
    assert "4 s ago  npus: 8 NPUs" in page
    rows = [line.split() for line in page.splitlines()]
    npu = ["0", "910B3", "ok", "-", "-", "-", "-", "3000/65536", "MiB", "8b"]
    assert npu in rows
    assert page.count("  free") == 7


def test_the_reason_and_what_to_do_stand_under_an_instance_that_does_not_serve() -> None:
    view = build_view(Phase.BACKOFF, next_try_at=NOW + 4, failure=DIED, failures=3)
    lines = show(build_snapshot(view), NOW).splitlines()
    assert "○ 8b       trying again in 4 s" in lines  # the reason is told once
    assert "    reason    cannot keep serving: it ended [engine-died]" in lines
    assert "    hint      see the journal" in lines
    assert "    failures  3 in a row" in lines


def test_failures_before_it_served_are_over() -> None:
    view = build_view(Phase.SERVING, failures=10)
    assert "in a row" not in show(build_snapshot(view), NOW)


def test_when_a_start_is_given_up_is_told_while_it_loads() -> None:
    start = StartView(Step.WEIGHTS, 45, 5, 11, NOW - 3, NOW + 80, 600.0)
    lines = show(build_snapshot(build_view(Phase.LOADING, start=start)), NOW).splitlines()
    assert "    start     tried anew in 1 min 20 s, or later while it moves on" in lines


def test_an_instance_that_nobody_started_says_how() -> None:
    lines = show(build_snapshot(build_view(Phase.IDLE)), NOW).splitlines()
    assert "○ 8b       not started (systemctl enable --now deepseek@8b)" in lines
    assert not [one for one in lines if "model  " in one]


def test_several_that_nobody_started_are_one_line() -> None:
    idle = (build_view(Phase.IDLE, name=name) for name in ("7b", "14b"))
    ended = build_view(Phase.IDLE, failure=DIED)
    lines = show(build_snapshot(ended, *idle), NOW).splitlines()
    assert "○ not started: 7b, 14b (systemctl enable --now deepseek@NAME)" in lines
    assert "○ 8b       not started (systemctl enable --now deepseek@8b)" in lines


def test_the_reason_of_the_last_end_is_kept() -> None:
    lines = show(build_snapshot(build_view(Phase.IDLE, failure=DIED)), NOW).splitlines()
    assert "    last      cannot keep serving: it ended [engine-died]" in lines


@pytest.mark.parametrize(
    ("left_s", "text"),
    [
        (8 * 86_400.0, ""),
        (6 * 86_400.0, "clients will refuse its certificate in 6 d 0 h"),
        (-1.0, "clients refuse its certificate: its time is over"),
    ],
)
def test_a_certificate_whose_time_is_nearly_over(left_s: float, text: str) -> None:
    page = show(build_snapshot(build_view(certificate_expires_at=NOW + left_s)), NOW)
    assert text in page
    assert ("refuse" in page) is bool(text)


def test_only_serving_is_marked() -> None:
    for phase in Phase:
        page = show(build_snapshot(build_view(phase)), NOW)
        assert ("●" in page) is (phase is Phase.SERVING)
        assert "8b" in page


def test_trouble_of_the_configuration_comes_first() -> None:
    problem = Failure(Code.CONFIG_INVALID, "cannot use /etc/x: mood: unknown key", "mend it")
    snapshot = build_snapshot(config_problem=problem, broken=("8b: cannot use it: port",))
    lines = show(snapshot, NOW).splitlines()
    title = "configuration not in force: "
    assert lines[0] == "TROUBLE: the configuration cannot be used"
    assert lines[1] == f"{title}cannot use /etc/x: mood: unknown key [config-invalid]"
    assert lines[2] == f"{'hint':<{len(title)}}mend it"
    assert lines[3] == "profile not usable: 8b: cannot use it: port"


@pytest.mark.parametrize(
    ("inventory", "text"),
    [
        (Inventory(DriverState.ABSENT, "no npu-smi"), "NPU driver: absent: no npu-smi"),
        (Inventory(DriverState.UNKNOWN), "NPU driver: unknown"),
        (Inventory(DriverState.FAILED, "dcmi -8005"), "NPU driver: failed: dcmi -8005"),
    ],
)
def test_a_driver_that_is_not_there(inventory: Inventory, text: str) -> None:
    lines = show(build_snapshot(inventory=inventory), NOW).splitlines()
    assert lines[-3] == text
    assert lines[0] == f"idle, but: NPU driver {inventory.driver}"


def test_an_npu_with_trouble_is_seen() -> None:
    npus = [build_npu(0, device_present=False), build_npu(1, health=NpuHealth.CRITICAL)]
    lines = show(build_snapshot(inventory=build_inventory(npus)), NOW).splitlines()
    assert lines[-5].split()[:3] == ["0", "910B3", "gone"]
    assert lines[-4].strip() == "/dev/davinci0 does not exist"
    assert "critical" in lines[-3]


def test_only_the_latest_events_are_shown() -> None:
    events = tuple(EventView(NOW - 100 + index, "", f"event-{index}", "") for index in range(50))
    page = show(build_snapshot(events=events), NOW)
    assert page.count(" ago  ") == EVENTS_SHOWN
    assert page.splitlines()[-3].endswith("event-49")


def test_a_clock_that_was_set_back_does_not_matter() -> None:
    assert "running for 0 s" in show(build_snapshot(build_view()), 0.0)


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        (StartProgress(), "loading the model, 1 min 20 s"),
        (StartProgress(Step.ENGINE), "loading the model: vLLM begins, 1 min 20 s"),
        (
            StartProgress(Step.WEIGHTS, 45, 5, 11),
            "loading the model: weights 45 % (5 of 11), 1 min 20 s",
        ),
        (StartProgress(Step.WEIGHTS, 100), "loading the model: weights 100 %, 1 min 20 s"),
        (
            StartProgress(Step.LISTENING),
            "loading the model: waiting for its first token, 1 min 20 s",
        ),
    ],
)
def test_how_far_a_start_has_come(progress: StartProgress, text: str) -> None:
    assert describe(Phase.LOADING, 80.0, None, progress=progress) == text


def test_each_step_has_its_words() -> None:
    assert len({say_progress(StartProgress(step)) for step in Step}) == len(Step)


@pytest.mark.parametrize(
    ("fetch", "text"),
    [
        (None, "looking for image and model"),
        (
            Progress(Item.MODEL, Stage.ASKING, "hub.example"),
            "asking for the model from hub.example",
        ),
        (
            Progress(
                *(Item.MODEL, Stage.FETCHING, "hub.example"),
                *(7_246_000_000, 16_060_000_000, 79_900_000.0),
            ),
            "fetching the model from hub.example: 45 % (7.2 GB of 16.1 GB), "
            "79.9 MB/s, 1 min 50 s left",
        ),
        (
            Progress(Item.IMAGE, Stage.FETCHING, "quay.io", 812_000_000, trouble="no answer"),
            "fetching the image from quay.io: 812 MB, no answer",
        ),
        (
            Progress(Item.MODEL, Stage.CHECKING, "", 2_000, 2_000, 10_000),
            "checking the model: 100 % (2.0 kB of 2.0 kB)",
        ),
        (Progress(Item.IMAGE, Stage.PLACING), "storing the image"),
    ],
)
def test_what_is_being_brought(fetch: Progress | None, text: str) -> None:
    assert describe(Phase.FETCHING, 80.0, None, fetch=fetch) == text


def test_a_bar() -> None:
    assert bar(Progress(Item.MODEL, Stage.FETCHING)) == ""
    assert bar(Progress(Item.MODEL, Stage.FETCHING, "", 0, 10)) == "[" + "." * 24 + "]"
    assert bar(Progress(Item.MODEL, Stage.FETCHING, "", 5, 10)) == "[" + "#" * 12 + "." * 12 + "]"
    assert bar(Progress(Item.MODEL, Stage.FETCHING, "", 11, 10)) == "[" + "#" * 24 + "]"
