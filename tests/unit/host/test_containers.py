# SPDX-License-Identifier: MulanPSL-2.0
"""Podman: the real worker process over a fake API, and what is made of every kind of trouble."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from agent.errors import Code, HostError, HostUnavailable, Remedy
from agent.facts import ImageFacts, PodmanStore, StoredImage
from agent.host.containers import SURVEY_DEADLINE_S, Podman
from tests.fakes.podman_api import FakeContainer, FakePodmanApi, Mode
from tests.scenario.clock import run, skip

IMAGE = "quay.io/ascend/vllm-ascend:v0.18.0-openeuler"
IMAGE_ID = "ab" * 32
NAME = "deepseek-vllm-8b"
Kind = TypeVar("Kind")


@pytest.fixture
def api(tmp_path: Path) -> FakePodmanApi:
    return FakePodmanApi(tmp_path / "podman.sock", images={IMAGE: f"sha256:{IMAGE_ID}"})


def asked(api: FakePodmanApi, work: Coroutine[Any, Any, Kind]) -> Kind:
    async def scenario() -> Kind:
        await api.start()
        try:
            return await work
        finally:
            await api.close()

    return run(scenario())


def podman(api: FakePodmanApi) -> Podman:
    return Podman(("--socket", f"unix://{api.path}"))


def test_survey(api: FakePodmanApi) -> None:
    api.containers = [
        FakeContainer(NAME, unit=f"{NAME}.service", devices=("/dev/davinci0", "/dev/hisi_hdc")),
        FakeContainer("stopped", running=False, devices=("/dev/davinci1",)),
    ]
    seen = asked(api, podman(api).survey([IMAGE]))
    assert seen.version == (5, 4, 2)
    assert seen.images == (ImageFacts(IMAGE, IMAGE_ID),)
    ours, stopped = seen.containers
    assert (ours.name, ours.running, ours.unit) == (NAME, True, f"{NAME}.service")
    assert ours.devices == ("/dev/davinci0", "/dev/hisi_hdc")
    assert (stopped.running, stopped.unit, stopped.devices) == (False, "", ())
    assert f"GET /containers/{stopped.container_id}/json" not in api.requests  # not looked at


def test_where_things_are_kept_and_for_which_machine(api: FakePodmanApi) -> None:
    api.architecture = "amd64"
    kept = asked(api, podman(api).store([IMAGE, "quay.io/not/there:1"]))
    assert kept == PodmanStore("overlay", api.storage, api.storage, (StoredImage(IMAGE, "amd64"),))


@pytest.mark.parametrize(
    ("version", "parsed"),
    [("4.9.4-rhel", (4, 9, 4)), ("5.0", (5, 0, 0)), ("3.4.4", (3, 4, 4)), ("5.6.0-dev", (5, 6, 0))],
)
def test_versions(api: FakePodmanApi, version: str, parsed: tuple[int, int, int]) -> None:
    api.version = version
    assert asked(api, podman(api).survey([IMAGE])).version == parsed


@pytest.mark.parametrize("version", ["", "new"])
def test_an_answer_without_a_version(api: FakePodmanApi, version: str) -> None:
    api.version = version
    with pytest.raises(HostUnavailable, match=f"{version!r} is no version"):
        asked(api, podman(api).survey([IMAGE]))


def test_devices_with_the_numbers_of_others_go_by_their_names(api: FakePodmanApi) -> None:
    api.containers = [
        FakeContainer("one", devices=("/dev/davinci3", "/dev/fuse"), seen_as="/dev/null"),
        FakeContainer("two", devices=("/dev/davinci0",), seen_as="/dev/davinci5"),
    ]
    one, two = asked(api, podman(api).survey([])).containers
    assert one.devices == ("/dev/davinci3", "/dev/null")
    assert two.devices == ("/dev/davinci5",)  # renamed inside


def test_the_address_is_that_of_the_first_network(api: FakePodmanApi) -> None:
    api.containers = [
        FakeContainer("two", addresses={"podman": ("10.88.0.2", ""), "other": ("10.89.0.2", "")}),
        FakeContainer("six", addresses={"none": ("", ""), "podman": ("", "fd00::2")}),
        FakeContainer("host"),
        FakeContainer("stopped", running=False, addresses={"podman": ("10.88.0.3", "")}),
    ]
    seen = asked(api, podman(api).survey([]))
    assert [one.address for one in seen.containers] == ["10.88.0.2", "fd00::2", "", ""]


def test_several_images_and_none(api: FakePodmanApi) -> None:
    seen = asked(api, podman(api).survey([IMAGE, "localhost/other"]))
    assert [one.image_id for one in seen.images] == [IMAGE_ID, ""]
    assert asked(api, podman(api).survey([])).images == ()


DIGEST = f"quay.io/ascend/vllm-ascend@sha256:{'ef' * 32}"


def test_by_a_digest_one_that_was_carried_here(api: FakePodmanApi) -> None:
    """Podman does not find it by that (podman#18809); it has a name of ours."""
    api.images = {f"localhost/deepseek-agent/carried/sha256:{'ef' * 32}": IMAGE_ID}
    assert asked(api, podman(api).survey([DIGEST])).images == (ImageFacts(DIGEST, IMAGE_ID),)
    kept = asked(api, podman(api).store([DIGEST]))
    assert kept.images == (StoredImage(DIGEST, "arm64"),)


def test_by_a_digest_the_one_that_podman_finds_comes_first(api: FakePodmanApi) -> None:
    api.images = {
        f"localhost/deepseek-agent/carried/sha256:{'ef' * 32}": "cd" * 32,
        DIGEST: IMAGE_ID,
    }
    assert asked(api, podman(api).survey([DIGEST])).images == (ImageFacts(DIGEST, IMAGE_ID),)


def test_an_image_that_is_not_there(api: FakePodmanApi) -> None:
    api.images.clear()
    assert asked(api, podman(api).survey([IMAGE])).images[0].image_id == ""


def test_an_image_that_podman_cannot_read_is_not_there(api: FakePodmanApi) -> None:
    """And no trouble of Podman's: other models have images that it can read."""
    broken = "cd" * 32
    api.images["localhost/broken:1"] = broken
    api.unreadable.add(broken)
    seen = asked(api, podman(api).survey(["localhost/broken:1", IMAGE]))
    assert [one.image_id for one in seen.images] == ["", IMAGE_ID]


def test_a_momentary_error_about_an_image_is_not_its_absence(api: FakePodmanApi) -> None:
    """Another image would be started, and kept."""
    api.image_errors = ["readlink /x/overlay: invalid argument"]
    assert asked(api, podman(api).survey([IMAGE])).images[0].image_id == IMAGE_ID


def test_an_error_that_is_not_about_the_image_is_podman_s(api: FakePodmanApi) -> None:
    """So that its service is renewed when it goes on."""
    api.image_errors = ["open /x/overlay-images/y: too many open files"] * 2
    with pytest.raises(HostUnavailable, match="too many open files") as raised:
        asked(api, podman(api).survey([IMAGE]))
    assert raised.value.failure.code is Code.PODMAN_UNAVAILABLE


def test_a_container_that_goes_away_meanwhile(api: FakePodmanApi) -> None:
    api.containers = [FakeContainer("gone", vanishes=True), FakeContainer(NAME)]
    seen = asked(api, podman(api).survey([IMAGE]))
    assert [one.name for one in seen.containers] == ["gone", NAME]
    assert seen.containers[0].devices == ()


def test_remove(api: FakePodmanApi) -> None:
    api.containers = [FakeContainer(NAME), FakeContainer("other")]
    asked(api, podman(api).remove(NAME))
    assert [one.name for one in api.containers] == ["other"]
    asked(api, podman(api).remove(NAME))  # once more is no error


@pytest.mark.parametrize("mode", [Mode.ERROR, Mode.GARBAGE, Mode.CUT])
@pytest.mark.parametrize("verb", ["survey", "remove"])
def test_an_api_in_trouble_is_tried_again(api: FakePodmanApi, mode: Mode, verb: str) -> None:
    api.mode = mode
    with pytest.raises(HostUnavailable) as raised:
        asked(api, getattr(podman(api), verb)(IMAGE))
    failure = raised.value.failure
    assert failure.code is Code.PODMAN_UNAVAILABLE
    assert failure.remedy is Remedy.RETRY
    assert failure.message.startswith("cannot ask Podman: ")
    assert "Traceback" not in failure.message
    if mode is Mode.ERROR:
        assert "the database is locked" in failure.message


@pytest.mark.parametrize("verb", ["survey", "remove"])
def test_no_socket(tmp_path: Path, verb: str) -> None:
    ask = getattr(Podman(("--socket", f"unix://{tmp_path}/missing.sock")), verb)
    with pytest.raises(HostUnavailable) as raised:
        run(ask(IMAGE))
    assert raised.value.failure.code is Code.PODMAN_UNAVAILABLE
    assert "missing.sock" in raised.value.failure.message


def test_an_api_that_never_answers_is_given_up_by_the_parent(api: FakePodmanApi) -> None:
    """The worker's own deadline is 10 s a call; this is the one around all of it."""
    api.mode = Mode.SILENT

    async def ask() -> None:
        asking = asyncio.create_task(podman(api).survey([IMAGE]))
        while not api.requests:  # noqa: ASYNC110 - the double has no event for it
            await asyncio.sleep(0.01)
        began = time.monotonic()
        skip(SURVEY_DEADLINE_S)
        with pytest.raises(HostUnavailable) as raised:
            await asking
        assert raised.value.failure.code is Code.PODMAN_SILENT
        assert "no answer within 30 s" in raised.value.failure.message
        assert time.monotonic() - began < 2.0

    asked(api, ask())


WORKER = """
import sys
from agent.host.podman import verbs
verbs.CALL_TIMEOUT_S = 0.3
sys.exit(verbs.main(sys.argv[1:]))
"""


async def worker(api: FakePodmanApi, *arguments: str) -> str:
    """The worker with a shorter deadline for one call; there is no option for it."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", WORKER, "--socket", f"unix://{api.path}", *arguments),
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        stdout=subprocess.PIPE,
    )
    output, _ = await child.communicate()
    return output.decode()


def test_an_api_that_never_answers_is_given_up_by_the_worker(api: FakePodmanApi) -> None:
    api.mode = Mode.SILENT
    answer = asked(api, worker(api, "survey", IMAGE))
    assert '"code": "podman-silent"' in answer
    assert "it does not answer" in answer


def test_removing_an_engine_that_ignores_sigterm(api: FakePodmanApi) -> None:
    """DELETE ?force=True answers when the container is stopped: longer than any other call."""
    api.containers = [FakeContainer(NAME)]
    api.remove_takes_s = 1.0  # more than CALL_TIMEOUT_S, less than REMOVE_DEADLINE_S
    assert asked(api, worker(api, "remove", NAME)) == '{"answer": null}'


def test_no_process_can_be_started(api: FakePodmanApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with EAGAIN from fork(2); here the interpreter is not where it was."""
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(HostError) as raised:
        asked(api, podman(api).survey([IMAGE]))
    assert raised.value.failure.remedy is Remedy.RETRY


def test_the_caller_s_own_connections_do_not_matter(
    api: FakePodmanApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CONTAINER_HOST", "unix:///nonexistent.sock")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert asked(api, podman(api).survey([IMAGE])).images[0].image_id == IMAGE_ID
