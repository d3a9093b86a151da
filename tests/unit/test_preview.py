# SPDX-License-Identifier: MulanPSL-2.0
"""deepseekctl render and facts as a process: without an agent, without root, from files alone."""

import dataclasses
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from agent.facts import Facts, ModelFacts
from agent.model import DriverState, Inventory, NpuHealth
from tests.build import build_facts, build_npu

TREE = Path(__file__).resolve().parents[2]
PERSON, HELD, LATER = 78, 69, 75
EXAMPLES = sorted(path.stem for path in (TREE / "etc/facts").glob("*.json"))


def run(
    verb: str,
    *arguments: str,
    etc: Path | str = "/nonexistent",
    text: str = "",
) -> tuple[int, str, str]:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "agent.preview",
            verb,
            *arguments,
            f"--share={TREE / 'etc'}",
            f"--etc={etc}",
        ],
        cwd=TREE,
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def encode(facts: Facts) -> str:
    return msgspec.json.encode(facts).decode()


def render(facts: Facts, *arguments: str, etc: Path | str = "/nonexistent") -> tuple[int, str, str]:
    return run("render", "8b", "--facts=-", *arguments, etc=etc, text=encode(facts))


def test_a_file_of_facts_gives_the_file_and_its_name() -> None:
    ended, output, errors = render(build_facts())
    assert (ended, errors) == (0, "")
    name, _, text = output.partition("\n")
    assert name == "# /run/containers/systemd/deepseek-vllm-8b.container"
    assert text == (TREE / f"tests/golden/8b-auto{name[2:]}").read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        (["--podman-version=4.9.4"], "/etc/containers/systemd/deepseek-vllm-8b.container"),
        (["--podman-version=5.3"], "/run/containers/systemd/deepseek-vllm-8b.container"),
        (["--podman-version=3.4.4"], "/run/systemd/system/deepseek-vllm-8b.service"),
        (["--cgroup=v1"], "/run/systemd/system/deepseek-vllm-8b.service"),
        (["--renderer=unit"], "/run/systemd/system/deepseek-vllm-8b.service"),
        (
            ["--cgroup=v1", "--renderer=quadlet"],
            "/run/containers/systemd/deepseek-vllm-8b.container",
        ),
    ],
)
def test_as_if_the_host_were_another(arguments: list[str], path: str) -> None:
    ended, output, _ = render(build_facts(), *arguments)
    assert ended == 0
    assert output.startswith(f"# {path}\n")


def test_the_renderer_of_agent_toml_counts(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text('renderer = "unit"', encoding="utf-8")
    assert render(build_facts(), etc=tmp_path)[1].startswith("# /run/systemd/system/")
    assert render(build_facts(), "--renderer=quadlet", etc=tmp_path)[1].startswith("# /run/cont")


@pytest.mark.parametrize(
    ("facts", "status", "words"),
    [
        (build_facts(image_id=""), HELD, "[image-missing]"),
        (build_facts(models=()), HELD, "[model-missing]"),
        (build_facts(inventory=Inventory(DriverState.ABSENT)), LATER, "[npu-driver-absent]"),
        (build_facts(inventory=Inventory(DriverState.UNKNOWN)), LATER, "[npud-silent]"),
        (build_facts(inventory=Inventory(DriverState.READY)), LATER, "[npu-device-missing]"),
    ],
)
def test_a_refusal_has_its_exit_status(facts: Facts, status: int, words: str) -> None:
    ended, output, errors = render(facts)
    assert (ended, output) == (status, "")
    assert errors.startswith("deepseekctl: cannot ")
    assert words in errors
    assert "\n  hint: " in errors


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["70b", "--facts=atlas-800i-a2"],
            "'70b': there is no profile of that name (there are: 1.5b",
        ),
        (["../8b", "--facts=atlas-800i-a2"], "a name fits [a-z0-9]"),
        (
            ["8b", "--facts=/nonexistent/x.json"],
            "cannot read the facts in /nonexistent/x.json: No such",
        ),
        (["8b", "--facts=atlas-9000"], "examples: atlas-300i-duo, atlas-800i-a2, atlas-800i-a3"),
        (
            ["8b", "--facts=atlas-800i-a2", "--podman-version=new"],
            "cannot take 'new' for a version",
        ),
    ],
)
def test_what_cannot_be_rendered_at_all(arguments: list[str], words: str) -> None:
    ended, output, errors = run("render", *arguments)
    assert (ended, output) == (PERSON, "")
    assert words in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("text", ["", "{", "[]", '{"host": 1}'])
def test_facts_that_are_none(text: str) -> None:
    ended, _, errors = run("render", "8b", "--facts=-", text=text)
    assert ended == PERSON
    assert "cannot read the facts in -" in errors
    assert "Traceback" not in errors


def test_a_broken_configuration_is_told_first(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text("mood = 1", encoding="utf-8")
    ended, _, errors = render(build_facts(), etc=tmp_path)
    assert ended == PERSON
    assert f"cannot use {tmp_path}/agent.toml: mood: unknown key" in errors


# --- examples ------------------------------------------------------------------------------------

FITTING = {
    "atlas-800i-a2": ("1.5b", "7b", "8b", "14b", "32b"),
    "atlas-800i-a3": ("1.5b", "7b", "8b", "14b", "32b"),
    "atlas-300i-duo": ("qwen3-8b-310p",),
}


@pytest.mark.parametrize("example", EXAMPLES)
def test_each_example_renders_what_fits_on_it(example: str) -> None:
    for name in sum(FITTING.values(), ()):
        ended, output, errors = run("render", name, f"--facts={example}")
        if name in FITTING[example]:
            assert (ended, "deepseek-vllm-" in output) == (0, True), errors
            assert "Podman was not asked" in errors
        else:
            assert ended == HELD
            assert "[npu-unsupported]" in errors


# --- this host -----------------------------------------------------------------------------------


def test_facts_of_this_host() -> None:
    """Also where there is neither an agent nor Podman; nothing is invented."""
    ended, output, errors = run("facts", "--json")
    assert (ended, errors) == (0, "")
    facts = msgspec.json.decode(output, type=Facts)
    assert facts.schema == 1
    assert facts.host.cpu_cores == os.cpu_count()
    assert facts.inventory.driver is not DriverState.READY or facts.inventory.npus
    assert facts.podman_seen or (facts.podman.images, facts.listeners) == ((), ())
    assert {Path(model.directory).name for model in facts.models} >= {
        "DeepSeek-R1-Distill-Llama-8B"
    }


def test_facts_as_text() -> None:
    ended, output, _ = run("facts")
    assert ended == 0
    assert f"{os.cpu_count()} cores" in output
    assert "DeepSeek-R1-Distill-Llama-8B: " in output


def test_what_facts_writes_is_what_render_reads() -> None:
    """Every field of every kind, there and back."""
    facts = build_facts(
        inventory=replace(build_facts().inventory, npus=(build_npu(3, health=NpuHealth.WARNING),))
    )
    assert msgspec.json.decode(encode(facts), type=Facts) == facts
    told = json.loads(encode(facts))
    assert set(told) == {field.name for field in dataclasses.fields(Facts)}
    assert set(told["models"][0]) == {field.name for field in dataclasses.fields(ModelFacts)}
