# SPDX-License-Identifier: MulanPSL-2.0
"""Words of the tests about pruning: what is there, who uses it, and what has gone."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from . import product
from .faults import Told, wait_told
from .host import LabHost
from .images import ENGINE_IMAGE
from .models import MODEL_8B, MODELS_DIRECTORY
from .supply_scene import MODEL, REGISTRY, SETTINGS, SETTINGS_FILE

UNIT = "deepseek-prune.service"
DROP_IN = f"/etc/systemd/system/{UNIT}.d/lab.conf"
STORE, INCOMING = f"{MODELS_DIRECTORY}/.store", f"{MODELS_DIRECTORY}/.incoming"
REVISIONS = f"{STORE}/{MODEL_8B}"
EVIDENCE = "/var/lib/deepseek-agent/evidence"
BROUGHT = "/var/lib/deepseek-agent/images"
ALONE = SETTINGS.replace("keep_free_gib = 0", "keep_free_gib = 1")
BY_HAND = SETTINGS.replace("keep_free_gib = 0", "keep_free_gib = 0\nprune = false")


def configure(host: LabHost, settings: str) -> None:
    """In force with an agent that knows nothing of what was before."""
    host.write(SETTINGS_FILE, settings)
    host.run(["systemctl", "restart", "deepseek-agent.service"])


def prune(host: LabHost, *options: str) -> dict[str, Any]:
    """What has come of it."""
    done = host.run(["deepseekctl", "prune", "--json", *options], timeout_s=120)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def paths(report: dict[str, Any]) -> set[str]:
    """Of what has gone."""
    assert report["failures"] == [], report
    return {one["what"].removeprefix(f"{MODELS_DIRECTORY}/") for one in report["removed"]}


def names(report: dict[str, Any]) -> list[str]:
    assert report["failures"] == [], report
    return sorted(one["name"] for one in report["removed"])


def listed(host: LabHost, folder: str) -> set[str]:
    return set(host.run(["ls", "-A", folder]).stdout.split())


def linked(host: LabHost) -> str:
    """The revision in use."""
    return host.run(["readlink", MODEL]).stdout.strip().rpartition("/")[2]


def add_revision(host: LabHost, name: str, mib: int = 0) -> str:
    """Another one beside the one in use, whole, with so much more in it."""
    path = f"{REVISIONS}/{name}"
    host.run(["cp", "-a", f"{REVISIONS}/{linked(host)}", path])
    if mib:
        host.run(["fallocate", f"--length={mib}M", f"{path}/more"])
    return path


# In: how, a file of a model. The module has a handle of its own of what it maps.
USE = """
import mmap, os, sys, time
file = open(sys.argv[2])
if sys.argv[1] == "maps":
    mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    os.closerange(3, 99)
time.sleep(600)
"""
IS_USED = 'cd "/proc/$1" && { readlink fd/*; cat maps; } | grep --quiet "$2"'
MOUNTER = "lab-mounts"


@contextmanager
def users(host: LabHost) -> Iterator[None]:
    """Of a person: a container, and processes with other rights than the one that prunes."""
    mount = f"--volume={REVISIONS}/mounted:/model:ro"
    run = ["podman", "run", "--rm", f"--name={MOUNTER}", "--network=none", mount]
    sleep = ["--entrypoint=/usr/bin/sleep", ENGINE_IMAGE, "600"]
    host.run(["systemd-run", "--quiet", f"--unit={MOUNTER}", *run, *sleep])
    for how, user in (("opens", "nobody"), ("maps", "root")):
        start = ["systemd-run", "--quiet", f"--unit=lab-{how}", f"--uid={user}"]
        host.run([*start, "python3", "-c", USE, how, f"{REVISIONS}/{how}/config.json"])
    try:
        for how in ("opens", "maps"):
            pid = product.show(host, f"lab-{how}", "MainPID")["MainPID"]
            wait_done(host, "sh", "-c", IS_USED, "sh", pid, f"{REVISIONS}/{how}/config.json")
        wait_done(host, "podman", "exec", MOUNTER, "true")
        yield
    finally:
        host.run(["podman", "rm", "--force", "--time=0", MOUNTER], check=False)
        host.run(["systemctl", "stop", MOUNTER, "lab-opens", "lab-maps"], check=False)


def wait_done(host: LabHost, *argv: str) -> None:
    """Until the command succeeds."""
    deadline = time.monotonic() + 30
    while host.run(argv, check=False).returncode != 0:
        assert time.monotonic() < deadline, argv
        time.sleep(0.1)


PROFILE = f"""
served_name = "lab-NAME"
model = "{MODEL_8B}"
image = "quay.io/lab/NAME:1"
port = PORT
[needs]
cpu_cores = 1
ram_gib = 2
disk_gib = 1
[[sources]]
hub = "modelscope"
repo = "deepseek-ai/{MODEL_8B}"
revision = "master"
"""
BUILD = """
set -eu
rm -rf /var/tmp/lab-image
mkdir /var/tmp/lab-image
cd /var/tmp/lab-image
head -c 1M /dev/urandom > part
printf 'FROM scratch\\nCOPY part /part\\n' > Containerfile
podman build --quiet --timestamp=0 --tag "$1" .
rm -rf /var/tmp/lab-image
"""
# As if it had been brought two days ago.
AGE_NOTES = f"""
import json, pathlib
for path in pathlib.Path("{BROUGHT}").glob("*.json"):
    told = json.loads(path.read_text())
    path.write_text(json.dumps({{**told, "at": told["at"] - 2 * 86400}}))
"""


def build(host: LabHost, name: str) -> None:
    host.run(["sh", "-c", BUILD, "sh", name], timeout_s=120)


def bring(host: LabHost, *instances: str) -> None:
    """The images of profiles that are then gone again."""
    for port, name in enumerate(instances, start=2040):
        image = f"{REGISTRY}/quay/lab/{name}:1"
        build(host, image)
        host.run(["podman", "push", "--quiet", "--tls-verify=false", image], timeout_s=120)
        host.run(["podman", "rmi", image])
        text = PROFILE.replace("NAME", name).replace("PORT", str(port))
        host.write(f"/etc/deepseek-agent/models.d/{name}.toml", text)
    host.run(["systemctl", "reload", "deepseek-agent"])
    for name in instances:
        host.run(["deepseekctl", "pull", name], timeout_s=200)
        host.run(["rm", f"/etc/deepseek-agent/models.d/{name}.toml"])
    host.run(["systemctl", "restart", "deepseek-agent"])


def images(host: LabHost) -> set[str]:
    form = "--format={{.Repository}}:{{.Tag}}"
    return set(host.run(["podman", "images", form]).stdout.split())


def told_of_models(told: Told, kind: str, since: float) -> list[str]:
    """The machine's own disk may be too full, too."""
    return [one for one in told.events(kind, since) if one.startswith(MODELS_DIRECTORY)]


def wait_disk(host: LabHost, kind: str, since: float, limit_s: float = 30) -> None:
    """Until that is told of the disk with the models."""
    wait_told(host, kind, lambda told: bool(told_of_models(told, kind, since)), limit_s)


PROBE_FILE, PROBED = "/var/lib/lab-probe.py", "/var/lib/lab-probed"
PROBE = f"""
import json, os, socket
def refused(act, *arguments):
    try:
        act(*arguments)
    except OSError as error:
        return os.strerror(error.errno)
    return ""
touch = lambda path: open(path, "w").close()
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
os.chmod(__file__, 0o644)
told = {{
    "rights": int(status["CapEff"], 16), "bound": int(status["CapBnd"], 16),
    "no_new": status["NoNewPrivs"].strip(), "filter": status["Seccomp"].strip(),
    "net": os.readlink("/proc/self/ns/net") != os.readlink("/proc/1/ns/net"),
    "write": [refused(touch, f"{{one}}/lab") for one in ("/usr", "/etc", "/root", "/var/lib")],
    "internet": refused(socket.socket, socket.AF_INET),
    "setuid": refused(os.chmod, __file__, 0o4755),
}}
json.dump(told, open("{PROBED}", "w"))
"""


@contextmanager
def changed_unit(host: LabHost, line: str) -> Iterator[None]:
    host.write(DROP_IN, f"[Service]\n{line}\n")
    host.run(["systemctl", "daemon-reload"])
    try:
        yield
    finally:
        host.run(["rm", DROP_IN])
        host.run(["systemctl", "daemon-reload"])
