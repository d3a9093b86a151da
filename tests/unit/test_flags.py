# SPDX-License-Identifier: MulanPSL-2.0
"""What a profile's own arguments for vLLM say of its names, and of the longest step."""

import pytest

from agent.config.flags import batched_tokens, is_eager, longest_prompt, served_names
from agent.health.guard import build_rules
from agent.health.liveness import COMPILING_S, longest_step_s
from tests.build import build_profile


@pytest.mark.parametrize(
    ("arguments", "tokens"),
    [
        ((), 0),
        (("--max-num-seqs=32",), 0),
        (("--max-num-batched-tokens=65536",), 65_536),
        (("--max-num-batched-tokens", "65536"), 65_536),
        (("--max_num_batched_tokens=64k",), 64_000),
        (("--max-num-batched=64K",), 65_536),
        (("--max-num-b", "1.5M"), 1_572_864),
        (("--max-num-batched-tokens=8192", "--max-num-batched-tokens=65536"), 65_536),
        (("--max-num-batched-tokens=65536", "--max-num-batched-tokens=8192"), 8192),
        (("--max-num-batched-tokens",), 0),
        (("--max-num-batched-tokens=many",), 0),
        (("--max-num-batched-tokens=" + "9" * 400,), 0),
    ],
)
def test_how_many_tokens_one_step_may_read(arguments: tuple[str, ...], tokens: int) -> None:
    assert batched_tokens(arguments) == tokens


@pytest.mark.parametrize(
    ("arguments", "tokens"),
    [
        ((), 0),
        (("--max-num-seqs=32",), 0),
        (("--max-model-len=8192",), 8192),
        (("--max-model-len", "8192"), 8192),
        (("--max_model_len", "8k"), 8000),
        (("--max-mo=8K",), 8192),
        (("--max-model-len=32768", "--max-model-len", "8192"), 8192),
        (("--max-model-len=auto",), 131_072),
        (("--max-model-len", "-1"), 131_072),
        (("--max-model-len", "--seed", "7"), 0),
        (("--max-model-len",), 0),
    ],
)
def test_how_long_a_prompt_may_be(arguments: tuple[str, ...], tokens: int) -> None:
    assert longest_prompt(arguments) == tokens


@pytest.mark.parametrize("otherwise", [True, False])
@pytest.mark.parametrize(
    ("arguments", "eager"),
    [
        ((), None),
        (("--enable-prefix-caching",), None),
        (("--enforce-eager",), True),
        (("--no-enforce-eager",), False),
        (("--no_enf",), False),
        (("--enforce-eager", "--no-enforce-eager"), False),
        (("--no-enforce-eager", "--enforce_e"), True),
    ],
)
def test_whether_it_compiles(
    arguments: tuple[str, ...], eager: bool | None, otherwise: bool
) -> None:
    assert is_eager(arguments, otherwise) is (otherwise if eager is None else eager)


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ((), ()),
        (("--seed", "7"), ()),
        (("--served-model-name=a",), ("a",)),
        (("--served_model_name", "a", "b", "--seed", "7"), ("a", "b")),
        (("--served-model-name", "a", "--ser", "b", "c"), ("b", "c")),
        (("--served-model-name",), ()),
    ],
)
def test_which_names_it_has(arguments: tuple[str, ...], names: tuple[str, ...]) -> None:
    assert served_names(arguments) == names


@pytest.mark.parametrize(
    ("arguments", "tokens"),
    [
        (("--max-model-len=131072",), 131_072),
        (("--max-model-len=8192",), 8192),
        (("--max-model-len=8192", "--max-num-batched-tokens=64K"), 65_536),
        (("--max-model-len=131072", "--max-num-batched-tokens=8192"), 131_072),
        (("--max-model-len=many",), 32_768),
    ],
)
def test_the_length_that_counts_is_the_last(arguments: tuple[str, ...], tokens: int) -> None:
    profile = build_profile(vllm={"max_model_len": 32_768, "extra_args": arguments})
    assert build_rules(profile).longest_step_s == longest_step_s(tokens, enforce_eager=True)


def test_an_engine_that_compiles_all_the_same_is_waited_for() -> None:
    profile = build_profile(vllm={"enforce_eager": True, "extra_args": ("--no-enforce-eager",)})
    assert build_rules(profile).longest_step_s == COMPILING_S
    profile = build_profile(vllm={"enforce_eager": False, "extra_args": ("--enforce-eager",)})
    assert build_rules(profile).longest_step_s < COMPILING_S


def test_a_step_of_many_prompts_is_waited_for() -> None:
    arguments = ("--max-num-batched-tokens=65536",)
    profile = build_profile(vllm={"max_model_len": 4096, "extra_args": arguments})
    assert build_rules(profile).longest_step_s == longest_step_s(65_536, enforce_eager=True)


def test_a_small_step_shortens_nothing() -> None:
    """A prompt is read in several steps then, and its tokens are counted after the last one."""
    arguments = ("--max-num-batched-tokens=512",)
    profile = build_profile(vllm={"max_model_len": 32_768, "extra_args": arguments})
    assert build_rules(profile).longest_step_s == longest_step_s(32_768, enforce_eager=True)


def test_what_the_profile_says_outright_counts() -> None:
    arguments = ("--max-num-batched-tokens=65536",)
    profile = build_profile(
        longest_step_s=20.0, vllm={"extra_args": arguments, "enforce_eager": False}
    )
    assert build_rules(profile).longest_step_s == 20.0 < COMPILING_S
