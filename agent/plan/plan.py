# SPDX-License-Identifier: MulanPSL-2.0
"""Builds the plan for one instance: what shall run, on which NPUs, from which image. Pure.

In: profile and facts. Out: a `Plan`, or a `Failure` with the numbers that it looked at.
"""

from dataclasses import dataclass

from agent.config.values import Profile
from agent.errors import Failure
from agent.facts import Facts, HostFacts
from agent.model import Npu, ProductLine, product_line
from agent.plan.demand import Demand
from agent.plan.holders import find_holders
from agent.plan.needs import check_driver, check_host
from agent.plan.npus import check_supported, choose_npus
from agent.supplies import Supply, revision_folder

# What the driver has installed and the container must see (the tutorial's step 4 and the
# installation page of vllm-ascend 0.18). Mounted read-only at the same place.
_EVERYWHERE = (
    "/usr/local/dcmi",
    "/usr/local/bin/npu-smi",
    "/usr/local/Ascend/driver/lib64",
    "/usr/local/Ascend/driver/version.info",
    "/etc/ascend_install.info",
)
# The tool for the NPUs' own network ports, which 310P does not have.
_NETWORKED = ("/usr/local/Ascend/driver/tools/hccn_tool",)
DRIVER_PATHS = (*_EVERYWHERE, *_NETWORKED)


@dataclass(frozen=True, slots=True)
class Plan:
    """What shall run."""

    instance: str
    profile: Profile
    image: str  # the id; the reference where nobody could ask Podman
    npus: tuple[Npu, ...]
    host: HostFacts
    degraded: str = ""  # why it is fewer NPUs than the profile says; empty: it is not
    alarmed: str = ""  # why NPUs are used in spite of their alarm; empty: none is
    weights_mib: int = 0  # of the model; 0: unknown
    model_identity: str = ""  # of its files; empty: unknown
    image_reference: str = ""  # as the profile names it
    model_revision: str = ""  # name of its folder below .store; empty: the model is an operator's

    @property
    def model_folder(self) -> str:
        """That the engine gets: of a model that the agent has fetched the very revision. The link
        to the one in use may be moved by another instance, for an update that is on trial."""
        if not self.model_revision:
            return self.profile.model
        return revision_folder(self.profile.model, self.model_revision)

    @property
    def logic_ids(self) -> tuple[int, ...]:
        return tuple(npu.logic_id for npu in self.npus)

    @property
    def tensor_parallel_size(self) -> int:
        return len(self.npus)

    @property
    def line(self) -> ProductLine:
        return product_line(self.npus[0].product)

    @property
    def driver_paths(self) -> tuple[str, ...]:
        """Those that this line of NPUs needs, of those that are there."""
        needed = _EVERYWHERE if self.line is ProductLine.DUO else DRIVER_PATHS
        return tuple(path for path in self.host.driver_paths if path in needed)


def choose_image(profile: Profile, facts: Facts, pinned: Supply | None) -> str:
    """Its id; empty when it is not there. The pinned one, while the profile names the same and
    Podman still has it: a tag may point to another by now."""
    reference = profile.image_for(facts.inventory)
    if pinned is not None and pinned.image_reference == reference:
        found = facts.image_id(pinned.image_id)
        if found and found == pinned.image_id:
            return found
    return facts.image_id(reference)


def build_plan(profile: Profile, facts: Facts, pinned: Supply | None = None) -> Plan | Failure:
    """The plan for `profile`, or why there can be none. `pinned`: what it is to run on."""
    reference = profile.image_for(facts.inventory)
    image = choose_image(profile, facts, pinned)
    refusal = (
        check_driver(facts.inventory)
        or check_supported(profile.products, facts.inventory)
        or check_host(profile, facts, reference, image)
    )
    if refusal is not None:
        return refusal
    model = facts.model(profile.model)
    demand = Demand(
        profile.npus,
        profile.products,
        heads=model.attention_heads if model else 0,
        kv_heads=model.kv_heads if model else 0,
        memory_mib=profile.needs.npu_memory_gib * 1024,
    )
    unfit = {one.logic_id: one for one in facts.unfit}
    holders = find_holders(profile.name, facts)
    chosen = choose_npus(demand, facts.inventory, holders, unfit, facts.host_suspect)
    if isinstance(chosen, Failure):
        return chosen
    return Plan(
        profile.name,
        profile,
        image or reference,
        chosen.npus,
        facts.host,
        chosen.degraded,
        chosen.alarmed,
        model.weights_mib if model else 0,
        model.identity if model else "",
        reference,
        model.revision if model else "",
    )
