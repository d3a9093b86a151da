# SPDX-License-Identifier: MulanPSL-2.0
"""Whose proxies: those of supply's environment and those of Podman's service, in a folder for /."""

from pathlib import Path

import pytest

from agent.host.proxies import lacks_proxy, proxy_for, read_podman_proxies

SECRET = "http://user:secret@proxy.example:3128"
V1 = "11:memory:/system.slice/podman.service\n1:name=systemd:/system.slice/podman.service\n"
V2 = "0::/system.slice/podman.service\n"


def put(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def process(root: Path, pid: int, group: str, command: str, environment: str) -> None:
    folder = root / f"proc/{pid}"
    put(folder / "cgroup", group)
    put(folder / "cmdline", command.replace(" ", "\0") + "\0")
    put(folder / "environ", environment.replace(" ", "\0") + "\0")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Of a host on which other things run."""
    put(tmp_path / "proc/uptime", "1 1")
    (tmp_path / "proc/7").mkdir()  # it ends while it is looked at
    other = f"HTTPS_PROXY={SECRET}"
    process(tmp_path, 8, "0::/system.slice/sshd.service\n", "/usr/sbin/sshd service", other)
    process(tmp_path, 9, V2, "/usr/bin/conmon -c 1", other)
    for pid, above in ((4, "/user.slice/user-7.slice/user@7.service/app.slice"), (5, "/m.scope")):
        group = V2.replace("::", f"::{above}")
        process(tmp_path, pid, group, "/usr/bin/podman system service", other)
    return tmp_path


@pytest.mark.parametrize("group", [V1, V2, V2.replace("\n", "/runtime\n")])
def test_podman_has_what_its_service_was_started_with(root: Path, group: str) -> None:
    assert read_podman_proxies(root) is None
    environment = f"LOGGING=x https_proxy={SECRET} NO_PROXY=a,b ALL_PROXY=http://x HTTP_PROXY="
    process(root, 10, group, "/usr/bin/podman --log-level=info system service", environment)
    assert read_podman_proxies(root) == {"https_proxy": SECRET, "NO_PROXY": "a,b"}


def test_and_what_containers_conf_says(root: Path) -> None:
    process(root, 10, V2, "/usr/bin/podman system service", "NO_PROXY=a")
    folder = root / "etc/containers"
    put(folder / "containers.conf", '[engine]\nenv = ["HTTPS_PROXY=http://p:1", "NO_PROXY=b"]\n')
    put(folder / "containers.conf.d/a.conf", "[engine]\nenv = 7\n")
    put(folder / "containers.conf.d/b.conf", "engine = [")
    put(folder / "containers.conf.d/c.conf", "engine = 7")
    assert read_podman_proxies(root) == {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "a"}


@pytest.mark.parametrize(
    ("ours", "podman", "lacks"),
    [
        ({"HTTPS_PROXY": SECRET}, {}, True),
        ({"all_proxy": SECRET}, {"NO_PROXY": "x"}, True),
        ({"HTTPS_PROXY": SECRET}, {"HTTP_PROXY": SECRET}, True),  # that is for http://
        ({"HTTPS_PROXY": SECRET}, {"https_proxy": "http://other"}, False),
        ({"HTTPS_PROXY": SECRET, "NO_PROXY": "quay.io"}, {}, False),  # we need none either
        ({"HTTPS_PROXY": ""}, {}, False),
        ({"HTTP_PROXY": SECRET}, {}, False),
        ({}, {}, False),
    ],
)
def test_who_lacks_one(ours: dict[str, str], podman: dict[str, str], lacks: bool) -> None:
    assert lacks_proxy("quay.io", ours, podman) is lacks


def test_a_registry_with_a_port() -> None:
    ours = {"HTTPS_PROXY": "http://p:1", "no_proxy": ".example", "NO_PROXY": "quay.io"}
    assert proxy_for("https", "registry.example:5000", ours) == ""
    assert proxy_for("https", "quay.io:443", ours) == "http://p:1"
