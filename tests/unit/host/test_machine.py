# SPDX-License-Identifier: MulanPSL-2.0
"""Facts of the machine: cgroups, driver files, and what a model directory is worth."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.host.machine import LocalMachine, cgroup_version

CONFIG = '{"architectures": ["LlamaForCausalLM"], "num_attention_heads": 32}'


def build_model(folder: Path, config: str | bytes | None, *weights: str) -> str:
    model = folder / "model"
    model.mkdir()
    if isinstance(config, str):
        (model / "config.json").write_text(config)
    elif config is not None:
        (model / "config.json").write_bytes(config)
    for name in weights:
        (model / name).write_bytes(b"x")
    return str(model)


def test_cgroup_version(tmp_path: Path) -> None:
    assert cgroup_version(tmp_path) == 1  # also the hybrid mode: only /unified has the file
    (tmp_path / "unified").mkdir()
    (tmp_path / "unified" / "cgroup.controllers").touch()
    assert cgroup_version(tmp_path) == 1
    (tmp_path / "cgroup.controllers").touch()
    assert cgroup_version(tmp_path) == 2


def test_facts(tmp_path: Path) -> None:
    there = str(tmp_path / "npu-smi")
    Path(there).touch()
    facts = LocalMachine().facts((4, 9, 4), (there, str(tmp_path / "missing")))
    assert facts.podman_version == (4, 9, 4)
    assert facts.driver_paths == (there,)
    assert facts.cpu_cores == os.cpu_count()
    assert facts.ram_mib > 0
    assert facts.cgroup_version in (1, 2)


def test_a_good_model(tmp_path: Path) -> None:
    facts = LocalMachine().model(build_model(tmp_path, CONFIG, "model-00001.safetensors"))
    assert (facts.attention_heads, facts.problem) == (32, "")


def test_weights_of_the_older_kind(tmp_path: Path) -> None:
    assert not LocalMachine().model(build_model(tmp_path, CONFIG, "pytorch_model.bin")).problem


@pytest.mark.parametrize(
    ("config", "weights", "problem"),
    [
        (None, ("a.safetensors",), "cannot read config.json: No such file or directory"),
        ("{", ("a.safetensors",), "config.json is damaged"),
        ("", ("a.safetensors",), "config.json is damaged"),
        (b"\x00" * 100, ("a.safetensors",), "config.json is damaged"),  # after a power cut
        ("[]", ("a.safetensors",), "config.json is damaged"),
        ("{}", ("a.safetensors",), "num_attention_heads"),
        ('{"num_attention_heads": "32"}', ("a.safetensors",), "num_attention_heads"),
        (CONFIG, (), "there are no weights"),
        (CONFIG, ("model.safetensors.index.json", "a.safetensors.part"), "there are no weights"),
    ],
)
def test_a_model_that_cannot_be_served(
    tmp_path: Path, config: str | bytes | None, weights: tuple[str, ...], problem: str
) -> None:
    assert problem in LocalMachine().model(build_model(tmp_path, config, *weights)).problem


@pytest.mark.parametrize("heads", [0, -8])
def test_a_number_of_heads_that_is_none(tmp_path: Path, heads: int) -> None:
    config = f'{{"num_attention_heads": {heads}}}'
    assert LocalMachine().model(build_model(tmp_path, config, "a.safetensors")).problem


def test_no_directory(tmp_path: Path) -> None:
    assert LocalMachine().model(str(tmp_path / "x")).problem == "there is no such directory"
    assert not LocalMachine().model(str(tmp_path / "x")).present
    (tmp_path / "file").touch()
    assert LocalMachine().model(str(tmp_path / "file")).problem == "there is no such directory"


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, as root")
def test_a_directory_that_the_agent_may_not_enter(tmp_path: Path) -> None:
    """agentd is root without capabilities: a model below somebody's 0700 home is out of reach."""
    model = build_model(tmp_path, CONFIG, "a.safetensors")
    program = f"""
import os, sys
sys.path.insert(0, {os.getcwd()!r})
from agent.host.machine import LocalMachine
os.setgroups([]); os.setgid(65534); os.setuid(65534)
assert LocalMachine().model({model!r}).problem
"""
    tmp_path.chmod(0o700)
    done = subprocess.run(
        (sys.executable, "-c", program), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
