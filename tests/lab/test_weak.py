# SPDX-License-Identifier: MulanPSL-2.0
"""A host without what the package only recommends: it serves, and what cannot be done is said."""

import pytest

from . import product
from .faults import stop_leaves_nothing, wait_told
from .host import LabHost
from .images import remove_image
from .product import ENGINE
from .repo import StandIn, add_packages, build_stand_ins, install_packages
from .transactions import verify

pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.timeout(300)]

# As the spec recommends them.
WEAK = (
    StandIn("catatonit", "catatonit"),
    StandIn("openssh", "openssh-client"),
    StandIn("zstd", "zstd"),
)
NAMES = [one.name for one in WEAK]
PROGRAMS = ("catatonit", "ssh-keygen", "zstd")
# Debian has them all; the host loses them.
LOSE = f"""
for name in {" ".join(PROGRAMS)}; do
    find /usr /bin -name "$name" ! -type d -delete
done
rm -rf /etc/pki/tls/certs /etc/ssl/certs /usr/share/ca-certificates
"""
# RFC 8878; without it the file is none of zstd's.
ZSTD_MAGIC = r"\050\265\057\375"
ARCHIVE = "/var/lib/deepseek/import/image.tar.zst"


@pytest.fixture(scope="module")
def host(bare_host: LabHost) -> LabHost:
    """Stands in for the fixture of conftest.py: what is recommended could be had, and is not."""
    build_stand_ins(bare_host, WEAK)
    add_packages(bare_host, ())
    bare_host.run(["sh", "-c", LOSE])
    bare_host.write("/etc/dnf/dnf.conf", "[main]\ninstall_weak_deps=False\n")
    product.install(bare_host)
    return bare_host


def is_installed(host: LabHost, name: str) -> bool:
    return host.run(["rpm", "--query", name], check=False).returncode == 0


def test_nothing_that_is_only_recommended_is_installed(host: LabHost) -> None:
    assert [name for name in NAMES if is_installed(host, name)] == []
    assert verify(host) == ""


def test_it_serves_and_stops(host: LabHost) -> None:
    """Without an init in the container."""
    done = product.start(host, "enable", "--now")
    assert (done.returncode, done.stderr.count("\n") <= 1) == (0, True), done.stderr
    assert product.ask(host) is not None
    assert "--init" not in host.run(["systemctl", "cat", ENGINE]).stdout
    stop_leaves_nothing(host, 60)


def test_an_archive_that_cannot_be_read_is_said(host: LabHost) -> None:
    remove_image(host)
    host.run(["sh", "-c", f"printf '{ZSTD_MAGIC}' > {ARCHIVE}"])
    product.start(host, "enable", "--now")
    wait_told(host, "failed", lambda told: told.phase == "held", 60)
    told = host.run(["deepseekctl", "status"], check=False).stdout
    assert "cannot run zstd: No such file or directory (dnf install zstd)" in told


def test_with_weak_dependencies_they_come(host: LabHost) -> None:
    host.write("/etc/dnf/dnf.conf", "[main]\n")
    host.run(["dnf", "-y", "remove", "deepseek-agent"], timeout_s=200)
    install_packages(host, "deepseek-agent")
    assert [name for name in NAMES if not is_installed(host, name)] == []
