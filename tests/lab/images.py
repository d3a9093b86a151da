# SPDX-License-Identifier: MulanPSL-2.0
"""The image of the engine: the base image that every lab host has, plus a double of vLLM."""

from pathlib import Path

from .host import LabHost
from .process import LabError
from .rootfs import BASE_IMAGE

ENGINE_IMAGE = "quay.io/ascend/vllm-ascend:v0.18.0-openeuler"
KEPT_IMAGE = "localhost/kept:latest"
# For `add_changed_image`: one whose engine ends at once.
ENDS_AT_ONCE = 'ENTRYPOINT ["/bin/false"]'
FAKES = Path(__file__).resolve().parent.parent / "fakes"
ENGINE = FAKES / "engine"
# Serves nothing, and tells what reached it.
ECHO_ENGINE = FAKES / "echo_engine"
# Serves, and speaks HTTP as it is told to.
HOSTILE_ENGINE = FAKES / "hostile_engine"
CONTEXT = "/var/tmp/engine-image"
# What an engine may consist of, and where it goes.
PLACES = {"vllm": "/usr/local/bin/vllm", "vllm_double": "/usr/local/lib/vllm_double"}


def add_engine_image(host: LabHost, name: str = ENGINE_IMAGE, engine: Path = ENGINE) -> str:
    """Builds the image inside the host, offline; returns its id."""
    if not (engine / "vllm").exists():
        raise LabError(f"cannot build {name}: no engine double in {engine}")
    parts = [part for part in PLACES if (engine / part).exists()]
    for part in parts:
        host.copy_in(engine / part, f"{CONTEXT}/{part}")
    copies = [f"COPY {part} {PLACES[part]}\n" for part in parts]
    host.write(f"{CONTEXT}/Containerfile", f"FROM {BASE_IMAGE}\n{''.join(copies)}")
    build = ["podman", "build", "--quiet", "--pull=never", "--network=none", f"--tag={name}"]
    done = host.run([*build, CONTEXT], timeout_s=120)
    host.run(["rm", "-rf", CONTEXT])
    return done.stdout.split()[-1]


def add_changed_image(host: LabHost, name: str, change: str) -> None:
    """The engine's image with one line of a Containerfile more."""
    made = host.run(["podman", "create", ENGINE_IMAGE, "true"]).stdout.strip()
    commit = ["podman", "commit", "--quiet", "--change", change, made, name]
    host.run(commit, timeout_s=120)
    host.run(["podman", "rm", made])


def untag_engine_image(host: LabHost) -> None:
    """Not found any more, and what runs of it runs on; see tag_engine_image."""
    host.run(["podman", "tag", ENGINE_IMAGE, KEPT_IMAGE])
    host.run(["podman", "untag", ENGINE_IMAGE, ENGINE_IMAGE])


def tag_engine_image(host: LabHost) -> None:
    host.run(["podman", "tag", KEPT_IMAGE, ENGINE_IMAGE])
    host.run(["podman", "untag", KEPT_IMAGE, KEPT_IMAGE])


def remove_image(host: LabHost, name: str = ENGINE_IMAGE) -> None:
    """With all its names, by its id; what runs of it ends."""
    inspect = ["podman", "image", "inspect", "--format", "{{.Id}}", name]
    host.run(["podman", "rmi", "--force", host.run(inspect).stdout.strip()])
