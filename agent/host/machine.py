# SPDX-License-Identifier: MulanPSL-2.0
"""Facts of the machine: `ports.Machine` from /proc, /sys and the model's directory. Read-only."""

import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec

from agent.model import HostFacts, ModelFacts

# containers.conf(5), helper_binaries_dir: where Podman looks for catatonit by default.
HELPER_FOLDERS = (
    "/usr/local/libexec/podman",
    "/usr/local/lib/podman",
    "/usr/libexec/podman",
    "/usr/lib/podman",
)


class _ModelConfig(msgspec.Struct):
    """The part of a Hugging Face config.json that planning needs."""

    num_attention_heads: Annotated[int, msgspec.Meta(gt=0)]


class LocalMachine:
    """This host."""

    def facts(self, podman_version: tuple[int, int, int], driver_paths: Sequence[str]) -> HostFacts:
        return HostFacts(
            cgroup_version=cgroup_version(),
            podman_version=podman_version,
            cpu_cores=os.cpu_count() or 1,
            ram_mib=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20,
            architecture=platform.machine(),
            driver_paths=tuple(path for path in driver_paths if Path(path).exists()),
            container_init=any(Path(folder, "catatonit").exists() for folder in HELPER_FOLDERS),
        )

    def model(self, directory: str) -> ModelFacts:
        """Heads from config.json, and whether there are weights beside it."""
        folder = Path(directory)
        try:
            names = os.listdir(folder)
            config = msgspec.json.decode((folder / "config.json").read_bytes(), type=_ModelConfig)
        except OSError as error:
            if not os.path.isdir(folder):  # False also where nothing may be looked at
                return ModelFacts(directory, 0, "there is no such directory", present=False)
            what = Path(str(error.filename)).name
            return ModelFacts(directory, 0, f"cannot read {what}: {error.strerror}")
        except msgspec.MsgspecError as error:
            return ModelFacts(directory, 0, f"config.json is damaged: {error}")
        if not any(name.endswith((".safetensors", ".bin")) for name in names):
            return ModelFacts(directory, 0, "there are no weights (*.safetensors)")
        return ModelFacts(directory, config.num_attention_heads)


def cgroup_version(root: Path = Path("/sys/fs/cgroup")) -> int:
    """2 when the unified hierarchy is mounted there, else 1 (also for systemd's hybrid mode,
    in which Podman uses the v1 controllers)."""
    return 2 if (root / "cgroup.controllers").exists() else 1
