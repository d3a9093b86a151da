# SPDX-License-Identifier: MulanPSL-2.0
"""What a package of the Ascend driver leaves on a lab host, and the unit that loads it at a boot.

The host's NPUs are known to a double of libdcmi (tests/fakes/dcmi), as on a server, or, on a host
that is to do without, to a double of npu-smi. Never to both, so that they cannot disagree.
"""

from pathlib import Path

from tests.fakes import dcmi

from .cache import build_key, ensure_built
from .host import LabHost

NPU_SMI = Path(__file__).resolve().parent.parent / "fakes/npu_smi/npu-smi"
NPU_SMI_PLACES = ("/usr/local/bin/npu-smi", "/usr/local/sbin/npu-smi")
NO_NPU_SMI = "#!/bin/sh\necho 'the NPUs of this host are known to libdcmi alone'\nexit 1\n"
LIBRARY = "/usr/local/dcmi/libdcmi.so"
STATE_FOLDER = "/run/dcmi-double"
DRIVER_VERSION = "25.2.0"
FOLDER = "/usr/local/lib/deepseek-lab"
TOOL = f"{FOLDER}/fake-npu-driver"
BOARD = f"{FOLDER}/npus"  # what the double of libdcmi tells when the driver has been loaded
UNIT = "fake-npu-driver.service"
FILES = {
    "/usr/local/Ascend/driver/lib64/lab.txt": "stands for the libraries of the driver\n",
    "/usr/local/Ascend/driver/version.info": (
        f"Version={DRIVER_VERSION}\nascendhal_version=7.35.23\naicpu_version=1.0\n"
        "tdt_version=1.0\nlog_version=1.0\nprof_version=2.0\ndvppkernels_version=1.1\n"
        f"tsfw_version=1.0\nInnerversion=V100R001C22\npackage_version={DRIVER_VERSION}\n"
    ),
    "/etc/ascend_install.info": (
        "UserName=HwHiAiUser\nUserGroup=HwHiAiUser\nDriver_Install_Type=full\n"
        "Driver_Install_Path_Param=/usr/local/Ascend\nDriver_Install_For_All=yes\n"
        "Driver_Install_Mode=normal\nDriver_Install_Status=complete\n"
    ),
}
# The nodes come first, then libdcmi answers: so it was seen on real hosts that boot.
LOAD = rf"""#!/bin/sh
# usage: fake-npu-driver NAME...   loads it: nodes below /dev for names that have none, and NPUs for
# the double of libdcmi when it has none
for name; do
    [ -e "/dev/$name" ] || mknod -m 666 "/dev/$name" c 1 3 || exit 1
done
[ -e {BOARD} ] && [ ! -e {STATE_FOLDER}/state ] || exit 0
mkdir -p {STATE_FOLDER} && cp {BOARD} {STATE_FOLDER}/state.new &&
    mv {STATE_FOLDER}/state.new {STATE_FOLDER}/state
"""
# Without default dependencies: a driver that is late must not hold up multi-user.target.
UNIT_TEXT = f"""# SPDX-License-Identifier: MulanPSL-2.0
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
ExecStart={TOOL} {{names}}

[Install]
WantedBy=multi-user.target
"""


def install_driver(host: LabHost, product: str, cards: int, *, libdcmi: bool) -> None:
    """Its files, of `cards` cards; nothing is loaded."""
    for path, text in FILES.items():
        host.write(path, text)
    host.run(["mkdir", "-p", "/var/queue_schedule", "/run/fake-npu"])
    host.write("/etc/tmpfiles.d/fake-npu.conf", "d /run/fake-npu 0755 root root -\n")
    host.write(TOOL, LOAD, mode=0o755)
    if libdcmi:
        host.copy_in(build_library(), LIBRARY)
        host.write(BOARD, f"product {product}\ncards {cards}\ndriver {DRIVER_VERSION}\n")
    else:
        host.run(["rm", "-rf", LIBRARY, BOARD, STATE_FOLDER])
    for place in NPU_SMI_PLACES:
        host.write(place, NO_NPU_SMI if libdcmi else NPU_SMI.read_text(), mode=0o555)


def build_library() -> Path:
    """For both flavours: the machine's C library is not newer than theirs."""
    sources = sorted(dcmi.SOURCES.glob("*.[ch]"))
    key = build_key([source.read_bytes() for source in sources])
    return ensure_built("libdcmi", key, _build_library) / "libdcmi.so"


def _build_library(folder: Path) -> None:
    folder.mkdir()
    dcmi.build(folder)


def load_at_boot(host: LabHost, names: list[str], delay_s: float) -> None:
    """So long after the start of a boot it makes the nodes, and libdcmi answers."""
    text = UNIT_TEXT.format(delay_s=delay_s, names=" ".join(names))
    host.write(f"/etc/systemd/system/{UNIT}", text)
    host.run(["systemctl", "daemon-reload"])
    host.run(["systemctl", "enable", UNIT])
