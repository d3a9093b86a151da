# SPDX-License-Identifier: MulanPSL-2.0
"""Plan -> Workload: the container in Podman's terms, the same for both renderers. Pure."""

from dataclasses import dataclass

from agent.config.values import Profile
from agent.model import HostFacts, container_name, engine_unit, front_unit
from agent.plan.plan import MANAGER_DEVICES, Plan

# vLLM's own default. Above 1023, so that no capability is needed to listen on it.
ENGINE_PORT = 8000

# The ladder of stop times, each longer than the one below it, so that an inner one ends first:
# podman --stop-timeout < TimeoutStopSec of the rendered unit < TimeoutStopSec of deepseek@.service
# (180 s, in units/). With them equal systemd kills podman in the middle of a stop and leaves a
# container that nobody can remove (containers/podman#19629).
STOP_TIMEOUT_S = 40
UNIT_STOP_TIMEOUT_S = 90
# Creating and starting the container; the model loads after that. A cold disk can be slow.
UNIT_START_TIMEOUT_S = 300


@dataclass(frozen=True, slots=True)
class Mount:
    """A bind mount, always read-only here."""

    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Workload:
    """One container and the unit around it."""

    unit: str
    front: str
    container: str
    description: str
    image_id: str
    command: tuple[str, ...]
    devices: tuple[str, ...]
    mounts: tuple[Mount, ...]
    environment: tuple[tuple[str, str], ...]
    publish: str  # HOST:PORT:PORT
    shm_size: str
    label_instance: str
    # With `container_init` the engine is not PID 1: the kernel drops a SIGTERM for PID 1 while it
    # has no handler, and vLLM imports for 10 s and more before it has one; a stop in that time took
    # the whole stop timeout (tried: 40 s). The init also reaps what the engine leaves behind.
    host: HostFacts


def build_workload(plan: Plan) -> Workload:
    """The container that serves `plan`."""
    profile = plan.profile
    return Workload(
        unit=engine_unit(plan.instance),
        front=front_unit(plan.instance),
        container=container_name(plan.instance),
        description=f"vLLM engine of deepseek@{plan.instance} ({profile.served_name})",
        image_id=plan.image_id,
        command=build_command(profile, plan.tensor_parallel_size),
        devices=(*(npu.device for npu in plan.npus), *MANAGER_DEVICES),
        mounts=(
            *(Mount(path, path) for path in plan.host.driver_paths),
            Mount(profile.model, model_target(profile)),
        ),
        environment=build_environment(profile),
        publish=f"{_bracketed(profile.listen)}:{profile.port}:{ENGINE_PORT}",
        shm_size=profile.shm_size,
        label_instance=plan.instance,
        host=plan.host,
    )


def model_target(profile: Profile) -> str:
    """Where the model is inside the container: a fixed folder, whatever the host's path is."""
    return "/models/" + profile.model.rstrip("/").rsplit("/", maxsplit=1)[-1]


def build_command(profile: Profile, tensor_parallel_size: int) -> tuple[str, ...]:
    """`vllm serve` with the profile's flags (step 6 of openEuler's guide)."""
    vllm = profile.vllm
    command = [
        "vllm",
        "serve",
        model_target(profile),
        f"--served-model-name={profile.served_name}",
        "--host=0.0.0.0",  # of the container's own network; `listen` decides who reaches it
        f"--port={ENGINE_PORT}",
        f"--max-model-len={vllm.max_model_len}",
        f"--tensor-parallel-size={tensor_parallel_size}",
        f"--gpu-memory-utilization={vllm.gpu_memory_utilization:g}",
        f"--dtype={vllm.dtype}",
    ]
    if vllm.enforce_eager:
        command.append("--enforce-eager")
    if vllm.trust_remote_code:
        command.append("--trust-remote-code")
    if vllm.reasoning_parser:
        command.append(f"--reasoning-parser={vllm.reasoning_parser}")
    return (*command, *vllm.extra_args)


def build_environment(profile: Profile) -> tuple[tuple[str, str], ...]:
    """Ours first, the profile's after it: what the operator says wins."""
    ours = {
        # Nothing is fetched at run time: the model is on the disk, whole.
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
    }
    return tuple(sorted({**ours, **profile.environment}.items()))


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
