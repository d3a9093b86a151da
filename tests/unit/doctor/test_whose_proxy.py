# SPDX-License-Identifier: MulanPSL-2.0
"""Hubs are asked as supply would, registries as Podman's service would: by their own proxies."""

import asyncio
from collections.abc import Mapping

import pytest

from agent.doctor.looks import Reached
from agent.doctoring import patients
from agent.host.reach import Address
from tests.build import build_profile
from tests.unit.host.test_reach import answering, status

HUB, REGISTRY = Address("http://hub.invalid/"), Address("http://registry.invalid/v2/")


def reach(
    monkeypatch: pytest.MonkeyPatch, units: Mapping[str, str], running: Mapping[str, str] | None
) -> tuple[Reached, ...]:
    """`units`: the HTTP proxy of each; `running`: what Podman's process has."""

    async def read_proxies(unit: str, deadline_s: float) -> dict[str, str]:
        return {"HTTP_PROXY": units[unit], "HTTPS_PROXY": units[unit]} if units[unit] else {}

    monkeypatch.setattr(patients, "read_proxies", read_proxies)
    monkeypatch.setattr(patients, "read_podman_proxies", lambda: running)
    monkeypatch.setattr(patients, "read_engine_proxies", dict)
    return asyncio.run(patients._reach(build_profile(), [HUB], [REGISTRY]))


def test_podman_without_the_proxy_of_supply(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(status(200)) as port:
        units = {"deepseek-supply@8b.service": f"http://user:secret@127.0.0.1:{port}"}
        hub, registry = reach(monkeypatch, units, {})
    assert (hub.problem, hub.proxy, hub.by_podman) == ("", f"127.0.0.1:{port}", False)
    assert registry.lookup_problem
    assert (registry.proxy, registry.by_podman, registry.lacks_proxy) == ("", True, True)
    assert "secret" not in f"{hub}{registry}"


def test_podman_with_one_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(status(200)) as port:
        proxy = f"http://127.0.0.1:{port}"
        units = {"deepseek-supply@8b.service": proxy, "podman.service": proxy}
        _, registry = reach(monkeypatch, units, None)  # it does not run now
        assert (registry.problem, registry.lacks_proxy) == ("", False)
        assert registry.proxy == f"127.0.0.1:{port}"
        units["deepseek-supply@8b.service"] = ""
        hub, registry = reach(monkeypatch, units, {"http_proxy": proxy})
    assert hub.lookup_problem
    assert (registry.problem, registry.lacks_proxy) == ("", False)
