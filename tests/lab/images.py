# SPDX-License-Identifier: MulanPSL-2.0
"""The image of the engine: the base image that every lab host has, plus the double of vLLM."""

from pathlib import Path

from .host import LabHost
from .process import LabError
from .rootfs import BASE_IMAGE

ENGINE_IMAGE = "quay.io/ascend/vllm-ascend:v0.18.0-openeuler"
ENGINE = Path(__file__).resolve().parent.parent / "fakes/engine"
CONTEXT = "/var/tmp/engine-image"
CONTAINERFILE = f"""FROM {BASE_IMAGE}
COPY vllm /usr/local/bin/vllm
COPY vllm_double /usr/local/lib/vllm_double
"""


def add_engine_image(host: LabHost, name: str = ENGINE_IMAGE, engine: Path = ENGINE) -> str:
    """Builds the image inside the host, offline; returns its id."""
    if not (engine / "vllm").exists():
        raise LabError(f"cannot build {name}: no engine double in {engine}")
    host.copy_in(engine / "vllm", f"{CONTEXT}/vllm")
    host.copy_in(engine / "vllm_double", f"{CONTEXT}/vllm_double")
    host.write(f"{CONTEXT}/Containerfile", CONTAINERFILE)
    build = ["podman", "build", "--quiet", "--pull=never", "--network=none", f"--tag={name}"]
    done = host.run([*build, CONTEXT], timeout_s=120)
    host.run(["rm", "-rf", CONTEXT])
    return done.stdout.split()[-1]


def remove_image(host: LabHost, name: str = ENGINE_IMAGE) -> None:
    host.run(["podman", "rmi", "--force", name])
