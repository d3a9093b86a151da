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
from dataclasses import replace
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import msgspec
import pytest
from pydantic import BaseModel

from agent.config.faults import FaultCatalogue
from agent.config.load import Paths, load
from agent.config.schema import (
    ImagesModel,
    MountModel,
    ProfileModel,
    RegistryModel,
    SettingsModel,
    SourceModel,
)
from agent.config.values import (
    NO_CONFIG,
    BrokenProfile,
    Config,
    ExtraMount,
    HubSettings,
    Images,
    Mode,
    ModelRepo,
    Profile,
    Registry,
    RendererChoice,
    SupplySettings,
)
from agent.errors import Code, ConfigError
from agent.model import ProductLine
from agent.references import parse_reference
from agent.supplies import Hub
from tests.build import IMAGES, LIMITS, NPU_SETTINGS, build_profile

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
    write(found.share / "faults.toml", (TREE / "etc/faults.toml").read_text("utf-8"))
    for name in ("7b", "8b"):
        shipped = (TREE / f"etc/models.d/{name}.toml").read_text("utf-8")
        write(found.share / f"models.d/{name}.toml", shipped)
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


def test_agent_toml_names_the_image_of_the_deployment_guide() -> None:
    """With what an operator copies: a whole name of an image."""
    text = (TREE / "etc/agent.toml").read_text("utf-8")
    (guide,) = re.findall(r"^#   (hub\.oepkgs\.net/\S+)$", text, re.MULTILINE)
    parsed = parse_reference(guide)
    assert parsed is not None
    assert parsed.tag == "cann.8.0.rc3.beta1-910b-openeuler22.03-py3.10"


def test_agent_toml_names_every_key_with_its_default(paths: Paths) -> None:
    bare = read(paths)
    text = uncommented((TREE / "etc/agent.toml").read_text("utf-8"))
    write(paths.etc / "agent.toml", text)
    assert dataclasses.replace(read(paths), origins=bare.origins) == bare
    assert leaves(tomllib.loads(text)) == keys_of(SettingsModel) - {"registries"}
    assert tomllib.loads(text)["images"] == ImagesModel().model_dump()
    assert (bare.mode, bare.renderer, bare.limits) == (Mode.ACT, RendererChoice.AUTO, LIMITS)
    assert bare.npu == NPU_SETTINGS


def test_the_shipped_profile(paths: Paths) -> None:
    config = read(paths)
    assert config.profile("8b") == build_profile()
    assert config.broken == ()


def test_without_any_file_there_are_defaults_and_no_instance(tmp_path: Path) -> None:
    config = read(Paths(tmp_path / "etc", tmp_path / "share"))
    (lost,) = config.faults.broken
    assert lost.message == f"cannot read {tmp_path}/share/faults.toml: No such file or directory"
    assert config.supply.fetch
    bare = dataclasses.replace(config, mode=Mode.OBSERVE, faults=NO_CONFIG.faults)
    assert dataclasses.replace(bare, supply=NO_CONFIG.supply) == NO_CONFIG


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
    images = {f"images.{line}" for line in ImagesModel.model_fields}
    assert keys_of(ProfileModel) - {"image"} | {"name", *images} == fields_of(Profile)
    beside = {"models_dir", *images}
    faults = {f"faults.{one.name}" for one in dataclasses.fields(FaultCatalogue)}
    registries = {"registries"}
    assert keys_of(SettingsModel) - beside - registries == fields_of(Config) - {
        *("profiles", "broken", "origins", "supply.registries", "supply.models_dir"),
        *faults,
    }
    assert keys_of(MountModel) == fields_of(ExtraMount)
    assert keys_of(SourceModel) == fields_of(ModelRepo)
    assert keys_of(RegistryModel) | {"name"} == fields_of(Registry)


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
        image = "own/i@sha256:abababababababababababababababababababababababababababababababab"
        products = ["duo"]
        listen = "::"
        port = 65535
        api_key_file = "/etc/key"
        open_without_api_key = true
        tls_certificate = "/etc/c"
        tls_key = "/etc/k"
        npus = [0, 7]
        shm_size = "512m"
        drain_s = 0
        mounts = [
            {source = "/a b", target = "/data"},
            {source = "/c", target = "/d", read_only = false},
        ]
        [[sources]]
        hub = "huggingface"
        repo = "a/b"
        revision = "refs/pr/1"
        [environment]
        A = "1"
        _b2 = "x y"
        [needs]
        npu_memory_gib = 1
        cpu_cores = 2
        ram_gib = 3
        disk_gib = 4
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
        images=Images(
            *["own/i@sha256:abababababababababababababababababababababababababababababababab"] * 3
        ),
        products=(ProductLine.DUO,),
        listen="::",
        port=65535,
        api_key_file="/etc/key",
        open_without_api_key=True,
        tls_certificate="/etc/c",
        tls_key="/etc/k",
        mounts=(ExtraMount("/a b", "/data", True), ExtraMount("/c", "/d", False)),
        npus=(0, 7),
        shm_size="512m",
        drain_s=0,
        environment={"A": "1", "_b2": "x y"},
        sources=(ModelRepo(Hub.HUGGINGFACE, "a/b", "refs/pr/1"),),
        needs={"npu_memory_gib": 1, "cpu_cores": 2, "ram_gib": 3, "disk_gib": 4},
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
    assert [one.name for one in config.profiles] == ["7b", "8b", "own"]
    assert usable(config, "own").model == "/var/lib/deepseek/models/m"


def test_models_dir_is_for_relative_models_only(paths: Paths) -> None:
    write(paths.etc / "agent.toml", 'models_dir = "/data"')
    write(paths.etc / "models.d/abs.toml", MINIMAL.replace('model = "m"', 'model = "/srv/m"'))
    config = read(paths)
    assert usable(config, "8b").model == "/data/DeepSeek-R1-Distill-Llama-8B"
    assert usable(config, "abs").model == "/srv/m"
    assert config.supply.models_dir == "/data"


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
        ("[limits]\nstart_wait_s = true", "limits.start_wait_s: "),
        ('[limits]\nstart_wait_s = "60"', "limits.start_wait_s: "),
        (
            "[limits]\nbackoff_first_s = 200\nbackoff_max_s = 1",
            "limits.backoff_first_s: it must not",
        ),
        ('models_dir = "/home/x"', "models_dir: the agent cannot look into /home"),
        ('[images]\na4 = "x"', "images.a4: unknown key"),
        ('[images]\na2 = ""', "images.a2: "),
        ('models_dir = "/a/../b"', "models_dir: "),
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
    ("text", "words"),
    [
        ("[limits]\nbackof_max_s = 1", 'did you mean "backoff_max_s"?'),
        ("[limits]\nx = 1", "allowed: backoff_first_s, backoff_max_s, healthy_reset_s, "),
        ("zzz = 1", "allowed: images, limits, metrics, mode, models_dir, npu, registries, "),
    ],
)
def test_an_unknown_key_is_told_what_there_is(paths: Paths, text: str, words: str) -> None:
    write(paths.etc / "agent.toml", text)
    assert words in refusal(paths)


def test_types_are_told_in_the_words_of_toml(paths: Paths) -> None:
    for text, words in (
        ("port = '1'", "port: it must be a whole number, without quotes"),
        ("served_name = 1", "served_name: it must be text, in quotes"),
        ("vllm = []", "vllm: it must be a table"),
        ("environment = 1", "environment: it must be a table"),
        ("mounts = ['/a']", "mounts.0: it must be a table"),
        ("mounts = {a = 1}", "mounts: it must be a list, in [ ]"),
        ("open_without_api_key = 'x'", "open_without_api_key: it must be true or false"),
        ("vllm = {gpu_memory_utilization = 'x'}", "it must be a number, without quotes"),
        ("port = 99999", "port: it must be less than or equal to 65535"),
    ):
        write(paths.etc / "models.d/8b.toml", text)
        assert words in broken(read(paths), "8b").message


@pytest.mark.parametrize(
    "name", ["DEEPSEEK_AGENT_MOOD", "deepseek_agent_limits__x", "DEEPSEEK_AGENT_LIMITS__MODE"]
)
def test_a_variable_that_means_nothing(
    paths: Paths, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "1")
    assert f"cannot use the environment's {name}: unknown variable" in refusal(paths)


def test_a_variable_is_not_blamed_for_a_profile(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPSEEK_AGENT_RENDERER", "auto")
    write(paths.etc / "models.d/8b.toml", 'renderer = "unit"')
    assert broken(read(paths), "8b").message.startswith(f"cannot use {paths.etc}/models.d/8b.toml")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("deepseek_agent_mode", "dance"),
        ("DEEPSEEK_AGENT_LIMITS", '{"backoff_max_s": 0}'),
        ("DEEPSEEK_AGENT_LIMITS", '{"x": 1}'),
    ],
)
def test_a_variable_is_blamed_for_what_is_in_it(
    paths: Paths, name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(paths.etc / "agent.toml", 'mode = "act"\n[limits]\nstart_wait_s = 60')
    monkeypatch.setenv(name, value)
    assert refusal(paths).startswith(f"cannot use the environment's {name}: ")


DEEP = "x = " + "[" * 100_000


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"port = " + b"9" * 5000, "Exceeds the limit"),
        (DEEP.encode(), "it is nested too deep"),
        (b"\xef\xbb\xbfport = 1", "it begins with a byte order mark"),
        (b"port = 1 # \xff", "it is not UTF-8 (byte 12)"),
        (b"\x00", "Invalid"),
    ],
)
def test_one_wrong_file_takes_no_other_with_it(paths: Paths, text: bytes, why: str) -> None:
    write(paths.etc / "models.d/own.toml", "")
    (paths.etc / "models.d/own.toml").write_bytes(text)
    config = read(paths)
    assert why in broken(config, "own").message
    assert usable(config, "8b").port == 2023


def test_an_unknown_key_does_not_reach_the_terminal(paths: Paths) -> None:
    write(paths.etc / "agent.toml", '"\\u001b[31mx" = 1')
    message = refusal(paths)
    assert "\x1b" not in message
    assert "\\x1b[31mx: unknown key" in message


def test_names_of_files_need_not_be_text(paths: Paths) -> None:
    (paths.etc / "models.d").mkdir(parents=True)
    (Path(os.fsdecode(os.fsencode(paths.etc) + b"/models.d/\xff.toml"))).write_text(MINIMAL)
    for arguments in ((), ("--check",)):
        done = run(paths, *arguments, PYTHONIOENCODING="utf-8:strict")
        assert "Traceback" not in done.stderr
        assert "does not fit" in done.stdout + done.stderr


@pytest.mark.parametrize("value", ["soon", "true", '"60"'])
def test_a_variable_of_the_wrong_type(
    paths: Paths, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPSEEK_AGENT_LIMITS__START_WAIT_S", value)
    where = "cannot use the environment's DEEPSEEK_AGENT_LIMITS__START_WAIT_S: limits.start_wait_s"
    assert refusal(paths).startswith(where)


def test_a_file_that_cannot_be_read(paths: Paths) -> None:
    (paths.etc / "agent.toml").mkdir(parents=True)
    message = refusal(paths)
    assert message == f"cannot read {paths.etc / 'agent.toml'}: it is no regular file"


@pytest.mark.parametrize("folder", ["agent.toml.d", "models.d"])
def test_a_folder_that_cannot_be_read_is_not_an_empty_one(paths: Paths, folder: str) -> None:
    """Else what its files say would be lost without a word. (A loop: root may read everything.)"""
    paths.etc.mkdir(parents=True)
    (paths.etc / folder).symlink_to(folder)
    assert refusal(paths).startswith(f"cannot read {paths.etc / folder}: ")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('api_key_file = "/etc/k"', True),
        ("open_without_api_key = true", True),
        ('api_key_file = ""', False),
        ("open_without_api_key = false", False),
    ],
)
def test_open_to_the_network_takes_a_key_or_a_word(paths: Paths, text: str, words: bool) -> None:
    write(paths.etc / "models.d/8b.toml", f'listen = "0.0.0.0"\n{text}')
    assert isinstance(read(paths).profile("8b"), Profile if words else BrokenProfile)


def test_all_of_it_has_to_fit_one_line_of_a_unit(paths: Paths) -> None:
    variables = "\n".join(f'V{index} = "{"x" * 60_000}"' for index in range(5))
    write(paths.etc / "models.d/8b.toml", f"[environment]\n{variables}")
    message = broken(read(paths), "8b").message
    assert "8b.toml: environment: " in message
    assert "longer than 262144 bytes" in message


def test_an_image_is_chosen_by_line_or_for_all(paths: Paths) -> None:
    write(paths.etc / "agent.toml", '[images]\na3 = "site/a3"')
    write(paths.etc / "models.d/7b.toml", 'image = "site/7b"')
    config = read(paths)
    assert usable(config, "8b").images == replace(IMAGES, a3="site/a3")
    assert usable(config, "7b").images == Images("site/7b", "site/7b", "site/7b")


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
        ("drain_s = 121", "drain_s: "),
        ("drain_s = -1", "drain_s: "),
        ("drain_s = 1.5", "drain_s: "),
        ("drain_s = true", "drain_s: "),
        ("shm_size = '0g'", "shm_size: "),
        ("needs = 3", "needs: "),
        ("[needs]\nram_gib = 0", "needs.ram_gib: "),
        ("[vllm]\ngpu_memory_utilization = 0", "vllm.gpu_memory_utilization: "),
        ("[vllm]\ngpu_memory_utilization = 1.1", "vllm.gpu_memory_utilization: "),
        ("[vllm]\ndtype = 'int4'", "vllm.dtype: "),
        ("[vllm]\nmax_model_len = 0", "vllm.max_model_len: "),
        ("model = ''", "model: "),
        ("served_name = ''", "served_name: "),
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
        (
            'listen = "0.0.0.0"',
            "listen: this opens the engine to the network, and there",
        ),
        ('listen = "192.168.0.1"', "listen: this opens"),
        ('listen = "::"', "listen: this opens"),
        ("port = true", "port: "),
        ('port = "2023"', "port: "),
        ("port = 2023.5", "port: "),
        ("open_without_api_key = 1", "open_without_api_key: "),
        ("[vllm]\nenforce_eager = 'yes'", "vllm.enforce_eager: "),
        ("[vllm]\nmax_model_len = true", "vllm.max_model_len: "),
        ("[needs]\nram_gib = '3'", "needs.ram_gib: "),
        ("npus = [0, 0]", "npus: "),
        ("npus = [-1]", "npus: "),
        ("npus = [true]", "npus: "),
        ("npus = 1", "npus: "),
        ("listen = 1", "listen: "),
        ("products = ['a4']", "products"),
        ("products = []", "products: "),
        ("model = '/'", "model: "),
        ("model = '../../etc'", "model: "),
        ("model = '/srv/..'", "model: "),
        ("model = '.'", "model: "),
        ("model = '/root/m'", "model: the agent cannot look into /root"),
        ("model = '/home/m/8b'", "model: the agent cannot look into /home"),
        ("api_key_file = '/tmp/key'", "api_key_file: the agent cannot look into /tmp"),
        ("tls_key = '/var/tmp/key'", "tls_key: the agent cannot look into /var/tmp"),
        ("model = '/srv//m'", "model: the path must name"),
        ("image = 'a b'", "image: an image is named as"),
        ("image = '-v=/:/host'", "image: an image is named as"),
        ("image = 'https://quay.io/x'", "image: an image is named as"),
        ("image = 'quay.io/Ascend/x'", "image: an image is named as"),
        ("image = 'quay.io/x:'", "image: an image is named as"),
        ("image = 'quay.io/x@sha256:12'", "image: an image is named as"),
        ("[vllm]\nextra_args = ['--port=9']", "vllm.extra_args.0: the agent sets --port itself"),
        ("[vllm]\nextra_args = ['--ssl_keyfile', 'x']", "vllm.extra_args.0: the agent sets --ssl"),
        ("[vllm]\nextra_args = ['-tp', '2']", "vllm.extra_args.0: the agent sets -tp itself"),
        ("[vllm]\nextra_args = ['--api-ke=x']", "vllm.extra_args.0: it would show the key"),
        ("[vllm]\nextra_args = ['-t', '2']", "vllm.extra_args.0: the agent sets -tp itself"),
        (
            "[vllm]\nextra_args = ['--tensor-parallel=8']",
            "vllm.extra_args.0: the agent sets --tensor-parallel-size itself; the key for it is np",
        ),
        (
            "[vllm]\nextra_args = ['--served-model-name=x']",
            "vllm.extra_args: the names behind --served-model-name lack served_name",
        ),
        (
            "[vllm]\nextra_args = ['--served_model', 'x', 'y', '--seed', 'deepseek-r1:8b']",
            "vllm.extra_args: the names behind --served-model-name lack served_name",
        ),
        ("[vllm]\nextra_args = ['--uds=/tmp/x']", "vllm.extra_args.0: the engine would not lis"),
        ("[[mounts]]\nsource = '/a'\ntarget = '//dev'", "mounts.0.target: "),
        ("[[mounts]]\nsource = '/a'\ntarget = '/usr/local/dcmi'", "mounts.0.target: /usr/local/dc"),
        ("[[mounts]]\nsource = '/a'", "mounts.0.target: it is required"),
        ("api_key_file = 'key'", "api_key_file: the path must be absolute"),
        ("tls_key = '/k'", "tls_key: tls_certificate and tls_key go together"),
        ("[environment]\nVLLM_API_KEY = 'secret'", "environment.VLLM_API_KEY"),
        ("[vllm]\nextra_args = ['--api-key', 'secret']", "vllm.extra_args.0: "),
        ("[vllm]\nextra_args = ['--api_key=secret']", "vllm.extra_args.0: "),
        ("[[mounts]]\nsource = 'a'\ntarget = '/b'", "mounts.0.source: "),
        ("[[mounts]]\nsource = '/a'\ntarget = '/a:b'", "mounts.0.target: "),
        ("[[mounts]]\nsource = '/a'\ntarget = '/models/x'", "mounts.0.target: /models in the con"),
        ("[[mounts]]\nsource = '/a'\ntarget = '/dev'", "mounts.0.target: "),
        ("[[mounts]]\nsource = '/a'\ntarget = '/x/../dev'", "mounts.0.target: "),
        ("[[mounts]]\nsource = '/a'\ntarget = '/'", "mounts.0.target: "),
        ("[[mounts]]\nsrc = '/a'\ntarget = '/b'", "mounts.0"),
        (
            "mounts = [{source='/a', target='/b'}, {source='/c', target='/b/'}]",
            "mounts: two mounts have the same target",
        ),
        ('served_name = "a\\u0085b"', "served_name: control characters"),
        ('served_name = "a\\u2028b"', "served_name: control characters"),
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


def test_arguments_that_only_look_like_the_agents_own(paths: Paths) -> None:
    """Each is a flag of vLLM 0.18, or no flag."""
    arguments = (
        *(
            "--max-num-seqs=32",
            "--max-num-batched-tokens",
            "8192",
            "--max-logprobs=5",
            "--hf-token",
        ),
        *("--model-impl=auto", "--pooler-config={}", "--tokenizer=x", "--ssl-ca-certs=/x", "--"),
        *(
            "--enable-prefix-caching",
            "--no-enable-prefix-caching",
            "-",
            "=",
            "--api-server-count=2",
        ),
        *(
            "--enable-log-requests",
            "--uvicorn-log-level=info",
            "--ssl-cert-reqs=0",
            "port",
            "-pp=1",
        ),
        *("--host-ip=x", "--served-model-names=x"),
    )
    write(paths.etc / "models.d/8b.toml", f"[vllm]\nextra_args = {list(arguments)}")
    assert usable(read(paths), "8b").vllm.extra_args == arguments


@pytest.mark.parametrize(
    "arguments",
    [
        ("--enforce-eager",),
        ("--no-enforce-eager",),
        ("--max-model-len=8192",),
        ("--max_model_l", "auto"),
        ("--served-model-name", "deepseek-r1:8b", "alias"),
        ("--served-model-name", "alias", "deepseek-r1:8b"),
        ("--served-model-name=alias", "--served-model-name=deepseek-r1:8b"),
        ("--enable-ssl-refresh",),
    ],
)
def test_arguments_that_a_key_would_be_for(paths: Paths, arguments: tuple[str, ...]) -> None:
    """They work, and a profile that has them is not to be lost by an upgrade."""
    write(paths.etc / "models.d/8b.toml", f"[vllm]\nextra_args = {list(arguments)}")
    assert usable(read(paths), "8b").vllm.extra_args == arguments


@pytest.mark.parametrize("argument", ["--ho", "--po", "--t", "--ssl-cert=x", "--ud", "--ap", "-"])
def test_the_beginning_of_several_flags_is_none_of_them(paths: Paths, argument: str) -> None:
    write(paths.etc / "models.d/8b.toml", f"[vllm]\nextra_args = ['{argument}']")
    assert usable(read(paths), "8b").vllm.extra_args == (argument,)


def test_a_profile_that_lacks_a_key(paths: Paths) -> None:
    write(paths.etc / "models.d/own.toml", MINIMAL.replace("port = 2024", ""))
    message = broken(read(paths), "own").message
    assert str(paths.etc / "models.d/own.toml") in message
    assert "port: it is required" in message


def test_a_profile_that_is_not_toml(paths: Paths) -> None:
    write(paths.etc / "models.d/8b.toml", "port =")
    message = broken(read(paths), "8b").message
    assert message.startswith(f"cannot read {paths.etc / 'models.d/8b.toml'}: ")


@pytest.mark.parametrize("name", ["8B", "-8b", ".hidden", "a@b", "a b", "a_b", "模", "x" * 33])
def test_a_name_that_cannot_be_an_instance(paths: Paths, name: str) -> None:
    write(paths.etc / f"models.d/{name}.toml", MINIMAL)
    config = read(paths)
    assert [one.name for one in config.profiles] == ["7b", "8b"]
    assert repr(name) in broken(config, name).message


@pytest.mark.parametrize("name", ["8b", "r1-8b", "qwen2.5-7b", "0", "x" * 32])
def test_a_name_that_can_be_an_instance(paths: Paths, name: str) -> None:
    write(paths.etc / f"models.d/{name}.toml", MINIMAL)
    assert usable(read(paths), name).port == 2024


# --- the process ---------------------------------------------------------------------------------


def run(paths: Paths, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    folders = ("--etc", str(paths.etc), "--share", str(paths.share))
    return subprocess.run(
        (sys.executable, "-m", "agent.config", *arguments, *folders),
        cwd=TREE,
        env={**os.environ, **environment},
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
    where = f"cannot use {paths.etc / 'agent.toml'}"
    assert error["message"] == f'{where}: mood: unknown key; did you mean "mode"?'
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


def test_check_notes_profiles_on_one_port(paths: Paths) -> None:
    """They may be there to choose from, so it is no fault."""
    write(paths.etc / "models.d/twin.toml", MINIMAL.replace("2024", "2023"))
    done = run(paths, "--check")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "note: 8b and twin use the same port 2023: only one of them can serve",
        "the configuration can be used",
    ]


def test_a_reader_that_leaves_is_no_error(paths: Paths) -> None:
    command = f"{sys.executable} -m agent.config --show --etc {paths.etc} --share etc | true"
    done = subprocess.run(
        ["bash", "-c", f"{command}; echo ${{PIPESTATUS[0]}}"],
        cwd=TREE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() in ("141", "0")  # 0: it was all taken before the reader left
    assert done.stderr == ""


def test_show_prints_what_was_understood(paths: Paths) -> None:
    done = run(paths, "--show")
    assert done.returncode == 0
    assert msgspec.convert(json.loads(done.stdout), Config) == read(paths)
    assert done.stdout.count("\n") > 10


def test_text_of_any_language_goes_through(paths: Paths) -> None:
    write(paths.etc / "models.d/own.toml", MINIMAL.replace('"m"', '"模型"'))
    config = msgspec.convert(json.loads(run(paths).stdout)["config"], Config)
    assert usable(config, "own").served_name == "模型"


def test_every_key_about_supply_reaches_the_values(paths: Paths) -> None:
    write(
        paths.etc / "agent.toml",
        """
        [supply]
        fetch = false
        parallel = 8
        keep_free_gib = 0
        [supply.modelscope]
        token_file = "credential:hub"
        [supply.huggingface]
        endpoints = ["http://[::1]:8080/hub", "https://mirror.example"]
        token_file = "/etc/t"
        ca_file = "/etc/ca"
        tls_verify = false
        [registries."quay.io"]
        mirrors = ["registry.example:5000/quay"]
        [registries."registry.example:5000"]
        tls_verify = false
        ca_file = "/etc/r"
        auth_file = "/etc/auth.json"
        """,
    )
    assert read(paths).supply == SupplySettings(
        fetch=False,
        parallel=8,
        keep_free_gib=0,
        modelscope=HubSettings(("https://modelscope.cn",), "credential:hub", "", True),
        huggingface=HubSettings(
            ("http://[::1]:8080/hub", "https://mirror.example"), "/etc/t", "/etc/ca", False
        ),
        registries=(
            Registry("quay.io", ("registry.example:5000/quay",), True, "", ""),
            Registry("registry.example:5000", (), False, "/etc/r", "/etc/auth.json"),
        ),
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[supply.modelscope]\nendpoints = ["hub.example"]', "https://hub.example"),
        ('[supply.modelscope]\nendpoints = ["https://hub.example/"]', "without"),
        ('[supply.modelscope]\nendpoints = ["https://me:pw@hub.example"]', "address"),
        ("[supply.modelscope]\nendpoints = []", "endpoints"),
        ('[supply.modelscope]\nendpoints = ["http://[:::]"]', "endpoints: none of them"),
        ('[supply.modelscope]\nendpoints = ["http://[1.2.3.4]"]', "endpoints: none of them"),
        ('[supply.modelscope]\nendpoints = ["http://1.2.3.400"]', "endpoints: none of them"),
        ('[supply.modelscope]\nendpoints = ["http://h:99999/a"]', "endpoints: none of them"),
        ('[supply.modelscope]\nendpoints = ["http://h:0"]', "endpoints: none of them"),
        (f'[supply.modelscope]\nendpoints = ["http://h:{"9" * 5000}"]', "endpoints: none of them"),
        ('[supply.modelscope]\ntoken_file = "token"', "absolute"),
        ('[supply.modelscope]\ntoken_file = "credential:../x"', "credential:NAME"),
        ("[supply]\nparallel = 0", "parallel"),
        ('[registries."https://quay.io"]\ntls_verify = false', "registry.example:5000"),
        ('[registries."quay.io"]\nmirrors = ["a/../b"]', "mirror"),
    ],
)
def test_settings_of_supply_that_cannot_be_used(paths: Paths, text: str, words: str) -> None:
    write(paths.etc / "agent.toml", text)
    assert words in refusal(paths)


def test_one_endpoint_that_cannot_work_takes_no_other_along(paths: Paths) -> None:
    """An older release took it, and a server that fetches from the others goes on."""
    both = ("http://hub.example:99999", "https://mirror.example:00443")
    write(paths.etc / "agent.toml", f"[supply.modelscope]\nendpoints = {list(both)}")
    assert read(paths).supply.modelscope.endpoints == both


@pytest.mark.parametrize(
    "image",
    [
        "0123456789ab",
        "ab" * 32,
        f"sha256:{'ab' * 32}",
        "own",
        f"registry.example:5000/own:1@sha256:{'ab' * 32}",
        f"registry.example/own@sha512:{'ab' * 64}",
    ],
)
def test_what_podman_takes_for_an_image(paths: Paths, image: str) -> None:
    write(paths.etc / "models.d/own.toml", MINIMAL.replace("localhost/i", image))
    profile = read(paths).profile("own")
    assert isinstance(profile, Profile)
    assert profile.images.a2 == image


def test_an_image_for_npus_that_are_not_there_stops_nothing(paths: Paths) -> None:
    """An older release took it; all instances would be held because of it."""
    write(paths.etc / "agent.toml", '[images]\na3 = "NONE"')
    assert read(paths)


@pytest.mark.parametrize(
    "line",
    [
        'hub = "github"\nrepo = "a/b"\nrevision = "main"',
        'hub = "modelscope"\nrepo = "b"\nrevision = "main"',
        'hub = "modelscope"\nrepo = "../b"\nrevision = "main"',
        'hub = "modelscope"\nrepo = "a/b"\nrevision = "a b"',
        'hub = "modelscope"\nrepo = "a/b"\nrevision = "../x"',
    ],
)
def test_sources_that_cannot_be_used(paths: Paths, line: str) -> None:
    write(paths.etc / "models.d/own.toml", f"{MINIMAL}[[sources]]\n{line}\n")
    (broken,) = read(paths).broken
    assert "sources" in broken.message


# --- metrics -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "listen", ["", "127.0.0.1:9834", "0.0.0.0:1024", "[::1]:65535", "[::]:9834"]
)
def test_where_metrics_may_listen(paths: Paths, listen: str) -> None:
    write(paths.etc / "agent.toml", f'[metrics]\nlisten = "{listen}"')
    assert read(paths).metrics.listen == listen


@pytest.mark.parametrize(
    "listen",
    [
        *("9834", ":9834", "127.0.0.1", "127.0.0.1:", "localhost:9834", "example:9834"),
        *("127.0.0.1:80", "127.0.0.1:1023", "127.0.0.1:65536", "127.0.0.1:09834"),
        *("::1:9834", "[127.0.0.1]:9834", "[::1:9834", "[fe80::1%eth0]:9834", "127.0.0.1:９８３４"),
        "127.0.0.1:9834 ",
    ],
)
def test_where_metrics_may_not_listen(paths: Paths, listen: str) -> None:
    write(paths.etc / "agent.toml", f'[metrics]\nlisten = "{listen}"')
    message = refusal(paths)
    assert "metrics.listen" in message
    assert '"127.0.0.1:9834"' in message


def test_metrics_listen_nowhere_unless_somebody_says_so(paths: Paths) -> None:
    assert read(paths).metrics.listen == ""


@pytest.mark.parametrize("name", ["agent.toml", "agent.toml.d/own.toml", "models.d/8b.toml"])
@pytest.mark.parametrize("kind", ["pipe", "endless"])
def test_a_file_that_never_ends_is_not_waited_for(tmp_path: Path, name: str, kind: str) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    if kind == "pipe":
        os.mkfifo(file)
    else:
        with file.open("wb") as stream:
            stream.truncate(2**40)
    argv = [
        sys.executable,
        "-m",
        "agent.config",
        "--etc",
        str(tmp_path),
        "--share",
        str(TREE / "etc"),
    ]
    done = subprocess.run(argv, cwd=TREE, capture_output=True, text=True, check=False, timeout=20)
    why = {"pipe": "it is no regular file", "endless": "it is larger than"}[kind]
    assert f"cannot read {file}: {why}" in done.stdout + done.stderr
