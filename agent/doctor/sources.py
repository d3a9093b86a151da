# SPDX-License-Identifier: MulanPSL-2.0
"""Checks of where something has to come from: names, hubs, registries, and whose proxies. Pure."""

from collections.abc import Sequence

from agent.doctor.checkup import Checkup, Patient
from agent.doctor.looks import Reached
from agent.doctor.verdict import Verdict, error, lean, need, ok, skipped, some, warning

NO_PROXY = (
    "systemctl edit podman.service ([Service], Environment=HTTPS_PROXY=...), then: systemctl "
    "try-restart podman.service"
)


def lookup(checkup: Checkup, patient: Patient) -> Verdict:
    """Names of the hosts that something has to come from."""
    sources = lean(patient.sources, "sources")
    direct = [one for one in sources if not one.proxy and not one.lacks_proxy]
    unknown = sorted({one.host for one in direct if one.lookup_problem})
    if not direct:
        return skipped("a proxy looks names up")
    if not unknown:
        return ok(some(sorted({one.host for one in direct})))
    why = next(one.lookup_problem for one in direct if one.lookup_problem)
    found = f"cannot look up {some(unknown)}: {why}"
    hint = "see /etc/resolv.conf, and: getent hosts NAME; without internet: deepseekctl bundle"
    return (
        error(found, hint)
        if len(unknown) == len({o.host for o in direct})
        else warning(found, hint)
    )


def reach(checkup: Checkup, patient: Patient) -> Verdict:
    """Hubs and registries that something has to come from."""
    sources = need(patient.sources)
    if (refusal := _without_proxy(sources)) is not None:
        return refusal
    known = [one for one in sources if not one.lookup_problem]
    if not known:
        return skipped("cannot be told: see dns")
    silent = [one for one in known if one.problem]
    if not silent:
        return ok(f"{some(map(_said, known))}: each answers")
    told = some(f"{one.host}: {one.problem}" for one in silent)
    hint = (
        "a proxy: systemctl edit deepseek-supply@.service, and podman.service for the image "
        "(Environment=HTTPS_PROXY=...); a mirror: [supply] of agent.toml; without internet: "
        "deepseekctl bundle"
    )
    if len(silent) == len(known):
        return error(f"cannot fetch what is missing: {told}", hint)
    return warning(f"cannot reach every source: {told}", hint)


def _without_proxy(sources: Sequence[Reached]) -> Verdict | None:
    """The model would come and the image would not."""
    troubles = {one.host: one.problem or one.lookup_problem for one in sources if one.by_podman}
    lost = [one.host for one in sources if one.lacks_proxy and troubles[one.host]]
    if not lost:
        return None
    told = some(f"{host}: {troubles[host]}" for host in lost)
    why = f"deepseek-supply@ has a proxy, and podman.service, which pulls it, has none: {told}"
    if all(troubles.values()):
        return error(f"cannot pull the image: {why}", NO_PROXY)
    return warning(f"cannot pull the image from everywhere: {why}", NO_PROXY)


def _said(one: Reached) -> str:
    return f"{one.host} (by {one.proxy})" if one.proxy else one.host
