# SPDX-License-Identifier: MulanPSL-2.0
"""deepseek-agent-selinux comes with the agent where the policy is, and goes. No kernel here has
SELinux: its programs are doubles that note how they are called."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from .host import LabHost
from .product import empty_host, packages
from .repo import REPOSITORY, StandIn, build_stand_ins, create_repository, install_packages
from .rootfs import Flavour

pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.timeout(600)]

NAMES = ("selinux-policy-targeted", "policycoreutils", "container-selinux")
POLICY = tuple(StandIn(name, "procps") for name in NAMES)
PROGRAMS = ("semodule", "selinuxenabled", "load_policy", "restorecon")
CALLS = "/run/calls"
DOUBLE = f'#!/bin/sh\necho "${{0##*/}} $*" >> {CALLS}\n'
AGENT, MODULE = "deepseek-agent", "deepseek-agent-selinux"
DOWNLOADED = "/srv/downloaded"
README = Path(__file__).resolve().parents[2] / "README.md"


@pytest.fixture(scope="module")
def host() -> Iterator[LabHost]:
    with empty_host(Flavour.LEGACY, "test-selinux") as host:
        create_repository(host, packages(host.flavour))
        build_stand_ins(host, POLICY)
        host.run(["createrepo_c", "--quiet", "--update", REPOSITORY], timeout_s=120)
        for name in PROGRAMS:
            host.write(f"/usr/sbin/{name}", DOUBLE, 0o755)
        yield host


def is_installed(host: LabHost, name: str) -> bool:
    return host.run(["rpm", "-q", name], check=False).returncode == 0


def calls_of(host: LabHost) -> list[str]:
    calls = host.run(["cat", CALLS]).stdout.splitlines()
    host.run(["rm", CALLS])
    return calls


def test_without_the_policy_it_does_not_come(host: LabHost) -> None:
    install_packages(host, AGENT)
    assert not is_installed(host, MODULE)
    host.run(["dnf", "-y", "remove", AGENT], timeout_s=300)


def test_with_the_policy_it_comes_and_goes(host: LabHost) -> None:
    install_packages(host, POLICY[0].name)
    install_packages(host, AGENT)
    assert is_installed(host, MODULE)
    assert is_installed(host, "container-selinux")
    calls = calls_of(host)
    folder = "/usr/share/selinux/packages/deepseek-agent"
    modules = f"{folder}/deepseek-agent-permissive.cil {folder}/deepseek-agent.cil"
    assert calls[0] == f"semodule -n -s targeted -X 200 -i {modules}"
    assert "load_policy " in calls
    labelled = " ".join(call for call in calls if call.startswith("restorecon "))
    for path in (
        *("/usr/libexec/deepseek-agent", "/var/lib/deepseek ", "/var/lib/deepseek-agent"),
        *("/etc/deepseek-agent/tls", "/etc/containers/systemd ", "/etc/containers/certs.d"),
        *("/system/podman.socket", "/system/podman.service"),
    ):
        assert path in labelled, path
    host.run(["dnf", "-y", "remove", AGENT, MODULE], timeout_s=300)
    assert f"semodule -n -s targeted -X 200 -r {AGENT} -r {AGENT}-permissive" in calls_of(host)


@pytest.mark.parametrize("has_policy", [False, True])
def test_the_readme_s_command_installs_what_fits(host: LabHost, has_policy: bool) -> None:
    """From files in a folder: no repository has them."""
    move = f"mkdir -p {DOWNLOADED} && mv {REPOSITORY}/{AGENT}-*.rpm {DOWNLOADED}"
    if not is_file(host, DOWNLOADED):
        host.run(["sh", "-c", move])
        host.run(["createrepo_c", "--quiet", "--update", REPOSITORY], timeout_s=120)
        host.run(["dnf", "clean", "all"], timeout_s=60)
    host.run(["dnf", "-y", "install" if has_policy else "remove", POLICY[0].name], timeout_s=300)
    found = re.search(r"^dnf install .*?(?=^deepseekctl)", README.read_text("utf-8"), re.M | re.S)
    assert found is not None
    command = found[0].replace("dnf install", "dnf -y install")
    host.run(["sh", "-c", f"cd {DOWNLOADED} && {command}"], timeout_s=300)
    assert (is_installed(host, AGENT), is_installed(host, MODULE)) == (True, has_policy)
    host.run(["dnf", "-y", "remove", AGENT, MODULE], timeout_s=300)


def is_file(host: LabHost, path: str) -> bool:
    return host.run(["test", "-e", path], check=False).returncode == 0
