# SPDX-License-Identifier: MulanPSL-2.0
"""Profiles that cannot be used any more: what was in force stays so for what runs."""

from dataclasses import replace

import pytest

from agent.config.kept import keep_last
from agent.config.values import (
    NO_CONFIG,
    BrokenProfile,
    Mode,
    RendererChoice,
    find_profile,
)
from agent.errors import Code, ConfigError, Failure
from agent.host.config import decode_last, encode_last
from tests.build import build_config, build_profile

OLD = build_profile(listen="0.0.0.0")  # noqa: S104 - as it was allowed once
OTHER = build_profile(name="7b", port=2024)
LAST = build_config(OTHER, OLD)
BROKEN = BrokenProfile("8b", "cannot use 8b.toml: listen: this opens", "correct the key")
READ = build_config(OTHER, mode=Mode.OBSERVE, renderer=RendererChoice.UNIT, broken=(BROKEN,))


def test_what_is_broken_stays_as_it_was() -> None:
    config = keep_last(READ, LAST)
    assert config.profiles == (OTHER, OLD)
    assert (config.mode, config.renderer) == (READ.mode, READ.renderer)
    assert config.broken == (BROKEN,)
    with pytest.raises(ConfigError, match="this opens"):
        find_profile(config, "8b")  # nothing is started anew under it
    assert find_profile(config, "7b") == OTHER


def test_what_can_be_used_is_not_kept_as_it_was() -> None:
    changed = replace(OTHER, port=3000)
    assert keep_last(replace(READ, profiles=(changed,)), LAST).profiles == (changed, OLD)
    assert keep_last(replace(READ, broken=()), LAST).profiles == (OTHER,)  # 8b is gone


def test_without_a_word_of_the_files_all_stays_as_it_was() -> None:
    config = keep_last(Failure(Code.CONFIG_INVALID, "cannot use agent.toml: x", "mend"), LAST)
    assert (config.mode, config.profiles) == (LAST.mode, LAST.profiles)
    assert [one.name for one in config.broken] == ["7b", "8b"]
    with pytest.raises(ConfigError, match=r"agent\.toml"):
        find_profile(config, "7b")


def test_files_that_nobody_could_read_are_no_mistake() -> None:
    """After a boot at which memory was short the models shall serve, and nobody comes to reload."""
    unread = Failure(Code.CONFIG_UNREAD, "cannot read the configuration: exit status -9")
    assert keep_last(unread, LAST) == LAST
    assert find_profile(keep_last(unread, LAST), "7b") == LAST.profiles[0]


def test_with_nothing_before_there_is_nothing_to_keep() -> None:
    assert keep_last(READ, None) == READ
    assert keep_last(Failure(Code.CONFIG_INVALID, "x"), None) == NO_CONFIG


def test_it_outlives_the_agent() -> None:
    assert decode_last(encode_last(LAST)) == LAST


def test_another_version_s_is_as_nothing() -> None:
    assert decode_last('{"mode": "act"}') is None


@pytest.mark.parametrize("text", ["", "{", "\ud800"])
def test_what_no_version_writes(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_last(text)
