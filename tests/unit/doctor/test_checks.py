# SPDX-License-Identifier: MulanPSL-2.0
"""Each check on a host that is well but for one thing; and that a broken one breaks no other."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import pytest

from agent.config.values import BrokenProfile, Mode, RendererChoice
from agent.disks import GIB, DiskFacts, Role
from agent.doctor.checks import CHECKS, MODEL_CHECKS, examine
from agent.doctor.checkup import Checkup
from agent.doctor.looks import (
    Clock,
    Firmware,
    Kernel,
    ModelFiles,
    Reached,
    Selinux,
    SelinuxMode,
    Unseen,
    Why,
)
from agent.doctor.verdict import Status, Verdict, finish
from agent.errors import Code, Failure
from agent.exits import HELD
from agent.facts import FileFacts, Listener, ModelFacts, PodmanStore, StoredImage
from agent.health.words import uncounted
from agent.model import (
    DriverState,
    FaultSeverity,
    Inventory,
    NpuFault,
    NpuHealth,
    Phase,
    UnitActive,
)
from agent.plan.needs import MANAGER_DEVICES
from tests.build import (
    SUPPLY,
    build_config,
    build_container,
    build_facts,
    build_host,
    build_inventory,
    build_npu,
    build_profile,
    build_snapshot,
    build_survey,
    build_view,
)
from tests.unit.doctor.well import (
    MODEL,
    NOW,
    STORAGE,
    build_checkup,
    build_driver,
    build_node,
    build_patient,
    build_unit,
    find,
    units,
)

KERNEL = Kernel(2, ("memory", "pids"), 4_194_304, 3_000_000, 1_073_741_816)
PROFILE = build_profile()
EVERYWHERE = "0.0.0.0"  # noqa: S104
SILENT = Unseen(Why.SILENT, "cannot look at it: it does not answer within 5 s", "see: dmesg")
UNKNOWN = Unseen(Why.FAILED, "cannot serve '70b': no such profile", "correct the name")
ROOT = Unseen(Why.NEEDS_ROOT, "only root may see it")
QUAY = Reached("https://quay.io/v2/", "quay.io")
HUB = Reached("https://modelscope.cn", "modelscope.cn")
BARE = replace(QUAY, by_podman=True, lacks_proxy=True)
BY_ITSELF = (
    "cannot pull the image: deepseek-supply@ has a proxy, and podman.service, which pulls it, has "
    "none: quay.io: "
)
MISSING = ModelFacts(PROFILE.model, 0, "there is no such directory", present=False)


def facts(**changes: Any) -> Mapping[str, Any]:
    """As both the facts and the looks that they are made of."""
    found = build_facts(models=(), **changes)
    return {"facts": found, "inventory": found.inventory, "survey": found.podman}


def inventory(*npus: Any, **changes: Any) -> Mapping[str, Any]:
    return facts(inventory=build_inventory(npus or 8, **changes))


def room(free_gib: float) -> tuple[DiskFacts, ...]:
    return (DiskFacts(Role.MODELS, "/srv", 1, int(free_gib * GIB), 900 * GIB),)


def config(**changes: Any) -> Mapping[str, Any]:
    return {"config": build_config(PROFILE, **({"supply": SUPPLY} | changes))}


def patient(**changes: Any) -> Mapping[str, Any]:
    return {"patients": (build_patient(**changes),)}


OFFLINE = replace(SUPPLY, fetch=False)
NO_IMAGE = facts(image_id="")
FAILED_FRONT = build_unit("deepseek@8b.service", UnitActive.FAILED, exit_status=HELD)
DOWN = build_unit("deepseek-agent.service", UnitActive.INACTIVE)
NOT_FOUND: dict[str, Any] = {
    "load_state": "not-found",
    "active": UnitActive.INACTIVE,
    "unit_file_state": "",
}
NO_UNITS = tuple(replace(unit, **NOT_FOUND) for unit in units())
ALARM = build_npu(3, health=NpuHealth.ALARM)
FAULT = NpuFault("80E01801", FaultSeverity.MAJOR, "HBM multi-bit ECC", 0.0)
DISABLED = build_unit("deepseek@8b.service", unit_file_state="disabled")
MASKED = build_unit("deepseek@8b.service", UnitActive.INACTIVE, load_state="masked")
OUR_ENGINE = build_container("deepseek-vllm-8b", "/dev/davinci0")
OTHER = build_container("training", "/dev/davinci5")

OK, WARNING, ERROR, SKIPPED = Status.OK, Status.WARNING, Status.ERROR, Status.SKIPPED
# Check, what is otherwise, how it ends, words of the message or hint.
CASES: tuple[tuple[str, Mapping[str, Any], Status, str], ...] = (
    ("systemd", {"systemd": 239}, ERROR, "systemd is 239, needed is 249"),
    ("systemd", {"systemd": SILENT}, ERROR, "does not answer within 5 s"),
    ("cgroup", {"kernel": replace(KERNEL, controllers=("pids",))}, WARNING, "controller memory"),
    ("cgroup", {"kernel": replace(KERNEL, cgroup_version=1)}, OK, "cgroup v1"),
    ("python", {"python": (3, 9, 9)}, ERROR, "Python is 3.9.9"),
    ("kernel-limits", {"kernel": replace(KERNEL, pid_max=4096)}, WARNING, "kernel.pid_max=16384"),
    (
        "kernel-limits",
        {"kernel": replace(KERNEL, pid_max=None, threads_max=None, open_files=None)},
        SKIPPED,
        "does not show",
    ),
    ("kernel-limits", {"kernel": SILENT}, SKIPPED, "see cgroup"),
    ("selinux", {"selinux": Selinux(SelinuxMode.OFF)}, OK, "SELinux is off"),
    (
        "selinux",
        {"selinux": Selinux(SelinuxMode.ENFORCING)},
        WARNING,
        "dnf install deepseek-agent-selinux",
    ),
    ("selinux", {"selinux": Selinux(SelinuxMode.PERMISSIVE)}, OK, "permissive"),
    ("clock", {"clock": Clock(NOW, False, None)}, WARNING, "nothing synchronizes it"),
    ("clock", {"clock": Clock(NOW, None, None)}, SKIPPED, "does not say"),
    ("clock", {"clock": Clock(0.0, True, NOW)}, ERROR, "it says 1970-01-01"),
    ("disk-room", {"disks": room(10)}, WARNING, "/srv has 10 of 900 GiB free, 20 are to be"),
    ("disk-room", {"disks": room(0.1)}, ERROR, "deepseekctl prune --dry-run"),
    ("disk-room", {"disks": room(25), "config": SILENT}, OK, "25 GiB free"),
    ("disk-room", {"disks": ()}, ERROR, "none answers"),
    # --- NPUs
    ("npu-driver", facts(inventory=Inventory(DriverState.ABSENT)), ERROR, "cannot see an NPU"),
    (
        "npu-driver",
        facts(inventory=Inventory(DriverState.FAILED, "ret is -8005")),
        ERROR,
        "ret is -8005",
    ),
    (
        "npu-driver",
        facts(inventory=Inventory(DriverState.UNKNOWN, "npu-smi hangs since 12:00")),
        ERROR,
        "npu-smi hangs since 12:00",
    ),
    ("npu-driver", inventory(build_npu(0, product="310B4")), WARNING, "310B4"),
    ("npu-driver", {"inventory": ROOT}, SKIPPED, "only root"),
    ("npu-files", {"driver": build_driver(paths=(), version="")}, ERROR, "install driver"),
    ("npu-files", {"driver": build_driver(install_status="failed")}, ERROR, "'failed'"),
    (
        "npu-files",
        {"driver": build_driver(paths=("/usr/local/dcmi",))},
        ERROR,
        "/usr/local/Ascend/driver/lib64 is missing",
    ),
    (
        "npu-files",
        {"driver": build_driver(paths=("/usr/local/Ascend/driver/lib64",))},
        WARNING,
        "/usr/local/dcmi, /usr/local/bin/npu-smi is missing",
    ),
    ("npu-devices", {"driver": build_driver(nodes=())}, SKIPPED, "see npu-driver"),
    (
        "npu-devices",
        {"driver": build_driver(nodes=(build_node("/dev/davinci0"),))},
        ERROR,
        "/dev/hisi_hdc does not exist",
    ),
    (
        "npu-devices",
        {"driver": build_driver(nodes=tuple(map(build_node, MANAGER_DEVICES)))},
        ERROR,
        "cannot see any NPU",
    ),
    (
        "npu-devices",
        {"driver": build_driver(nodes=build_driver().nodes[1:])},
        ERROR,
        "/dev/davinci0: the driver tells of it",
    ),
    (
        "npu-devices",
        {
            "driver": build_driver(
                nodes=(
                    build_node("/dev/davinci0", is_device=False),
                    *build_driver().nodes[1:],
                )
            )
        },
        ERROR,
        "it is no device",
    ),
    (
        "npu-devices",
        {
            "driver": build_driver(
                nodes=(build_node("/dev/davinci0", mode=0o000), *build_driver().nodes[1:])
            )
        },
        WARNING,
        "/dev/davinci0 HwHiAiUser:HwHiAiUser 0000",
    ),
    ("npu-firmware", {"firmware": (Firmware(2, "7.1", "NOK"),)}, ERROR, "card 2 has 7.1"),
    (
        "npu-firmware",
        {"firmware": (Firmware(0, "7.1", "OK"), Firmware(1, "7.8", "OK"))},
        WARNING,
        "firmware differs (7.1, 7.8)",
    ),
    ("npu-firmware", {"firmware": (Firmware(0, "", ""),)}, SKIPPED, "does not tell"),
    ("npu-health", inventory(ALARM), ERROR, "NPU 3: alarm"),
    ("npu-health", inventory(build_npu(3, faults=(FAULT,))), WARNING, "80E01801 HBM multi-bit"),
    ("npu-health", facts(inventory=Inventory(DriverState.ABSENT)), SKIPPED, "does not answer"),
    ("npu-users", facts(containers=(OTHER,)), WARNING, "NPU 5: container training holds it"),
    ("npu-users", facts(containers=(OUR_ENGINE,)), OK, "1 have models of ours"),
    (
        "npu-users",
        {"open_nodes": ((2, "NPU 2 is open in process 7 (python3)"),)},
        WARNING,
        "process 7 (python3)",
    ),
    ("npu-users", {"is_root": False}, SKIPPED, "only root"),
    # --- Podman
    ("podman", {"podman": (0, 0, 0)}, ERROR, "Podman is not installed"),
    ("podman", {"podman": (3, 0, 1)}, ERROR, "needed is 3.4"),
    ("renderer", {"podman": (4, 3, 1)}, OK, "a plain systemd unit (Podman 4.3.1, cgroup v2)"),
    ("renderer", {"podman": (0, 0, 0)}, SKIPPED, "see podman"),
    ("renderer", {"quadlet": False}, WARNING, "generator is not in"),
    (
        "renderer",
        {"podman": (4, 3, 1), **config(renderer=RendererChoice.QUADLET)},
        WARNING,
        'set renderer = "auto"',
    ),
    ("podman-service", {"survey": SILENT}, ERROR, "does not answer within 5 s"),
    ("podman-service", {"survey": ROOT}, SKIPPED, "only root"),
    ("podman-storage", {"store": PodmanStore("vfs", STORAGE, "", ())}, WARNING, "driver vfs"),
    ("podman-storage", {"store": PodmanStore("", STORAGE, "", ())}, ERROR, "cannot tell how"),
    # --- the agent
    ("config", config(broken=(BrokenProfile("7b", "cannot use 7b", "mend it"),)), ERROR, "7b"),
    (
        "config",
        {"config": Unseen(Why.FAILED, "cannot read agent.toml", "mend it")},
        ERROR,
        "agent.toml",
    ),
    ("config", config(mode=Mode.OBSERVE), WARNING, "only watches"),
    ("agent-units", {"units": NO_UNITS}, SKIPPED, "not installed"),
    ("agent-units", {"units": units(agent=DOWN)}, ERROR, "cannot look after 8b"),
    (
        "agent-units",
        {"units": units(agent=replace(DOWN, load_state="masked"))},
        ERROR,
        "systemctl unmask deepseek-agent.service",
    ),
    (
        "agent-units",
        {"units": units(npud=build_unit("deepseek-npud.service", UnitActive.FAILED))},
        ERROR,
        "journalctl -b -u deepseek-npud.service",
    ),
    (
        "agent-units",
        {"units": units(npud=replace(DOWN, name="deepseek-npud.service", **NOT_FOUND))},
        ERROR,
        "systemd does not know it",
    ),
    ("agent-units", {"units": units(agent=DOWN), "patients": ()}, OK, "not needed yet"),
    (
        "agent-units",
        {"units": units(socket=replace(DOWN, name="deepseek-agent.socket")), "patients": ()},
        WARNING,
        "systemctl start deepseek-agent.socket",
    ),
    ("agent-answers", {"snapshot": SILENT}, ERROR, "does not answer within 5 s"),
    (
        "agent-answers",
        {
            "snapshot": build_snapshot(
                config_problem=Failure(Code.CONFIG_INVALID, "cannot use x", "y")
            )
        },
        ERROR,
        "cannot use x",
    ),
    (
        "agent-answers",
        {"snapshot": build_snapshot(host_suspect="5 of 8 NPUs failed")},
        ERROR,
        "quarantine clear host",
    ),
    (
        "agent-answers",
        {"snapshot": build_snapshot(build_view(Phase.SERVING, uncounted=uncounted("8b", ("x",))))},
        WARNING,
        "is --disable-log-stats in vllm.extra_args?",
    ),
    ("agent-answers", {"snapshot": build_snapshot(broken=("7b: no",))}, ERROR, "config check"),
    (
        "agent-answers",
        {"snapshot": build_snapshot(build_view(Phase.IDLE, refused=True))},
        ERROR,
        "deepseek@8b",
    ),
    ("agent-answers", {"snapshot": build_snapshot(without_profile=("7b",))}, ERROR, "7b.toml"),
    ("agent-version", {"version": "0.2.0"}, WARNING, "that runs is 0.1.0, installed is 0.2.0"),
    ("agent-version", {"snapshot": SILENT}, SKIPPED, "see agent-answers"),
    ("npud", {"units": NO_UNITS}, SKIPPED, "does not run"),
    ("npud", {"inventory": SILENT}, SKIPPED, "see npu-driver"),
    # --- a model
    ("profile", {"patients": (replace(build_patient(), profile=UNKNOWN),)}, ERROR, "70b"),
    ("front-unit", {"units": units(front=MASKED)}, ERROR, "systemctl unmask deepseek@8b"),
    ("front-unit", {"units": units(front=FAILED_FRONT)}, ERROR, "it ended as held"),
    (
        "front-unit",
        {
            "units": units(front=FAILED_FRONT),
            "snapshot": build_snapshot(
                build_view(Phase.HELD, failure=Failure(Code.IMAGE_MISSING, "no image", "pull it"))
            ),
        },
        ERROR,
        "no image",
    ),
    ("front-unit", {"units": units(front=DISABLED)}, WARNING, "systemctl enable deepseek@8b"),
    ("front-unit", {"units": NO_UNITS}, SKIPPED, "not installed"),
    ("cpu", facts(host=build_host(cpu_cores=16)), ERROR, "it needs 32 CPU cores, this host has 16"),
    ("ram", facts(host=build_host(ram_mib=16_000)), ERROR, "it needs 32 GiB of RAM"),
    ("model", patient(model=SILENT), ERROR, "does not answer within 5 s"),
    ("model", patient(model=MISSING), OK, "it is fetched at the first start"),
    ("model", {**patient(model=MISSING), **config(supply=OFFLINE)}, ERROR, "fetch = false"),
    (
        "model",
        patient(profile=build_profile(sources=()), model=MISSING),
        ERROR,
        "no source",
    ),
    ("model", patient(model=replace(MODEL, problem="config.json is damaged")), ERROR, "damaged"),
    (
        "model",
        patient(files=ModelFiles("/m", True, ("a.safetensors: missing",))),
        ERROR,
        "deepseekctl verify 8b",
    ),
    ("model", patient(files=ModelFiles("/m", False, ())), OK, "no manifest"),
    ("model-heads", patient(model=MISSING), SKIPPED, "not there yet"),
    ("model-heads", patient(model=SILENT), SKIPPED, "see model"),
    ("model-heads", {}, OK, "32 attention heads and 8 key-value heads: for 1, 2, 4, 8 NPUs"),
    (
        "model-heads",
        patient(profile=build_profile(npus=(0, 1, 2))),
        ERROR,
        "among 3 NPUs evenly",
    ),
    ("npus", inventory(ALARM), ERROR, "cannot"),
    ("npus", inventory(build_npu(0, product="310P3")), ERROR, "cannot"),
    (
        "npus",
        facts(inventory=build_inventory([ALARM]), host_suspect="8 of 8 NPUs failed at once"),
        WARNING,
        "the alarm of the NPUs [3] does not count",
    ),
    ("npus", {"inventory": ROOT}, SKIPPED, "see npu-driver"),
    ("npus", {**facts(containers=(OTHER,))}, OK, "it would have 0 of 8"),
    (
        "npus",
        {
            **inventory(build_npu(0, memory_mib=20_000), build_npu(1, memory_mib=20_000)),
            **patient(model=MISSING),
        },
        SKIPPED,
        "see model",
    ),
    ("image", NO_IMAGE, OK, "it is fetched at the first start"),
    ("image", {**NO_IMAGE, **config(supply=OFFLINE)}, ERROR, "deepseekctl pull 8b"),
    ("image", {"survey": SILENT}, SKIPPED, "see podman-service"),
    (
        "image",
        {"store": PodmanStore("overlay", "", "", (StoredImage(PROFILE.images.a2, "amd64"),))},
        ERROR,
        "it is made for amd64, this machine is arm64",
    ),
    ("fetch-room", {}, OK, "nothing has to be fetched"),
    ("fetch-room", patient(room=room(500)), OK, "/srv has 500 GiB free"),
    ("fetch-room", patient(room=room(70)), WARNING, "it may need 60 GiB, 20 are to stay free"),
    ("fetch-room", patient(room=room(20)), ERROR, "cannot fetch anything"),
    ("fetch-room", patient(room=(SILENT,)), ERROR, "does not answer within 5 s"),
    (
        "key-files",
        patient(
            profile=build_profile(api_key_file="/k"), keys=(FileFacts("/k", "permission denied"),)
        ),
        ERROR,
        "cannot use api_key_file /k: permission denied",
    ),
    (
        "key-files",
        {**patient(profile=build_profile(api_key_file="/k")), "is_root": False},
        SKIPPED,
        "only root",
    ),
    (
        "port",
        {
            **facts(listeners=(Listener(EVERYWHERE, 2023),)),
            "snapshot": build_snapshot(),
        },
        ERROR,
        "something else listens on 0.0.0.0",
    ),
    (
        "port",
        {
            **facts(listeners=(Listener("127.0.0.1", 2023),), containers=(OUR_ENGINE,)),
            "snapshot": SILENT,
        },
        OK,
        "is ours",
    ),
    (
        "port",
        {
            **facts(listeners=(Listener("127.0.0.1", 2023),), podman_seen=False),
            "snapshot": SILENT,
        },
        SKIPPED,
        "only root can tell",
    ),
    ("dns", patient(sources=(QUAY, HUB)), OK, "modelscope.cn, quay.io"),
    (
        "dns",
        patient(sources=(replace(QUAY, lookup_problem="name or service not known"),)),
        ERROR,
        "cannot look up quay.io",
    ),
    (
        "dns",
        patient(sources=(replace(QUAY, lookup_problem="name or service not known"), HUB)),
        WARNING,
        "cannot look up quay.io",
    ),
    ("dns", patient(sources=(replace(QUAY, proxy="p:3128"),)), SKIPPED, "a proxy"),
    ("sources", {}, SKIPPED, "nothing has to be fetched"),
    ("sources", patient(sources=(replace(QUAY, proxy="p:3128"),)), OK, "quay.io (by p:3128)"),
    ("sources", patient(sources=(replace(QUAY, problem="refused"), HUB)), WARNING, "quay.io: ref"),
    ("sources", patient(sources=(replace(QUAY, problem="refused"),)), ERROR, "HTTPS_PROXY"),
    ("sources", patient(sources=(replace(QUAY, lookup_problem="no"),)), SKIPPED, "see dns"),
    # The model comes by supply's proxy, the image never: Podman's service has none.
    ("dns", patient(sources=(HUB, replace(BARE, lookup_problem="no"))), OK, "modelscope.cn"),
    ("sources", patient(sources=(HUB, replace(BARE, lookup_problem="no"))), ERROR, BY_ITSELF),
    ("sources", patient(sources=(HUB, replace(BARE, problem="refused"))), ERROR, BY_ITSELF),
    ("sources", patient(sources=(HUB, BARE)), OK, "each answers"),
    (
        "sources",
        patient(
            sources=(
                replace(BARE, problem="refused"),
                replace(QUAY, host="mirror.example", by_podman=True),
            )
        ),
        WARNING,
        "systemctl edit podman.service",
    ),
)


def test_a_well_host_has_nothing_to_mend() -> None:
    findings = examine(build_checkup())
    bad = [one for one in findings if one.verdict.status in (WARNING, ERROR)]
    assert bad == []
    assert len(findings) == len(CHECKS) + len(MODEL_CHECKS)
    assert len(findings) >= 20


@pytest.mark.parametrize(("check", "changes", "status", "words"), CASES)
def test_what_is_wrong_is_found(
    check: str, changes: Mapping[str, Any], status: Status, words: str
) -> None:
    found = find(replace(build_checkup(), **changes), check).verdict
    assert found.status is status, found
    assert words in f"{found.message} {found.hint}"


def test_every_check_has_a_case() -> None:
    assert {one.id for one in (*CHECKS, *MODEL_CHECKS)} == {case[0] for case in CASES}


def test_an_id_is_one_check() -> None:
    ids = [one.id for one in (*CHECKS, *MODEL_CHECKS)]
    assert len(ids) == len(set(ids))


def test_a_warning_or_error_says_what_to_do() -> None:
    told = [
        find(replace(build_checkup(), **changes), check).verdict for check, changes, _, _ in CASES
    ]
    bad = [one for one in told if one.status in (WARNING, ERROR)]
    assert [one for one in bad if not (one.message.startswith("cannot ") and one.hint)] == []


@pytest.mark.parametrize("unseen", [SILENT, ROOT, Unseen(Why.FAILED, "cannot look at it: no")])
@pytest.mark.parametrize(
    "look",
    [
        field.name
        for field in fields(Checkup)
        if field.name not in ("version", "is_root", "python", "patients")
    ],
)
def test_a_look_that_brings_nothing_is_told_once(look: str, unseen: Unseen) -> None:
    """By the check that owns it, or by each that has nothing else; and none ends as a bug."""
    changes: dict[str, Any] = {look: unseen}
    findings = examine(replace(build_checkup(), **changes))
    assert not [one for one in findings if "internal error" in one.verdict.message]
    told = [one.id for one in findings if one.verdict.message == unseen.text]
    assert len(told) == 1 or look == "facts", told


def test_a_check_that_breaks_breaks_no_other() -> None:
    def broken() -> Verdict:
        raise ZeroDivisionError

    found = finish(broken)
    assert found.status is ERROR
    assert "internal error: ZeroDivisionError()" in found.message
    # A look of a kind that no check understands.
    findings = examine(replace(build_checkup(), selinux=7))  # type: ignore[arg-type]
    assert [one.id for one in findings if one.verdict.status is ERROR] == ["selinux"]


def test_a_message_is_one_line() -> None:
    assert finish(lambda: Verdict(ERROR, "a\nb \n c", "d\ne")) == Verdict(ERROR, "a b c", "d e")


def test_without_podman_s_answer_nothing_is_known_of_the_image() -> None:
    seen = build_survey(build_host(), PROFILE, image_id="")
    changed = replace(build_checkup(), survey=seen)
    assert find(changed, "image").verdict.status is OK  # the facts have it
