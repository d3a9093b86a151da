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

from agent.control.memory import InstanceMemory, Memory, encode_memory
from agent.facts import Facts, ModelFacts, Neighbor
from agent.model import DriverState, Inventory, NpuHealth, Phase, Unfit
from agent.policy.update_state import UpdateState
from agent.preview import neighbors_in, pin_of, with_model
from agent.status.facts import show_facts
from agent.status.snapshot import UpdateView
from agent.supplies import Supply
from tests.build import (
    build_config,
    build_facts,
    build_npu,
    build_profile,
    build_snapshot,
    build_view,
)

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
            "cannot read the facts in '/nonexistent/x.json': No such",
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


ADDRESS = ({"address": "foo", "port": 1},)
NEIGHBOR = ({"name": "x", "npus": [], "listen": "", "port": 1},)


def changed(**changes: object) -> str:
    return json.dumps(json.loads(encode(build_facts())) | changes)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "Input data was truncated"),
        ("{", "Input data was truncated"),
        ("[]", "Expected `object`"),
        ('{"host": 1}', "Expected `object`, got `int`"),
        ('{"x": ' + "[" * 100_000, "nested too deep"),
        (changed(listeners=ADDRESS), "'foo' does not appear to be"),
        (changed(neighbors=NEIGHBOR), "'' does not appear to be"),
        (changed(schema=2), "schema 2 is not known here"),
        (changed(models=[{"directory": "/x", "attention_heads": -1}]), "fewer than no heads"),
        (
            encode(build_facts()).replace("/dev/davinci3", "/dev/sda"),
            "'/dev/sda' is not the device of NPU 3",
        ),
    ],
)
def test_facts_that_are_none(text: str, words: str) -> None:
    ended, output, errors = run("render", "8b", "--facts=-", text=text)
    assert (ended, output) == (PERSON, "")
    assert errors.startswith("deepseekctl: cannot read the facts in '-'")
    assert words in errors
    assert "Traceback" not in errors


def test_facts_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    path.write_bytes(encode(build_facts()).encode().replace(b"aarch64", b"\xff\xff"))
    ended, _, errors = run("render", "8b", f"--facts={path}")
    assert (ended, "Traceback" in errors) == (PERSON, False)


@pytest.mark.parametrize("text", ["", "4", "4.9x", "4.9.4.7", "٤.٩", "9" * 5000 + ".1", "v4.9"])
def test_a_version_that_is_none(text: str) -> None:
    ended, _, errors = render(build_facts(), f"--podman-version={text}")
    assert ended == PERSON
    assert "for a version of Podman" in errors
    assert len(errors) < 300


def test_a_reader_that_leaves_is_no_error() -> None:
    facts = f"{sys.executable} -m agent.preview facts --json --share=etc"
    command = f"{facts} | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command], cwd=TREE, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() in ("141", "0")  # 0: it was all taken before the reader left
    assert "Traceback" not in done.stderr


def test_a_quadlet_where_there_is_none_is_remarked_upon() -> None:
    ended, _, errors = render(build_facts(), "--renderer=quadlet", "--cgroup=v1")
    assert ended == 0
    assert "that host has no quadlet" in errors
    assert render(build_facts(), "--renderer=quadlet")[2] == ""


def test_a_model_that_the_facts_do_not_know_is_looked_for_here(tmp_path: Path) -> None:
    etc, model = tmp_path / "etc", tmp_path / "models/mine"
    (etc / "models.d").mkdir(parents=True)
    text = 'served_name = "m"\nmodel = "mine"\nport = 1\n'
    (etc / "models.d/mine.toml").write_text(text)
    (etc / "agent.toml").write_text('models_dir = "/srv/models"')
    ended, _, errors = run("render", "mine", "--facts=atlas-800i-a2", etc=etc)
    assert ended == HELD
    assert "the facts do not tell about it" in errors
    assert "on a host that has the model" in errors
    profile = build_profile(name="mine", model=str(model))
    model.mkdir(parents=True)
    (model / "config.json").write_text('{"num_attention_heads": 12}')
    (model / "a.safetensors").touch()
    facts = with_model(build_facts(), profile)
    assert [one.attention_heads for one in facts.models] == [32, 12]
    assert with_model(facts, profile) is facts


def test_neighbors_are_those_that_are_up() -> None:
    """From the agent's status, with the address of their profile."""
    up, down = build_profile(name="up", listen="::1", port=1), build_profile(name="down")
    config = build_config(up, down)
    snapshot = build_snapshot(
        build_view(Phase.LOADING, name="up", npus=(4, 5)), build_view(Phase.HELD, name="down")
    )
    assert neighbors_in(snapshot, config) == (Neighbor("up", (4, 5), "::1", 1),)


CURRENT = Supply("quay.io/a:1", "a" * 64, "", "/models/m", "r1", 1.0)
TRIAL = replace(CURRENT, image_id="b" * 64)


def test_what_the_next_start_runs_on_is_told_by_the_agent(tmp_path: Path) -> None:
    nothing = UpdateView(False, CURRENT, None, None, None, None, 0.0)
    for update, pin in (
        (None, None),
        (nothing, CURRENT),
        (replace(nothing, trial=TRIAL), TRIAL),
    ):
        snapshot = build_snapshot(build_view(Phase.SERVING, name="8b", update=update))
        assert pin_of("8b", snapshot, tmp_path / "never looked at") == pin


def test_without_an_agent_it_is_what_was_kept(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    assert pin_of("8b", None, state) is None
    kept = InstanceMemory("8b", update=UpdateState(current=CURRENT))
    state.write_text(encode_memory(Memory(instances=(kept,))), encoding="utf-8")
    assert pin_of("8b", None, state) == CURRENT
    assert pin_of("7b", None, state) is None
    state.write_text("{", encoding="utf-8")
    assert pin_of("8b", None, state) is None


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


@pytest.mark.timeout(60)  # seven processes, each of which imports pydantic
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
    assert ended == 0
    assert errors == "" or errors.startswith("deepseekctl: Podman was not asked: cannot ask Podman")
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


def test_podman_does_not_write_into_the_callers_home(tmp_path: Path) -> None:
    """Podman 5.4 makes folders there, even for --version."""
    home = tmp_path / "home"
    home.mkdir()
    podman = tmp_path / "podman"
    podman.write_text('#!/bin/sh\nmkdir "$HOME/.config" || exit 1\necho podman version 4.9.4-dev\n')
    podman.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-m", "agent.preview", "facts", "--json", f"--share={TREE / 'etc'}"],
        cwd=TREE,
        env={**os.environ, "HOME": str(home), "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    facts = msgspec.json.decode(done.stdout, type=Facts)
    assert facts.podman_seen or facts.host.podman_version == (4, 9, 4)
    assert list(home.iterdir()) == []


def test_npus_that_are_set_aside() -> None:
    aside = Unfit(0, "set aside: 80E18402", passing=False)
    facts = build_facts(unfit=(aside,))
    assert "    0   910B3 (a2), ok, 65536 MiB, set aside: 80E18402\n" in show_facts(facts)
    ended, output, errors = render(facts)
    assert (ended, errors) == (0, "")
    assert "AddDevice=/dev/davinci1" in output
    assert "AddDevice=/dev/davinci0" not in output


def test_fewer_npus_than_the_profile_says_are_remarked_upon(tmp_path: Path) -> None:
    (tmp_path / "models.d").mkdir()
    (tmp_path / "models.d/8b.toml").write_text("npus = [0, 1]")
    aside = Unfit(0, "set aside: 80E18402", passing=False)
    ended, output, errors = render(build_facts(unfit=(aside,)), etc=tmp_path)
    assert ended == 0
    assert "AddDevice=/dev/davinci1" in output
    assert errors == "deepseekctl: degraded: 1 of 2 NPUs; 0: set aside: 80E18402\n"


def test_an_npu_that_is_being_mended_is_waited_for() -> None:
    unfit = tuple(Unfit(npu, "it is being reset", passing=True) for npu in range(8))
    ended, output, errors = render(build_facts(unfit=unfit))
    assert (ended, output) == (LATER, "")
    assert "[npu-resetting]" in errors
