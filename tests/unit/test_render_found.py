# SPDX-License-Identifier: MulanPSL-2.0
"""Values that did not arrive in a real engine (tests/lab/test_values.py), at the lowest level."""

import pytest
from pydantic import ValidationError

from agent.config.schema import ProfileModel
from agent.config.values import ExtraMount, RendererChoice
from agent.render.render import render
from tests.build import build_host, build_profile, make_plan
from tests.unit_files import read_plain, read_quadlet

# Blanks of ASCII and beyond, and what goes on in the next line.
ENDS = (" ", "a ", "\\", "a\\", "a \\ ", "\u00a0", "a\u2009", "\u202f", "a\u3000")


@pytest.mark.parametrize("name", ENDS)
def test_a_writable_mount_may_end_in_anything(name: str) -> None:
    """Podman's generator (5.4.2) takes off what Go's unicode.IsSpace calls a blank at the end of a
    line, and joins a line that ends in a backslash with the next one."""
    mount = ExtraMount("/srv/a", f"/data/{name}", read_only=False)
    profile = build_profile(mounts=(mount,))
    wanted = f"/srv/a:/data/{name}:rw"
    quadlet = render(make_plan(profile, build_host("5.4.2")), RendererChoice.QUADLET).text
    assert [wanted] in list(read_quadlet(quadlet, "Volume"))
    plain = render(make_plan(profile, build_host("4.3.1", cgroup=1)), RendererChoice.UNIT).text
    assert f"--volume={wanted}" in read_plain(plain)


@pytest.mark.parametrize(
    "char", ["\ufdd0", "\ufdef", "\ufffe", "\uffff", "\U0001fffe", "\U0010ffff"]
)
def test_what_systemd_does_not_take_for_unicode_is_refused(char: str) -> None:
    """It ignores the whole line (252 and 257: "String is not UTF-8 clean"), so the unit is bad."""
    places: tuple[dict[str, object], ...] = (
        {"served_name": char},
        {"environment": {"A": f"a{char}"}},
        {"vllm": {"extra_args": [char]}},
        {"mounts": [{"source": f"/{char}", "target": "/data"}]},
    )
    for changes in places:
        with pytest.raises(ValidationError, match="no characters"):
            build_model(changes)


def test_characters_that_are_near_those_are_not_refused() -> None:
    near = "\ufdcf\ufdf0\ufffd\U0001fffd\U00020000\U0010fffd"
    assert build_model({"served_name": near}).served_name == near


def test_what_is_too_long_for_a_command_line_is_refused() -> None:
    """execve(2) refuses an argument of 128 KiB; the unit failed with 203/EXEC, again and again."""
    longest = "模" * (64 * 1024 // 3)
    assert build_model({"environment": {"A": longest}}).environment == {"A": longest}
    with pytest.raises(ValidationError, match="longer than 65536 bytes"):
        build_model({"environment": {"A": longest + "模"}})


def build_model(changes: dict[str, object]) -> ProfileModel:
    return ProfileModel.model_validate({"served_name": "m", "model": "m", "port": 1, **changes})
