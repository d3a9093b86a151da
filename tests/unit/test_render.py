# SPDX-License-Identifier: MulanPSL-2.0
"""Rendering: whole files against tests/golden, and keys against Podman's versions."""

import itertools
import re
import shutil
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from agent.config.values import MAX_DRAIN_S, RendererChoice
from agent.model import front_unit
from agent.plan.needs import MANAGER_DEVICES
from agent.render.choose import other_paths
from agent.render.render import render
from tests.build import build_host, build_profile, make_plan
from tests.cases import CASES, EXTRA, TLS, TREE, TWO
from tests.unit_files import expand_specifiers, read_unit, split_words

GOLDEN = TREE / "tests/golden"
AUTO, QUADLET, UNIT = RendererChoice.AUTO, RendererChoice.QUADLET, RendererChoice.UNIT

# --- golden files --------------------------------------------------------------------------------


def test_golden_of_two_instances(request: pytest.FixtureRequest) -> None:
    files = [render(plan, AUTO) for plan in TWO]
    rendered = {str(file.path.relative_to("/")): file.text for file in files}
    if request.config.getoption("--update-golden"):
        _write(GOLDEN / "two-instances", rendered)
    assert _read(GOLDEN / "two-instances") == rendered
    devices = [
        {value for key, value in read_unit(file.text)["Container"] if key == "AddDevice"}
        for file in files
    ]
    assert devices[0] & devices[1] == set(MANAGER_DEVICES)
    ports = {
        value
        for file in files
        for key, value in read_unit(file.text)["Container"]
        if key == "PublishPort"
    }
    assert len(ports) == 2


@pytest.mark.parametrize("case", CASES)
def test_golden(case: str, request: pytest.FixtureRequest) -> None:
    file = render(CASES[case], AUTO)
    rendered = {str(file.path.relative_to("/")): file.text}
    if request.config.getoption("--update-golden"):
        _write(GOLDEN / case, rendered)
    assert _read(GOLDEN / case) == rendered


def test_no_golden_directory_is_left_over() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == {*CASES, "two-instances", "metrics"}


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
        path.parent.mkdir(parents=True, exist_ok=True)
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

# A profile with all that a profile can have.
EVERYTHING = replace(TLS, mounts=EXTRA.mounts, environment=EXTRA.environment, read_only_root=True)

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
    plan = make_plan(EVERYTHING, build_host(podman, container_init=True, pids_controller=True))
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
    text = render(make_plan(EVERYTHING, build_host(podman, pids_controller=True)), AUTO).text
    for key, option in (
        ("PidsLimit=32768", "--pids-limit=32768"),
        ("WorkingDir=/tmp", "--workdir=/tmp"),
        ("ReadOnlyTmpfs=true", "--read-only-tmpfs=true"),
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
        *_, command = (value for name, value in sections["Service"] if name == key)
        assert not {"-t", "--time"} & set(command.split())


# --- what both files say -------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_rules_of_the_design(case: str) -> None:
    text = render(CASES[case], AUTO).text
    unit, service = read_unit(text)["Unit"], read_unit(text)["Service"]
    front = front_unit(CASES[case].instance)
    assert ("PartOf", front) in unit
    assert "Requisite" not in dict(unit)  # see units/front-is-up
    assert not [value for key, value in unit if key == "After" and "deepseek@" in value]
    assert [value for key, value in service if key == "Restart"] == ["no"]
    assert ("SuccessExitStatus", "130 137 143") in service
    assert ("Slice", "deepseek.slice") in service
    assert "--privileged" not in text
    assert "--restart" not in text
    assert "[Install]" not in text
    assert "Health" not in text
    assert "AddDevice=-" not in text


def test_the_operators_file_systems_are_waited_for() -> None:
    for case in ("extra", "extra-cgroup1"):
        unit = read_unit(render(CASES[case], AUTO).text)["Unit"]
        (paths,) = [value for key, value in unit if key == "RequiresMountsFor"]
        model = "/var/lib/deepseek/models/DeepSeek-R1-Distill-Llama-8B"
        wanted = [model, "/srv/lora", '/srv/it\'s 100% "$x"']
        assert [expand_specifiers(word) for word in split_words(paths)] == wanted


@pytest.mark.parametrize("cgroup", [1, 2])
def test_the_very_revision_is_mounted(cgroup: int) -> None:
    """The link to the one in use may be moved by another instance."""
    plan = replace(make_plan(host=build_host(cgroup=cgroup)), model_revision="c0ffee")
    parent, name = plan.profile.model.rsplit("/", maxsplit=1)
    text = render(plan, AUTO).text
    assert f"{parent}/.store/{name}/c0ffee:/models/{name}:ro" in text
    assert f"RequiresMountsFor={parent}/.store/{name}/c0ffee" in text
    assert f"{plan.profile.model}:" not in text


def test_stop_times_are_a_ladder() -> None:
    """podman's and drain's < the rendered unit's; drain and twice that (Podman's ExecStop= and
    ExecStopPost=) < the front unit's."""
    front = (TREE / "units/deepseek@.service").read_text(encoding="utf-8")
    (front_s,) = (int(value) for value in re.findall(r"^TimeoutStopSec=(\d+)$", front, re.M))
    for drain_s, cgroup in itertools.product((0, 30, 75, 90, MAX_DRAIN_S), (1, 2)):
        plan = make_plan(build_profile(drain_s=drain_s), host=build_host(cgroup=cgroup))
        text = render(plan, AUTO).text
        (unit_s,) = (int(value) for value in re.findall(r"^TimeoutStopSec=(\d+)$", text, re.M))
        (podman_s,) = (int(s) for s in re.findall(r"(?:StopTimeout|--stop-timeout)=(\d+)", text))
        assert podman_s < unit_s
        assert drain_s + 10 < unit_s
        assert drain_s + 2 * unit_s < front_s


@pytest.mark.parametrize("renderer", [QUADLET, UNIT])
def test_requests_are_drained_before_podman_stops(renderer: RendererChoice) -> None:
    def stops(**changes: Any) -> list[str]:
        text = render(make_plan(build_profile(**changes)), renderer).text
        return [value for key, value in read_unit(text)["Service"] if key == "ExecStop"]

    program = "-/usr/libexec/deepseek-agent/drain 8b"
    own = [] if renderer is QUADLET else ["-/usr/bin/podman rm -f -i deepseek-vllm-8b"]
    tls = {"tls_certificate": "/etc/a.pem", "tls_key": "/etc/b.pem"}
    assert stops() == [f"{program} --seconds=30 --port=8000", *own]
    assert stops(drain_s=120, **tls) == [f"{program} --seconds=120 --port=8000 --tls", *own]
    assert stops(drain_s=0) == own


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
