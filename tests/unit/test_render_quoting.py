# SPDX-License-Identifier: MulanPSL-2.0
"""What comes out of the quoting, against a reader that follows systemd's rules."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config.values import RendererChoice
from agent.plan.plan import Plan
from agent.render.render import render
from agent.render.workload import build_workload
from tests.build import build_host, build_profile, make_plan
from tests.unit_files import check_command, read_command, read_plain, read_quadlet

AUTO = RendererChoice.AUTO


@pytest.mark.parametrize(
    ("value", "argv"),
    [
        ("a  b", ["a", "b"]),
        ('"a b" c', ["a b", "c"]),
        ('a"b c"d', ["ab cd"]),
        ("'a \"b\"' \"c 'd'\"", ['a "b"', "c 'd'"]),
        (r'"a\\" "\""', ["a\\", '"']),
        ("%% %t/x %%t", ["%", "/run/x", "%t"]),
        ("$$x a$x ${y}b $$$$", ["$x", "a", "b", "$$"]),
        ('""', [""]),
        ('";" a;b', [";", "a;b"]),
    ],
)
def test_the_reader_reads_as_systemd_does(value: str, argv: list[str]) -> None:
    assert read_command(value) == argv


# --- round trips ---------------------------------------------------------------------------------

# What the configuration lets through: no control characters (and no surrogates: they are not TOML).
printable = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20)
# Mostly characters that mean something to somebody on the way.
nasty = st.text(st.sampled_from("%$\"'\\;#=:{}[]@~ *?&|<>()`!-+a模tNnh"), min_size=1, max_size=8)
values = printable | nasty
lists_with_empty = st.lists(values | st.just(""), max_size=4)

PLAIN_HOST, QUADLET_HOST = build_host("4.3.1", cgroup=1), build_host("5.4.2")


def plans(served_name: str, extra: list[str], environment: list[str]) -> tuple[Plan, Plan]:
    profile = build_profile(
        served_name=served_name,
        environment={f"V{index}": value for index, value in enumerate(environment)},
        vllm={"extra_args": tuple(extra)},
    )
    return make_plan(profile, PLAIN_HOST), make_plan(profile, QUADLET_HOST)


@given(values, lists_with_empty, lists_with_empty)
@settings(deadline=None, max_examples=150)
def test_a_plain_unit_runs_exactly_the_workload(
    served_name: str, extra: list[str], environment: list[str]
) -> None:
    plan, _ = plans(served_name, extra, environment)
    workload = build_workload(plan)
    argv = read_plain(render(plan, AUTO).text)
    check_command(argv, workload)
    assert workload.command[-len(extra) :] == tuple(extra) or not extra
    options = argv[: -len(workload.command)]
    assert [one for one in options if one.startswith("--env=")] == [
        f"--env={name}={value}" for name, value in workload.environment
    ]
    assert [one for one in options if one.startswith("--volume=")] == [
        f"--volume={mount.text}" for mount in workload.mounts
    ]


@given(values, st.lists(values.filter(lambda value: value != ";"), max_size=4))
@settings(deadline=None, max_examples=150)
def test_a_quadlet_runs_exactly_the_workload(served_name: str, extra: list[str]) -> None:
    _, plan = plans(served_name, extra, [])
    (argv,) = read_quadlet(render(plan, AUTO).text, "Exec")
    assert argv == list(build_workload(plan).command)


@given(lists_with_empty)
@settings(deadline=None, max_examples=150)
def test_a_quadlet_passes_the_environment_on(environment: list[str]) -> None:
    _, plan = plans("m", [], environment)
    found = list(read_quadlet(render(plan, AUTO).text, "Environment"))
    assert found == [[f"{name}={value}"] for name, value in build_workload(plan).environment]


FOLDERS = (
    "plain",
    "模型",
    "100%",
    "a-b_c.d",
    "a b",
    "a+b@c",
    "$x",
    "it's",
    'say "hi"',
    "back\\slash",
)


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_model_folder_of_any_name_is_mounted(folder: str) -> None:
    """But for a colon, which the configuration refuses."""
    profile = build_profile(model=f"/srv/{folder}")
    wanted = f"/srv/{folder}:/models/{folder}:ro"
    plain = render(make_plan(profile, PLAIN_HOST), AUTO).text
    quadlet = render(make_plan(profile, QUADLET_HOST), AUTO).text
    assert f"--volume={wanted}" in read_plain(plain)
    assert [wanted] in list(read_quadlet(quadlet, "Volume"))
