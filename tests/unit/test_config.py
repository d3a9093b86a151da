# SPDX-License-Identifier: MulanPSL-2.0
"""Configuration: shipped files, precedence, refusals that name file and key, and the process."""

import dataclasses
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import msgspec
import pytest
from pydantic import BaseModel

from agent.config.load import Paths, load
from agent.config.schema import ProfileModel, SettingsModel
from agent.config.values import NO_CONFIG, BrokenProfile, Config, Mode, Profile, RendererChoice
from agent.errors import Code, ConfigError
from tests.build import LIMITS, build_profile

TREE = Path(__file__).resolve().parents[2]
MINIMAL = 'served_name = "m"\nmodel = "m"\nimage = "localhost/i"\nport = 2024\n'


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.upper().startswith("DEEPSEEK_AGENT_"):
            monkeypatch.delenv(name)


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """As installed: the shipped profile in share, nothing of the operator yet."""
    found = Paths(tmp_path / "etc", tmp_path / "share")
    write(found.share / "models.d/8b.toml", (TREE / "etc/models.d/8b.toml").read_text("utf-8"))
    return found


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def read(paths: Paths) -> Config:
    """As agentd decodes it."""
    return msgspec.convert(json.loads(json.dumps(load(paths))), Config)


def refusal(paths: Paths) -> str:
    with pytest.raises(ConfigError) as caught:
        load(paths)
    assert caught.value.failure.code is Code.CONFIG_INVALID
    assert caught.value.failure.hint
    return caught.value.failure.message


def usable(config: Config, name: str) -> Profile:
    profile = config.profile(name)
    assert isinstance(profile, Profile), profile
    return profile


def broken(config: Config, name: str) -> BrokenProfile:
    profile = config.profile(name)
    assert isinstance(profile, BrokenProfile), profile
    return profile


# --- what is shipped -----------------------------------------------------------------------------


def uncommented(text: str) -> str:
    return re.sub(r"^#(\w+ = )", r"\1", text, flags=re.MULTILINE)


def test_agent_toml_as_shipped_changes_nothing(paths: Paths) -> None:
    bare = read(paths)
    write(paths.etc / "agent.toml", (TREE / "etc/agent.toml").read_text("utf-8"))
    assert read(paths) == bare


def test_agent_toml_names_every_key_with_its_default(paths: Paths) -> None:
    bare = read(paths)
    text = uncommented((TREE / "etc/agent.toml").read_text("utf-8"))
    write(paths.etc / "agent.toml", text)
    assert read(paths) == bare
    assert leaves(tomllib.loads(text)) == keys_of(SettingsModel)
    assert (bare.mode, bare.renderer, bare.limits) == (Mode.ACT, RendererChoice.AUTO, LIMITS)


def test_the_shipped_profile(paths: Paths) -> None:
    config = read(paths)
    assert config.profiles == (build_profile(),)
    assert config.broken == ()


def test_without_any_file_there_are_defaults_and_no_instance(tmp_path: Path) -> None:
    config = read(Paths(tmp_path / "etc", tmp_path / "share"))
    assert dataclasses.replace(config, mode=Mode.OBSERVE) == NO_CONFIG


def leaves(table: Mapping[str, Any], prefix: str = "") -> set[str]:
    found: set[str] = set()
    for key, value in table.items():
        inner = isinstance(value, dict)
        found |= leaves(value, f"{prefix}{key}.") if inner else {prefix + key}
    return found


def keys_of(model: type[BaseModel], prefix: str = "") -> set[str]:
    found: set[str] = set()
    for name, info in model.model_fields.items():
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found |= keys_of(inner, f"{prefix}{name}.")
        else:
            found.add(prefix + name)
    return found


def fields_of(kind: Any, prefix: str = "") -> set[str]:
    """The same of our dataclasses."""
    found: set[str] = set()
    for name, hint in get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint):
            found |= fields_of(hint, f"{prefix}{name}.")
        else:
            found.add(prefix + name)
    return found


def test_schema_and_values_have_the_same_fields() -> None:
    assert keys_of(ProfileModel) | {"name"} == fields_of(Profile)
    assert keys_of(SettingsModel) - {"models_dir"} == fields_of(Config) - {"profiles", "broken"}


def test_schema_and_values_agree_on_lists() -> None:
    """TOML arrays become tuples: lists in frozen values could be changed."""
    for kind in (Profile, Config):
        for hint in get_type_hints(kind).values():
            options = get_args(hint) if isinstance(hint, UnionType) else (hint,)
            assert list not in {get_origin(one) for one in options}


def test_every_key_of_a_profile_reaches_the_values(paths: Paths) -> None:
    write(
        paths.etc / "models.d/all.toml",
        """
        served_name = "模型"
        model = "/srv/m"
        image = "localhost/i@sha256:00"
        listen = "::1"
        port = 65535
        npus = [0, 7]
        shm_size = "512m"
        [environment]
        A = "1"
        _b2 = "x y"
        [needs]
        npu_memory_gib = 1
        cpu_cores = 2
        ram_gib = 3
        [vllm]
        max_model_len = 5
        gpu_memory_utilization = 1
        dtype = "auto"
        enforce_eager = false
        trust_remote_code = true
        reasoning_parser = ""
        extra_args = ["--a", "b c"]
        """,
    )
    assert usable(read(paths), "all") == build_profile(
        name="all",
        served_name="模型",
        model="/srv/m",
        image="localhost/i@sha256:00",
        listen="::1",
        port=65535,
        npus=(0, 7),
        shm_size="512m",
        environment={"A": "1", "_b2": "x y"},
        needs={"npu_memory_gib": 1, "cpu_cores": 2, "ram_gib": 3},
        vllm={
            "max_model_len": 5,
            "gpu_memory_utilization": 1.0,
            "dtype": "auto",
            "enforce_eager": False,
            "trust_remote_code": True,
            "reasoning_parser": "",
            "extra_args": ("--a", "b c"),
        },
    )


# --- who wins ------------------------------------------------------------------------------------


def test_the_operators_profile_wins_key_by_key(paths: Paths) -> None:
    write(
        paths.etc / "models.d/8b.toml",
        'port = 2025\nenvironment = {X = "1"}\n[vllm]\nmax_model_len = 8192\n',
    )
    assert usable(read(paths), "8b") == build_profile(
        port=2025, environment={"X": "1"}, vllm={"max_model_len": 8192}
    )


def test_a_profile_of_the_operator_alone(paths: Paths) -> None:
    write(paths.etc / "models.d/own.toml", MINIMAL)
    config = read(paths)
    assert [one.name for one in config.profiles] == ["8b", "own"]
    assert usable(config, "own").model == "/var/lib/deepseek/models/m"


def test_models_dir_is_for_relative_models_only(paths: Paths) -> None:
    write(paths.etc / "agent.toml", 'models_dir = "/data"')
    write(paths.etc / "models.d/abs.toml", MINIMAL.replace('model = "m"', 'model = "/srv/m"'))
    config = read(paths)
    assert usable(config, "8b").model == "/data/DeepSeek-R1-Distill-Llama-8B"
    assert usable(config, "abs").model == "/srv/m"


def test_drop_ins_are_read_in_the_order_of_their_names(paths: Paths) -> None:
    write(paths.etc / "agent.toml", "[limits]\nbackoff_max_s = 10\nhealthy_reset_s = 11")
    write(paths.etc / "agent.toml.d/20-b.toml", "[limits]\nbackoff_max_s = 20")
    write(paths.etc / "agent.toml.d/10-a.toml", "[limits]\nbackoff_max_s = 30\nstart_wait_s = 31")
    write(paths.etc / "agent.toml.d/99-no.conf", "[limits]\nbackoff_max_s = 99")
    limits = read(paths).limits
    assert (limits.backoff_max_s, limits.healthy_reset_s, limits.start_wait_s) == (20, 11, 31)


def test_the_environment_wins(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    write(paths.etc / "agent.toml", 'mode = "act"\n[limits]\nbackoff_max_s = 10\nstart_wait_s = 11')
    monkeypatch.setenv("DEEPSEEK_AGENT_MODE", "observe")
    monkeypatch.setenv("DEEPSEEK_AGENT_LIMITS__BACKOFF_MAX_S", "12")
    config = read(paths)
    assert config.mode is Mode.OBSERVE
    assert (config.limits.backoff_max_s, config.limits.start_wait_s) == (12, 11)


def test_reading_changes_no_file(paths: Paths) -> None:
    write(paths.etc / "agent.toml", "mode =")
    write(paths.etc / "models.d/8b.toml", "port = 'x'")
    before = {path: path.read_bytes() for path in paths.etc.rglob("*.toml")}
    refusal(paths)
    assert {path: path.read_bytes() for path in paths.etc.rglob("*.toml")} == before


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("mood = 1", "mood: unknown key"),
        ("[limits]\nbackof_max_s = 1", "limits.backof_max_s: unknown key"),
        ("[limit]\nbackoff_max_s = 1", "limit: unknown key"),
        ('mode = "dance"', "mode: "),
        ("mode = 1", "mode: "),
        ('renderer = "docker"', "renderer: "),
        ("limits = 1", "limits: "),
        ("[limits]\nbackoff_first_s = 0", "limits.backoff_first_s: "),
        ("[limits]\nbackoff_max_s = 3601", "limits.backoff_max_s: "),
        ("[limits]\nbackoff_max_s = nan", "limits.backoff_max_s: "),
        ("[limits]\nhealthy_reset_s = inf", "limits.healthy_reset_s: "),
        ("[limits]\nstart_wait_s = -1", "limits.start_wait_s: "),
        ('[limits]\nrecheck_held_s = "soon"', "limits.recheck_held_s: "),
        ('models_dir = "/a\\nExecStartPre=/bin/sh"', "models_dir: "),
        ('models_dir = "relative"', "models_dir: "),
    ],
)
@pytest.mark.parametrize("file", ["agent.toml", "agent.toml.d/10.toml"])
def test_settings_that_cannot_be_used(paths: Paths, file: str, text: str, key: str) -> None:
    write(paths.etc / "agent.toml", "")
    write(paths.etc / file, text)
    message = refusal(paths)
    assert message.startswith(f"cannot use {paths.etc / file}: {key}")


@pytest.mark.parametrize("text", ["mode =", "[limits", "mode = 'act'\nmode = 'act'", "\x00"])
@pytest.mark.parametrize("file", ["agent.toml", "agent.toml.d/10.toml"])
def test_settings_that_are_not_toml(paths: Paths, file: str, text: str) -> None:
    write(paths.etc / file, text)
    assert refusal(paths).startswith(f"cannot read {paths.etc / file}: ")


def test_settings_in_another_encoding(paths: Paths) -> None:
    write(paths.etc / "agent.toml", "")
    (paths.etc / "agent.toml").write_bytes('mode = "观察"'.encode("gb18030"))
    assert refusal(paths).startswith(f"cannot read {paths.etc / 'agent.toml'}: ")


def test_of_several_faults_the_first_is_told_with_their_number(paths: Paths) -> None:
    write(paths.etc / "agent.toml", 'mood = 1\nmode = "dance"')
    assert refusal(paths).endswith("(and 1 more)")


def test_a_bad_variable_is_named(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    write(paths.etc / "agent.toml", 'mode = "act"')
    monkeypatch.setenv("DEEPSEEK_AGENT_MODE", "dance")
    assert "DEEPSEEK_AGENT_MODE" in refusal(paths)


def test_a_variable_that_cannot_be_parsed(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPSEEK_AGENT_LIMITS", "{")
    message = refusal(paths)
    assert "DEEPSEEK_AGENT_" in message
    assert "limits" in message


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("prot = 1", "prot: unknown key"),
        ("[vllm]\ndtyp = 'auto'", "vllm.dtyp: unknown key"),
        ("port = 0", "port: "),
        ("port = 65536", "port: "),
        ("port = 'x'", "port: "),
        ("listen = 'localhost'", "listen: "),
        ("listen = '1.2.3.4.5'", "listen: "),
        ("shm_size = '64'", "shm_size: "),
        ("shm_size = '0g'", "shm_size: "),
        ("needs = 3", "needs: "),
        ("[needs]\nram_gib = 0", "needs.ram_gib: "),
        ("[vllm]\ngpu_memory_utilization = 0", "vllm.gpu_memory_utilization: "),
        ("[vllm]\ngpu_memory_utilization = 1.1", "vllm.gpu_memory_utilization: "),
        ("[vllm]\ndtype = 'int4'", "vllm.dtype: "),
        ("[vllm]\nmax_model_len = 0", "vllm.max_model_len: "),
        ("model = ''", "model: "),
        ("served_name = ''", "served_name: "),
        ("image = ''", "image: "),
        ('model = "a\\nb"', "model: "),
        ('served_name = "a\\u007f"', "served_name: "),
        ('image = "a\\tb"', "image: "),
        ('[environment]\nA = "x\\ny"', "environment.A: "),
        ('[vllm]\nreasoning_parser = "a\\u0000"', "vllm.reasoning_parser: "),
        ('[vllm]\nextra_args = ["--ok", "a\\nb"]', "vllm.extra_args"),
        ("npus = 'some'", "npus: "),
        ("npus = []", "npus: "),
        ("npus = [0, 'one']", "npus"),
        ("[environment]\n'A B' = '1'", "environment.A B"),
        ('listen = "fe80::1%a\\nReadOnly=no"', "listen: "),
        ('listen = "fe80::1%eth0"', "listen: "),
        ("[vllm]\nextra_args = ['--ok', '']", "vllm.extra_args"),
        ("[vllm]\nextra_args = [';']", "vllm.extra_args"),
        ("model = '/srv/a:b'", "model: "),
    ],
)
def test_a_profile_that_cannot_be_used(paths: Paths, text: str, key: str) -> None:
    write(paths.etc / "models.d/8b.toml", text)
    write(paths.etc / "models.d/own.toml", MINIMAL)
    config = read(paths)
    fault = broken(config, "8b")
    assert fault.message.startswith(f"cannot use {paths.etc / 'models.d/8b.toml'}: {key}")
    assert fault.hint
    assert usable(config, "own").port == 2024


def test_a_profile_that_lacks_a_key(paths: Paths) -> None:
    write(paths.etc / "models.d/own.toml", MINIMAL.replace("port = 2024", ""))
    message = broken(read(paths), "own").message
    assert str(paths.etc / "models.d/own.toml") in message
    assert "port: Field required" in message


def test_a_profile_that_is_not_toml(paths: Paths) -> None:
    write(paths.etc / "models.d/8b.toml", "port =")
    message = broken(read(paths), "8b").message
    assert message.startswith(f"cannot read {paths.etc / 'models.d/8b.toml'}: ")


@pytest.mark.parametrize("name", ["8B", "-8b", ".hidden", "a@b", "a b", "a_b", "模", "x" * 33])
def test_a_name_that_cannot_be_an_instance(paths: Paths, name: str) -> None:
    write(paths.etc / f"models.d/{name}.toml", MINIMAL)
    config = read(paths)
    assert [one.name for one in config.profiles] == ["8b"]
    assert repr(name) in broken(config, name).message


@pytest.mark.parametrize("name", ["8b", "r1-8b", "qwen2.5-7b", "0", "x" * 32])
def test_a_name_that_can_be_an_instance(paths: Paths, name: str) -> None:
    write(paths.etc / f"models.d/{name}.toml", MINIMAL)
    assert usable(read(paths), name).port == 2024


# --- the process ---------------------------------------------------------------------------------


def run(paths: Paths, *arguments: str) -> subprocess.CompletedProcess[str]:
    folders = ("--etc", str(paths.etc), "--share", str(paths.share))
    return subprocess.run(
        (sys.executable, "-m", "agent.config", *arguments, *folders),
        cwd=TREE,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_process_hands_the_configuration_over(paths: Paths) -> None:
    write(paths.etc / "models.d/bad.toml", "port = 1")
    done = run(paths)
    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout)
    assert set(answer) == {"config"}
    assert msgspec.convert(answer["config"], Config) == read(paths)


def test_the_process_says_what_is_wrong(paths: Paths) -> None:
    write(paths.etc / "agent.toml", "mood = 1")
    done = run(paths)
    assert done.returncode == 78
    error = json.loads(done.stdout)["error"]
    assert error["code"] == "config-invalid"
    assert error["message"] == f"cannot use {paths.etc / 'agent.toml'}: mood: unknown key"
    assert error["hint"]


def test_check_says_what_is_wrong_to_a_person(paths: Paths) -> None:
    fine = run(paths, "--check")
    assert (fine.returncode, fine.stderr) == (0, "")
    assert fine.stdout == "the configuration can be used\n"
    write(paths.etc / "models.d/8b.toml", "port = 0")
    profile = run(paths, "--check")
    assert (profile.returncode, profile.stdout) == (78, "")
    assert "8b.toml: port: " in profile.stderr
    assert "hint: " in profile.stderr
    write(paths.etc / "agent.toml", "mood = 1")
    settings = run(paths, "--check")
    assert (settings.returncode, settings.stdout) == (78, "")
    assert "agent.toml: mood: unknown key" in settings.stderr


def test_show_prints_what_was_understood(paths: Paths) -> None:
    done = run(paths, "--show")
    assert done.returncode == 0
    assert msgspec.convert(json.loads(done.stdout), Config) == read(paths)
    assert done.stdout.count("\n") > 10


def test_text_of_any_language_goes_through(paths: Paths) -> None:
    write(paths.etc / "models.d/own.toml", MINIMAL.replace('"m"', '"模型"'))
    config = msgspec.convert(json.loads(run(paths).stdout)["config"], Config)
    assert usable(config, "own").served_name == "模型"
