# SPDX-License-Identifier: MulanPSL-2.0
"""The catalogue of faults: what is shipped, what an operator sets, and files that are wrong."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import msgspec
import pytest

from agent.config.catalogue import FaultModel
from agent.config.faults import BrokenFaults, FaultCatalogue, FaultLevel, FaultRule
from agent.config.kept import keep_last
from agent.config.load import Paths, load
from agent.config.schema import NpuModel
from agent.config.values import Config
from agent.model import FaultSeverity, NpuFault
from tests.npus import build_fault, shipped_catalogue

TREE = Path(__file__).resolve().parents[2]
LEVELS = {
    "NotHandle": "80E01809 80E18401 80E00209 8C2FA009",
    "RestartRequest": "80C98008 80C98000 80C9800A",
    "RestartBusiness": "80E01801 8C204E00",
    "FreeRestart": "0D5E0001 8C084E00 8C0A4E00 8C0C4E00 8C0E4E00 8C104E00 8C124E00",
    "RestartNPU": "40F84E00 80FA4E00 80C98001 80E18005 80DE1801 80E3A203",
    "Separate": "80E18402 80E0020B 80DF8402 80E3A201 80818C00 80818C05",
    "PreSeparate": "81078603",
    "SubHealth": "80E20207 8C2FA001",
}


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    (tmp_path / "faults.d").mkdir()
    return Paths(etc=tmp_path, share=TREE / "etc")


def read(paths: Paths) -> Config:
    """As agentd decodes it."""
    return msgspec.convert(json.loads(json.dumps(load(paths))), Config)


def write(paths: Paths, text: str, name: str = "own.toml") -> Path:
    file = paths.etc / "faults.d" / name
    file.write_text(text, encoding="utf-8")
    return file


def broken(paths: Paths) -> BrokenFaults:
    (one,) = read(paths).faults.broken
    assert one.hint
    return one


# --- what is shipped -----------------------------------------------------------------------------


def test_the_levels_that_are_shipped() -> None:
    found = {code: rule.level for code, rule in shipped_catalogue().rules.items()}
    wanted = {code: FaultLevel(level) for level, codes in LEVELS.items() for code in codes.split()}
    assert found == wanted
    assert set(found.values()) == set(FaultLevel)
    assert shipped_catalogue().broken == ()


def test_every_code_says_what_it_is_and_what_to_do_in_both_languages() -> None:
    for rule in shipped_catalogue().rules.values():
        for text in (rule.name_en, rule.do_en):
            assert re.fullmatch(r"[ -~]+", text), rule
        for text in (rule.name_zh, rule.do_zh):
            assert re.search(r"[\u4e00-\u9fff]", text), rule
        assert rule.set_in.endswith("etc/faults.toml")


def test_counts_that_differ() -> None:
    rules = shipped_catalogue().rules
    assert {code: rule.times for code, rule in rules.items() if rule.times != 2} == {
        "0D5E0001": 5,
        "80E18005": 3,
        "81078603": 5,
    }
    assert {rule.within_s for rule in rules.values()} == {86_400.0}
    assert [code for code, rule in rules.items() if rule.flaps] == ["81078603"]
    assert rules["81078603"].release_after_s == 172_800.0


@pytest.mark.parametrize(
    ("severity", "level"),
    [
        (FaultSeverity.HINT, FaultLevel.NOT_HANDLE),
        (FaultSeverity.MINOR, FaultLevel.NOT_HANDLE),
        (FaultSeverity.MAJOR, FaultLevel.SEPARATE),
        (FaultSeverity.CRITICAL, FaultLevel.SEPARATE),
        (FaultSeverity.UNKNOWN, FaultLevel.NOT_HANDLE),
    ],
)
def test_levels_by_severity_are_for_unknown_codes_only(
    severity: FaultSeverity, level: FaultLevel
) -> None:
    catalogue = shipped_catalogue()
    # Between the daemons of the range there are codes that nobody knows.
    for code in ("DEADBEEF", "8C094E00", "8C064E00"):
        assert catalogue.level_of(build_fault(code, severity)) is level
    assert catalogue.level_of(build_fault("80FA4E00", severity)) is FaultLevel.RESTART_NPU


def test_the_order_of_the_levels() -> None:
    ranks = [level.rank for level in FaultLevel]
    assert ranks == sorted(ranks)
    assert FaultLevel.SEPARATE.rank > FaultLevel.RESTART_NPU.rank > FaultLevel.FREE_RESTART.rank


# --- what an operator sets -----------------------------------------------------------------------


def test_a_key_of_a_shipped_code(paths: Paths) -> None:
    file = write(paths, '[faults.80E01801]\nlevel = "Separate"\ntimes = 1\n')
    rule, before = read(paths).faults.rules["80E01801"], shipped_catalogue().rules["80E01801"]
    assert (rule.level, rule.times, rule.set_in) == (FaultLevel.SEPARATE, 1, str(file))
    assert (rule.name_en, rule.do_zh, rule.within_s) == (
        before.name_en,
        before.do_zh,
        before.within_s,
    )


def test_a_code_of_ones_own_with_every_key(paths: Paths) -> None:
    file = write(
        paths,
        """
        [faults.DEADBEEF]
        level = "SubHealth"
        name_en = "n"
        name_zh = "名"
        do_en = "d"
        do_zh = "做"
        times = 7
        within_s = 3600
        release_after_s = 60
        flaps = true
        """,
    )
    assert read(paths).faults.rules["DEADBEEF"] == FaultRule(
        "DEADBEEF", FaultLevel.SUB_HEALTH, "n", "名", "d", "做", 7, 3600, 60, True, str(file)
    )
    keys = set(tomllib.loads(file.read_text("utf-8"))["faults"]["DEADBEEF"])
    assert keys == set(FaultModel.model_fields)
    assert keys | {"code", "set_in"} == set(FaultRule.__dataclass_fields__)


def test_files_are_read_in_the_order_of_their_names(paths: Paths) -> None:
    write(paths, '[faults.DEADBEEF]\nlevel = "Separate"\ntimes = 3', "20.toml")
    write(paths, '[faults.DEADBEEF]\nlevel = "SubHealth"\nwithin_s = 60', "10.toml")
    write(paths, '[faults.DEADBEEF]\nlevel = "NotHandle"', "30.conf")
    rule = read(paths).faults.rules["DEADBEEF"]
    assert (rule.level, rule.times, rule.within_s) == (FaultLevel.SEPARATE, 3, 60)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[faults.80e01801]\nlevel = "Separate"', "faults.80e01801: a fault code has eight hex"),
        ('[faults.80E0180]\nlevel = "Separate"', "faults.80E0180: a fault code has eight"),
        ('[faults.80E01801]\nlevle = "Separate"', 'levle: unknown key; did you mean "level"?'),
        ('[fault.80E01801]\nlevel = "Separate"', 'fault: unknown key; did you mean "faults"?'),
        ('[faults.80E01801]\nlevel = "separate"', "faults.80E01801.level: it must be"),
        ("[faults.80E01801]\nlevel = 1", "faults.80E01801.level: "),
        ("[faults.80E01801]\ntimes = 0", "faults.80E01801.times: "),
        ("[faults.80E01801]\ntimes = '2'", "faults.80E01801.times: it must be a whole number"),
        ("[faults.80E01801]\nwithin_s = 1", "faults.80E01801.within_s: "),
        ("[faults.80E01801]\nrelease_after_s = inf", "faults.80E01801.release_after_s: "),
        ("[faults.80E01801]\nflaps = 1", "faults.80E01801.flaps: it must be true or false"),
        ('[faults.80E01801]\nname_en = "a\\u001b"', "faults.80E01801.name_en: control"),
        ("[faults.DEADBEEF]\ntimes = 3", "faults.DEADBEEF.level: it is required"),
        ("[faults]\n80E01801 = 1", "faults.80E01801: it must be a table"),
    ],
)
def test_a_file_that_cannot_be_used(paths: Paths, text: str, words: str) -> None:
    """As a whole, and it takes no other with it."""
    file = write(paths, f'{text}\n[faults.80FA4E00]\nlevel = "Separate"\n')
    other = write(paths, '[faults.80C98008]\nlevel = "NotHandle"\n', "other.toml")
    one = broken(paths)
    assert one.file == str(file)
    assert one.message.startswith(f"cannot use {file}: ")
    assert words in one.message
    rules = read(paths).faults.rules
    assert rules["80FA4E00"].level is FaultLevel.RESTART_NPU
    assert rules["80C98008"].set_in == str(other)


def test_what_is_no_table(paths: Paths) -> None:
    write(paths, "faults = 1")
    assert broken(paths).message.endswith("own.toml: faults: it must be a table")


@pytest.mark.parametrize("text", [b"[faults", b"\xff", b"x = " + b"[" * 100_000])
def test_a_file_that_is_not_toml(paths: Paths, text: bytes) -> None:
    write(paths, "").write_bytes(text)
    assert broken(paths).message.startswith(f"cannot read {paths.etc}/faults.d/own.toml: ")
    assert len(read(paths).faults.rules) == len(shipped_catalogue().rules)


def test_a_folder_that_cannot_be_read(paths: Paths) -> None:
    (paths.etc / "faults.d").rmdir()
    (paths.etc / "faults.d").symlink_to("faults.d")
    assert broken(paths).file == str(paths.etc / "faults.d")


def test_check_tells_a_person(paths: Paths) -> None:
    write(paths, "[faults.80E01801]\nlevle = 1")
    command = (sys.executable, "-m", "agent.config", "--check", "--etc", str(paths.etc))
    done = subprocess.run(
        (*command, "--share", str(paths.share)),
        cwd=TREE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (78, "")
    assert "faults.80E01801.levle: unknown key" in done.stderr


def test_what_a_file_said_stays_in_force_while_it_is_broken(paths: Paths) -> None:
    write(paths, '[faults.80E01801]\nlevel = "NotHandle"')
    write(paths, '[faults.80C98008]\nlevel = "NotHandle"', "other.toml")
    last = read(paths)
    write(paths, '[faults.80E01801]\nlevel = "NotHandl"')
    write(paths, '[faults.80C98008]\nlevel = "Separate"', "other.toml")
    kept = keep_last(read(paths), last).faults
    assert kept.rules["80E01801"].level is FaultLevel.NOT_HANDLE
    assert kept.rules["80C98008"].level is FaultLevel.SEPARATE
    assert len(kept.broken) == 1
    assert keep_last(read(paths), None).faults == read(paths).faults


def test_all_files_of_a_folder_that_cannot_be_read_stay_in_force(paths: Paths) -> None:
    write(paths, '[faults.80E01801]\nlevel = "NotHandle"')
    last = read(paths)
    folder = paths.etc / "faults.d"
    folder.rename(paths.etc / "away")
    folder.symlink_to("faults.d")
    assert keep_last(read(paths), last).faults.rules == last.faults.rules


# --- the page for operators ----------------------------------------------------------------------


def test_every_setting_and_every_level_is_documented() -> None:
    text = (TREE / "docs/npu-health.md").read_text("utf-8")
    for word in (*NpuModel.model_fields, *FaultModel.model_fields, *FaultLevel):
        assert f"`{word}`" in text, word


def test_a_catalogue_may_be_empty() -> None:
    fault = NpuFault("80E18402", FaultSeverity.MAJOR, "", 0.0)
    assert FaultCatalogue({}, ()).rule_of(fault).set_in == ""
