# SPDX-License-Identifier: MulanPSL-2.0
"""The text of npu-smi, in every layout that is known, and in none."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model import NpuHealth, NpuProcess
from agent.npud import npu_smi
from agent.npud.npu_smi import parse_mapping, parse_refusal, parse_table

FIXTURES = Path(__file__).parent / "fixtures"
LAYOUTS = ("910b", "a3", "duo", "wide")


def text_of(name: str) -> str:
    return (FIXTURES / f"{name}.txt").read_text()


def table_of(name: str) -> npu_smi.Table:
    table = parse_table(text_of(f"{name}_info"))
    assert table is not None
    return table


def healths(name: str) -> dict[tuple[int, int], str]:
    return {key: chip.health.value for key, chip in table_of(name).chips.items()}


def test_910b_mapping_skips_the_mcus() -> None:
    mapping = parse_mapping(text_of("910b_map"))
    assert [(c.card_id, c.chip_id, c.logic_id) for c in mapping] == [
        (0, 0, 0),
        (1, 0, 1),
        (2, 0, 2),
        (3, 0, 3),
    ]
    assert {c.product for c in mapping} == {"910B3"}


def test_a3_mapping_has_a_column_more() -> None:
    mapping = parse_mapping(text_of("a3_map"))
    assert [(c.card_id, c.chip_id, c.logic_id) for c in mapping] == [
        (0, 0, 0),
        (0, 1, 1),
        (1, 0, 2),
        (1, 1, 3),
    ]
    assert {c.product for c in mapping} == {"Ascend910"}


def test_duo_mapping_leaves_out_a_card_that_cannot_be_used() -> None:
    mapping = parse_mapping(text_of("duo_map"))
    assert [(c.card_id, c.chip_id, c.logic_id) for c in mapping] == [
        (1, 0, 0),
        (1, 1, 1),
        (32800, 0, 2),
        (32800, 1, 3),
    ]


def test_mapping_without_logic_ids_is_not_guessed() -> None:
    assert parse_mapping("NPU ID  Slot ID  Chip ID  Chip Phy-ID  Chip Name\n0  0  0  0  X\n") == ()


def test_mapping_with_physical_ids() -> None:
    """Card 0 did not come up."""
    lines = text_of("a3_map").splitlines()
    rows = [line.split() for line in lines[4:]]
    moved = [
        f"1  {chip}  {int(logic) - 2}  {phy}  {name}" for _, chip, logic, phy, name in rows[:2]
    ]
    mapping = parse_mapping("\n".join([lines[0], *moved]))
    assert [(one.logic_id, one.node, one.number) for one in mapping] == [(0, 2, 2), (1, 3, 3)]
    assert [one.node for one in parse_mapping(text_of("910b_map"))] == [None] * 4


def test_a_physical_id_that_two_chips_claim_is_of_neither() -> None:
    lines = text_of("a3_map").splitlines()[:1]
    rows = ["0  0  0  2  Ascend910", "0  1  1  2  Ascend910", "1  0  2  3  Ascend910"]
    assert [one.number for one in parse_mapping("\n".join([*lines, *rows]))] == [3]


def test_mapping_with_single_spaces() -> None:
    text = text_of("910b_map").splitlines()[0] + "\n5 0 7 Ascend 910B3\n"
    assert [(c.card_id, c.logic_id, c.product) for c in parse_mapping(text)] == [(5, 7, "910B3")]


def test_910b_table() -> None:
    table = table_of("910b")
    assert table.version == "25.5.1"
    chip = table.chips[1, 0]
    assert (chip.product, chip.health, chip.bus_id) == ("910B3", NpuHealth.OK, "0000:82:00.0")
    assert (chip.memory_used_mib, chip.memory_mib) == (60156, 65536)
    assert table.processes == {(1, 0): (NpuProcess(2290156, "VLLMEngineCore", 56630),)}


def test_a_chip_whose_upper_row_is_missing_takes_nothing_from_its_neighbor() -> None:
    assert healths("910b") == {(0, 0): "ok", (1, 0): "ok", (2, 0): "alarm"}


@pytest.mark.parametrize("ruler", ["+====+\n", ""])
def test_missing_upper_row_between_others(ruler: str) -> None:
    lines = text_of("910b_info").splitlines(keepends=True)
    head, chips = "".join(lines[:6]), [line for line in lines[6:14] if line.startswith("|")]
    text = head + chips[0] + chips[1] + ruler + chips[3] + ruler + chips[4] + chips[5]
    table = parse_table(text)
    assert table is not None
    assert {key: chip.health.value for key, chip in table.chips.items()} == {
        (0, 0): "ok",
        (2, 0): "alarm",
    }


def test_a3_table() -> None:
    table = table_of("a3")
    assert healths("a3") == {(0, 0): "ok", (0, 1): "ok", (1, 0): "ok", (1, 1): "warning"}
    assert table.chips[1, 0].memory_used_mib == 61602
    assert table.processes[0, 0] == (NpuProcess(935440, "", 141),)


def test_duo_table_has_health_per_chip_and_no_hbm() -> None:
    table = table_of("duo")
    assert healths("duo") == {
        (1, 0): "ok",
        (1, 1): "critical",
        (32800, 0): "ok",
        (32800, 1): "ok",
    }
    assert table.chips[1, 1].memory_mib == 44280
    assert table.chips[1, 1].memory_used_mib == 1531
    assert table.processes == {}


def test_wide_table_with_a_fifth_process_column() -> None:
    table = table_of("wide")
    assert table.version == "26.0.0"
    assert table.chips[0, 0].memory_used_mib == 30001
    assert table.processes[0, 0] == (
        NpuProcess(41, "python3", 20000),
        NpuProcess(52, "VLLM::Worker_TP0", 9000),
    )


@pytest.mark.parametrize(
    ("row", "used", "total"),
    [
        ("0           7    / 15039     0    / 65536", 0, 65536),
        ("0           7    / 15039     0    / 0", 7, 15039),  # a chip without HBM
        ("NA          7    / 15039     NA / NA", 7, 15039),
        ("0           7/15039 61609/65536", 61609, 65536),
        ("0           7    / 15039", 0, 0),  # which of the two is it?
        ("", 0, 0),
    ],
)
def test_memory(row: str, used: int, total: int) -> None:
    text = text_of("910b_info").replace("0           0    / 0          3445 / 65536         ", row)
    table = parse_table(text)
    assert table is not None
    assert (table.chips[0, 0].memory_used_mib, table.chips[0, 0].memory_mib) == (used, total)


@pytest.mark.parametrize("word", ["UNKNOWN", "Offline", "Okay", ""])
def test_a_health_word_that_is_not_known(word: str) -> None:
    text = text_of("910b_info").replace("| OK            |", f"| {word}            |")
    table = parse_table(text)
    assert table is not None
    assert table.chips[0, 0].health is NpuHealth.UNKNOWN


def test_a_chip_told_twice_is_not_believed() -> None:
    lines = text_of("910b_info").splitlines()
    table = parse_table("\n".join([*lines[:9], *lines[6:]]))
    assert table is not None
    assert table.chips[0, 0].health is NpuHealth.UNKNOWN


def test_a_board_without_bus_id() -> None:
    text = text_of("duo_info").replace("0000:01:00.0", "NA          ")
    table = parse_table(text)
    assert table is not None
    assert (table.chips[1, 1].health, table.chips[1, 1].bus_id) == (NpuHealth.CRITICAL, "")


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        (
            "DrvMngGetConsoleLogLevel failed. (g_conLogLevel=3)\n"
            "dcmi module initialize failed. ret is -8005\n",
            "dcmi module initialize failed. ret is -8005",
        ),
        (
            "dcmi model initialized failed, because the device is used. ret is -8020",
            "dcmi model initialized failed, because the device is used. ret is -8020",
        ),
        ("There is no NPU card on this server.\n", "There is no NPU card on this server."),
        ("Segmentation fault", ""),
        ("", ""),
    ],
)
def test_refusals(text: str, refusal: str) -> None:
    assert parse_refusal(text) == refusal
    assert parse_table(text) is None
    assert parse_mapping(text) == ()


def test_a_very_long_line_takes_no_time() -> None:
    for text in ("|" + "1" * 250_000 + "|", " " * 250_000, "Version:" + " " * 250_000):
        assert parse_table(text_of("910b_info") + text) is not None
        assert parse_refusal(text) == ""


LINES = [line for name in LAYOUTS for line in text_of(f"{name}_info").splitlines()]
CELLS = sorted({cell for line in LINES for cell in line.split("|")})
TORN = st.lists(
    st.one_of(
        st.sampled_from(LINES),
        st.lists(st.sampled_from(CELLS), max_size=6).map(lambda cells: f"|{'|'.join(cells)}|"),
        st.text(max_size=40),
    ),
    max_size=30,
).map("\n".join)


@given(st.one_of(st.text(), TORN))
def test_garbage_never_raises(text: str) -> None:
    parse_table(text)
    parse_mapping(text)
    parse_refusal(text)


@given(TORN)
def test_no_healthy_chip_out_of_nothing(text: str) -> None:
    table = parse_table(text)
    healthy = [c for c in table.chips.values() if c.health is NpuHealth.OK] if table else []
    told = [line for line in text.splitlines() if "OK" in [c.strip() for c in line.split("|")]]
    assert len(healthy) <= len(told)


@given(st.sampled_from(LAYOUTS), st.data())
def test_lost_lines_never_make_a_chip_better(layout: str, data: st.DataObject) -> None:
    """Truncated or torn: what is still told is what the whole text said."""
    whole = text_of(f"{layout}_info").splitlines(keepends=True)
    cut = data.draw(st.integers(0, sum(map(len, whole))))
    table = parse_table("".join(whole)[:cut])
    for key, chip in table.chips.items() if table else ():
        assert chip.health is table_of(layout).chips[key].health
