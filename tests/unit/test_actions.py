# SPDX-License-Identifier: MulanPSL-2.0
"""Starting and stopping one engine, over doubles of the ports: what is asked, in which order."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import pytest

from agent.action.facts import read_facts
from agent.action.prepare import Request
from agent.action.running import FOLDER, Running, load_running
from agent.action.start import STOP_JOB_DEADLINE_S, Actions, Started, Turn
from agent.action.tried import Tried
from agent.config.values import RendererChoice
from agent.control.record import server
from agent.errors import Code, Failure, HostError, HostUnavailable, Remedy
from agent.facts import Listener, ModelFacts, Neighbor, PayloadFacts
from agent.model import (
    DriverState,
    Inventory,
    JobResult,
    NpuProcess,
    Unfit,
    UnitActive,
    UnitStatus,
    engine_unit,
)
from agent.plan.supply import Lacking
from agent.render.choose import ETC_QUADLET, RUN_QUADLET, RUN_UNIT
from agent.render.workload import STOP_LIMIT_S, UNIT_START_TIMEOUT_S
from tests.build import (
    build_container,
    build_front,
    build_host,
    build_inventory,
    build_npu,
    build_profile,
    build_survey,
)
from tests.scenario.ports import FakeEvidence, FakeMachine, FakePayloads, FakePodman, RootedFiles

UNIT = "deepseek-vllm-8b.service"
NAME = "deepseek-vllm-8b"
QUADLET = RUN_QUADLET / f"{NAME}.container"
PLAIN = RUN_UNIT / UNIT
RUNNING = str(FOLDER / "8b.json")
UNAVAILABLE = HostUnavailable(Code.SYSTEMD_UNAVAILABLE, "cannot call x: no reply")


DAMAGED = Failure(Code.MODEL_INVALID, "cannot start 8b: a file of the model is damaged")


@dataclass
class FakeUnits:
    """`ports.UnitManager` with one unit; the file decides whether it is loaded."""

    files: RootedFiles
    active: UnitActive = UnitActive.INACTIVE
    start_result: JobResult = JobResult.DONE
    after_start: UnitActive = UnitActive.ACTIVE
    stop_result: JobResult = JobResult.DONE
    after_stop: UnitActive = UnitActive.INACTIVE
    loaded: bool = False
    stays: str = ""  # a load state that no reload changes
    needs_reload: bool = False
    fragment: str = ""  # of another file than ours
    calls: list[str] = field(default_factory=list)
    broken: dict[str, HostError] = field(default_factory=dict)
    others: dict[str, UnitActive] = field(default_factory=dict)
    silent_about: str = ""

    async def status(self, unit: str) -> UnitStatus:
        self._take("status")
        if unit == self.silent_about:
            raise UNAVAILABLE
        if unit in self.others:
            return replace(build_front(self.others[unit]), name=unit)
        load = self.stays or ("loaded" if self.loaded else "not-found")
        return replace(
            build_front(self.active, result="exit-code", exit_status=125),
            name=unit,
            load_state=load,
            fragment_path=self.fragment or self._place(),
            need_daemon_reload=self.needs_reload,
            invocation_id=f"{self.calls.count('start')}",
        )

    def _place(self) -> str:
        found = (path for path in (QUADLET, PLAIN) if self.files.read(path) is not None)
        return str(next(found, ""))

    async def start(self, unit: str, deadline_s: float) -> JobResult:
        self._take("start")
        assert deadline_s > UNIT_START_TIMEOUT_S  # systemd's own word is heard first
        self.active = self.after_start
        return self.start_result

    async def stop(self, unit: str, deadline_s: float) -> JobResult:
        self._take("stop")
        assert deadline_s > STOP_LIMIT_S
        self.active = self.after_stop
        return self.stop_result

    async def reset_failed(self, unit: str) -> None:
        self._take("reset")

    async def reload(self) -> None:
        self._take("reload")
        self.needs_reload = False
        self.loaded = any(self.files.read(path) for path in (QUADLET, PLAIN))

    def _take(self, verb: str) -> None:
        self.calls.append(verb)
        if verb in self.broken:
            raise self.broken[verb]

    def acts(self) -> list[str]:
        return [call for call in self.calls if call != "status"]


@dataclass
class World:
    """One host."""

    files: RootedFiles
    units: FakeUnits
    podman: FakePodman
    machine: FakeMachine
    payloads: FakePayloads
    request: Request
    claimed: list[tuple[int, ...]] = field(default_factory=list)
    tried: Tried | None = None
    attempted: list[str] = field(default_factory=list)

    async def known(self) -> Tried | None:
        return self.tried

    def actions(self) -> Actions:
        evidence = FakeEvidence()
        return Actions(self.units, self.podman, self.files, self.machine, self.payloads, evidence)

    def start(
        self, refusal: Callable[[], Awaitable[Failure | None]] | None = None
    ) -> Started | Lacking | Failure:
        async def whole() -> Started | Lacking | Failure:
            lock = asyncio.Lock()
            turn = Turn(
                lock,
                lambda: self.request,
                self.claimed.append,
                refusal or _allowed,
                self.known,
                self.attempted.append,
            )
            return await self.actions().start(self.request.profile.name, turn)

        return asyncio.run(whole())

    def running(self) -> Running:
        """What was started."""
        outcome = self.start()
        assert isinstance(outcome, Started)
        assert outcome.running is not None
        return outcome.running

    def failure(self) -> Failure:
        outcome = self.start()
        assert isinstance(outcome, Failure)
        return outcome


async def _allowed() -> None:
    return None


@pytest.fixture
def world(tmp_path: Path) -> World:
    files = RootedFiles(tmp_path)
    request = Request(build_profile(), RendererChoice.AUTO, build_inventory(), ())
    return World(files, FakeUnits(files), FakePodman(), FakeMachine(), FakePayloads(), request)


def test_a_first_start(world: World) -> None:
    running = world.running()
    assert world.units.acts() == ["reload", "reset", "start"]
    assert world.files.written == [str(QUADLET), RUNNING]
    assert (running.path, running.npus) == (str(QUADLET), (0,))
    assert running.text == world.files.read(QUADLET)
    assert world.claimed == [(0,)]
    assert load_running(world.files, "8b") == running


def test_what_was_tried_in_vain_is_not_started_again(world: World) -> None:
    world.start()
    (mark,) = world.attempted
    world.units.active = UnitActive.FAILED
    world.units.calls.clear()
    world.tried = Tried(mark, DAMAGED)
    assert world.start() == DAMAGED
    assert world.units.acts() == []


def test_another_npu_mends_no_model(world: World) -> None:
    world.start()
    world.units.active = UnitActive.FAILED
    world.tried = Tried(world.attempted[0], DAMAGED)
    world.request = replace(world.request, unfit=(Unfit(0, "it is set aside", False),))
    assert world.start() == DAMAGED
    assert world.claimed == [(0,), (1,)]


@pytest.mark.parametrize(
    "change",
    [
        lambda world: setattr(world.machine, "identity", "a file was mended"),
        lambda world: world.podman.images.update({image_of(world): "f" * 64}),
        lambda world: setattr(
            world,
            "request",
            replace(world.request, profile=build_profile(vllm={"max_model_len": 2048})),
        ),
        lambda world: setattr(
            world, "request", replace(world.request, inventory=build_inventory(driver_version="9"))
        ),
        lambda world: setattr(world, "tried", None),
    ],
    ids=["files", "image", "profile", "driver", "a person"],
)
def test_but_it_is_when_something_has_changed(
    world: World, change: Callable[[World], None]
) -> None:
    world.start()
    world.units.active = UnitActive.FAILED
    world.tried = Tried(world.attempted[0], DAMAGED)
    change(world)
    assert isinstance(world.start(), Started)


def test_a_start_tells_which_engine_came_of_it(world: World) -> None:
    """One that somebody restarts before the next look is another one, and is not taken for it."""
    for invocation in ("1", "2"):
        outcome = world.start()
        assert isinstance(outcome, Started)
        assert outcome.invocation == invocation
        world.units.active = UnitActive.FAILED


def image_of(world: World) -> str:
    return world.request.profile.image_for(world.request.inventory)


def test_the_size_of_the_model_is_kept_with_it(world: World) -> None:
    world.machine.weights_mib = 15_000
    assert world.running().weights_mib == 15_000


def test_the_same_again_writes_and_reloads_nothing(world: World) -> None:
    world.start()
    world.units.active = UnitActive.FAILED
    world.units.calls.clear()
    world.start()
    assert world.units.acts() == ["reset", "start"]
    assert world.files.written == [str(QUADLET), RUNNING, RUNNING]


@pytest.mark.parametrize("active", [UnitActive.ACTIVE, UnitActive.ACTIVATING, UnitActive.RELOADING])
def test_what_runs_is_left_alone(world: World, active: UnitActive) -> None:
    world.units.active = active
    assert world.start() == Started(None)
    assert world.units.acts() == []
    assert world.files.written == []
    assert world.podman.surveys == 0


@pytest.mark.parametrize("active", [UnitActive.DEACTIVATING, UnitActive.UNKNOWN])
def test_a_unit_that_is_not_down_is_not_touched(world: World, active: UnitActive) -> None:
    """While it stops its file may not change, and its container is systemd's to remove."""
    world.units.active = active
    world.podman.containers[NAME] = build_container(NAME, "/dev/davinci0")
    outcome = world.failure()
    assert outcome.remedy is Remedy.RETRY
    assert world.units.acts() == []
    assert world.podman.removed == []
    assert world.files.written == []


def test_a_front_that_is_not_up_yet(world: World) -> None:
    async def refusal() -> Failure:
        return Failure(Code.NOT_WISHED, "cannot start the engine yet: its front unit is not up")

    outcome = world.start(refusal)
    assert isinstance(outcome, Failure)
    assert outcome.code is Code.NOT_WISHED
    assert outcome.remedy is Remedy.RETRY
    assert world.units.acts() == []
    assert world.files.written == []


def test_leftovers_of_ours_alone_are_removed(world: World) -> None:
    """Also one that a person has renamed: its unit's label tells."""
    for name in (NAME, "deepseek-vllm-8b-old", "other"):
        world.podman.containers[name] = build_container(name, running=False)
    renamed = build_container("renamed", "/dev/davinci0")
    world.podman.containers["renamed"] = replace(renamed, unit=engine_unit("8b"))
    assert world.running().npus == (0,)  # which it seemed to hold
    assert world.podman.removed == [NAME, "renamed"]


def test_processes_that_have_lost_their_unit_are_ended(world: World) -> None:
    """Of the instance's own container, and of one that Podman has forgotten; not of another's."""
    for name in (NAME, "deepseek-vllm-7b"):
        world.podman.containers[name] = build_container(name)
    ids = [world.podman.containers[name].container_id for name in (NAME, "deepseek-vllm-7b")]
    for pid, container_id in enumerate([*ids, "f" * 64], start=100):
        world.payloads.running.append(PayloadFacts(pid, 7, container_id))
    world.running()
    assert world.payloads.killed == [100, 102]
    assert world.podman.removed == [NAME]


@pytest.mark.parametrize(
    ("active", "is_killed"),
    [
        (UnitActive.ACTIVE, False),
        (UnitActive.DEACTIVATING, False),  # it may have requests to answer
        (UnitActive.UNKNOWN, False),
        (UnitActive.FAILED, True),
    ],
)
def test_another_engine_that_podman_alone_has_lost(
    world: World, active: UnitActive, is_killed: bool
) -> None:
    lost = PayloadFacts(100, 7, "f" * 64, engine_unit("7b"))
    world.payloads.running.append(lost)
    world.units.others[engine_unit("7b")] = active
    world.running()
    assert world.payloads.killed == ([100] if is_killed else [])
    world.units.active = UnitActive.INACTIVE
    assert asyncio.run(world.actions().sweep("8b")) is None
    assert (lost in world.payloads.running) is not is_killed


def test_its_own_engine_that_podman_has_lost_is_ended(world: World) -> None:
    world.payloads.running.append(PayloadFacts(100, 7, "f" * 64, UNIT))
    world.running()
    assert world.payloads.killed == [100]


def test_while_systemd_cannot_tell_nobody_is_killed(world: World) -> None:
    world.payloads.running.append(PayloadFacts(100, 7, "f" * 64, engine_unit("7b")))
    world.units.silent_about = engine_unit("7b")
    assert world.failure() == UNAVAILABLE.failure
    assert world.payloads.killed == []


def test_a_process_that_outlives_sigkill(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.action.leftovers.END_DEADLINE_S", 0.1)
    world.podman.containers[NAME] = build_container(NAME)
    payload = PayloadFacts(100, 7, world.podman.containers[NAME].container_id)
    world.payloads.running.append(payload)
    world.payloads.hanging.add(100)
    failure = world.failure()
    assert (failure.code, failure.remedy) == (Code.PAYLOAD_LEFT, Remedy.RETRY)
    assert "process 100" in failure.message
    assert "start" not in world.units.calls


@pytest.fixture
def hung(world: World, monkeypatch: pytest.MonkeyPatch) -> PayloadFacts:
    """Process 100 outlives SIGKILL, Podman has lost it, and the driver says that it has NPU 0."""
    monkeypatch.setattr("agent.action.leftovers.END_DEADLINE_S", 0.1)
    payload = PayloadFacts(100, 7, "f" * 64)
    world.payloads.running.append(payload)
    world.payloads.hanging.add(100)
    world.machine.alive[100] = f"0::/deepseek.slice/libpod-{payload.container_id}.scope"
    npus = [
        build_npu(0, processes=(NpuProcess(100, "python", 30_000),), processes_told=True),
        build_npu(1, processes_told=True),
    ]
    world.request = replace(world.request, inventory=build_inventory(npus))
    return payload


@pytest.mark.parametrize("unit", ["", engine_unit("7b")])
def test_what_hangs_of_another_engine_costs_its_npu_and_no_more(
    world: World, hung: PayloadFacts, unit: str
) -> None:
    """It gets SIGKILL, and will never do anything any more."""
    world.payloads.running[:] = [replace(hung, unit=unit)]
    world.units.others[engine_unit("7b")] = UnitActive.FAILED
    outcome = world.start()
    assert isinstance(outcome, Started)
    assert outcome.running is not None
    assert outcome.running.npus == (1,)
    assert world.payloads.killed == [100]
    assert outcome.beside is not None
    assert (outcome.beside.code, "process 100" in outcome.beside.message) == (
        Code.PAYLOAD_LEFT,
        True,
    )


@pytest.mark.usefixtures("hung")
def test_what_hangs_on_the_last_npu_is_waited_for(world: World) -> None:
    world.request = replace(world.request, profile=build_profile(npus=(0,)))
    failure = world.failure()
    assert failure.code is Code.NPU_LEFTOVER
    assert "process 100" in failure.message


def test_beside_what_hangs_of_its_own_engine_nothing_is_started(
    world: World, hung: PayloadFacts
) -> None:
    world.payloads.running[:] = [replace(hung, unit=UNIT)]
    assert world.failure().code is Code.PAYLOAD_LEFT
    assert "start" not in world.units.calls


def test_beside_what_may_be_its_own_and_got_no_sigkill_nothing_is_started(
    world: World, hung: PayloadFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would go on to serve."""

    def refuse(payload: PayloadFacts) -> None:
        raise HostError(Code.PAYLOAD_LEFT, f"cannot end process {payload.pid}: not permitted")

    monkeypatch.setattr(world.payloads, "kill", refuse)
    assert "not permitted" in world.failure().message
    world.payloads.running[:] = [replace(hung, unit=engine_unit("7b"))]
    world.units.others[engine_unit("7b")] = UnitActive.FAILED
    assert world.running().npus == (1,)


def test_a_sweep_is_of_its_own_and_of_what_may_be(world: World, hung: PayloadFacts) -> None:
    failure = asyncio.run(world.actions().sweep("8b"))
    assert failure is not None
    assert failure.code is Code.PAYLOAD_LEFT
    world.payloads.running[:] = [replace(hung, unit=engine_unit("7b"))]
    world.payloads.killed.clear()
    world.units.others[engine_unit("7b")] = UnitActive.FAILED
    assert asyncio.run(world.actions().sweep("8b")) is None
    assert world.payloads.killed == []


def test_after_a_stop_nothing_of_it_is_left(world: World) -> None:
    world.start()
    world.podman.containers[NAME] = build_container(NAME)
    assert asyncio.run(world.actions().sweep("8b")) is None
    assert world.podman.removed == []  # its unit is up
    world.units.active = UnitActive.FAILED  # conmon was killed
    world.units.calls.clear()
    assert asyncio.run(world.actions().sweep("8b")) is None
    assert world.podman.removed == [NAME]
    assert load_running(world.files, "8b") is None
    assert world.units.acts() == ["reset"]


def test_a_masked_unit_and_one_from_elsewhere_hold(world: World) -> None:
    world.units.stays = "masked"
    assert world.failure().code is Code.UNIT_MASKED
    world.units.stays, world.units.fragment = "", "/etc/systemd/system/deepseek-vllm-8b.service"
    failure = world.failure()
    assert (failure.code, failure.remedy) == (Code.UNIT_SHADOWED, Remedy.CHANGE)
    assert "/etc/systemd/system" in failure.message
    assert "start" not in world.units.calls


def test_a_generator_that_refuses(world: World) -> None:
    world.files.refusal = "unsupported key"
    for _ in range(2):
        outcome = world.start()
        assert isinstance(outcome, Started)
        assert outcome.running is not None
        assert (outcome.running.path, outcome.refused) == (str(PLAIN), "unsupported key")
        assert world.files.read(QUADLET) is None
        world.units.active = UnitActive.INACTIVE
    assert world.units.acts() == ["reload", "reset", "start", "reset", "start"]


def test_another_renderer_leaves_no_file_of_the_first(world: World) -> None:
    world.start()
    world.files.write(ETC_QUADLET / f"{NAME}.container", "old")
    world.units.active = UnitActive.INACTIVE
    world.request = replace(world.request, renderer=RendererChoice.UNIT)
    world.start()
    assert world.files.read(QUADLET) is None
    assert world.files.read(ETC_QUADLET / f"{NAME}.container") is None
    assert world.files.read(PLAIN)


@pytest.mark.parametrize("lost", ["loaded", "needs_reload"])
def test_a_crash_between_write_and_reload(world: World, lost: str) -> None:
    """The file is right, and systemd has not read it."""
    world.start()
    world.units.active = UnitActive.INACTIVE
    setattr(world.units, lost, lost == "needs_reload")
    world.units.calls.clear()
    world.start()
    assert world.units.acts() == ["reload", "reset", "start"]


@pytest.mark.parametrize("load", ["not-found", "bad-setting", "error"])
def test_a_unit_that_does_not_load(world: World, load: str) -> None:
    world.units.stays = load
    failure = world.failure()
    assert failure.code is Code.UNIT_NOT_LOADED
    assert load in failure.message
    assert "start" not in world.units.calls


@pytest.mark.parametrize(
    ("result", "code"),
    [
        (JobResult.FAILED, Code.UNIT_START_FAILED),
        (JobResult.DONE, Code.UNIT_START_FAILED),  # it ended at once
        # Not of the engine: a mount that fails, a stop, a reboot, a queue that is full.
        (JobResult.DEPENDENCY, Code.JOB_NOT_RUN),
        (JobResult.CANCELED, Code.JOB_NOT_RUN),
        (JobResult.SKIPPED, Code.JOB_NOT_RUN),
        (JobResult.TIMEOUT, Code.JOB_NOT_RUN),
        (JobResult.UNKNOWN, Code.JOB_NOT_RUN),
    ],
)
def test_jobs_that_do_not_end_well(world: World, result: JobResult, code: Code) -> None:
    world.units.start_result = result
    world.units.after_start = UnitActive.FAILED
    failure = world.failure()
    assert failure.code is code
    assert f": job {result}" in failure.message
    assert failure.remedy is Remedy.RETRY


@pytest.mark.parametrize(
    ("active", "is_started"),
    [
        (UnitActive.ACTIVE, True),
        (UnitActive.ACTIVATING, True),
        (UnitActive.INACTIVE, False),
        (UnitActive.FAILED, False),
    ],
)
def test_a_job_whose_end_is_not_waited_for(
    world: World, active: UnitActive, is_started: bool
) -> None:
    """It has been queued for long: what has come up of it is not taken for a failure."""
    world.units.start_result = JobResult.TIMEOUT
    world.units.after_start = active
    outcome = world.start()
    assert isinstance(outcome, Started) is is_started
    assert isinstance(outcome, Failure) is not is_started


@pytest.mark.parametrize("full", [(), ("/run",)])
def test_a_job_that_had_no_room(world: World, full: tuple[str, ...]) -> None:
    world.units.start_result = JobResult.FAILED
    world.machine.full = full
    failure = world.failure()
    code = "run-too-full" if full else "unit-start-failed"  # the host's trouble, or the image's
    assert (failure.code, failure.remedy) == (code, Remedy.RETRY)
    assert failure.message.endswith("job failed, no room is left in /run") is bool(full)


@pytest.mark.parametrize("verb", ["status", "reload", "reset", "start"])
def test_trouble_with_systemd_is_a_value(world: World, verb: str) -> None:
    world.units.broken[verb] = UNAVAILABLE
    assert world.failure() == UNAVAILABLE.failure


def test_trouble_with_podman_is_a_value(world: World) -> None:
    world.podman.broken = HostUnavailable(Code.PODMAN_UNAVAILABLE, "cannot ask Podman: no")
    assert world.failure().code is Code.PODMAN_UNAVAILABLE
    assert world.units.acts() == []


def test_a_full_disk_is_a_value(world: World, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file where a folder should be")
    failure = world.failure()
    assert failure.code is Code.FILE_NOT_WRITTEN
    assert "start" not in world.units.calls


@pytest.mark.parametrize(
    ("inventory", "code", "remedy"),
    [
        (Inventory(DriverState.UNKNOWN), Code.NPUD_SILENT, Remedy.EVENT),
        (Inventory(DriverState.ABSENT), Code.DRIVER_ABSENT, Remedy.EVENT),
        (Inventory(DriverState.FAILED), Code.DRIVER_FAILED, Remedy.EVENT),
        (build_inventory(manager_devices=()), Code.NPU_DEVICE_MISSING, Remedy.EVENT),
    ],
)
def test_without_npus_podman_is_not_even_asked(
    world: World, inventory: Inventory, code: Code, remedy: Remedy
) -> None:
    world.request = replace(world.request, inventory=inventory)
    failure = world.failure()
    assert (failure.code, failure.remedy) == (code, remedy)
    assert world.podman.surveys == 0
    assert world.units.acts() == []


def test_what_holds(world: World) -> None:
    world.podman.images[image_of(world)] = ""
    lacking = world.start()
    assert isinstance(lacking, Lacking)
    assert lacking.failure.code is Code.IMAGE_MISSING
    assert lacking.order.image is not None
    assert lacking.order.model is None
    world.machine.problem = "config.json is damaged"
    assert world.failure().code is Code.MODEL_INVALID
    world.machine.host = build_host(ram_mib=1024)
    assert world.failure().code is Code.HOST_TOO_SMALL
    assert world.units.acts() == []


def test_npus_of_others_are_not_taken(world: World) -> None:
    world.podman.containers["foreign"] = build_container("foreign", "/dev/davinci0")
    world.request = replace(world.request, neighbors=(Neighbor("7b", (1, 2), "127.0.0.1", 2024),))
    assert world.running().npus == (3,)


def test_a_port_of_somebody_else_is_not_tried(world: World) -> None:
    world.machine.listening = (Listener("0.0.0.0", 2023),)  # noqa: S104
    failure = world.failure()
    assert (failure.code, failure.remedy) == (Code.PORT_IN_USE, Remedy.SOON)
    assert world.units.acts() == []


@dataclass
class HangingMachine(FakeMachine):
    """Its models are on a disk that does not answer before it is `released`."""

    released: threading.Event = field(default_factory=threading.Event)

    def model(self, directory: str, revision: str = "") -> ModelFacts:
        self.released.wait(10)
        return super().model(directory, revision)


def test_a_disk_that_hangs_is_not_waited_for(world: World) -> None:
    """The look goes on in its thread; the agent says so and tries again."""
    machine = HangingMachine()

    async def look() -> Failure:
        profile, host = world.request.profile, build_host()
        survey = build_survey(host, profile)
        try:
            await read_facts([profile], build_inventory(), (), survey, machine, deadline_s=0.1)
        except HostError as error:
            return error.failure
        finally:
            machine.released.set()
        raise AssertionError("it waited")

    failure = asyncio.run(look())
    assert (failure.code, failure.remedy) == (Code.DISK_SILENT, Remedy.RETRY)


def test_a_disk_that_hangs_for_a_year_stops_nobody_else(world: World) -> None:
    """Each try is given up; what serves from another disk is started, stopped and healed."""
    machine = HangingMachine()

    async def look() -> None:
        profile, host = world.request.profile, build_host()
        survey = build_survey(host, profile)
        for _ in range(40):  # more threads than asyncio has for all
            with suppress(HostError):
                await read_facts([profile], build_inventory(), (), survey, machine, deadline_s=0.01)
        assert await asyncio.wait_for(asyncio.to_thread(lambda: 7), 1) == 7
        other = replace(profile, model="/srv/other")
        survey = build_survey(host, other)
        read = read_facts([other], build_inventory(), (), survey, FakeMachine(), deadline_s=1)
        assert (await read).models

    try:
        asyncio.run(look())
    finally:
        machine.released.set()


# --- the API key ---------------------------------------------------------------------------------

KEY = "key-of-the-engine_8.~+/="
KEY_FILE = PurePosixPath("/etc/deepseek-agent/8b.key")
ENV_FILE = PurePosixPath("/run/deepseek-agent/env/8b.env")


def with_key(world: World, text: str = f"{KEY}\n") -> None:
    profile = replace(world.request.profile, api_key_file=str(KEY_FILE))
    world.request = replace(world.request, profile=profile)
    path = Path(world.files.at(KEY_FILE))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_the_key_is_handed_over_in_a_file_of_roots_alone(world: World) -> None:
    with_key(world)
    text = world.running().text
    assert KEY not in text
    assert f"EnvironmentFile={ENV_FILE}" in text
    path = Path(world.files.at(ENV_FILE))
    assert path.read_text(encoding="utf-8") == f"VLLM_API_KEY={KEY}\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert world.actions().running_key("8b") == KEY


def test_a_key_that_is_not_wanted_any_more_is_removed(world: World) -> None:
    with_key(world)
    world.start()
    world.units.active = UnitActive.INACTIVE
    profile = replace(world.request.profile, api_key_file="")
    world.request = replace(world.request, profile=profile)
    world.start()
    assert not Path(world.files.at(ENV_FILE)).exists()
    assert world.actions().running_key("8b") == ""


@pytest.mark.parametrize("text", ["", "short", f"{KEY}\n{KEY}", f"{KEY} x", f"{KEY}#x", "密" * 20])
def test_a_key_that_cannot_be_used_holds_and_is_not_told(world: World, text: str) -> None:
    with_key(world, text)
    failure = world.failure()
    assert (failure.code, failure.remedy) == (Code.FILE_UNUSABLE, Remedy.CHANGE)
    assert KEY not in failure.message + failure.hint
    assert world.units.acts() == []


def test_the_certificate_that_will_be_shown_is_kept(world: World) -> None:
    """Clients on this host go by it: a file that is renewed later is not what the engine shows."""
    files = {"/etc/c.pem": "first", "/etc/k.pem": "key"}
    for name, text in files.items():
        world.files.write(PurePosixPath(name), text)
    profile = replace(world.request.profile, tls_certificate="/etc/c.pem", tls_key="/etc/k.pem")
    world.request = replace(world.request, profile=profile)
    assert isinstance(world.start(), Started)
    copy = PurePosixPath("/run/deepseek-agent/tls/8b.pem")
    world.files.write(PurePosixPath("/etc/c.pem"), "renewed")
    assert world.files.read(copy) == "first"
    assert server(profile).certificate == str(copy)
    world.units.active = UnitActive.INACTIVE
    world.request = replace(world.request, profile=build_profile())
    world.start()
    assert world.files.read(copy) is None


def test_a_key_file_that_others_can_read_holds(world: World) -> None:
    with_key(world)
    world.machine.files[str(KEY_FILE)] = "others can read it"
    failure = world.failure()
    assert failure.code is Code.FILE_UNUSABLE
    assert "others can read it" in failure.message


# --- stop, and looking only ----------------------------------------------------------------------


def test_stop(world: World) -> None:
    world.units.active = UnitActive.ACTIVE
    assert asyncio.run(world.actions().stop("8b")) is None
    assert world.units.acts() == ["stop"]
    assert STOP_JOB_DEADLINE_S > STOP_LIMIT_S


@pytest.mark.parametrize("left", [UnitActive.DEACTIVATING, UnitActive.ACTIVE, UnitActive.UNKNOWN])
def test_a_stop_is_believed_when_the_unit_is_down(world: World, left: UnitActive) -> None:
    world.units.after_stop = left
    failure = asyncio.run(world.actions().stop("8b"))
    assert failure is not None
    assert failure.code is Code.UNIT_STOP_FAILED


def test_a_stop_that_times_out_and_is_down_all_the_same(world: World) -> None:
    world.units.stop_result = JobResult.TIMEOUT
    assert asyncio.run(world.actions().stop("8b")) is None


def test_trouble_while_stopping_is_a_value(world: World) -> None:
    world.units.broken["stop"] = UNAVAILABLE
    assert asyncio.run(world.actions().stop("8b")) == UNAVAILABLE.failure
