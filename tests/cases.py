# SPDX-License-Identifier: MulanPSL-2.0
"""Plans that are rendered into tests/golden, and by the programs that read such files."""

from dataclasses import replace
from pathlib import Path

import msgspec

from agent.config.load import Paths, load
from agent.config.values import Config, ExtraMount, Profile, find_profile
from agent.facts import Facts, Neighbor
from agent.plan.plan import Plan, build_plan
from tests.build import build_host, build_profile, make_plan

TREE = Path(__file__).resolve().parents[1]

TUTORIAL = build_profile(
    npus="all",
    listen="0.0.0.0",  # noqa: S104 - as the tutorial publishes it
    open_without_api_key=True,
    vllm={"trust_remote_code": True, "reasoning_parser": ""},
)
ODD = build_profile(
    served_name="deepseek r1 $8 100%",
    environment={
        "BACKSLASH": "C:\\dir\\",
        "DOLLAR": "$HOME ${PATH} $$",
        "EMPTY": "",
        "PERCENT": "100% %h %%",
        "QUOTES": "say \"hi\" 'there'",
        "SPACES": "  two  spaces ",
        "UNICODE": "模型 ✓",
    },
    vllm={
        "extra_args": (
            "--chat-template=a b",
            '--override={"k": "$x %h"}',
            "--模型=好",
            "back\\slash\\",
            "'",
            "#",
        )
    },
)
IPV6 = build_profile(listen="::1")
EXTRA = build_profile(
    environment={"VLLM_LOGGING_LEVEL": "DEBUG"},
    mounts=(
        ExtraMount("/srv/lora", "/lora", read_only=True),
        ExtraMount('/srv/it\'s 100% "$x"', "/data/模 型", read_only=False),
    ),
    vllm={"extra_args": ("--enable-lora", "--max-num-seqs=64")},
)
SHUT = build_profile(read_only_root=True)
KEY = build_profile(listen="0.0.0.0", api_key_file="/etc/deepseek-agent/8b.key")  # noqa: S104
TLS = replace(KEY, tls_certificate="/etc/pki/tls/certs/x.pem", tls_key="/etc/pki/tls/private/x.key")


def shipped(name: str) -> Profile:
    """As etc/models.d has it."""
    config = msgspec.convert(load(Paths(TREE / "nothing", TREE / "etc")), Config)
    return find_profile(config, name)


def read_plan(example: str, name: str, podman: str, cgroup: int) -> Plan:
    """On the host that an example of etc/facts describes."""
    facts = msgspec.json.decode((TREE / f"etc/facts/{example}.json").read_bytes(), type=Facts)
    major, minor, patch = (int(part) for part in podman.split("."))
    host = replace(facts.host, podman_version=(major, minor, patch), cgroup_version=cgroup)
    plan = build_plan(shipped(name), replace(facts, host=host))
    assert isinstance(plan, Plan), plan
    return plan


# Name of the directory -> what is planned. The renderer is chosen by the host.
CASES: dict[str, Plan] = {
    "8b-auto": make_plan(host=build_host("5.4.2")),
    "8b-all-npus": make_plan(TUTORIAL, build_host("5.4.2")),
    "8b-all-npus-cgroup1": make_plan(TUTORIAL, build_host("4.9.4", cgroup=1)),
    "1.5b": make_plan(shipped("1.5b"), build_host("5.4.2")),
    "7b": make_plan(shipped("7b"), build_host("5.4.2")),
    **{
        f"podman-{version}": make_plan(host=build_host(version))
        for version in ("4.4.0", "4.5.1", "4.9.4", "5.0.0", "5.3.0", "5.4.2", "5.8.2")
    },
    "podman-3.4.4-cgroup2": make_plan(host=build_host("3.4.4")),
    **{
        f"podman-{version}-cgroup1": make_plan(host=build_host(version, cgroup=1))
        for version in ("3.4.4", "4.3.1", "4.4.0", "4.5.1", "4.9.4", "5.3.0", "5.4.2", "5.8.2")
    },
    "odd-values": make_plan(ODD, build_host("5.4.2")),
    "odd-values-cgroup1": make_plan(ODD, build_host("4.9.4", cgroup=1)),
    "ipv6": make_plan(IPV6, build_host("5.4.2")),
    "ipv6-cgroup1": make_plan(IPV6, build_host("4.9.4", cgroup=1)),
    "odd-model": make_plan(build_profile(model='/srv/模 型/"8b" $x 100%'), build_host("5.4.2")),
    "with-init": make_plan(host=build_host("4.4.0", container_init=True)),
    "with-init-cgroup1": make_plan(host=build_host("4.3.1", cgroup=1, container_init=True)),
    **{
        f"shut{suffix}": make_plan(SHUT, build_host(podman, cgroup, pids_controller=True))
        for suffix, podman, cgroup in (
            ("", "5.4.2", 2),
            ("-podman-4.4.0", "4.4.0", 2),
            ("-cgroup1", "4.9.4", 1),
        )
    },
    "no-driver-files": make_plan(host=build_host("5.4.2", driver_paths=())),
    **{
        f"{name}{suffix}": make_plan(profile, build_host(podman, cgroup))
        for name, profile in (("api-key", KEY), ("tls", TLS), ("extra", EXTRA))
        for suffix, podman, cgroup in (("", "5.4.2", 2), ("-cgroup1", "4.9.4", 1))
    },
    **{
        f"{name}{suffix}": read_plan(name, profile, podman, cgroup)
        for name, profile in (
            ("atlas-800i-a3", "8b"),
            ("atlas-300i-duo", "qwen3-8b-310p"),
        )
        for suffix, podman, cgroup in (("", "4.9.4", 2), ("-cgroup1", "4.9.4", 1))
    },
}
# Two instances on one host: the second is planned beside the first.
TWO = (
    CASES["8b-auto"],
    make_plan(shipped("7b"), build_host("5.4.2"), neighbors=(Neighbor("8b", (0,), "::1", 2023),)),
)
