# SPDX-License-Identifier: MulanPSL-2.0
"""The npu-smi double: its layouts, its modes and its reset, run as a process."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

NPU_SMI = Path(__file__).parents[1] / "fakes" / "npu_smi" / "npu-smi"
BUSY = {
    "health": "Alarm",
    "codes": ["80E3A203"],
    "used_mb": 60156,
    "processes": [{"pid": 2290156, "name": "VLLMEngineCore", "memory_mb": 56630}],
}


@dataclass(frozen=True)
class Host:
    """A /dev with four NPUs, and a state file that may be absent."""

    dev: Path
    state: Path

    @property
    def environment(self) -> dict[str, str]:
        paths = {"FAKE_NPU_DEV": str(self.dev), "FAKE_NPU_STATE": str(self.state)}
        return {"PATH": os.environ["PATH"], **paths}

    def set_state(self, **state: object) -> None:
        self.state.write_text(json.dumps(state))

    def run(self, *arguments: str, answers: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(NPU_SMI), *arguments],
            env=self.environment,
            input=answers,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )

    def lines(self, *arguments: str) -> list[str]:
        result = self.run(*arguments)
        assert (result.returncode, result.stderr) == (0, "")
        return result.stdout.splitlines()

    def values(self, *arguments: str) -> dict[str, str]:
        pairs = (line.partition(" : ") for line in self.lines(*arguments))
        return {key.strip(): value for key, colon, value in pairs if colon}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    dev = tmp_path / "dev"
    dev.mkdir()
    for name in ("davinci0", "davinci1", "davinci2", "davinci3", "davinci_manager"):
        (dev / name).touch()
    return Host(dev, tmp_path / "state.json")


def test_without_a_state_the_chips_are_those_of_dev(host: Host) -> None:
    (host.dev / "davinci1").unlink()
    lines = host.lines("info")
    row = "| {}     910B3               | OK            | 102.8       45                0    / 0"
    shown = [any(line.startswith(row.format(number)) for line in lines) for number in range(4)]
    assert shown == [True, False, True, True]
    assert {len(line) for line in lines} == {98}


def test_without_a_manager_device_the_driver_is_not_loaded(host: Host) -> None:
    (host.dev / "davinci_manager").unlink()
    result = host.run("info")
    assert result.returncode == 187
    assert "dcmi module initialize failed. ret is -8005" in result.stdout
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        (
            "910b",
            [
                "| Chip                      | Bus-Id        "
                "| AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |",
                "| 1     910B3               | Alarm         "
                "| 102.8       45                0    / 0             |",
                "| 0                         | 0000:C2:00.0  "
                "| 0           0    / 0          60156/ 65536         |",
                "| 1       0                 | 2290156       "
                "| VLLMEngineCore           | 56630                   |",
            ],
        ),
        (
            "a3",
            [
                "| Chip  Phy-ID              | Bus-Id        "
                "| AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |",
                "| 0     Ascend910           | Alarm         "
                "| -           45                0    / 0             |",
                "| 1     1                   | 0000:C2:00.0  "
                "| 0           0    / 0          60156/ 65536         |",
                "| 0       1                 | 2290156       "
                "| VLLMEngineCore           | 56630                   |",
            ],
        ),
        (
            "wide",
            [
                "| 0                         | 0000:C2:00.0  "
                "| 0                    0    / 0                60156/ 65536            |",
                "| NPU     Chip              | Process id    | Process name       "
                "| Process memory(MB)    | Process id in container |",
                "| 1       0                 | 2290156       | VLLMEngineCore     "
                "| 56630                 | NA                      |",
            ],
        ),
        (
            "310p",
            [
                "| Chip    Device                | Bus-Id          "
                "| AICore(%)    Memory-Usage(MB)                        |",
                "| 1       310P3                 | Alarm           "
                "| NA           45                0     / 0             |",
                "| 1       1                     | 0000:C2:00.0    "
                "| 0            60156/ 44280                            |",
                "| 1       1                     | 2290156         "
                "| VLLMEngineCore           | 56630                     |",
            ],
        ),
    ],
)
def test_the_table_of_each_layout(host: Host, layout: str, expected: list[str]) -> None:
    host.set_state(layout=layout, chips={"1": BUSY})
    lines = host.lines("info")
    assert [line for line in expected if line not in lines] == []
    assert len({len(line) for line in lines}) == 1


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ("910b", ["0 0 0 Ascend 910B3", "0 1 - Mcu", "1 0 1 Ascend 910B3", "1 1 - Mcu"]),
        ("a3", ["0 0 0 0 Ascend910", "0 1 1 1 Ascend910", "0 2 - - Mcu", "1 0 2 2 Ascend910"]),
        ("310p", ["1 0 0 Ascend 310P3", "1 1 1 Ascend 310P3", "1 2 - Mcu", "2 0 2 Ascend 310P3"]),
    ],
)
def test_the_mapping_of_each_layout(host: Host, layout: str, expected: list[str]) -> None:
    host.set_state(layout=layout)
    head, *rows = host.lines("info", "-m")
    assert ("Chip Phy-ID" in head) == (layout == "a3")
    assert [" ".join(row.split()) for row in rows[:4]] == expected


def test_the_list(host: Host) -> None:
    host.set_state(layout="a3")
    lines = host.lines("info", "-l")
    assert lines[0] == "\tTotal Count                    : 2"
    assert lines.count("\tChip Count                     : 2") == 2


def test_health_with_and_without_a_code(host: Host) -> None:
    host.set_state(chips={"1": BUSY, "2": {"health": "Warning"}})
    bad = host.values("info", "-t", "health", "-i", "1", "-c", "0")
    assert (bad["Health Status"], bad["Error Code"]) == ("Alarm", "80E3A203")
    assert "event state=" in bad["Error Information"]
    quirk = host.values("info", "-t", "health", "-i", "2")
    assert (quirk["Health Status"], quirk["Error Code"]) == ("OK", "NA")
    assert any("| 2     910B3               | Warning " in line for line in host.lines("info"))


def test_an_absent_health_word_drops_the_first_row_only(host: Host) -> None:
    host.set_state(chips={"1": {"health": "ABSENT"}})
    lines = host.lines("info")
    assert not any(line.startswith("| 1     910B3") for line in lines)
    assert any("0000:C2:00.0" in line for line in lines)


def test_the_chip_id_comes_after_its_block_but_before_common(host: Host) -> None:
    host.set_state(chips={"1": {"aicore": 97}})
    for kind in ("usages", "temp", "power", "ecc", "memory"):
        assert host.lines("info", "-t", kind, "-i", "1")[-1].split() == ["Chip", "ID", ":", "0"]
    usages = host.values("info", "-t", "usages", "-i", "1")
    assert (usages["Aicore Usage Rate(%)"], usages["HBM Capacity(MB)"]) == ("97", "65536")
    common = host.lines("info", "-t", "common", "-i", "1")
    assert common[3].split() == ["Chip", "ID", ":", "0"]


def test_board_processes_and_version(host: Host) -> None:
    host.set_state(version="24.1.0", chips={"1": BUSY})
    assert host.values("info", "-t", "board", "-i", "0")["Software Version"] == "24.1.0"
    assert "\tNo process in device." in host.lines("info", "-t", "proc-mem", "-i", "0")
    assert (
        "\tProcess id:2290156 Process name:VLLMEngineCore    Process memory(MB):56630"
        in host.lines("info", "-t", "proc-mem", "-i", "1", "-c", "0")
    )
    assert host.lines("-v") == host.lines("--version") == ["npu-smi version: 24.1.0"]


def test_what_it_does_not_know(host: Host) -> None:
    assert host.lines("info", "-t", "sign", "-i", "0") == [
        "This device does not support querying sign."
    ]
    assert host.run("info", "-t", "health", "-i", "77").returncode == 215
    assert host.run("info", "-t", "health", "-i", "0", "-c", "3").returncode == 215
    assert host.run("info", "--no-such-option").returncode == 215


def test_chips_can_be_given_as_a_list(host: Host) -> None:
    (host.dev / "davinci_manager").unlink()
    host.set_state(chips=[{"name": "910B4", "memory_mb": 32768}, {}])
    assert host.values("info", "-l")["Total Count"] == "2"
    assert any("3445 / 32768" in line for line in host.lines("info"))


def test_occupied_and_garbage(host: Host) -> None:
    host.set_state(mode="occupied")
    result = host.run("info")
    assert result.returncode == 172
    assert "because the device is used. ret is -8020" in result.stdout
    host.set_state(mode="not-loaded")
    assert host.run("info", "-m").returncode == 187
    host.set_state(mode="garbage")
    command = [str(NPU_SMI), "info"]
    raw = subprocess.run(command, env=host.environment, capture_output=True, check=True, timeout=20)
    with pytest.raises(UnicodeDecodeError):
        raw.stdout.decode()


@contextmanager
def started(host: Host) -> Iterator[subprocess.Popen[bytes]]:
    command = [str(NPU_SMI), "info"]
    with subprocess.Popen(command, env=host.environment, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until_deaf(pid: int) -> None:
    """Until the process ignores SIGTERM, by the kernel's word (proc_pid_status(5))."""
    deadline = time.monotonic() + 8
    while True:
        status = Path(f"/proc/{pid}/status").read_text()
        (ignored,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigIgn"))
        if int(ignored, 16) >> (signal.SIGTERM - 1) & 1:
            return
        assert time.monotonic() < deadline, "it does not ignore SIGTERM"
        time.sleep(0.01)


def test_hang_is_deaf_to_sigterm(host: Host) -> None:
    host.set_state(mode="hang")
    with started(host) as process:
        wait_until_deaf(process.pid)
        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.2)


def test_slow_answers_late(host: Host) -> None:
    host.set_state(mode="slow", slow_s=0.4)
    with started(host) as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        assert process.wait(5) == 0


def chips_in(state: Path) -> dict[str, dict[str, Any]]:
    chips: dict[str, dict[str, Any]] = json.loads(state.read_text())["chips"]
    return chips


RESET = ("set", "-t", "reset", "-i", "1", "-c", "0")
SICK = {"health": "Critical", "codes": ["80C98001"]}


def test_reset_heals_one_chip_and_counts(host: Host) -> None:
    host.set_state(chips={"1": SICK, "2": SICK})
    result = host.run(*RESET, answers="Y\n")
    assert result.returncode == 0
    assert "\tStatus                         : OK\n" in result.stdout
    chips = chips_in(host.state)
    assert (chips["1"]["health"], chips["1"]["codes"], chips["1"]["resets"]) == ("OK", [], 1)
    assert (chips["2"]["health"], chips["2"]["resets"]) == ("Critical", 0)


def test_reset_gives_back_memory_that_no_process_has(host: Host) -> None:
    host.set_state(chips={"1": {"left_mb": 20000}})
    assert host.values("info", "-t", "usages", "-i", "1")["HBM Usage Rate(%)"] == "35"
    rows = [line for line in host.lines("info") if "/ 65536" in line]
    assert ["23445/ 65536" in row for row in rows] == [False, True, False, False]
    assert "No running processes found in NPU 1" in "\n".join(host.lines("info"))
    assert host.run(*RESET, answers="Y\n").returncode == 0
    assert host.values("info", "-t", "usages", "-i", "1")["HBM Usage Rate(%)"] == "5"


def test_reset_without_an_answer_is_aborted(host: Host) -> None:
    host.set_state(chips={"1": SICK})
    result = host.run(*RESET)
    assert result.returncode != 0
    assert "User aborts reset" in result.stdout
    assert chips_in(host.state)["1"] == SICK
    host.set_state(chips={"1": SICK}, reset_asks=False)
    assert host.run(*RESET).returncode == 0


def test_reset_with_hccs_asks_twice_and_takes_all(host: Host) -> None:
    host.set_state(hccs=True)
    assert host.run(*RESET, answers="y\n").returncode != 0
    assert host.run(*RESET, answers="y\ny\n").returncode == 0
    assert {chip["resets"] for chip in chips_in(host.state).values()} == {1}


def test_reset_refuses_while_a_process_holds_the_chip(host: Host) -> None:
    host.set_state(chips={"1": BUSY})
    result = host.run(*RESET, answers="y\n")
    assert result.returncode == 211
    assert "Failed to reset" in result.stdout
    host.set_state(chips={"1": SICK}, reset_fails=True)
    assert host.run(*RESET, answers="y\n").returncode == 211
    assert chips_in(host.state)["1"]["health"] == "Critical"


def test_reset_of_a_duo_takes_both_dies_through_chip_0(host: Host) -> None:
    host.set_state(layout="310p", chips={"1": SICK})
    second = host.run("set", "-t", "reset", "-i", "1", "-c", "1", answers="y\ny\n")
    assert second.returncode == 193
    assert "SMP mode only support reset chip 0." in second.stdout
    assert host.run(*RESET, answers="y\ny\n").returncode == 0
    assert [chip["resets"] for chip in chips_in(host.state).values()] == [1, 1, 0, 0]


def test_reset_of_an_a3_takes_the_dies_of_one_card(host: Host) -> None:
    host.set_state(layout="a3", chips={"2": SICK})
    assert host.run(*RESET, answers="y\ny\n").returncode == 0
    assert [chip["resets"] for chip in chips_in(host.state).values()] == [0, 0, 1, 1]


def test_a_reset_leaves_the_codes_that_last(host: Host) -> None:
    sick = SICK | {"codes": ["80C98001", "80E18402"], "info": ["first", "second"]}
    host.set_state(chips={"1": sick | {"lasting": ["80E18402"]}})
    assert host.run(*RESET, answers="Y\n").returncode == 0
    after = host.values("info", "-t", "health", "-i", "1")
    assert (after["Health Status"], after["Error Code"]) == ("Critical", "80E18402")
    assert after["Error Information"] == "second"


def test_a_reset_fails_for_one_chip(host: Host) -> None:
    host.set_state(chips={"1": SICK | {"reset_fails": True}, "2": SICK})
    assert host.run(*RESET, answers="Y\n").returncode == 211
    assert host.run("set", "-t", "reset", "-i", "2", "-c", "0", answers="Y\n").returncode == 0
    assert [chip["health"] for chip in chips_in(host.state).values()] == [
        "OK",
        "Critical",
        "OK",
        "OK",
    ]
