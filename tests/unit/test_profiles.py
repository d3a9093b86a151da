# SPDX-License-Identifier: MulanPSL-2.0
"""The shipped profiles: each is planned on the example hosts, and the engine takes its command."""

import tomllib
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from agent.config.load import Paths, load
from agent.config.values import Config, Profile
from agent.facts import Facts
from agent.model import ProductLine
from agent.plan.plan import Plan, build_plan
from agent.render.workload import TLS_CERTIFICATE, TLS_KEY, build_command
from tests.fakes.engine.vllm_double.flags import Arguments, parse_arguments

TREE = Path(__file__).resolve().parents[2]
ETC = TREE / "etc"
NAMES = sorted(file.stem for file in (ETC / "models.d").glob("*.toml"))
HOSTS = {
    ProductLine.A2: "atlas-800i-a2",
    ProductLine.A3: "atlas-800i-a3",
    ProductLine.DUO: "atlas-300i-duo",
}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return msgspec.convert(load(Paths(etc=tmp_path / "none", share=ETC)), Config)


def read_facts(line: ProductLine) -> Facts:
    text = (ETC / "facts" / f"{HOSTS[line]}.json").read_bytes()
    return msgspec.json.decode(text, type=Facts)


def plan_on(profile: Profile, line: ProductLine) -> Plan:
    plan = build_plan(profile, read_facts(line))
    assert isinstance(plan, Plan), plan
    return plan


def parse_engine(command: Sequence[str]) -> Arguments:
    """As the engine double sees it, behind whatever shell comes before. SystemExit: a refusal."""
    begins = [at for at, pair in enumerate(pairwise(command)) if pair == ("vllm", "serve")]
    return parse_arguments(command[begins[-1] + 1 :], {})


def test_all_are_usable(config: Config) -> None:
    assert config.broken == ()
    assert [profile.name for profile in config.profiles] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_engine_takes_the_rendered_command(config: Config, name: str) -> None:
    profile = config.profile(name)
    assert isinstance(profile, Profile)
    for line in profile.products:
        plan = plan_on(profile, line)
        arguments = parse_engine(build_command(plan))
        assert arguments.model == f"/models/{Path(profile.model).name}"
        assert arguments.served_names == (profile.served_name,)
        assert arguments.max_model_len == profile.vllm.max_model_len
        assert arguments.tensor_parallel_size == len(plan.npus)
        assert arguments.reasoning
        assert arguments.ssl_certfile == ""


@pytest.mark.parametrize("name", NAMES)
def test_the_engine_takes_the_certificate(config: Config, name: str) -> None:
    profile = config.profile(name)
    assert isinstance(profile, Profile)
    profile = replace(profile, tls_certificate="/etc/tls/c.pem", tls_key="/etc/tls/k.pem")
    arguments = parse_engine(build_command(plan_on(profile, profile.products[0])))
    assert (arguments.ssl_certfile, arguments.ssl_keyfile) == (TLS_CERTIFICATE, TLS_KEY)


def test_a_flag_that_the_engine_does_not_know_is_seen(
    config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = config.profile("8b")
    assert isinstance(profile, Profile)
    vllm = replace(profile.vllm, extra_args=("--no-such-flag",))
    command = build_command(plan_on(replace(profile, vllm=vllm), ProductLine.A2))
    with pytest.raises(SystemExit):
        parse_engine(command)
    assert "unrecognized arguments: --no-such-flag" in capsys.readouterr().err


def test_the_documented_table_is_that_of_the_shipped_profiles() -> None:
    text = (TREE / "docs/profiles.md").read_text(encoding="utf-8")
    for path in sorted((TREE / "etc/models.d").glob("*.toml")):
        profile = tomllib.loads(path.read_text("utf-8"))
        needs = profile["needs"]
        (row,) = [line for line in text.splitlines() if line.startswith(f"| `{path.stem}`")]
        numbers = (
            f"{needs['npu_memory_gib']} GiB, {needs['cpu_cores']}, {needs['ram_gib']} GiB, "
            f"{needs['disk_gib']} GiB"
        )
        assert f"| {profile['port']} | {numbers} |" in row
        assert ("not tried" in row) is ("Not tried" in path.read_text("utf-8"))
