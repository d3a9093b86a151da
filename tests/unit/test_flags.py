# SPDX-License-Identifier: MulanPSL-2.0
"""What a profile's own arguments for vLLM say of the longest step."""

import pytest

from agent.config.flags import batched_tokens
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
