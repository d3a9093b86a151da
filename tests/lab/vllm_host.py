# SPDX-License-Identifier: MulanPSL-2.0
"""A lab host whose engine is a real vLLM: its environment, an image to run it in, a tiny model, and
the profile `tiny`, so that `systemctl start deepseek@tiny` does all else.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from . import product
from .host import LabHost
from .images import CONTEXT
from .models import MODELS_DIRECTORY
from .rootfs import BASE_IMAGE, Flavour
from .vllm_env import (
    LIBRARIES,
    PLACE,
    SITE,
    ensure_environment,
    ensure_model,
    locked_version,
)

NAME = "tiny"
SERVED = "deepseek-r1:tiny"
PORT = 2099
MAX_MODEL_LEN = 4096
# A start takes half a minute where two cores have nothing else to do, and three when they have.
START_LIMIT_S = 300
CONTAINERFILE = f"""
FROM {BASE_IMAGE}
COPY vllm /usr/local/bin/vllm
ENV PYTHONPATH={SITE} LD_LIBRARY_PATH={LIBRARIES}
"""
# What pip writes for it, with the image's own Python.
COMMAND = """\
#!/usr/bin/python3
import sys
from vllm.entrypoints.cli.main import main
if __name__ == "__main__":
    sys.argv[0] = "vllm"
    sys.exit(main())
"""
PROFILE = f"""\
served_name = "{SERVED}"
model = "{NAME}"
image = "{{image}}"
port = {PORT}
mounts = [{{{{ source = "{PLACE}", target = "{PLACE}" }}}}]

[environment]
VLLM_CPU_KVCACHE_SPACE = "1"

[needs]
npu_memory_gib = 1
cpu_cores = 1
ram_gib = 2
disk_gib = 1

[vllm]
dtype = "float32"
max_model_len = {MAX_MODEL_LEN}
extra_args = {{extra}}
"""


def image_name() -> str:
    return f"localhost/vllm-cpu:{locked_version()}"


def binds() -> Mapping[Path, str]:
    """Raises VllmNotHad."""
    return {ensure_environment(): PLACE}


def add_vllm(host: LabHost) -> None:
    """Image and model, on a host that was created with `binds`."""
    host.copy_in(ensure_model(), f"{MODELS_DIRECTORY}/{NAME}")
    host.write(f"{CONTEXT}/Containerfile", CONTAINERFILE)
    host.write(f"{CONTEXT}/vllm", COMMAND, mode=0o755)
    build = ["podman", "build", "--quiet", "--pull=never", "--network=none"]
    host.run([*build, f"--tag={image_name()}", CONTEXT], timeout_s=120)
    host.run(["rm", "-rf", CONTEXT])


def write_profile(host: LabHost, *extra_args: str) -> None:
    text = PROFILE.format(image=image_name(), extra=list(extra_args))
    host.write(f"/etc/deepseek-agent/models.d/{NAME}.toml", text)


@contextmanager
def vllm_host(flavour: Flavour, name: str) -> Iterator[LabHost]:
    """With deepseek-agent installed, and nothing started. Raises VllmNotHad."""
    with product.supplied_host(flavour, name, binds()) as host:
        add_vllm(host)
        product.install(host)
        write_profile(host)
        yield host
