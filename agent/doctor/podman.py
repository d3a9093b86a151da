# SPDX-License-Identifier: MulanPSL-2.0
"""Checks of Podman: version, which form of unit file, its service, its storage. Pure."""

from dataclasses import replace

from agent.config.values import Config, RendererChoice
from agent.doctor.checkup import Checkup
from agent.doctor.verdict import Verdict, error, lean, need, of_failure, ok, skipped, warning
from agent.facts import HostFacts
from agent.plan.needs import check_podman
from agent.render.choose import choose_renderer

# containers-storage.conf(5): every layer is a whole copy there.
SLOW_DRIVERS = ("vfs",)
_BARE = HostFacts(2, (0, 0, 0), 1, 0, "", ())


def version(checkup: Checkup) -> Verdict:
    found = need(checkup.podman)
    host = replace(_BARE, podman_version=found)
    return of_failure(check_podman(host), f"Podman {'.'.join(map(str, found))}")


def renderer(checkup: Checkup) -> Verdict:
    """Which form the unit file has here, and whether what makes a unit of a quadlet is there."""
    kernel, found = lean(checkup.kernel, "cgroup"), lean(checkup.podman, "podman")
    if not any(found):
        return skipped("cannot be told: see podman")
    host = replace(_BARE, podman_version=found, cgroup_version=kernel.cgroup_version)
    wanted = checkup.config.renderer if isinstance(checkup.config, Config) else RendererChoice.AUTO
    fitting = choose_renderer(RendererChoice.AUTO, host)
    why = f"Podman {'.'.join(map(str, found))}, cgroup v{kernel.cgroup_version}"
    if wanted is RendererChoice.QUADLET and fitting is RendererChoice.UNIT:
        return warning(
            f"cannot use a quadlet here, as agent.toml wants: {why}; a plain unit takes its place",
            'set renderer = "auto" in /etc/deepseek-agent/agent.toml',
        )
    if choose_renderer(wanted, host) is RendererChoice.UNIT:
        return ok(f"a plain systemd unit ({why})")
    if not need(checkup.quadlet):
        return warning(
            "cannot use a quadlet: Podman's generator is not in /usr/lib/systemd/system-generators;"
            " a plain unit takes its place",
            "dnf reinstall podman",
        )
    return ok(f"a quadlet ({why})")


def service(checkup: Checkup) -> Verdict:
    """Its API, through which images and containers are seen."""
    survey = need(checkup.survey)
    running = sum(one.running for one in survey.containers)
    return ok(f"answers, {running} of {len(survey.containers)} containers run")


def storage(checkup: Checkup) -> Verdict:
    store = need(checkup.store)
    if store.driver in SLOW_DRIVERS:
        return warning(
            f"cannot store images well: the driver {store.driver} in {store.storage} makes a whole "
            "copy of each layer",
            'set driver = "overlay" in /etc/containers/storage.conf before images are there, on a '
            "file system that can do it (xfs, ext4)",
        )
    if not store.driver:
        return error(f"cannot tell how {store.storage} is kept", "see: podman info")
    return ok(f"{store.driver} in {store.storage}")
