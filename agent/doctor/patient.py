# SPDX-License-Identifier: MulanPSL-2.0
"""Checks of one model: whether this host has what its profile needs. Pure."""

from dataclasses import replace

from agent.config.values import Profile, SupplySettings
from agent.disks import GIB, DiskFacts
from agent.doctor.agent import is_wished
from agent.doctor.checkup import Checkup, Patient
from agent.doctor.verdict import Verdict, error, lean, need, of_failure, ok, skipped, some, warning
from agent.errors import Failure
from agent.exits import HELD
from agent.facts import ModelFacts
from agent.model import HOLDING, DriverState, UnitActive, container_name, front_unit
from agent.plan.demand import Demand
from agent.plan.holders import find_holders
from agent.plan.needs import check_cores, check_files, check_port, check_ram
from agent.plan.npus import check_supported, choose_npus
from agent.status.snapshot import InstanceView, Snapshot
from agent.wording import gib

# As Go calls them, which is what an image says (host/registry.py).
ARCHITECTURES = {"aarch64": "arm64", "x86_64": "amd64"}
NO_MODEL = "the model is not there yet"


def profile(checkup: Checkup, patient: Patient) -> Verdict:
    found = need(patient.profile)  # the others lean on it
    return ok(f"{found.served_name}, on {', '.join(found.products)}")


def front(checkup: Checkup, patient: Patient) -> Verdict:
    """Whether it is wished, and comes back after a boot."""
    lean(checkup.units, "agent-units")
    name = front_unit(patient.name)
    unit = checkup.unit(name)
    if unit is None:
        return skipped("the package is not installed: there is no deepseek@.service")
    if unit.load_state == "masked":
        return error(f"cannot start {name}: it is masked", f"systemctl unmask {name}")
    if unit.active is UnitActive.FAILED:
        view = _view(checkup, patient)
        held = "held" if unit.exit_status == HELD else unit.result
        why = view.failure if view is not None else None
        told = why.message if why is not None else f"it ended as {held}"
        hint = (why.hint if why is not None else "") or f"systemctl status {name}"
        cannot = "" if told.startswith("cannot ") else f"cannot serve {patient.name}: "
        return error(f"{cannot}{told}", hint)
    if unit.active.is_up() and unit.unit_file_state == "disabled":
        return warning(
            f"cannot bring {patient.name} back after a reboot: {name} runs and is not enabled",
            f"systemctl enable {name}",
        )
    return ok(f"{unit.unit_file_state or 'static'}, {unit.active}")


def _profile(patient: Patient) -> Profile:
    return lean(patient.profile, "profile")


def _view(checkup: Checkup, patient: Patient) -> InstanceView | None:
    snapshot = checkup.snapshot
    return snapshot.instance(patient.name) if isinstance(snapshot, Snapshot) else None


def cores(checkup: Checkup, patient: Patient) -> Verdict:
    found, facts = _profile(patient), need(checkup.facts)
    there, wanted = facts.host.cpu_cores, found.needs.cpu_cores
    return of_failure(check_cores(found, facts.host), f"{there} cores, {wanted} are needed")


def ram(checkup: Checkup, patient: Patient) -> Verdict:
    found, facts = _profile(patient), need(checkup.facts)
    there, wanted = facts.host.ram_mib // 1024, found.needs.ram_gib
    return of_failure(check_ram(found, facts.host), f"{there} GiB of RAM, {wanted} are needed")


def model(checkup: Checkup, patient: Patient) -> Verdict:
    """There, readable, and whole by names and sizes."""
    found = _profile(patient)
    seen = need(patient.model)
    if not seen.present:
        return _missing(checkup, found, f"{seen.directory} is not there", bool(found.sources))
    if seen.problem:
        hint = f"move {seen.directory} away, and it is fetched anew; or copy it there again, whole"
        if seen.revision:  # brought by the agent
            hint = f"deepseekctl pull {patient.name} mends it, as the next start does"
        return error(f"cannot serve {seen.directory}: {seen.problem}", hint)
    files = need(patient.files)
    if files.problems:
        return error(
            f"cannot serve {seen.directory}: {some(files.problems)}",
            f"deepseekctl verify {patient.name}",
        )
    size = f"{seen.weights_mib / 1024:.1f} GiB of weights"
    by = "all of its manifest" if files.has_manifest else "no manifest to compare it with"
    return ok(f"{size}, {by}")


def _missing(checkup: Checkup, found: Profile, what: str, has_source: bool) -> Verdict:
    """Of what could be fetched."""
    supply = _supply(checkup)
    if supply.fetch and has_source:
        return ok(f"{what}; it is fetched at the first start")
    why = "this profile has no source for it" if supply.fetch else "[supply] fetch = false"
    return error(
        f"cannot serve {found.name}: {what}, and it is not fetched by itself ({why})",
        f"deepseekctl pull {found.name}, or a bundle on a disk: deepseekctl bundle import",
    )


def _supply(checkup: Checkup) -> SupplySettings:
    return lean(checkup.config, "config").supply


def heads(checkup: Checkup, patient: Patient) -> Verdict:
    """How many NPUs can share the model."""
    found, facts = _profile(patient), need(checkup.facts)
    seen = lean(patient.model, "model")
    if not seen.attention_heads:
        return skipped(NO_MODEL if not seen.present else "its config.json cannot be read")
    demand = _demand(found, patient)
    most = max(len(facts.inventory.npus), 1)
    sizes = [size for size in range(1, max(most, 8) + 1) if demand.divides(size)]
    wanted = {"auto": 0, "all": most}.get(str(found.npus), len(found.npus))
    if wanted and facts.inventory.npus and wanted not in sizes:
        return error(
            f"cannot share {demand.shape} among {wanted} NPUs evenly",
            f'set npus = "auto", or as many as {", ".join(map(str, sizes))}, in '
            f"/etc/deepseek-agent/models.d/{found.name}.toml",
        )
    return ok(f"{demand.shape}: for {', '.join(map(str, sizes))} NPUs")


def _demand(found: Profile, patient: Patient) -> Demand:
    seen = patient.model if isinstance(patient.model, ModelFacts) else None
    return Demand(
        found.npus,
        found.products,
        heads=seen.attention_heads if seen else 0,
        kv_heads=seen.kv_heads if seen else 0,
        memory_mib=found.needs.npu_memory_gib * 1024,
    )


def npus(checkup: Checkup, patient: Patient) -> Verdict:
    """Whether a start would find NPUs now."""
    found, facts = _profile(patient), need(checkup.facts)
    lean(checkup.inventory, "npu-driver")
    if facts.inventory.driver is not DriverState.READY:
        return skipped("the driver does not answer")
    if refusal := check_supported(found.products, facts.inventory):
        return error(refusal.message, refusal.hint)
    unfit = {one.logic_id: one for one in facts.unfit}
    holders = find_holders(found.name, facts)
    demand, suspect = _demand(found, patient), facts.host_suspect
    chosen = choose_npus(demand, facts.inventory, holders, unfit, suspect)
    if isinstance(chosen, Failure):
        if not demand.heads:
            return skipped("nobody can tell how many NPUs share it: see model")
        return error(chosen.message, chosen.hint)
    told = ", ".join(str(npu.logic_id) for npu in chosen.npus)
    if chosen.degraded:
        return warning(f"cannot have all NPUs: {chosen.degraded}", "see: deepseekctl npus")
    if chosen.alarmed:
        return warning(f"cannot have NPUs that are well: {chosen.alarmed}", "see: deepseekctl npus")
    return ok(f"it would have {told} of {len(facts.inventory.npus)}")


def image(checkup: Checkup, patient: Patient) -> Verdict:
    """There, and made for this machine."""
    found, facts = _profile(patient), need(checkup.facts)
    reference = found.image_for(facts.inventory)
    lean(checkup.survey, "podman-service")
    if not facts.image_id(reference):
        return _missing(checkup, found, f"{reference} is not in Podman's storage", True)
    images = lean(checkup.store, "podman-storage").images
    stored = next((one for one in images if one.reference == reference), None)
    made_for = stored.architecture if stored is not None else ""
    here = ARCHITECTURES.get(facts.host.architecture, facts.host.architecture)
    if made_for and made_for != here:
        return error(
            f"cannot run {reference}: it is made for {made_for}, this machine is {here}",
            f"podman rmi {reference}, then: deepseekctl pull {found.name}",
        )
    return ok(f"{reference} ({made_for or 'of unknown architecture'})")


def room(checkup: Checkup, patient: Patient) -> Verdict:
    """For what has to be fetched."""
    found = _profile(patient)
    rooms = [need(one) for one in patient.room]
    if not rooms:
        return ok("nothing has to be fetched")
    keep = _supply(checkup).keep_free_gib
    hint = (
        "see: df -h, and: deepseekctl prune --dry-run; `models_dir` of agent.toml, or Podman's "
        "graphroot, may be on another disk"
    )
    if full := [one for one in rooms if one.free_bytes <= keep * GIB]:
        told = some(map(_room, full))
        return error(f"cannot fetch anything: {keep} GiB are to stay free, and {told}", hint)
    wanted = found.needs.disk_gib
    if short := [one for one in rooms if one.free_bytes < (wanted + keep) * GIB]:
        told = some(map(_room, short))
        why = f"it may need {wanted} GiB, {keep} are to stay free, and {told}"
        return warning(f"cannot be sure that {found.name} can be fetched: {why}", hint)
    return ok(some(map(_room, rooms)))


def _room(one: DiskFacts) -> str:
    return f"{one.place} has {gib(one.free_bytes)} GiB free"


def key_files(checkup: Checkup, patient: Patient) -> Verdict:
    """The API key, the certificate and its key."""
    found, facts = _profile(patient), need(checkup.facts)
    if not (found.api_key_file or found.tls_certificate):
        return ok("none is asked for")
    if not checkup.is_root:
        return skipped("only root may read keys")
    looked_at = replace(facts, files=need(patient.keys))
    return of_failure(check_files(found, looked_at), "can be used")


def port(checkup: Checkup, patient: Patient) -> Verdict:
    """Free, or ours."""
    found, facts = _profile(patient), need(checkup.facts)
    where = f"{found.listen}:{found.port}"
    view, unit = _view(checkup, patient), checkup.unit(front_unit(patient.name))
    own = container_name(found.name)
    runs = any(one.running and one.name == own for one in facts.podman.containers)
    if runs or (view is not None and view.phase in HOLDING):
        return ok(f"{where} is ours")
    failure = check_port(found, facts)
    if failure is not None and unit is not None and is_wished(unit) and not facts.podman_seen:
        return skipped(f"somebody listens on {where}: only root can tell whether it is ours")
    return of_failure(failure, f"{where} is free")
