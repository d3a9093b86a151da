# SPDX-License-Identifier: MulanPSL-2.0
"""Rendering: whole files against tests/golden, keys against Podman's versions, and what comes out
of the quoting against a reader of its own that follows systemd's rules."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config.values import RendererChoice
from agent.plan.plan import Plan
from agent.render.choose import other_paths
from agent.render.render import RenderedFile, render
from agent.render.workload import Workload, build_workload
from tests.build import build_host, build_profile, make_plan

TREE = Path(__file__).resolve().parents[2]
GOLDEN = TREE / "tests/golden"
AUTO, QUADLET, UNIT = RendererChoice.AUTO, RendererChoice.QUADLET, RendererChoice.UNIT

# --- golden files --------------------------------------------------------------------------------

TUTORIAL = build_profile(
    npus="all",
    listen="0.0.0.0",  # noqa: S104 - as the tutorial publishes it
    vllm={"trust_remote_code": True, "reasoning_parser": ""},
)
ODD = build_profile(
    served_name="deepseek r1 $8 100%",
    environment={
        "BACKSLASH": "C:\\dir\\",
        "DOLLAR": "$HOME ${PATH} $$",
        "EMPTY": "",
        "PERCENT": "100% %h %%",
        "QUOTES": "say \"hi\" 'there'",
        "SPACES": "  two  spaces ",
        "UNICODE": "模型 ✓",
    },
    vllm={
        "extra_args": (
            "--chat-template=a b",
            '--override={"k": "$x %h"}',
            "--模型=好",
            "back\\slash\\",
            "'",
            "#",
        )
    },
)
IPV6 = build_profile(listen="::1")

# Name of the directory -> what is planned. The renderer is chosen by the host.
CASES: dict[str, Plan] = {
    "8b-auto": make_plan(host=build_host("5.4.2")),
    "8b-all-npus": make_plan(TUTORIAL, build_host("5.4.2")),
    **{
        f"podman-{version}": make_plan(host=build_host(version))
        for version in ("4.4.0", "4.5.1", "4.9.4", "5.0.0", "5.3.0", "5.8.2")
    },
    "podman-4.3.1-cgroup1": make_plan(host=build_host("4.3.1", cgroup=1)),
    "podman-3.4.4-cgroup1": make_plan(host=build_host("3.4.4", cgroup=1)),
    "podman-3.4.4-cgroup2": make_plan(host=build_host("3.4.4")),
    "podman-4.9.4-cgroup1": make_plan(host=build_host("4.9.4", cgroup=1)),
    "odd-values": make_plan(ODD, build_host("5.4.2")),
    "odd-values-cgroup1": make_plan(ODD, build_host("4.9.4", cgroup=1)),
    "ipv6": make_plan(IPV6, build_host("5.4.2")),
    "ipv6-cgroup1": make_plan(IPV6, build_host("4.9.4", cgroup=1)),
    "odd-model": make_plan(build_profile(model='/srv/模 型/"8b" $x 100%'), build_host("5.4.2")),
    "with-init": make_plan(host=build_host("4.4.0", container_init=True)),
    "with-init-cgroup1": make_plan(host=build_host("4.3.1", cgroup=1, container_init=True)),
    "no-driver-files": make_plan(host=build_host("5.4.2", driver_paths=())),
}


@pytest.mark.parametrize("case", CASES)
def test_golden(case: str, request: pytest.FixtureRequest) -> None:
    file = render(CASES[case], AUTO)
    rendered = {str(file.path.relative_to("/")): file.text}
    if request.config.getoption("--update-golden"):
        _write(GOLDEN / case, rendered)
    assert _read(GOLDEN / case) == rendered


def test_no_golden_directory_is_left_over() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == set(CASES)


def _read(folder: Path) -> dict[str, str]:
    """As bytes are: no newline of any kind is translated."""
    return {
        str(path.relative_to(folder)): path.read_bytes().decode()
        for path in folder.rglob("*")
        if path.is_file()
    }


def _write(folder: Path, files: dict[str, str]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True)
        path.write_bytes(text.encode())


# --- which renderer, and where -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("podman", "cgroup", "path"),
    [
        ("5.3.0", 2, "/run/containers/systemd/deepseek-vllm-8b.container"),
        ("5.8.2", 2, "/run/containers/systemd/deepseek-vllm-8b.container"),
        ("5.2.9", 2, "/etc/containers/systemd/deepseek-vllm-8b.container"),
        ("4.4.0", 2, "/etc/containers/systemd/deepseek-vllm-8b.container"),
        ("4.3.9", 2, "/run/systemd/system/deepseek-vllm-8b.service"),
        ("3.4.4", 2, "/run/systemd/system/deepseek-vllm-8b.service"),
        ("5.8.2", 1, "/run/systemd/system/deepseek-vllm-8b.service"),
        ("4.3.1", 1, "/run/systemd/system/deepseek-vllm-8b.service"),
    ],
)
def test_the_host_decides_which_file(podman: str, cgroup: int, path: str) -> None:
    file = render(make_plan(host=build_host(podman, cgroup)), AUTO)
    assert str(file.path) == path
    assert file.renderer is (QUADLET if path.endswith(".container") else UNIT)
    assert file.unit == "deepseek-vllm-8b.service"


@pytest.mark.parametrize("podman", ["4.3.1", "4.9.4", "5.4.2"])
@pytest.mark.parametrize("cgroup", [1, 2])
@pytest.mark.parametrize("wanted", [QUADLET, UNIT])
def test_the_operator_decides_over_the_host(
    podman: str, cgroup: int, wanted: RendererChoice
) -> None:
    file = render(make_plan(host=build_host(podman, cgroup)), wanted)
    assert file.renderer is wanted
    assert file.path.suffix == {QUADLET: ".container", UNIT: ".service"}[wanted]


def test_files_of_other_renderers_are_known() -> None:
    chosen = PurePosixPath("/run/systemd/system/deepseek-vllm-8b.service")
    assert {str(path) for path in other_paths(chosen, "8b")} == {
        "/run/containers/systemd/deepseek-vllm-8b.container",
        "/etc/containers/systemd/deepseek-vllm-8b.container",
    }


# --- keys ----------------------------------------------------------------------------------------

# facts/podman-systemd.md, 1.3: the release that brought the keys of [Container] and [Quadlet].
KEYS_BY_RELEASE = {
    (4, 4): "AddCapability AddDevice Annotation ContainerName DropCapability Environment "
    "EnvironmentFile EnvironmentHost Exec ExposeHostPort Group Image Label Network NoNewPrivileges "
    "Notify PodmanArgs PublishPort ReadOnly RemapGid RemapUid RemapUidSize RemapUsers RunInit "
    "SeccompProfile Timezone User VolatileTmp Volume",
    (4, 5): "HealthCmd HealthInterval HealthOnFailure HealthRetries HealthStartPeriod "
    "HealthStartupCmd HealthStartupInterval HealthStartupRetries HealthStartupSuccess "
    "HealthStartupTimeout HealthTimeout IP IP6 LogDriver Mount Rootfs Secret SecurityLabelDisable "
    "SecurityLabelFileType SecurityLabelLevel SecurityLabelType Tmpfs UserNS",
    (4, 6): "AutoUpdate HostName Mask Pull SecurityLabelNested Sysctl Unmask WorkingDir",
    (4, 7): "DNS DNSOption DNSSearch PidsLimit ShmSize Ulimit",
    (4, 8): "ContainersConfModule GIDMap UIDMap SubGIDMap SubUIDMap GlobalArgs ReadOnlyTmpfs",
    (5, 0): "Entrypoint Pod StopTimeout",
    (5, 1): "GroupAdd",
    (5, 2): "LogOpt NetworkAlias StopSignal",
    (5, 3): "AddHost CgroupsMode DefaultDependencies HealthLogDestination HealthMaxLogCount "
    "HealthMaxLogSize ServiceName StartWithPod",
    (5, 5): "Memory ReloadCmd ReloadSignal Retry RetryDelay",
    (5, 7): "HttpProxy",
    (5, 8): "AppArmor",
}
RELEASES = tuple(f"4.{minor}.0" for minor in range(4, 10)) + tuple(
    f"5.{minor}.0" for minor in range(9)
)


@pytest.mark.parametrize("podman", RELEASES)
def test_podman_knows_every_key(podman: str) -> None:
    """One unknown key, and the unit silently does not exist."""
    plan = make_plan(host=build_host(podman, container_init=True))
    known = {
        key
        for release, keys in KEYS_BY_RELEASE.items()
        if release <= plan.host.podman_version[:2]
        for key in keys.split()
    }
    sections = read_unit(render(plan, AUTO).text)
    keys = {key for name in ("Container", "Quadlet") for key, _ in sections.get(name, [])}
    assert keys - known == set()


@pytest.mark.parametrize("podman", RELEASES)
def test_every_option_is_there_as_key_or_argument(podman: str) -> None:
    text = render(make_plan(host=build_host(podman)), AUTO).text
    for key, option in (
        ("LogDriver=journald", "--log-driver=journald"),
        ("Pull=never", "--pull=never"),
        ("ShmSize=1g", "--shm-size=1g"),
        ("StopTimeout=40", "--stop-timeout=40"),
    ):
        assert (f"\n{key}\n" in text) != (option in text)


# `podman rm --time` came with 4.0; the man page of 3.4 does not have it.
def test_podman_3_knows_how_to_stop() -> None:
    sections = read_unit(render(make_plan(host=build_host("3.4.4", cgroup=1)), AUTO).text)
    for key in ("ExecStop", "ExecStopPost"):
        (command,) = (value for name, value in sections["Service"] if name == key)
        assert not {"-t", "--time"} & set(command.split())


# --- what both files say -------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_rules_of_the_design(case: str) -> None:
    text = render(CASES[case], AUTO).text
    unit, service = read_unit(text)["Unit"], read_unit(text)["Service"]
    assert ("PartOf", "deepseek@8b.service") in unit
    assert ("Requisite", "deepseek@8b.service") in unit
    assert not [value for key, value in unit if key == "After" and "deepseek@" in value]
    assert [value for key, value in service if key == "Restart"] == ["no"]
    assert ("SuccessExitStatus", "137 143") in service
    assert ("Slice", "deepseek.slice") in service
    assert "--privileged" not in text
    assert "--restart" not in text
    assert "[Install]" not in text
    assert "Health" not in text
    assert "AddDevice=-" not in text


def test_stop_times_are_a_ladder() -> None:
    """podman's < the rendered unit's; twice that (ExecStop=, ExecStopPost=) < the front unit's."""
    front = (TREE / "units/deepseek@.service").read_text(encoding="utf-8")
    (front_s,) = (int(value) for value in re.findall(r"^TimeoutStopSec=(\d+)$", front, re.M))
    for plan in (CASES["8b-auto"], CASES["podman-4.3.1-cgroup1"]):
        text = render(plan, AUTO).text
        (unit_s,) = (int(value) for value in re.findall(r"^TimeoutStopSec=(\d+)$", text, re.M))
        (podman_s,) = (int(s) for s in re.findall(r"(?:StopTimeout|--stop-timeout)=(\d+)", text))
        assert podman_s < unit_s
        assert 2 * unit_s < front_s


def test_only_the_chosen_npus_are_given() -> None:
    plan = make_plan(build_profile(npus=(2, 5)))
    devices = [
        value
        for key, value in read_unit(render(plan, AUTO).text)["Container"]
        if key == "AddDevice"
    ]
    managers = ["/dev/davinci_manager", "/dev/devmm_svm", "/dev/hisi_hdc"]
    assert devices == ["/dev/davinci2", "/dev/davinci5", *managers]
    assert "--tensor-parallel-size=2" in render(plan, AUTO).text


def test_the_same_plan_gives_the_same_bytes() -> None:
    assert render(CASES["odd-values"], AUTO) == render(CASES["odd-values"], AUTO)


# --- a reader of unit files, by systemd.syntax(7), systemd.unit(5) and systemd.service(5) --------

C_ESCAPES = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
    "\\": "\\", '"': '"', "'": "'", "s": " ",
}  # fmt: skip
SPECIFIERS = {"%": "%", "t": "/run", "N": "deepseek-vllm-8b", "n": "deepseek-vllm-8b.service"}


def read_unit(text: str) -> dict[str, list[tuple[str, str]]]:
    """Section -> its assignments in order. Refuses what systemd would not read as one line each."""
    sections: dict[str, list[tuple[str, str]]] = {}
    current: list[tuple[str, str]] = []
    for line in text.split("\n"):
        assert "\r" not in line
        assert "\0" not in line
        if not line.strip() or line[0] in "#;":
            continue
        assert not line.endswith("\\"), "would go on in the next line"
        if line.startswith("["):
            current = sections.setdefault(line.strip("[]"), [])
        else:
            key, equals, value = line.partition("=")
            assert equals
            assert re.fullmatch(r"[A-Za-z0-9]+", key)
            current.append((key, value.strip(" \t")))
    return sections


def split_words(value: str) -> list[str]:
    """Unquoted words; only whitespace of ASCII separates them."""
    words: list[str] = []
    rest = value.lstrip(" \t")
    while rest:
        word, rest = _first_word(rest)
        words.append(word)
        rest = rest.lstrip(" \t")
    return words


def _first_word(text: str) -> tuple[str, str]:
    word, quote, at = "", "", 0
    assert not re.match(r";(\s|$)", text), "would separate two commands"
    while at < len(text):
        char = text[at]
        at += 1
        if char == "\\":
            assert text[at] in C_ESCAPES
            word += C_ESCAPES[text[at]]
            at += 1
        elif quote:
            quote, word = ("", word) if char == quote else (quote, word + char)
        elif char in "\"'":
            quote = char
        elif char in " \t":
            return word, text[at:]
        else:
            word += char
    assert not quote, "unbalanced"
    return word, ""


def expand_specifiers(word: str) -> str:
    return re.sub(r"%(.?)", lambda found: SPECIFIERS[found[1]], word)


def expand_variables(word: str) -> str:
    """As if the environment were empty: "$$" is the only thing that leaves a dollar."""
    pattern = r"\$(\$|\{[^}]*\}|[A-Za-z_][A-Za-z0-9_]*)?"
    return re.sub(pattern, lambda found: "$" if found[1] in (None, "$") else "", word)


def read_command(value: str) -> list[str]:
    """The argv that systemd executes."""
    return [expand_variables(expand_specifiers(word)) for word in split_words(value)]


def read_plain(text: str) -> list[str]:
    (command,) = (value for key, value in read_unit(text)["Service"] if key == "ExecStart")
    return read_command(command)


def read_quadlet(text: str, key: str) -> Iterator[list[str]]:
    """What podman gets of the values of one key. The generator unquotes words, and quotes them
    again for ExecStart=, where systemd expands them (podman, pkg/systemd/parser/split.go). Tried
    with 5.4.2: it does not unquote Volume=, stops at an empty word, and leaves ";" bare."""
    for name, value in read_unit(text)["Container"]:
        if name == key:
            words = [value] if key == "Volume" else split_words(value)
            assert "" not in words
            assert ";" not in words
            yield [expand_variables(expand_specifiers(word)) for word in words]


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


def check_command(argv: list[str], workload: Workload) -> None:
    assert argv[-len(workload.command) :] == list(workload.command)
    assert argv[-len(workload.command) - 1] == workload.image_id


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
        f"--volume={mount.source}:{mount.target}:ro" for mount in workload.mounts
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


# --- the programs that will read it --------------------------------------------------------------

ANALYZE = shutil.which("systemd-analyze")
# The lab's hosts have a real one; DEEPSEEK_QUADLET names another for a run by hand.
GENERATORS = (os.environ.get("DEEPSEEK_QUADLET", ""), "/usr/libexec/podman/quadlet")
GENERATOR = next((path for path in GENERATORS if path and os.access(path, os.X_OK)), None)
UNIT_CASES = [case for case, plan in CASES.items() if render(plan, AUTO).renderer is UNIT]
QUADLET_CASES = [case for case in CASES if case not in UNIT_CASES]


def verify(folder: Path, file: RenderedFile) -> str:
    """What systemd-analyze says, in a root that holds nothing but what the unit names."""
    units = folder / "usr/lib/systemd/system"
    units.mkdir(parents=True)
    for target in ("sysinit", "basic", "shutdown"):
        (units / f"{target}.target").write_text(f"[Unit]\nDescription={target}\n", encoding="utf-8")
    for name in ("deepseek@.service", "deepseek.slice"):
        shutil.copy(TREE / "units" / name, units)
    helpers = "usr/libexec/deepseek-agent"
    for program in ("usr/bin/podman", "bin/rm", f"{helpers}/attach", f"{helpers}/front-stopped"):
        path = folder / program
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n", encoding="utf-8")
        path.chmod(0o755)
    path = folder / file.path.relative_to("/")
    path.parent.mkdir(parents=True)
    path.write_text(file.text, encoding="utf-8")
    done = subprocess.run(
        [str(ANALYZE), "verify", "--man=no", f"--root={folder}", path.name],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr if done.stderr or done.returncode == 0 else f"status {done.returncode}"


@pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("case", UNIT_CASES)
def test_systemd_accepts_the_plain_unit(case: str, tmp_path: Path) -> None:
    assert verify(tmp_path, render(CASES[case], AUTO)) == ""


@pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")
def test_systemd_would_have_said_so(tmp_path: Path) -> None:
    """That the test above can fail."""
    file = render(CASES["podman-4.3.1-cgroup1"], AUTO)
    wrong = RenderedFile(file.renderer, file.path, file.text.replace("Slice=", "Slize="), file.unit)
    assert "Slize" in verify(tmp_path, wrong)


@pytest.mark.skipif(GENERATOR is None, reason="no quadlet generator here; the lab runs one")
@pytest.mark.parametrize("case", QUADLET_CASES)
def test_the_generator_makes_the_same_command_of_it(case: str, tmp_path: Path) -> None:
    """Whatever its version: none of our options is lost, and the command is the workload's."""
    file = render(CASES[case], AUTO)
    (tmp_path / file.path.name).write_text(file.text, encoding="utf-8")
    done = subprocess.run(
        [str(GENERATOR), "--dryrun"],
        env={"QUADLET_UNIT_DIRS": str(tmp_path), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    argv = read_plain(done.stdout.partition("\n")[2])
    workload = build_workload(CASES[case])
    check_command(argv, workload)
    for option, values in (
        ("--env", [f"{name}={value}" for name, value in workload.environment]),
        ("--device", list(workload.devices)),
        ("-v", [f"{mount.source}:{mount.target}:ro" for mount in workload.mounts]),
    ):
        assert [argv[at + 1] for at, word in enumerate(argv) if word == option] == values
