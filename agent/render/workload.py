# SPDX-License-Identifier: MulanPSL-2.0
"""Plan -> Workload: the container in Podman's terms, the same for both renderers. Pure."""

from dataclasses import dataclass

from agent.config.values import MAX_DRAIN_S, Profile
from agent.facts import HostFacts
from agent.model import ProductLine, container_name, engine_unit, front_unit
from agent.plan.needs import MANAGER_DEVICES
from agent.plan.plan import Plan

# vLLM's own default. Above 1023, so that no capability is needed to listen on it.
ENGINE_PORT = 8000

# The ladder of stop times, each longer than the one below it, so that an inner one ends first:
# podman --stop-timeout < TimeoutStopSec of the rendered unit < TimeoutStopSec of deepseek@.service
# (in units/). With them equal systemd kills podman in the middle of a stop and leaves a container
# that nobody can remove (containers/podman#19629).
#
# A stop goes through drain (it ends itself after drain_s), Podman's ExecStop= and ExecStopPost=.
# TimeoutStopSec= counts anew for each of them (systemd.service(5)), so it must be longer than
# drain_s, and is used up at most twice: 120 + 135 + 135 s, when Podman hangs both times.
STOP_TIMEOUT_S = 40
UNIT_STOP_TIMEOUT_S = 90
DRAIN_MARGIN_S = 15  # above drain_s: a look at the engine that hangs (2 s), programs that start
# Creating and starting the container; the model loads after that. A cold disk can be slow.
UNIT_START_TIMEOUT_S = 300


# Read by podman as root, gone with the boot; the folder is root's alone (units/tmpfiles.d).
KEY_FOLDER = "/run/deepseek-agent/env"
# With a root that cannot be written, Podman puts file systems in memory on /tmp, /var/tmp and /run.
# What vLLM, torch, triton and CANN keep (compiled code, logs) goes below HOME or into the working
# directory, which an image sets to places of its own.
WRITABLE = "/tmp"  # noqa: S108 - inside the container
KEY_VARIABLE = "VLLM_API_KEY"  # vllm/envs.py; unlike --api-key it is in no command line and no log
CERTIFICATE_FOLDER = "/run/deepseek-agent/tls"
# Where the container sees the operator's certificate and its key.
TLS_CERTIFICATE = "/run/deepseek/tls/certificate.pem"
TLS_KEY = "/run/deepseek/tls/key.pem"

# Images for 310P have an entry point of their own, and set CANN's paths only in files that a login
# shell reads (vllm-ascend's Dockerfile.310p.openEuler, 0.18 to 0.27). Files that an image lacks are
# passed over.
DUO_SHELL = (
    "bash",
    "-c",
    "for file in /root/.bashrc /usr/local/Ascend/ascend-toolkit/set_env.sh "
    '/usr/local/Ascend/nnal/atb/set_env.sh; do if [ -r "$file" ]; then . "$file"; fi; done; '
    'exec "$@"',
    "vllm",  # $0
)


@dataclass(frozen=True, slots=True)
class Mount:
    """A bind mount."""

    source: str
    target: str
    read_only: bool = True

    @property
    def text(self) -> str:
        """As Podman's --volume takes it. No colon in the paths: the configuration refuses them.

        The mode is always written: quadlet's generator takes blanks at the end of a line off, and
        a backslash there joins the next line (seen with 5.4.2); either may be the target's end.
        """
        return f"{self.source}:{self.target}:{'ro' if self.read_only else 'rw'}"


@dataclass(frozen=True, slots=True)
class Workload:
    """One container and the unit around it."""

    unit: str
    front: str
    container: str
    description: str
    image: str
    command: tuple[str, ...]
    devices: tuple[str, ...]
    mounts: tuple[Mount, ...]
    environment: tuple[tuple[str, str], ...]
    environment_file: str  # empty: none
    publish: str  # HOST:PORT:PORT
    shm_size: str
    label_instance: str
    drain_s: int
    tls: bool
    read_only_root: bool
    host_paths: tuple[str, ...]  # the operator's: they may be on file systems of their own
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
        image=plan.image,
        command=build_command(plan),
        devices=(*(npu.device for npu in plan.npus), *MANAGER_DEVICES),
        mounts=build_mounts(plan),
        environment=build_environment(profile),
        environment_file=key_file(plan.instance) if profile.api_key_file else "",
        publish=f"{bracketed(profile.listen)}:{profile.port}:{ENGINE_PORT}",
        shm_size=profile.shm_size,
        label_instance=plan.instance,
        drain_s=profile.drain_s,
        tls=bool(profile.tls_certificate),
        read_only_root=profile.read_only_root,
        host_paths=tuple(mount.source for mount in build_operator_mounts(plan)),
        host=plan.host,
    )


def unit_stop_timeout_s(drain_s: int) -> int:
    """TimeoutStopSec= of the rendered unit."""
    return max(UNIT_STOP_TIMEOUT_S, drain_s + DRAIN_MARGIN_S)


# The whole of a stop, at the longest.
STOP_LIMIT_S = MAX_DRAIN_S + 2 * unit_stop_timeout_s(MAX_DRAIN_S)


def model_target(profile: Profile) -> str:
    """Where the model is inside the container: a fixed folder, whatever the host's path is."""
    return "/models/" + profile.model.rstrip("/").rsplit("/", maxsplit=1)[-1]


def key_file(instance: str) -> str:
    """The env file that carries the API key to the engine."""
    return f"{KEY_FOLDER}/{instance}.env"


def certificate_copy(instance: str) -> str:
    """The certificate as the engine was started with it: it does not notice a renewed one."""
    return f"{CERTIFICATE_FOLDER}/{instance}.pem"


def key_text(key: str) -> str:
    """What stands in it."""
    return f"{KEY_VARIABLE}={key}\n"


def parse_key(text: str) -> str:
    """The key of an env file; empty when it has none."""
    name, _, key = text.strip().partition("=")
    return key if name == KEY_VARIABLE else ""


def build_mounts(plan: Plan) -> tuple[Mount, ...]:
    """The driver's files, and what the operator names."""
    driver = (Mount(path, path) for path in plan.driver_paths)
    return (*driver, *build_operator_mounts(plan))


def build_operator_mounts(plan: Plan) -> tuple[Mount, ...]:
    """The model, the certificate with its key, and what is wanted beside them."""
    profile = plan.profile
    tls = (Mount(profile.tls_certificate, TLS_CERTIFICATE), Mount(profile.tls_key, TLS_KEY))
    return (
        Mount(plan.model_folder, model_target(profile)),
        *(tls if profile.tls_certificate else ()),
        *(Mount(one.source, one.target, one.read_only) for one in profile.mounts),
    )


def build_command(plan: Plan) -> tuple[str, ...]:
    """`vllm serve` with the profile's flags (step 6 of openEuler's guide)."""
    profile, vllm = plan.profile, plan.profile.vllm
    command = [
        *(DUO_SHELL if plan.line is ProductLine.DUO else ()),
        "vllm",
        "serve",
        model_target(profile),
        f"--served-model-name={profile.served_name}",
        "--host=0.0.0.0",  # of the container's own network; `listen` decides who reaches it
        f"--port={ENGINE_PORT}",
        f"--max-model-len={vllm.max_model_len}",
        f"--tensor-parallel-size={plan.tensor_parallel_size}",
        f"--gpu-memory-utilization={vllm.gpu_memory_utilization!r}",
        f"--dtype={vllm.dtype}",
    ]
    if vllm.enforce_eager:
        command.append("--enforce-eager")
    if vllm.trust_remote_code:
        command.append("--trust-remote-code")
    if vllm.reasoning_parser:
        command.append(f"--reasoning-parser={vllm.reasoning_parser}")
    if profile.tls_certificate:
        command += [f"--ssl-certfile={TLS_CERTIFICATE}", f"--ssl-keyfile={TLS_KEY}"]
    return (*command, *vllm.extra_args)


def build_environment(profile: Profile) -> tuple[tuple[str, str], ...]:
    """Ours first, the profile's after it: what the operator says wins."""
    ours = {
        # Nothing is fetched at run time: the model is on the disk, whole.
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        **({"HOME": WRITABLE} if profile.read_only_root else {}),
    }
    return tuple(sorted({**ours, **profile.environment}.items()))


def bracketed(address: str) -> str:
    """An address as it stands before ":PORT"."""
    return f"[{address}]" if ":" in address else address
