# SPDX-License-Identifier: MulanPSL-2.0
"""deepseek-agent on a lab host, as an operator gets it: driver, image, model, `dnf install`.

Also the words in which demo, tests and benchmarks speak of it: ask, start, stop, what is left.
"""

import hashlib
import json
import shlex
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from .build import build_rpm, prepare_sources
from .cache import build_key, ensure_built
from .host import NO_BINDS, LabHost
from .images import ENGINE_IMAGE, add_engine_image
from .machine import prepare_machine
from .models import add_model
from .npus import make_npus
from .process import Completed, LabError
from .repo import create_repository, install_packages
from .rootfs import Flavour

RECIPE = ("rpm/deepseek-agent.spec", "tests/lab/macros.deepseek-lab")
TREE = Path(__file__).resolve().parents[2]
FRONT = "deepseek@8b.service"
ENGINE = "deepseek-vllm-8b.service"
CONTAINER = "deepseek-vllm-8b"
# Step 7 of the tutorial, word for word.
TUTORIAL_CURL = (
    'curl -X POST "http://localhost:2023/v1/chat/completions" '
    '-H "Content-Type: application/json" '
    '-d \'{"model": "deepseek-r1:8b", "messages": [{"role": "user", '
    '"content": "请介绍一下开源操作系统openEuler"}]}\''
)
# The profile asks for 32 cores and 32 GiB, as the tutorial does; the machine of the lab is smaller,
# and its engine is a double. Nothing else is changed.
SMALLER_NEEDS = "[needs]\ncpu_cores = 1\nram_gib = 2\ndisk_gib = 1\n"
# Nothing is within reach of it: what is missing is not to be looked for again and again.
OFFLINE_FILE = "/etc/deepseek-agent/agent.toml.d/lab-offline.toml"
OFFLINE = "[supply]\nfetch = false\n"
ANSWER_EVERY_S = 0.05
# The engine double answers within 0.2 s; see ask().
POLL_LIMIT_S = 1.0


def create_host(
    flavour: Flavour,
    name: str,
    folder: Path,
    *,
    detached: bool = False,
    binds: Mapping[Path, str] = NO_BINDS,
) -> LabHost:
    """A booted host without anything of ours."""
    host = LabHost.create(flavour, name, folder, binds)
    adapt(host)
    host.boot(detached=detached)
    host.wait_booted()
    return host


# systemd 252 mounts /proc anew for ProtectKernelTunables=, and with that goes the boot id that
# systemd-nspawn has put over the machine's: journalctl would look for the machine's boot.
BOOT_ID = "/proc/sys/kernel/random/boot_id"
BOOT_ID_COPY = "/run/lab-boot-id"
ADAPTED = "usr/local/lib/systemd/system/deepseek-agent.service.d/lab.conf"
# "+" is taken from ExecReload=: systemd 252 mounts this also without the rest of the sandbox, and
# then fails; so ExecStartPre= would, too.
OWN_BOOT_ID = f"""\
[Service]
BindReadOnlyPaths={BOOT_ID_COPY}:{BOOT_ID}
ExecStartPre=
ExecReload=
ExecReload=/usr/bin/deepseekctl config reload
"""


def adapt(host: LabHost) -> None:
    """Before it boots: what is different in a namespace, and not on a real host."""
    if host.flavour is not Flavour.LEGACY:
        return
    for path, text in (
        # Where nobody tells systemd that a group of cgroup v1 is empty (release_agent.py), it waits
        # at shutdown for a container's scope until this is over (90 s by default).
        ("etc/systemd/system.conf.d/lab.conf", "[Manager]\nDefaultTimeoutStopSec=5s\n"),
        ("etc/tmpfiles.d/lab.conf", f"C {BOOT_ID_COPY} - - - - {BOOT_ID}\n"),
        (ADAPTED, OWN_BOOT_ID),
    ):
        file = host.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def supply(host: LabHost, npus: int = 8, *, libdcmi: bool = True) -> None:
    """What stands on the server before ours comes: driver and NPUs, image, model."""
    make_npus(host, npus, at_boot=True, libdcmi=libdcmi)
    make_npus(host, npus, libdcmi=libdcmi)
    add_engine_image(host)
    add_model(host)


@contextmanager
def supplied_host(
    flavour: Flavour, name: str, binds: Mapping[Path, str] = NO_BINDS
) -> Iterator[LabHost]:
    """A host with all that, and a repository that has the package; gone at the end."""
    with empty_host(flavour, name, binds) as host:
        supply(host)
        add_repository(host)
        yield host


@contextmanager
def empty_host(
    flavour: Flavour, name: str, binds: Mapping[Path, str] = NO_BINDS
) -> Iterator[LabHost]:
    """Booted, nothing else; gone at the end."""
    prepare_machine()
    # Not below /tmp: Podman's storage needs a real file system, and half a gigabyte of it.
    with (
        tempfile.TemporaryDirectory(prefix="deepseek-lab-", dir="/var/tmp") as folder,
        create_host(flavour, name, Path(folder), binds=binds) as host,
    ):
        yield host


def packages(flavour: Flavour, tree: Path = TREE, cached_as: str = "package") -> list[Path]:
    """The RPMs of a source tree for a flavour; built once for the same sources."""
    with tempfile.TemporaryDirectory(prefix="deepseek-sources-") as folder:
        sources = Path(folder) / "SOURCES"
        prepare_sources(tree, sources)
        digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in sources.iterdir()]
        recipe = [(tree / name).read_bytes() for name in RECIPE]
        built = ensure_built(
            f"{cached_as}-{flavour.value}",
            build_key(sorted(digests), recipe),
            lambda out: _build(flavour, tree, out, sources),
        )
    return sorted(built.glob("*.rpm"))


def _build(flavour: Flavour, tree: Path, out: Path, sources: Path) -> None:
    build_rpm(flavour, tree, out, sources_dir=sources)


def add_repository(host: LabHost) -> None:
    """A dnf repository inside the host, with the RPM of this tree for this flavour."""
    create_repository(host, packages(host.flavour))


def install(host: LabHost) -> Completed:
    """`dnf install`, and the settings that the lab needs."""
    host.write("/etc/deepseek-agent/models.d/8b.toml", SMALLER_NEEDS)
    host.write(OFFLINE_FILE, OFFLINE)
    return install_packages(host, "deepseek-agent")


def ask(host: LabHost, limit_s: float = 5) -> str | None:
    """The content of the answer to the tutorial's curl; None when there is none in time.

    (For some 50 ms of a container's start conmon holds the port before the forwarding is in place:
    a connection made then is accepted by the kernel and never answered.)
    """
    curl = f"exec {TUTORIAL_CURL} --silent --max-time {limit_s}"
    done = host.run(["sh", "-c", curl], timeout_s=limit_s + 10.0, check=False)
    if done.returncode != 0:
        return None
    try:
        message = json.loads(done.stdout)["choices"][0]["message"]
    except (ValueError, LookupError, TypeError):
        return None
    return str(message["content"])


def ask_until_answered(host: LabHost, limit_s: float = 60) -> float:
    """Seconds until the tutorial's curl was answered."""
    started = time.monotonic()
    while ask(host, limit_s=POLL_LIMIT_S) is None:
        if time.monotonic() - started > limit_s:
            raise LabError(f"no answer within {limit_s} s\n{describe(host)}")
        time.sleep(ANSWER_EVERY_S)
    return time.monotonic() - started


def start(host: LabHost, *verb: str, timeout_s: float = 120) -> Completed:
    """`systemctl enable --now`, or another verb."""
    return host.run(["systemctl", *(verb or ("start",)), FRONT], timeout_s=timeout_s, check=False)


def show(host: LabHost, unit: str, *properties: str) -> dict[str, str]:
    """Properties of a unit."""
    done = host.run(["systemctl", "show", unit, *(f"--property={name}" for name in properties)])
    pairs = (line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    return {name: value for name, value in pairs}  # noqa: C416 - the pairs are lists


def active_state(host: LabHost, unit: str) -> str:
    return show(host, unit, "ActiveState")["ActiveState"]


def wait_state(host: LabHost, unit: str, state: str, limit_s: float = 30) -> float:
    """Seconds until the unit is in that ActiveState."""
    started = time.monotonic()
    while (now := active_state(host, unit)) != state:
        if time.monotonic() - started > limit_s:
            raise LabError(f"{unit} is {now}, not {state}, after {limit_s} s\n{describe(host)}")
        time.sleep(ANSWER_EVERY_S)
    return time.monotonic() - started


def wait_status(host: LabHost, unit: str, text: str, limit_s: float = 15) -> None:
    """Until the unit's STATUS= contains `text`."""
    started = time.monotonic()
    while text not in (now := show(host, unit, "StatusText")["StatusText"]):
        if time.monotonic() - started > limit_s:
            raise LabError(f"{unit} says {now!r}, not {text!r}, after {limit_s} s")
        time.sleep(ANSWER_EVERY_S)


def wait_told(host: LabHost, text: str, *, told: bool = True, limit_s: float = 15) -> None:
    """Until `deepseekctl status` says so, or does not any more."""
    started = time.monotonic()
    while (text in host.run(["deepseekctl", "status"], check=False).stdout) is not told:
        if time.monotonic() - started > limit_s:
            raise LabError(f"{text!r} is told: {not told}, after {limit_s} s\n{describe(host)}")
        time.sleep(ANSWER_EVERY_S)


def image_id(host: LabHost) -> str:
    """Of the engine's image, in full."""
    inspect = ["podman", "image", "inspect", "--format={{.Id}}", ENGINE_IMAGE]
    return host.run(inspect).stdout.strip().removeprefix("sha256:")


def wait_serving(host: LabHost, other_than: str = "", limit_s: float = 30) -> None:
    """Until the agent itself says so of 8b, in another container than that one."""
    started = time.monotonic()
    while True:
        told = json.loads(host.run(["deepseekctl", "status", "--json"], check=False).stdout or "{}")
        phases = {one["name"]: one["phase"] for one in told.get("instances", [])}
        if phases.get("8b") == "serving" and container_started_at(host) != other_than:
            return
        if time.monotonic() - started > limit_s:
            raise LabError(f"8b is {phases.get('8b')} after {limit_s} s\n{describe(host)}")
        time.sleep(ANSWER_EVERY_S)


def container_started_at(host: LabHost) -> str:
    """Changes when the container was started anew; empty when there is none."""
    command = [
        "podman",
        "ps",
        "--all",
        "--format={{.ID}} {{.StartedAt}}",
        f"--filter=name={CONTAINER}",
    ]
    return host.run(command).stdout.strip()


def leftovers(host: LabHost) -> list[str]:
    """What may not be there when nothing is wished: containers, failed units, an open port."""
    containers = host.run(["podman", "ps", "--all", "--quiet"]).stdout.split()
    failed = host.run(
        ["systemctl", "list-units", "--failed", "--plain", "--no-legend", "deepseek*"]
    )
    listening = host.run(["ss", "-Hltn", "sport = :2023"]).stdout.splitlines()
    return [*containers, *failed.stdout.splitlines(), *listening]


def describe(host: LabHost) -> str:
    """For a failure's message."""
    script = "deepseekctl status; journalctl -b -n 40 --no-pager -u 'deepseek*'"
    done = host.run(["sh", "-c", script], check=False)
    return done.stdout + done.stderr


def set_engine(host: LabHost, **options: object) -> None:
    """Options of the engine double for its next starts (tests/fakes/engine/README.md)."""
    path = "/var/lib/deepseek/models/DeepSeek-R1-Distill-Llama-8B/vllm_double.json"
    text = json.dumps(options)
    host.run(["sh", "-c", f"printf %s {shlex.quote(text)} > {path}.new && mv {path}.new {path}"])


def pss_mib(host: LabHost, unit: str) -> float:
    """Proportional set size of a unit's main process, in MiB."""
    pid = show(host, unit, "MainPID")["MainPID"]
    for line in host.read(f"/proc/{pid}/smaps_rollup").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise LabError(f"cannot read the memory of {unit}")
