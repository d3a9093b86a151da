# SPDX-License-Identifier: MulanPSL-2.0
"""What an engine has left behind: its own container under any name, and processes without one."""

from dataclasses import replace

from agent.facts import PayloadFacts, PodmanSurvey
from agent.plan.leftovers import find_leftovers
from tests.build import build_container

OWN = build_container("deepseek-vllm-8b", "/dev/davinci0")
RENAMED = replace(build_container("mine"), unit="deepseek-vllm-8b.service")
OTHER = build_container("deepseek-vllm-7b", "/dev/davinci1")
FOREIGN = build_container("database")


def survey(*containers: object) -> PodmanSurvey:
    return PodmanSurvey((5, 4, 2), (), containers)  # type: ignore[arg-type]


def process(pid: int, container_id: str, unit: str = "") -> PayloadFacts:
    return PayloadFacts(pid, pid * 100, container_id, unit)


def test_nothing_is_left() -> None:
    payloads = [process(2, OTHER.container_id)]
    assert not find_leftovers("8b", payloads, survey(OTHER, FOREIGN))


def test_its_own_by_name_and_by_label() -> None:
    payloads = [process(1, OWN.container_id), process(2, OTHER.container_id)]
    found = find_leftovers("8b", payloads, survey(OWN, RENAMED, OTHER, FOREIGN))
    assert found.containers == (OWN, RENAMED)
    assert [one.pid for one in found.payloads] == [1]


def test_a_process_whose_container_podman_has_forgotten() -> None:
    """Podman 4.3.1 drops the record of a container that it takes for stopped (seen in the lab)."""
    found = find_leftovers("8b", [process(1, "f" * 64)], survey(OTHER))
    assert (found.containers, found.payloads) == ((), ())
    assert [one.pid for one in found.strays] == [1]  # nobody knows whose
    assert [one.pid for one in found.of_sweep().payloads] == [1]


def test_an_engine_whose_unit_is_up_is_nobodys_leftover() -> None:
    """Podman has lost all containers (its database was given up for another), and they serve on."""
    up = "deepseek-vllm-7b.service"
    payloads = [process(1, "a" * 64, up), process(2, "b" * 64, "deepseek-vllm-14b.service")]
    found = find_leftovers("8b", payloads, survey(), [up])
    assert [one.pid for one in found.strays] == [2]
    assert not found.of_sweep()  # of that one it is


def test_a_stray_that_does_not_end_is_passed_over() -> None:
    """Also when its unit is not known any more: the next start removes the file that tells it."""
    other = process(1, "a" * 64, "deepseek-vllm-7b.service")
    own = process(2, "b" * 64, "deepseek-vllm-8b.service")
    found = find_leftovers("8b", [replace(other, unit=""), own], survey(), (), [other, own])
    assert (found.payloads, found.strays) == ((own,), ())


def test_what_was_its_own_stays_so_when_nothing_tells_it_any_more() -> None:
    """Podman removes the file that tells the unit, with the container."""
    own = process(2, "b" * 64, "deepseek-vllm-8b.service")
    hanging = replace(own, unit="")
    found = find_leftovers("8b", [hanging], survey(), known=[own])
    assert (found.payloads, found.strays) == ((hanging,), ())
    assert not find_leftovers("8b", [], survey(), known=[own])


def test_its_own_lost_container_is_left_over_whoever_else_is_up() -> None:
    own = process(1, "a" * 64, "deepseek-vllm-8b.service")
    found = find_leftovers("8b", [own], survey(), ["deepseek-vllm-7b.service"])
    assert found.payloads == (own,)
