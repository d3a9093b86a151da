# SPDX-License-Identifier: MulanPSL-2.0
"""Image registries on a lab host's loopback: Debian's docker-registry, plain, with TLS that nobody
trusts, with a password; and addresses where nothing good is. All of them have the same images.
"""

import json
import re
from dataclasses import dataclass
from enum import Enum

from .host import LabHost
from .process import LabError

FOLDER = "/srv/lab-registry"
CA = f"{FOLDER}/cert.pem"
OTHER_CA = f"{FOLDER}/other.pem"
AUTH_FILE = f"{FOLDER}/auth.json"
WRONG_AUTH_FILE = f"{FOLDER}/wrong-auth.json"
IMAGE = "lab/small:1"
NAME = f"quay.io/{IMAGE}"
SMALL_LAYERS, SMALL_MB, LARGE_MB = 3, 1, 16
# "secret", bcrypt with 2**5 rounds: the only kind that docker-registry takes.
HTPASSWD = "user:$2b$05$aaaaaaaaaaaaaaaaaaaaaOjOHCcGZ1ZydhnG2lX11qSmiRJbsbsA.\n"
CONFIG = """version: 0.1
log: {{level: info}}
storage: {{filesystem: {{rootdirectory: {folder}/data}}}}
http:
  addr: 127.0.0.1:{port}
{more}
"""
TLS = f"  tls: {{certificate: {CA}, key: {FOLDER}/key.pem}}"
AUTH = f"{TLS}\nauth: {{htpasswd: {{realm: lab, path: {FOLDER}/htpasswd}}}}"
CERTIFICATES = f"""
set -eu
cd {FOLDER}
for name in cert:key other:other-key; do
    openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=localhost \\
        -addext subjectAltName=DNS:localhost -out ${{name%:*}}.pem -keyout ${{name#*:}}.pem
done
"""
BUILD = f"""
set -eu
mkdir {FOLDER}/image
cd {FOLDER}/image
echo FROM scratch > Containerfile
for number in $(seq {SMALL_LAYERS}); do
    head -c {SMALL_MB}M /dev/urandom > part$number
    echo COPY part$number /part$number >> Containerfile
done
head -c {LARGE_MB}M /dev/urandom > large
echo COPY large /large >> Containerfile
podman build --quiet --layers --tag "$1" .
"""
# Passes on some megabytes at that speed, is gone in the middle of the next, and does not come back.
CUTTER = """
import os, socket, sys, threading, time
port, to, limit, rate = map(int, sys.argv[1:])
passed = 0
def pump(source, target, counted):
    global passed
    while data := source.recv(65536):
        target.sendall(data)
        if counted:
            passed += len(data)
            if passed > limit:
                os._exit(0)
            time.sleep(len(data) / rate)
    target.close()
listener = socket.create_server(("127.0.0.1", port))
while True:
    client, _ = listener.accept()
    server = socket.create_connection(("127.0.0.1", to))
    threading.Thread(target=pump, args=(client, server, False), daemon=True).start()
    threading.Thread(target=pump, args=(server, client, True), daemon=True).start()
"""
BROKEN = """
import http.server
class Broken(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(503)
http.server.HTTPServer(("127.0.0.1", {port}), Broken).serve_forever()
"""


class Registry(Enum):
    """Name -> port."""

    PLAIN = 5000
    TLS = 5001
    AUTH = 5002
    BROKEN = 5003  # 503 to everything
    ABSENT = 5004  # nobody listens
    CUT = 5005  # see cut()

    @property
    def unit(self) -> str:
        return f"lab-registry-{self.name.lower()}.service"

    def reference(self, image: str = IMAGE) -> str:
        return f"localhost:{self.value}/{image}"


@dataclass(frozen=True, slots=True)
class Pushed:
    """An image as the registries have it."""

    image_id: str
    digest: str  # of the manifest
    layers: tuple[str, ...]  # digests, the large one last


def start_registries(host: LabHost) -> Pushed:
    """All of them run, and have IMAGE; Podman's storage does not."""
    host.run(["mkdir", "-p", FOLDER])
    host.run(["sh", "-c", CERTIFICATES])
    host.write(f"{FOLDER}/htpasswd", HTPASSWD)
    for path, password in ((AUTH_FILE, "c2VjcmV0"), (WRONG_AUTH_FILE, "d3Jvbmc=")):
        host.run(["sh", "-c", WRITE_AUTH, "sh", path, password])
    for registry, more in ((Registry.PLAIN, ""), (Registry.TLS, TLS), (Registry.AUTH, AUTH)):
        config = f"{FOLDER}/{registry.name}.yml"
        host.write(config, CONFIG.format(folder=FOLDER, port=registry.value, more=more))
        start_unit(host, registry, "docker-registry", "serve", config)
    broken = BROKEN.format(port=Registry.BROKEN.value)
    start_unit(host, Registry.BROKEN, "/usr/bin/python3", "-c", broken)
    return push(host)


WRITE_AUTH = """
auth=$(printf 'user:%s' "$(printf %s "$2" | base64 -d)" | base64 -w0)
printf '{"auths": {"localhost:5002": {"auth": "%s"}}}' "$auth" > "$1"
chmod 600 "$1"
"""


def start_unit(host: LabHost, registry: Registry, *command: str) -> None:
    """Returns when it listens."""
    host.run(["systemd-run", "--quiet", "--collect", f"--unit={registry.unit}", *command])
    listening = f"until ss -Hltn 'sport = :{registry.value}' | grep -q .; do sleep 0.05; done"
    host.run(["timeout", "30", "sh", "-c", listening])


def push(host: LabHost, image: str = IMAGE) -> Pushed:
    """An image of random layers, the large one last."""
    reference = Registry.PLAIN.reference(image)
    built = host.run(["sh", "-c", BUILD, "sh", reference], timeout_s=120).stdout
    host.run(["podman", "push", "--quiet", "--tls-verify=false", reference], timeout_s=120)
    host.run(["rm", "-r", f"{FOLDER}/image"])
    remove_images(host)
    address = f"http://localhost:{Registry.PLAIN.value}/v2/{image.replace(':', '/manifests/')}"
    accept = "Accept: application/vnd.oci.image.manifest.v1+json"
    answer = host.run(["curl", "-sS", "--fail", "-i", "-H", accept, address]).stdout
    head, _, body = answer.replace("\r", "").partition("\n\n")
    digest = re.search(r"(?i)^docker-content-digest: (\S+)$", head, re.MULTILINE)
    if digest is None:
        raise LabError(f"cannot find {image} in the registry: {answer}")
    layers = tuple(str(layer["digest"]) for layer in json.loads(body)["layers"])
    return Pushed(built.split()[-1], digest[1], layers)


def remove_images(host: LabHost) -> None:
    """Everything of ours that Podman has, by all of its names."""
    listed = host.run(["podman", "images", "--all", "--no-trunc", "--format", LISTED]).stdout
    rows = [line.split() for line in listed.splitlines()]
    ours = {image for name, image in rows if "/lab/" in name or name.startswith("<none>")}
    if ours:
        host.run(["podman", "rmi", "--force", *sorted(ours)], check=False)
    host.run(["podman", "image", "prune", "--force"])


LISTED = "{{.Repository}}:{{.Tag}} {{.Id}}"


def count_fetched(host: LabHost, layer: str) -> int:
    """How often the plain registry was asked for it, since it has been started."""
    host.run(["journalctl", "--sync"])
    said = host.run(["journalctl", "--output=cat", f"--unit={Registry.PLAIN.unit}"]).stdout
    wanted = re.compile(rf"response completed.*method=GET.*/blobs/{layer}")
    return sum(bool(wanted.search(line)) for line in said.splitlines())


def cut(host: LabHost, after_mb: int, mb_per_s: int) -> None:
    """Starts Registry.CUT: the plain one, which is gone after so many megabytes."""
    limits = (str(after_mb << 20), str(mb_per_s << 20))
    ports = (str(Registry.CUT.value), str(Registry.PLAIN.value))
    start_unit(host, Registry.CUT, "/usr/bin/python3", "-c", CUTTER, *ports, *limits)
