# SPDX-License-Identifier: MulanPSL-2.0
"""Checks of ourselves: configuration, units, whether agent and npud answer, versions. Pure."""

from agent.config.values import Mode
from agent.doctor.checkup import Checkup
from agent.doctor.verdict import Verdict, error, lean, need, of_failure, ok, skipped, some, warning
from agent.model import UnitStatus, front_unit

SERVICE, SOCKET, NPUD = "deepseek-agent.service", "deepseek-agent.socket", "deepseek-npud.service"
UNITS = (SERVICE, SOCKET, NPUD)


def configuration(checkup: Checkup) -> Verdict:
    config = need(checkup.config)
    if config.broken:
        first = config.broken[0]
        more = f" (and {len(config.broken) - 1} more)" if len(config.broken) > 1 else ""
        return error(first.message + more, first.hint)
    if config.faults.broken:
        return error(config.faults.broken[0].message, config.faults.broken[0].hint)
    if config.mode is Mode.OBSERVE:
        return warning(
            'cannot start or mend anything: mode = "observe", the agent only watches',
            'set mode = "act" in /etc/deepseek-agent/agent.toml; systemctl reload deepseek-agent',
        )
    return ok(f"can be used, {len(config.profiles)} models are described")


def units(checkup: Checkup) -> Verdict:
    """Those of the agent: installed, not masked, up where a model is wished."""
    need(checkup.units)
    found = {name: checkup.unit(name) for name in UNITS}
    if not any(found.values()):
        return skipped("the package is not installed: there are no units of it")
    there = [unit for unit in found.values() if unit is not None]
    if lacking := [name for name, unit in found.items() if unit is None]:
        return error(
            f"cannot use {some(lacking)}: systemd does not know it",
            "systemctl daemon-reload; else: dnf reinstall deepseek-agent",
        )
    if masked := [unit.name for unit in there if unit.load_state == "masked"]:
        return error(
            f"cannot start {some(masked)}: it is masked",
            f"systemctl unmask {' '.join(masked)}",
        )
    if failed := [unit for unit in there if unit.active == "failed"]:
        return error(
            f"cannot keep {failed[0].name} up: it failed ({failed[0].result})",
            f"journalctl -b -u {failed[0].name}",
        )
    return _up(checkup, there)


def _up(checkup: Checkup, there: list[UnitStatus]) -> Verdict:
    down = [unit.name for unit in there if not unit.active.is_up()]
    wished = wished_names(checkup)
    if not down:
        return ok("socket, agent and npud are up")
    if wished:
        return error(
            f"cannot look after {some(wished)}: {some(down)} is not active",
            f"systemctl start {' '.join(down)}; see: systemctl status deepseek-agent",
        )
    if SOCKET in down:
        return warning(
            "cannot reach the agent: deepseek-agent.socket is not active (nor is a model wished)",
            "systemctl start deepseek-agent.socket; starting a model does so too",
        )
    return ok(f"not needed yet, {some(down)} starts with the first model")


def wished_names(checkup: Checkup) -> list[str]:
    """Models whose front unit is enabled or up."""
    names = [patient.name for patient in checkup.patients]
    fronts = [(name, checkup.unit(front_unit(name))) for name in names]
    return [name for name, unit in fronts if unit is not None and is_wished(unit)]


def is_wished(front: UnitStatus) -> bool:
    return front.active.is_up() or front.unit_file_state in ("enabled", "enabled-runtime")


def answers(checkup: Checkup) -> Verdict:
    """The agent's socket, and what the agent itself finds wrong."""
    snapshot = need(checkup.snapshot)
    problem = snapshot.config_problem or snapshot.systemd_problem
    if problem is not None:
        return of_failure(problem, "")
    if snapshot.host_suspect:
        return error(
            f"cannot trust the NPUs of this host: {snapshot.host_suspect}",
            "once it is well: deepseekctl quarantine clear host",
        )
    if snapshot.broken:
        return error(f"cannot use a profile: {snapshot.broken[0]}", "deepseekctl config check")
    if name := next(iter(snapshot.without_profile), ""):
        return error(
            f"cannot serve {name}: it is to serve, and there is no profile of that name",
            f"write /etc/deepseek-agent/models.d/{name}.toml, or: "
            f"systemctl disable --now deepseek@{name}",
        )
    if refused := [view.name for view in snapshot.instances if view.refused]:
        return error(
            f"cannot serve {some(refused)}: refused at the start, and waits for somebody",
            "what deepseekctl status says; then: "
            f"systemctl start {' '.join(front_unit(name) for name in refused)}",
        )
    uncounted = (one.uncounted for one in snapshot.instances)
    if (failure := next((one for one in uncounted if one is not None), None)) is not None:
        return warning(failure.message, failure.hint)
    return ok(f"answers, {len(snapshot.instances)} models known")


def version(checkup: Checkup) -> Verdict:
    snapshot = lean(checkup.snapshot, "agent-answers")
    if snapshot.version != checkup.version:
        return warning(
            f"cannot expect what is installed: the agent that runs is {snapshot.version}, "
            f"installed is {checkup.version}",
            "systemctl restart deepseek-agent (what serves is not disturbed)",
        )
    return ok(f"{checkup.version} runs, as installed")


def npud(checkup: Checkup) -> Verdict:
    """Whether the process that asks the driver has an answer."""
    unit = checkup.unit(NPUD)
    if unit is None or not unit.active.is_up():
        return skipped("deepseek-npud does not run")
    source = lean(checkup.inventory, "npu-driver").source
    return ok("answers" + (f", by {source}" if source else ""))
