# SPDX-License-Identifier: MulanPSL-2.0
"""The codes: stable names, and one remedy for each."""

import re

import pytest

from agent import exits
from agent.errors import (
    AgentError,
    Code,
    ConfigError,
    Failure,
    HostError,
    HostUnavailable,
    Remedy,
    http_status,
    remedy,
)


@pytest.mark.parametrize("code", Code)
def test_every_code_has_a_remedy_and_a_stable_form(code: Code) -> None:
    assert remedy(code) in Remedy
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", code)
    assert Failure(code, "x").remedy is remedy(code)


def test_transient_trouble_is_never_left_to_a_person() -> None:
    """Only bad configuration and unknown instances are; the driver at boot is waited for."""
    by_remedy = {one: {code for code in Code if remedy(code) is one} for one in Remedy}
    assert by_remedy[Remedy.PERSON] == {Code.CONFIG_INVALID, Code.INSTANCE_UNKNOWN}
    assert {Code.DRIVER_ABSENT, Code.NPU_DEVICE_MISSING} <= by_remedy[Remedy.EVENT]
    assert {Code.IMAGE_MISSING, Code.MODEL_MISSING} <= by_remedy[Remedy.CHANGE]
    assert {Code.ENGINE_DIED, Code.PODMAN_UNAVAILABLE} <= by_remedy[Remedy.RETRY]


@pytest.mark.parametrize("code", [code for code in Code if remedy(code) is Remedy.PERSON])
def test_attach_leaves_on_what_a_person_must_mend(code: Code) -> None:
    """attach knows nothing but the HTTP status: 4xx is an answer."""
    assert 400 <= http_status(code) < 500


@pytest.mark.parametrize("code", [code for code in Code if remedy(code) is Remedy.EVENT])
def test_attach_stays_on_what_comes_by_itself(code: Code) -> None:
    assert http_status(code) >= 500


def test_a_refusal_is_no_fault_of_the_agent() -> None:
    """500 is for what nobody has thought of; monitoring may page somebody for it."""
    assert [code for code in Code if http_status(code) == 500] == [Code.INTERNAL]


def test_the_tree() -> None:
    assert issubclass(ConfigError, AgentError)
    assert issubclass(HostUnavailable, HostError)
    assert issubclass(HostError, AgentError)
    error = HostUnavailable(Code.NPUD_SILENT, "cannot ask npud: no answer", "look at it")
    assert str(error) == "cannot ask npud: no answer"
    assert error.failure == Failure(Code.NPUD_SILENT, "cannot ask npud: no answer", "look at it")


def test_exit_statuses_are_those_of_the_design() -> None:
    assert (exits.HELD, exits.PERSON) == (69, 78)
