# SPDX-License-Identifier: MulanPSL-2.0
"""Facts as text for a person. Pure."""

from collections.abc import Iterator

from agent.facts import Facts
from agent.model import product_line


def show_facts(facts: Facts) -> str:
    """Each line one fact, with the words that agent.toml and the refusals use."""
    return "\n".join(_lines(facts)) + "\n"


def _lines(facts: Facts) -> Iterator[str]:
    host, inventory = facts.host, facts.inventory
    version = ".".join(str(part) for part in host.podman_version)
    podman = version if any(host.podman_version) else "not installed"
    asked = "" if facts.podman_seen else " (its storage was not looked at: not root, or no socket)"
    yield f"host    {host.architecture}, {host.cpu_cores} cores, {host.ram_mib} MiB of RAM"
    yield f"Podman  {podman}{asked}, cgroup v{host.cgroup_version}"
    for image in facts.podman.images:
        yield f"image   {image.reference}: {image.image_id[:12] or 'missing'}"
    for model in facts.models:
        yield f"model   {model.directory}: {model.problem or f'{model.attention_heads} heads'}"
    detail = f": {inventory.detail}" if inventory.detail else ""
    yield f"NPUs    driver {inventory.driver}{detail}"
    unfit = {one.logic_id: f", {one.reason}" for one in facts.unfit}
    for npu in inventory.npus:
        line = product_line(npu.product)
        health = f"{npu.health}, {npu.memory_mib} MiB{unfit.get(npu.logic_id, '')}"
        yield f"  {npu.logic_id:>3}   {npu.product} ({line}), {health}"
