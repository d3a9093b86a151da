# SPDX-License-Identifier: MulanPSL-2.0
"""Hosts whose disks are other than one writable root: / read-only, /etc too, /var on its own disk.

Each is made so at boot, before anything of ours starts, by a unit that only the lab has.
"""

from collections.abc import Iterator

import pytest

from . import product
from .faults import container_id, kill_engine, stop_leaves_nothing, wait_serving_alone
from .host import LabHost
from .process import run_command
from .product import FRONT
from .rootfs import Flavour
from .small_disk import NODES
from .transactions import AGENT, verify

pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.timeout(300)]

DISK = "/lab-var.ext4"
UNIT = "lab-roots.service"
UNIT_TEXT = """[Unit]
DefaultDependencies=no
After=local-fs-pre.target
# The kernel makes nothing read-only in which a file is open for writing, as that of a journal is.
Before=local-fs.target systemd-tmpfiles-setup.service systemd-journal-flush.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/bash -e {script}
"""
SCRIPT = "/usr/local/lib/lab-roots"
WANTED_BY = f"/etc/systemd/system/local-fs.target.wants/{UNIT}"
READ_ONLY = "mount -o remount,bind,ro /\n"
ETC_IS_WRITABLE = "mount --bind /var /var\nmount --bind /etc /etc\n" + READ_ONLY
ETC_IS_NOT = "mount --bind /var /var\n" + READ_ONLY
# Podman 4.3 opens netavark.lock there for writing, whatever it is asked, and refuses all else.
NETWORKS = "/etc/containers/networks"
WRITABLE_NETWORKS = f"mount --bind {NETWORKS} {NETWORKS}\n"
VAR_ON_ITS_OWN = f"{NODES}\nmount -o loop {DISK} /var\n"


def boot_with(host: LabHost, script: str) -> None:
    host.write(SCRIPT, script)
    host.write(f"/etc/systemd/system/{UNIT}", UNIT_TEXT.format(script=SCRIPT))
    host.run(["mkdir", "-p", WANTED_BY.rpartition("/")[0]])
    host.run(["ln", "-sf", f"/etc/systemd/system/{UNIT}", WANTED_BY])
    host.reboot()
    assert product.active_state(host, UNIT) == "active", host.read_console()


@pytest.fixture(autouse=True)
def _as_it_was(host: LabHost) -> Iterator[None]:
    """Enabled and serving before; with one writable root again afterwards."""
    product.start(host, "enable", "--now")
    product.wait_serving(host)
    yield
    host.power_cut()
    for path in (WANTED_BY, DISK):
        (host.root / path.lstrip("/")).unlink(missing_ok=True)
    host.boot()
    host.wait_booted()
    product.ask_until_answered(host)


def is_writable(host: LabHost, folder: str) -> bool:
    return host.run(["touch", f"{folder}/lab-try"], check=False).returncode == 0


def serves_and_heals(host: LabHost) -> None:
    """By itself after the boot, after a crash, after a hold; and stops cleanly."""
    product.ask_until_answered(host, limit_s=120)
    product.wait_serving(host)
    old = container_id(host)
    kill_engine(host)
    wait_serving_alone(host, old, 60)
    host.run(["deepseekctl", "hold", "8b"])
    host.run(["deepseekctl", "release", "8b"], timeout_s=120)
    product.wait_serving(host)
    host.run(["systemctl", "restart", AGENT])
    product.wait_serving(host)
    assert product.ask(host) is not None
    product.start(host, "stop")
    stop_leaves_nothing(host, 60)
    assert verify(host) == ""


def test_root_is_read_only(host: LabHost) -> None:
    boot_with(host, ETC_IS_WRITABLE)
    assert [is_writable(host, one) for one in ("/usr", "/etc", "/var", "/run")] == [
        *(False, True, True, True)
    ]
    serves_and_heals(host)
    assert product.start(host, "disable").returncode == 0
    assert product.start(host, "enable", "--now").returncode == 0


def test_etc_is_read_only_too(host: LabHost) -> None:
    """Only what systemd keeps there cannot be changed: which models are enabled."""
    needed = WRITABLE_NETWORKS if host.flavour is Flavour.LEGACY else ""
    boot_with(host, needed + ETC_IS_NOT)
    assert [is_writable(host, one) for one in ("/usr", "/etc", "/var", "/run")] == [
        *(False, False, True, True)
    ]
    serves_and_heals(host)
    refused = product.start(host, "disable")
    assert (refused.returncode != 0, "Read-only file system" in refused.stderr) == (True, True)
    assert product.start(host).returncode == 0


def test_var_is_another_disk(host: LabHost) -> None:
    """Nothing may be renamed or linked across its border."""
    host.shutdown()
    disk = host.root / DISK.lstrip("/")
    run_command(["truncate", "--size=4G", str(disk)])
    fill = ["mkfs.ext4", "-q", "-d", str(host.root / "var")]
    run_command([*fill, str(disk)], timeout_s=200)
    host.boot()
    host.wait_booted()
    boot_with(host, VAR_ON_ITS_OWN)
    kind = host.run(["stat", "--file-system", "--format=%T", "/var"]).stdout.strip()
    assert kind == "ext2/ext3"
    serves_and_heals(host)
    assert product.start(host).returncode == 0
    assert FRONT in host.run(["systemctl", "list-units", "deepseek@*"]).stdout
