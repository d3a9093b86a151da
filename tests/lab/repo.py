# SPDX-License-Identifier: MulanPSL-2.0
"""A dnf repository inside a host, so that `dnf install deepseek-agent` runs the real resolver.

The lab has podman, systemd and so on from Debian packages, which rpm does not know. Empty stand-in
packages with the real versions and capabilities tell it. A name that is missing in STAND_INS stays
unresolved, as it should: install_packages says which.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .host import LabHost
from .process import CommandFailed, Completed, LabError

REPOSITORY = "/srv/lab-repo"
WORK = "/var/tmp/lab-stand-ins"
DNF_LIMIT_S = 300
REPO_FILE = f"""[lab]
name=lab
baseurl=file://{REPOSITORY}
enabled=1
gpgcheck=0
metadata_expire=0
"""


@dataclass(frozen=True, slots=True)
class StandIn:
    """An openEuler package name, and the Debian package that does its work here.

    `libraries`: Debian packages whose shared libraries' capabilities it provides too.
    """

    name: str
    debian: str
    provides: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()


STAND_INS = (
    StandIn("openEuler-release", "base-files", ("system-release = 24.03",)),
    StandIn("filesystem", "base-files"),
    StandIn("bash", "bash", ("/bin/sh", "/bin/bash", "/usr/bin/sh", "/usr/bin/bash")),
    StandIn("coreutils", "coreutils", ("/usr/bin/env", "/bin/rm", "/usr/bin/install")),
    StandIn("sed", "sed"),
    StandIn("grep", "grep"),
    StandIn("gawk", "mawk"),
    StandIn("util-linux", "util-linux"),
    StandIn("shadow", "passwd", ("/usr/sbin/useradd", "/usr/sbin/groupadd")),
    StandIn(
        "glibc",
        "libc6",
        ("rtld(GNU_HASH)",),
        ("libc6", "libgcc-s1", "libstdc++6", "zlib1g", "libsystemd0"),
    ),
    StandIn("ca-certificates", "ca-certificates"),
    StandIn("curl", "curl"),
    StandIn("procps-ng", "procps"),
    StandIn("iproute", "iproute2"),
    StandIn("nftables", "nftables"),
    StandIn("iptables", "iptables"),
    StandIn("dbus", "dbus"),
    StandIn("polkit", "polkitd"),
    StandIn(
        "systemd", "systemd", ("/usr/bin/systemctl", "/usr/bin/systemd-sysusers", "system-systemd")
    ),
    StandIn("podman", "podman", ("/usr/bin/podman",)),
    StandIn("crun", "crun", ("oci-runtime",)),
    StandIn("conmon", "conmon"),
    StandIn("netavark", "netavark"),
    StandIn("python3", "python3-minimal", ("python(abi) = %{python_abi}", "/usr/bin/python3")),
)
SPEC_HEAD = """Name: lab-stand-ins
Version: 1
Release: 1
Summary: Tells rpm what the lab has from Debian packages
License: MulanPSL-2.0
BuildArch: noarch
%description
%{summary}.
"""
SPEC_PART = """
%package -n {name}
Version: {version}
Summary: Stand-in for {name}
{provides}
%description -n {name}
%{{summary}}.
%files -n {name}
"""


def upstream_version(debian: str) -> str:
    """Of "1:252.39-1~deb12u2" the "252.39"."""
    return re.sub(r"^\d+:", "", debian).rsplit("-", 1)[0].replace("-", ".")


def read_versions(host: LabHost, stand_ins: Sequence[StandIn]) -> dict[str, str]:
    names = sorted({stand_in.debian for stand_in in stand_ins})
    shown = host.run(["dpkg-query", "-W", "-f", "${Package} ${Version}\\n", *names]).stdout
    return {
        package: upstream_version(version)
        for package, version in (line.split() for line in shown.splitlines())
    }


def read_capabilities(host: LabHost, packages: Sequence[str]) -> tuple[str, ...]:
    """What rpm would say that the shared libraries of these Debian packages provide."""
    if not packages:
        return ()
    script = 'dpkg -L "$@" | grep -E "\\.so(\\.|$)" | /usr/lib/rpm/elfdeps --provides | sort -u'
    return tuple(host.run(["sh", "-c", script, "sh", *packages]).stdout.splitlines())


def build_stand_ins(host: LabHost, stand_ins: Sequence[StandIn]) -> None:
    """Builds the packages inside the host, into the repository's folder."""
    versions = read_versions(host, stand_ins)
    spec = SPEC_HEAD
    for stand_in in stand_ins:
        provides = stand_in.provides + read_capabilities(host, stand_in.libraries)
        lines = "\n".join(f"Provides: {capability}" for capability in provides)
        spec += SPEC_PART.format(
            name=stand_in.name, version=versions[stand_in.debian], provides=lines
        )
    abi = host.run(["python3", "-c", "import sys; print(*sys.version_info[:2], sep='.')"])
    host.write(f"{WORK}/stand-ins.spec", spec)
    defines = [
        f"--define=_topdir {WORK}",
        f"--define=_rpmdir {REPOSITORY}",
        f"--define=python_abi {abi.stdout.strip()}",
    ]
    host.run(["rpmbuild", "-bb", "--quiet", *defines, f"{WORK}/stand-ins.spec"], timeout_s=120)
    host.run(["rm", "-rf", WORK])


def add_packages(host: LabHost, rpms: Sequence[Path]) -> None:
    """Puts more packages into the repository: a newer version of one is an update then."""
    for rpm in rpms:
        if not rpm.name.endswith(".src.rpm"):
            host.copy_in(rpm, f"{REPOSITORY}/{rpm.name}")
    host.run(["createrepo_c", "--quiet", "--update", REPOSITORY], timeout_s=120)


def create_repository(
    host: LabHost, rpms: Sequence[Path], stand_ins: Sequence[StandIn] = STAND_INS
) -> None:
    """The only repository of the host, its stand-ins installed already, as on a real host."""
    host.run(["rm", "-rf", REPOSITORY])
    build_stand_ins(host, stand_ins)
    host.run(["sh", "-c", "rm -f /etc/yum.repos.d/*"])
    host.write("/etc/yum.repos.d/lab.repo", REPO_FILE)
    add_packages(host, rpms)
    install_packages(host, *(stand_in.name for stand_in in stand_ins))


def list_unmet(text: str) -> list[str]:
    return sorted(set(re.findall(r"nothing provides (.+?) needed by (?:\S+)", text)))


def install_packages(host: LabHost, *names: str) -> Completed:
    """dnf -y install. Capabilities that nothing in the repository has are named in the error."""
    try:
        return host.run(["dnf", "-y", "install", *names], timeout_s=DNF_LIMIT_S)
    except CommandFailed as failed:
        unmet = list_unmet(failed.done.stdout + failed.done.stderr)
        if not unmet:
            raise
        raise LabError(
            f"cannot install {' '.join(names)}: nothing provides {', '.join(unmet)} "
            "(a stand-in to add, or a requirement that openEuler would not meet either)"
        ) from failed
