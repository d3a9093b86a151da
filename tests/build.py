# SPDX-License-Identifier: MulanPSL-2.0
"""Values for tests: a healthy host with 8 NPUs and the shipped 8b profile; changes are named."""

from collections.abc import Iterable
from dataclasses import replace
from hashlib import sha256
from typing import Any

from agent.config.faults import NO_FAULTS
from agent.config.values import (
    Config,
    HubSettings,
    Images,
    Limits,
    Mode,
    ModelRepo,
    Needs,
    NpuSettings,
    Profile,
    RendererChoice,
    ResetScope,
    SubHealth,
    SupplySettings,
    VllmOptions,
)
from agent.control.npu_views import build_npu_views
from agent.errors import Failure
from agent.facts import ContainerFacts, Facts, HostFacts, ImageFacts, ModelFacts, PodmanSurvey
from agent.model import (
    DriverState,
    Inventory,
    Npu,
    NpuHealth,
    Phase,
    ProductLine,
    UnitActive,
    UnitStatus,
)
from agent.plan.needs import MANAGER_DEVICES
from agent.plan.plan import DRIVER_PATHS, Plan, build_plan
from agent.policy.npu.state import Fleet, NpuState, Rules
from agent.status.snapshot import InstanceView, Snapshot
from agent.supplies import Hub

IMAGE_ID = "0123456789abcdef" * 4
NPU_MEMORY_MIB = 65536  # 910B3
HEADS = 32  # DeepSeek-R1-Distill-Llama-8B
IMAGE = "quay.io/ascend/vllm-ascend:v0.18.0"
REPO = "deepseek-ai/DeepSeek-R1-Distill-Llama-8B"
SOURCES = (
    ModelRepo(Hub.MODELSCOPE, REPO, "master"),
    ModelRepo(Hub.HUGGINGFACE, REPO, "main"),
)
_HUB = HubSettings(("https://hub.example",), "", "", True)
SUPPLY = SupplySettings(True, 4, 20, _HUB, _HUB, ())
IMAGES = Images(f"{IMAGE}-openeuler", f"{IMAGE}-a3-openeuler", f"{IMAGE}-310p-openeuler")

LIMITS = Limits(
    backoff_first_s=1.0,
    backoff_max_s=300.0,
    healthy_reset_s=600.0,
    start_wait_s=1800.0,
    recheck_held_s=300.0,
)
NPU_SETTINGS = NpuSettings(
    sub_health=SubHealth.SHOW,
    reset=ResetScope.CARD,
    release_after_s=604_800.0,
    restart_after_s=60.0,
    flap_raise_s=20.0,
    flap_clear_s=60.0,
    breaker_window_s=300.0,
)


def build_config(*profiles: Profile, **changes: Any) -> Config:
    config = Config(
        mode=Mode.ACT,
        renderer=RendererChoice.AUTO,
        limits=LIMITS,
        profiles=profiles,
        broken=(),
        npu=NPU_SETTINGS,
        faults=NO_FAULTS,
    )
    return replace(config, **changes)


def build_profile(**changes: Any) -> Profile:
    """As etc/models.d/8b.toml says; `vllm` and `needs` take dictionaries of changes."""
    vllm = VllmOptions(
        max_model_len=4096,
        gpu_memory_utilization=0.8,
        dtype="float16",
        enforce_eager=True,
        trust_remote_code=False,
        reasoning_parser="deepseek_r1",
        extra_args=(),
    )
    needs = Needs(npu_memory_gib=32, cpu_cores=32, ram_gib=32, disk_gib=60)
    profile = Profile(
        name="8b",
        served_name="deepseek-r1:8b",
        model="/var/lib/deepseek/models/DeepSeek-R1-Distill-Llama-8B",
        products=(ProductLine.A2, ProductLine.A3),
        images=IMAGES,
        listen="127.0.0.1",
        port=2023,
        api_key_file="",
        open_without_api_key=False,
        tls_certificate="",
        tls_key="",
        npus="auto",
        shm_size="1g",
        environment={},
        mounts=(),
        needs=replace(needs, **changes.pop("needs", {})),
        vllm=replace(vllm, **changes.pop("vllm", {})),
        sources=SOURCES,
    )
    return replace(profile, **changes)


def build_host(podman: str = "5.4.2", cgroup: int = 2, **changes: Any) -> HostFacts:
    major, minor, patch = (int(part) for part in podman.split("."))
    host = HostFacts(
        cgroup_version=cgroup,
        podman_version=(major, minor, patch),
        cpu_cores=192,
        ram_mib=1_500_000,
        architecture="aarch64",
        driver_paths=DRIVER_PATHS,
    )
    return replace(host, **changes)


def build_npu(logic_id: int, **changes: Any) -> Npu:
    npu = Npu(
        logic_id=logic_id,
        card_id=logic_id,
        chip_id=0,
        device=f"/dev/davinci{logic_id}",
        device_present=True,
        product="910B3",
        health=NpuHealth.OK,
        memory_mib=NPU_MEMORY_MIB,
        memory_used_mib=3000,
    )
    return replace(npu, **changes)


def build_inventory(npus: int | Iterable[Npu] = 8, **changes: Any) -> Inventory:
    chips = [build_npu(logic_id) for logic_id in range(npus)] if isinstance(npus, int) else npus
    inventory = Inventory(
        driver=DriverState.READY,
        driver_version="24.1.rc2",
        npus=tuple(chips),
        manager_devices=MANAGER_DEVICES,
        source="npu-smi",
        read_at=1_700_000_000.0,
        sequence=1,
    )
    return replace(inventory, **changes)


def build_survey(
    host: HostFacts, profile: Profile, *containers: ContainerFacts, image_id: str = IMAGE_ID
) -> PodmanSurvey:
    """With the images for all lines of NPUs."""
    images = {profile.images.a2, profile.images.a3, profile.images.duo}
    facts = tuple(ImageFacts(image, image_id) for image in sorted(images))
    return PodmanSurvey(host.podman_version, facts, containers)


def build_facts(
    profile: Profile | None = None,
    host: HostFacts | None = None,
    inventory: Inventory | None = None,
    **changes: Any,
) -> Facts:
    """Of a host that lacks nothing; `containers` and `image_id` go into Podman's part."""
    profile, host = profile or build_profile(), host or build_host()
    containers = changes.pop("containers", ())
    image_id = changes.pop("image_id", IMAGE_ID)
    facts = Facts(
        host=host,
        podman=build_survey(host, profile, *containers, image_id=image_id),
        inventory=inventory or build_inventory(),
        models=(ModelFacts(profile.model, HEADS, kv_heads=8, disk_mib=900_000),),
    )
    return replace(facts, **changes)


def build_container(
    name: str, *devices: str, running: bool = True, address: str = ""
) -> ContainerFacts:
    identity = sha256(name.encode()).hexdigest()
    return ContainerFacts(name, identity, running, f"{name}.service", devices, address)


def make_plan(
    profile: Profile | None = None,
    host: HostFacts | None = None,
    npus: int | Iterable[Npu] = 8,
    **changes: Any,
) -> Plan:
    """The plan for a host that lacks nothing."""
    profile, host = profile or build_profile(), host or build_host()
    plan = build_plan(profile, build_facts(profile, host, build_inventory(npus), **changes))
    assert isinstance(plan, Plan), plan
    return plan


def build_front(
    active: UnitActive = UnitActive.ACTIVE,
    result: str = "success",
    exit_status: int = 0,
    unit_file_state: str = "enabled",
) -> UnitStatus:
    return UnitStatus(
        name="deepseek@8b.service",
        load_state="loaded",
        active=active,
        sub_state="",
        result=result,
        exit_status=exit_status,
        fragment_path="/usr/lib/systemd/system/deepseek@.service",
        source_path="",
        need_daemon_reload=False,
        unit_file_state=unit_file_state,
        invocation_id="",
    )


def build_view(phase: Phase = Phase.SERVING, **changes: Any) -> InstanceView:
    view = InstanceView(
        name="8b",
        phase=phase,
        wished=phase is not Phase.IDLE,
        status=str(phase),
        since=1_700_000_000.0,
        next_try_at=None,
        failure=None,
        failures=0,
        served_name="deepseek-r1:8b",
        endpoint="http://127.0.0.1:2023",
        model="/var/lib/deepseek/models/DeepSeek-R1-Distill-Llama-8B",
        image="quay.io/ascend/vllm-ascend:v0.18.0-openeuler",
        unit="deepseek-vllm-8b.service",
        unit_file="/run/containers/systemd/deepseek-vllm-8b.container",
        npus=(0,),
    )
    return replace(view, **changes)


def build_snapshot(
    *instances: InstanceView,
    inventory: Inventory | None = None,
    config_problem: Failure | None = None,
    **changes: Any,
) -> Snapshot:
    inventory = inventory or build_inventory()
    rules = Rules(NPU_SETTINGS, NO_FAULTS)
    fleet = Fleet(tuple(NpuState(npu.logic_id, npu) for npu in inventory.npus))
    holders = {npu: one.name for one in instances for npu in one.npus}
    snapshot = Snapshot(
        schema=1,
        version="0.1.0",
        mode="act",
        at=1_700_000_090.0,
        started_at=1_699_999_000.0,
        inventory=inventory,
        npus=build_npu_views(fleet, inventory, (), rules, holders, 0.0, 1_700_000_090.0),
        instances=instances,
        config_problem=config_problem,
        broken=(),
        events=(),
    )
    return replace(snapshot, **changes)
