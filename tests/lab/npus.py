# SPDX-License-Identifier: MulanPSL-2.0
"""Ascend NPUs that are not there: the device nodes, and what a driver package leaves on disk.

The nodes are /dev/null under another name. Like real ones they are gone after a reboot, until the
driver (fake-npu-driver.service, if it was installed) makes them again.
"""

from collections.abc import Sequence
from pathlib import Path

from .host import LabHost

MANAGERS = ("davinci_manager", "devmm_svm", "hisi_hdc")
NPU_SMI = Path(__file__).resolve().parent.parent / "fakes/npu_smi/npu-smi"
STATE_FILE = "/run/fake-npu/state.json"  # what the double of npu-smi shows
DRIVER_VERSION = "25.2.0"
DRIVER_TOOL = "/usr/local/lib/deepseek-lab/fake-npu-driver"
DRIVER_UNIT = "fake-npu-driver.service"
DRIVER_FILES = {
    "/usr/local/Ascend/driver/lib64/lab.txt": "stands for the libraries of the driver\n",
    "/usr/local/Ascend/driver/version.info": (
        f"Version={DRIVER_VERSION}\nascendhal_version=7.35.23\naicpu_version=1.0\n"
        "tdt_version=1.0\nlog_version=1.0\nprof_version=2.0\ndvppkernels_version=1.1\n"
        f"tsfw_version=1.0\nInnerversion=V100R001C22\npackage_version={DRIVER_VERSION}\n"
    ),
    "/usr/local/dcmi/lab.txt": "stands for libdcmi.so\n",
    "/etc/ascend_install.info": (
        "UserName=HwHiAiUser\nUserGroup=HwHiAiUser\nDriver_Install_Type=full\n"
        "Driver_Install_Path_Param=/usr/local/Ascend\nDriver_Install_For_All=yes\n"
        "Driver_Install_Mode=normal\nDriver_Install_Status=complete\n"
    ),
}
MAKE_NODES = r"""#!/bin/sh
# usage: fake-npu-driver NAME...   makes one node below /dev for each name that has none
for name; do
    [ -e "/dev/$name" ] || mknod -m 666 "/dev/$name" c 1 3 || exit 1
done
"""
NO_NPU_SMI = "#!/bin/sh\necho 'the double of npu-smi is not in this tree' >&2\nexit 1\n"
# Without default dependencies: a driver that is late must not hold up multi-user.target.
UNIT = f"""# SPDX-License-Identifier: MulanPSL-2.0
[Unit]
Description=Stand-in for the Ascend driver: makes the device nodes
DefaultDependencies=no
After=local-fs.target systemd-tmpfiles-setup.service
Conflicts=shutdown.target
Before=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStartPre=/bin/sleep {{delay_s}}
ExecStart={DRIVER_TOOL} {{names}}

[Install]
WantedBy=multi-user.target
"""


def list_nodes(numbers: Sequence[int]) -> list[str]:
    return [f"davinci{number}" for number in numbers] + list(MANAGERS)


def install_driver(host: LabHost) -> None:
    """What is on disk after the driver package was installed; no device nodes."""
    for path, text in DRIVER_FILES.items():
        host.write(path, text)
    host.run(["mkdir", "-p", "/var/queue_schedule", "/run/fake-npu"])
    host.write("/etc/tmpfiles.d/fake-npu.conf", "d /run/fake-npu 0755 root root -\n")
    host.write(DRIVER_TOOL, MAKE_NODES, mode=0o755)
    smi = NPU_SMI.read_text() if NPU_SMI.exists() else NO_NPU_SMI
    for folder in ("/usr/local/bin", "/usr/local/sbin"):
        host.write(f"{folder}/npu-smi", smi, mode=0o555)


def make_npus(host: LabHost, count: int = 8, *, at_boot: bool = False, delay_s: float = 0) -> None:
    """The driver's files, and the nodes of `count` NPUs: at once, or by a unit at every boot.

    With at_boot the unit is enabled and not started: `delay_s` after the start of a boot the nodes
    are there. Start fake-npu-driver.service, or call this once without it, to have them now.
    """
    install_driver(host)
    names = list_nodes(range(count))
    if not at_boot:
        host.run([DRIVER_TOOL, *names])
        return
    host.write(
        f"/etc/systemd/system/{DRIVER_UNIT}", UNIT.format(delay_s=delay_s, names=" ".join(names))
    )
    host.run(["systemctl", "daemon-reload"])
    host.run(["systemctl", "enable", DRIVER_UNIT])


def remove_npus(host: LabHost, numbers: Sequence[int] | None = None) -> None:
    """The nodes of these NPUs vanish, as when a card drops off the bus; of all without numbers."""
    if numbers is None:
        script = "rm -f /dev/davinci* " + " ".join(f"/dev/{name}" for name in MANAGERS)
        host.run(["sh", "-c", script])
    else:
        host.run(["rm", "-f", *(f"/dev/davinci{number}" for number in numbers)])


def restore_npus(host: LabHost, numbers: Sequence[int]) -> None:
    host.run([DRIVER_TOOL, *list_nodes(numbers)])
