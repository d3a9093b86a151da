# SPDX-License-Identifier: MulanPSL-2.0
"""The configuration in force as it is shown: where each value comes from, and no secret."""

import asyncio
import json
import os
from pathlib import Path

import msgspec
import pytest

from agent.config.kept import keep_last
from agent.config.load import Paths, load
from agent.config.values import Config
from agent.control.config_view import build_config_answer
from agent.errors import Code, Failure
from agent.status.config import ConfigAnswer, Setting
from tests.unit.api import serving

PROFILE = 'served_name = "a"\nmodel = "m"\nport = 2024\n'
SECRET = "hunter2-hunter2"


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    for name in os.environ:
        if name.upper().startswith("DEEPSEEK_AGENT_"):
            monkeypatch.delenv(name)
    return Paths(tmp_path / "etc", tmp_path / "share")


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def read(paths: Paths) -> Config:
    return msgspec.convert(load(paths), Config)


def shown(paths: Paths) -> ConfigAnswer:
    return build_config_answer(read(paths), None)


def find(settings: tuple[Setting, ...], key: str) -> Setting:
    return next(one for one in settings if one.key == key)


def of_profile(answer: ConfigAnswer, key: str, name: str = "8b") -> Setting:
    return find(next(one for one in answer.profiles if one.name == name).settings, key)


def test_each_value_with_where_it_was_set(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    main = write(paths.etc / "agent.toml", 'mode = "observe"\n[limits]\nbackoff_max_s = 60\n')
    later = write(paths.etc / "agent.toml.d" / "a.toml", "[limits]\nbackoff_max_s = 90\n")
    monkeypatch.setenv("DEEPSEEK_AGENT_SUPPLY__PARALLEL", "2")
    monkeypatch.setenv("DEEPSEEK_AGENT_NPU", '{"flap_raise_s": 5}')
    settings = shown(paths).settings
    assert find(settings, "mode") == Setting("mode", "observe", str(main))
    assert find(settings, "limits.backoff_max_s") == Setting("limits.backoff_max_s", 90, str(later))
    assert find(settings, "limits.start_wait_s").set_in == ""
    assert find(settings, "supply.parallel").set_in == "DEEPSEEK_AGENT_SUPPLY__PARALLEL"
    assert find(settings, "npu.flap_raise_s").set_in == "DEEPSEEK_AGENT_NPU"
    assert find(settings, "npu.flap_clear_s").set_in == ""


def test_a_registry_is_shown_by_its_name(paths: Paths) -> None:
    text = '[registries."quay.io"]\nmirrors = ["mirror.example/quay"]\n'
    file = write(paths.etc / "agent.toml", text)
    settings = shown(paths).settings
    mirrors = find(settings, "supply.registries.quay.io.mirrors")
    assert (mirrors.value, mirrors.set_in) == (("mirror.example/quay",), str(file))
    assert find(settings, "supply.registries.quay.io.tls_verify").set_in == ""


def test_models_dir_is_shown_where_it_was_set(paths: Paths) -> None:
    file = write(paths.etc / "agent.toml", 'models_dir = "/data"\n')
    where = find(shown(paths).settings, "supply.models_dir")
    assert (where.value, where.set_in) == ("/data", str(file))


def test_a_profile_of_two_files(paths: Paths) -> None:
    shipped = write(paths.share / "models.d" / "8b.toml", PROFILE)
    own = write(paths.etc / "models.d" / "8b.toml", "port = 3000\n[vllm]\nmax_model_len = 9\n")
    answer = shown(paths)
    assert of_profile(answer, "port") == Setting("port", 3000, str(own))
    assert of_profile(answer, "vllm.max_model_len").set_in == str(own)
    assert of_profile(answer, "vllm.dtype").set_in == ""
    assert of_profile(answer, "served_name").set_in == str(shipped)


@pytest.mark.parametrize(("image", "set_in"), [('image = "x:1"\n', "8b.toml"), ("", "agent.toml")])
def test_an_image_is_the_profile_s_or_that_of_the_settings(
    paths: Paths, image: str, set_in: str
) -> None:
    write(paths.etc / "agent.toml", '[images]\na2 = "y:1"\n')
    write(paths.etc / "models.d" / "8b.toml", PROFILE + image)
    answer = shown(paths)
    assert Path(of_profile(answer, "images.a2").set_in).name == set_in
    assert Path(of_profile(answer, "images.a3").set_in).name == (set_in if image else "")


def test_no_secret_is_told(paths: Paths) -> None:
    """Keys are in files; what somebody has put elsewhere all the same is not shown either."""
    arguments = f'["--hf-token", "{SECRET}", "--other-token={SECRET}", "--max-num-seqs", "7"]'
    text = f'{PROFILE}api_key_file = "/etc/key"\nenvironment = {{HF_TOKEN = "{SECRET}"}}\n'
    write(paths.etc / "models.d" / "8b.toml", f"{text}[vllm]\nextra_args = {arguments}\n")
    answer = shown(paths)
    assert SECRET.encode() not in msgspec.json.encode(answer)
    assert of_profile(answer, "environment.HF_TOKEN").hidden
    shown_arguments = of_profile(answer, "vllm.extra_args")
    assert shown_arguments.hidden
    assert shown_arguments.value[-2:] == ["--max-num-seqs", "7"]
    assert of_profile(answer, "api_key_file").value == "/etc/key"


def test_what_is_in_force_in_place_of_a_broken_profile(paths: Paths) -> None:
    file = write(paths.etc / "models.d" / "8b.toml", PROFILE)
    before = read(paths)
    write(file, PROFILE.replace("2024", "99999"))
    write(paths.etc / "models.d" / "9b.toml", "port = true\n")
    problem = Failure(Code.CONFIG_INVALID, "cannot use agent.toml", "correct it")
    answer = build_config_answer(keep_last(read(paths), before), problem)
    kept, never = answer.profiles
    assert answer.problem == problem
    assert find(kept.settings, "port") == Setting("port", 2024, str(file))
    assert kept.problem is not None
    assert "port" in kept.problem.message
    assert (never.name, never.settings) == ("9b", ())
    assert never.problem is not None


def test_over_the_socket(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as one:
            status, told = await one.get("/v1/config")
            assert status == 200
            assert told == json.loads(msgspec.json.encode(one.control.config()))

    asyncio.run(scenario())
