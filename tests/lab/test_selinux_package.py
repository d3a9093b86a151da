# SPDX-License-Identifier: MulanPSL-2.0
"""deepseek-agent-selinux comes with the agent where the policy is, and goes. No kernel here has
SELinux: its programs are doubles that note how they are called."""

from collections.abc import Iterator

import pytest

from .host import LabHost
from .product import empty_host, packages
from .repo import REPOSITORY, StandIn, build_stand_ins, create_repository, install_packages
from .rootfs import Flavour

pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.timeout(600)]

POLICY = (StandIn("selinux-policy-targeted", "procps"), StandIn("policycoreutils", "procps"))
PROGRAMS = ("semodule", "selinuxenabled", "load_policy", "restorecon")
CALLS = "/run/calls"
DOUBLE = f'#!/bin/sh\necho "${{0##*/}} $*" >> {CALLS}\n'
AGENT, MODULE = "deepseek-agent", "deepseek-agent-selinux"


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
    calls = calls_of(host)
    folder = "/usr/share/selinux/packages/deepseek-agent"
    modules = f"{folder}/deepseek-agent-permissive.cil {folder}/deepseek-agent.cil"
    assert calls[0] == f"semodule -n -s targeted -X 200 -i {modules}"
    assert "load_policy " in calls
    labelled = " ".join(call for call in calls if call.startswith("restorecon "))
    for path in ("/usr/libexec/deepseek-agent", "/var/lib/deepseek ", "/var/lib/deepseek-agent"):
        assert path in labelled
    host.run(["dnf", "-y", "remove", AGENT, MODULE], timeout_s=300)
    assert f"semodule -n -s targeted -X 200 -r {AGENT} -r {AGENT}-permissive" in calls_of(host)
