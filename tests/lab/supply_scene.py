# SPDX-License-Identifier: MulanPSL-2.0
"""A bare host: NPUs and our package, no image and no model. Both are within its reach, on loopback:
a registry that mirrors quay.io, and a hub.
"""

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager

from . import product
from .host import LabHost
from .hub import ADDRESS, add_hub
from .images import ENGINE_IMAGE, add_engine_image
from .models import MODEL_8B, MODELS_DIRECTORY
from .npus import make_npus
from .rootfs import Flavour

REGISTRY = "127.0.0.1:5000"
REGISTRY_UNIT = "lab-registry.service"
MIRRORED = ENGINE_IMAGE.replace("quay.io", f"{REGISTRY}/quay")
OTHER = "/srv/other-architecture"
CONFIG = "/etc/lab-registry.yml"
CONFIG_TEXT = f"""version: 0.1
storage: {{filesystem: {{rootdirectory: /srv/registry}}, delete: {{enabled: true}}}}
http: {{addr: "{REGISTRY}"}}
"""
SETTINGS = f"""
[supply]
fetch = true
keep_free_gib = 0
[supply.modelscope]
endpoints = ["{ADDRESS}"]
[supply.huggingface]
endpoints = ["{ADDRESS}"]
[registries."quay.io"]
mirrors = ["{REGISTRY}/quay"]
[registries."{REGISTRY}"]
tls_verify = false
"""
SETTINGS_FILE = "/etc/deepseek-agent/agent.toml.d/lab-supply.toml"
MODEL = f"{MODELS_DIRECTORY}/{MODEL_8B}"


@contextmanager
def bare_host(flavour: Flavour, name: str, weights_mib: int = 0) -> Iterator[LabHost]:
    """Installed, nothing started."""
    with product.empty_host(flavour, name) as host:
        make_npus(host, 8, at_boot=True)
        make_npus(host, 8)
        product.add_repository(host)
        add_registry(host)
        add_hub(host, weights_mib)
        product.install(host)
        host.write(SETTINGS_FILE, SETTINGS)
        yield host


def add_registry(host: LabHost) -> None:
    """With the engine's image, which the host itself then has not."""
    host.write(CONFIG, CONFIG_TEXT)
    start_registry(host)
    add_engine_image(host)
    push = ["podman", "push", "--quiet", "--tls-verify=false", ENGINE_IMAGE, f"docker://{MIRRORED}"]
    host.run(push, timeout_s=300)
    forget_images(host)


def push_list(host: LabHost) -> None:
    """In the registry the engine's name then means a list: this machine's, and one for the other
    architecture, which only carries that name."""
    other = "arm64" if os.uname().machine == "x86_64" else "amd64"
    host.write(f"{OTHER}/Containerfile", "FROM scratch\nCOPY Containerfile /\n")
    build = ["podman", "build", "--quiet", f"--arch={other}", "--tag=localhost/other:1", OTHER]
    host.run(build, timeout_s=60)
    host.run(["podman", "manifest", "create", "lab-list"])
    for image in (ENGINE_IMAGE, "localhost/other:1"):
        host.run(["podman", "manifest", "add", "lab-list", f"containers-storage:{image}"])
    push = ["podman", "manifest", "push", "--all", "--tls-verify=false", "lab-list"]
    host.run([*push, f"docker://{MIRRORED}"], timeout_s=120)
    host.run(["podman", "manifest", "rm", "lab-list"])
    host.run(["podman", "rmi", "localhost/other:1"])


def start_registry(host: LabHost) -> None:
    serve = ("docker-registry", "serve", CONFIG)
    host.run(["systemd-run", f"--unit={REGISTRY_UNIT}", "--collect", *serve])
    probe = f"curl -sS -o /dev/null --retry 30 --retry-delay 1 --retry-all-errors {REGISTRY}/v2/"
    host.run(["sh", "-c", probe], timeout_s=60)


@contextmanager
def registry_away(host: LabHost) -> Iterator[None]:
    """Nobody listens there."""
    host.run(["systemctl", "stop", REGISTRY_UNIT])
    try:
        yield
    finally:
        start_registry(host)


def forget_images(host: LabHost) -> None:
    host.run(["podman", "rmi", "--all", "--force"], timeout_s=120)


def forget_model(host: LabHost) -> None:
    gone = " ".join(shlex.quote(f"{MODELS_DIRECTORY}/{one}") for one in (MODEL_8B, ".store"))
    host.run(["sh", "-c", f"rm -rf {gone} {MODELS_DIRECTORY}/.incoming"])
