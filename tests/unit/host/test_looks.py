# SPDX-License-Identifier: MulanPSL-2.0
"""What the doctor looks at: files in a folder for the machine's, scripts for its programs, and
things that hang."""

import asyncio
import os
import threading
import time
from pathlib import Path

import pytest

from agent.doctor.looks import Kernel, Selinux, SelinuxMode, Unseen, Why
from agent.errors import AgentError, Code, HostUnavailable
from agent.host.driver_files import parse_board, read_driver_files, read_firmware
from agent.host.kernel import read_clock, read_kernel, read_selinux
from agent.host.look import explain, look
from agent.host.units import read_main_pid, read_proxies, read_systemd_version, read_units
from agent.model import UnitActive
from agent.threads import in_thread
from tests.unit.npud.fake_smi import write_script

PATHS = ("/usr/local/dcmi", "/usr/local/bin/npu-smi")
SHOWN = """LoadState=loaded
ActiveState=failed
SubState=failed
Result=exit-code
ExecMainStatus=69
FragmentPath=/usr/lib/systemd/system/deepseek@.service
SourcePath=
NeedDaemonReload=yes
UnitFileState=enabled
InvocationID=

LoadState=not-found
ActiveState=inactive
"""


def put(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


# --- a look ---------------------------------------------------------------------------------------


def test_what_hangs_is_told_and_nobody_waits_for_it() -> None:
    release = threading.Event()
    started = time.monotonic()
    seen = asyncio.run(look("the disk", 0.2, in_thread(release.wait), "see: dmesg"))
    assert time.monotonic() - started < 2
    why = "cannot look at the disk: it does not answer within 0.2 s"
    assert seen == Unseen(Why.SILENT, why, "see: dmesg")
    release.set()


def test_a_look_never_raises() -> None:
    async def refused() -> int:
        raise HostUnavailable(Code.PODMAN_SILENT, "cannot ask Podman: no", "see x")

    assert asyncio.run(look("it", 1, refused())) == Unseen(
        Why.FAILED, "cannot ask Podman: no", "see x"
    )

    def broken() -> int:
        raise ValueError("odd")

    seen = asyncio.run(look("it", 1, in_thread(broken)))
    assert seen == Unseen(Why.FAILED, "cannot look at it: ValueError('odd')")
    assert asyncio.run(look("it", 1, in_thread(lambda: 7))) == 7


def test_what_this_user_may_not_see_is_no_fault() -> None:
    refused = PermissionError(13, "Permission denied", "/var/lib/containers/storage")
    seen = explain("the room", refused, "", is_root=False)
    assert seen == Unseen(Why.NEEDS_ROOT, "only root may look at the room")
    seen = explain("the room", refused, "", is_root=True)
    assert (seen.why, "Permission denied" in seen.text) == (Why.FAILED, True)


# --- the kernel -----------------------------------------------------------------------------------


def test_cgroup_v2_and_limits(tmp_path: Path) -> None:
    put(tmp_path / "sys/fs/cgroup/cgroup.controllers", "cpu memory pids\n")
    put(tmp_path / "proc/sys/kernel/pid_max", "4194304\n")
    put(tmp_path / "proc/sys/fs/nr_open", "1048576\n")
    found = read_kernel(tmp_path / "sys", tmp_path / "proc")
    assert found == Kernel(2, ("cpu", "memory", "pids"), 4194304, None, 1048576)


def test_cgroup_v1_has_what_is_enabled_and_mounted(tmp_path: Path) -> None:
    head = "#subsys_name\thierarchy\tnum_cgroups\tenabled\n"
    rows = "cpu\t2\t9\t1\nmemory\t3\t9\t0\npids\t4\t9\t1\nrdma\t0\t1\t1\n"
    put(tmp_path / "proc/cgroups", head + rows)
    found = read_kernel(tmp_path / "sys", tmp_path / "proc")
    assert (found.cgroup_version, found.controllers) == (1, ("cpu", "pids"))


def test_selinux(tmp_path: Path) -> None:
    def read() -> Selinux:
        return read_selinux(tmp_path, tmp_path)

    assert read() == Selinux(SelinuxMode.OFF)
    put(tmp_path / "fs/selinux/enforce", "1")
    assert read() == Selinux(SelinuxMode.ENFORCING)
    put(tmp_path / "fs/selinux/enforce", "0")
    assert read() == Selinux(SelinuxMode.PERMISSIVE)


@pytest.mark.parametrize(
    ("label", "has_module"),
    [
        (b"system_u:object_r:deepseek_model_t:s0\0", True),
        (b"unconfined_u:object_r:deepseek_model_t:s0:c1,c2\0", True),
        (b"system_u:object_r:var_lib_t:s0\0", False),
        (b"system_u:object_r:unlabeled_t:s0\0", False),
        (b"", False),
    ],
)
def test_whether_our_module_is_in_force_the_label_of_the_models_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, label: bytes, has_module: bool
) -> None:
    put(tmp_path / "fs/selinux/enforce", "1")
    asked = []

    def tell(path: Path, name: str) -> bytes:
        asked.append((path, name))
        return label

    monkeypatch.setattr(os, "getxattr", tell)
    assert read_selinux(tmp_path, tmp_path).has_module is has_module
    assert asked == [(tmp_path, "security.selinux")]


def test_the_clock_of_this_machine(tmp_path: Path) -> None:
    package = tmp_path / "__init__.py"
    put(package)
    os.utime(package, (1000.0, 1000.0))
    found = read_clock(package)
    assert abs(found.now - time.time()) < 5
    assert found.built_at == 1000.0
    assert found.synchronized in (True, False, None)
    assert read_clock(tmp_path / "none").built_at is None


# --- the driver -----------------------------------------------------------------------------------


def test_files_and_nodes_of_the_driver(tmp_path: Path) -> None:
    for name in ("davinci10", "davinci2", "davinci_manager", "davinci2x", "null"):
        put(tmp_path / "dev" / name)
    (tmp_path / "dev/davinci2").chmod(0o640)
    put(tmp_path / "usr/local/dcmi/libdcmi.so")
    put(tmp_path / "usr/local/Ascend/driver/version.info", "Version=25.5.1\nx=1\n")
    put(tmp_path / "etc/ascend_install.info", "Driver_Install_Status=complete\n")
    found = read_driver_files(PATHS, tmp_path)
    assert [node.path for node in found.nodes] == [
        "/dev/davinci2",
        "/dev/davinci10",
        "/dev/davinci_manager",
    ]
    assert (found.nodes[0].mode, found.nodes[0].is_device) == (0o640, False)
    assert (found.version, found.install_status) == ("25.5.1", "complete")
    assert (found.paths, found.npu_smi) == (("/usr/local/dcmi",), "")


def test_a_host_without_a_driver(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    found = read_driver_files(PATHS, tmp_path)
    assert (found.nodes, found.version, found.install_status, found.paths) == ((), "", "", ())


BOARD = (
    "\tNPU ID                         : 3\n\tFirmware Version               : 7.8.0.6.201\n"
    "\tCompatibility                  : OK\n"
)


def test_firmware() -> None:
    found = parse_board(3, BOARD)
    assert (found.card_id, found.version, found.compatibility) == (3, "7.8.0.6.201", "OK")
    assert parse_board(3, "Error parameter of -t").version == ""


def test_npu_smi_is_asked_for_each_card(tmp_path: Path) -> None:
    smi = write_script(tmp_path / "npu-smi", 'echo "Firmware Version : 7.$5"')
    found = asyncio.run(read_firmware(str(smi), (0, 4), 5))
    assert [(one.card_id, one.version) for one in found] == [(0, "7.0"), (4, "7.4")]


def test_an_npu_smi_that_hangs(tmp_path: Path) -> None:
    smi = write_script(tmp_path / "npu-smi", "exec sleep 100")
    seen = asyncio.run(look("npu-smi", 5, read_firmware(str(smi), (0, 4), 0.2)))
    assert isinstance(seen, Unseen)
    assert seen.why is Why.SILENT


# --- systemd --------------------------------------------------------------------------------------


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A script in its place."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path / "systemctl"


def test_units_as_systemctl_shows_them(systemctl: Path) -> None:
    put(systemctl.parent / "shown", SHOWN)
    write_script(systemctl, f"cat {systemctl.parent}/shown")
    failed, missing = asyncio.run(read_units(("deepseek@8b.service", "x.service"), 5))
    assert (failed.name, failed.active, failed.exit_status, failed.result) == (
        "deepseek@8b.service",
        UnitActive.FAILED,
        69,
        "exit-code",
    )
    assert failed.need_daemon_reload
    assert (missing.load_state, missing.active) == ("not-found", UnitActive.INACTIVE)


def test_a_systemd_that_cannot_be_asked(systemctl: Path) -> None:
    write_script(systemctl, "echo 'System has not been booted with systemd' >&2; exit 1")
    with pytest.raises(AgentError) as caught:
        asyncio.run(read_units(("a.service",), 5))
    assert caught.value.failure.message == (
        "cannot ask systemd: System has not been booted with systemd"
    )
    write_script(systemctl, "exec sleep 100")
    with pytest.raises(TimeoutError):
        asyncio.run(read_units(("a.service",), 0.2))


def test_its_version(systemctl: Path) -> None:
    write_script(systemctl, "echo 'systemd 255 (255-43.oe2403sp2)'; echo +PAM")
    assert asyncio.run(read_systemd_version(5)) == 255
    write_script(systemctl, "echo upstart 1")
    with pytest.raises(AgentError):
        asyncio.run(read_systemd_version(5))


def test_a_proxy_that_systemd_gives_to_all(systemctl: Path) -> None:
    """DefaultEnvironment=; what a unit has of its own counts."""
    for_all = "Environment=HTTPS_PROXY=http://all:1 HTTP_PROXY=http://all:1"
    write_script(systemctl, f'[ "$#" = 4 ] && echo Environment=HTTPS_PROXY= || echo "{for_all}"')
    assert asyncio.run(read_proxies("a.service", 5)) == {"HTTP_PROXY": "http://all:1"}


def test_proxies_and_pids(systemctl: Path) -> None:
    shown = 'Environment=HTTPS_PROXY=http://p:1 "no_proxy=a b" HOME=/x'
    write_script(systemctl, f"echo '{shown}'")
    assert asyncio.run(read_proxies("a.service", 5)) == {
        "HTTPS_PROXY": "http://p:1",
        "no_proxy": "a b",
    }
    write_script(systemctl, "exit 1")
    with pytest.raises(HostUnavailable):
        asyncio.run(read_proxies("a.service", 5))
    write_script(systemctl, "echo 4711")
    assert asyncio.run(read_main_pid("a.service", 5)) == 4711
