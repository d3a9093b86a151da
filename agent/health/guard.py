# SPDX-License-Identifier: MulanPSL-2.0
"""Guards one engine that serves: the watch, with what it needs of its container."""

from collections.abc import Callable
from dataclasses import dataclass

from agent.config.flags import batched_tokens, is_eager, longest_prompt
from agent.config.values import Profile
from agent.errors import Failure
from agent.facts import ContainerFacts
from agent.health.asking import Asker, Engine
from agent.health.liveness import longest_step_s
from agent.health.metrics import pick_counters
from agent.health.state import Liveness, Rules, Verdict
from agent.health.watch import Watch
from agent.health.way import Forwards, Way
from agent.health.words import explain, uncounted
from agent.model import EngineWork
from agent.ports import Http, Payloads, ProcessEnds, Server

# A proxy may have answered one of them.
UNCOUNTED_LOOKS = 3


@dataclass(frozen=True, slots=True)
class Guard:
    """`engine_port`: where the engine listens inside its container."""

    http: Http
    ends: ProcessEnds
    engine_port: int
    payloads: Payloads
    forwards: Forwards

    async def watch(
        self,
        profile: Profile,
        door: Server,
        key: str,
        where: Callable[[], ContainerFacts | None],
        told: Callable[[Failure | None, str], None],
        measured: Callable[[EngineWork], None],
    ) -> None:
        """`told` hears what is wrong with the engine, with its counters; and None when it works
        again; or that its counters are not understood, which is no reason to do anything.
        `measured` hears of its work, every few seconds. Ends only by cancellation."""

        def inside() -> Server | None:
            container = where()
            if container is None or not container.address:
                return None
            return Server(container.address, self.engine_port, door.certificate)

        def processor_s() -> float | None:
            container = where()
            return None if container is None else self.payloads.processor_s(container.container_id)

        def report(verdict: Verdict | None, state: Liveness, now: float) -> None:
            failure = None if verdict is None else explain(verdict, state, now)
            told(failure, pick_counters(asker.counted))

        engine = Engine(door, inside, profile.served_name, key, processor_s)
        counters = _Counters(profile.name, measured, lambda failure: told(failure, ""))
        asker = Asker(self.http, engine, b"", counters.take, counters.miss)
        watch = Watch(asker.ask, build_rules(profile), report)
        processes = _Processes(self.ends, where, watch)
        way = Way(profile.listen, where, self.forwards, lambda failure: told(failure, ""))

        def each_turn() -> None:
            processes.follow()
            way.look()

        watch.each_turn = each_turn
        try:
            await watch.run()
        finally:
            processes.leave()


@dataclass
class _Counters:
    """Tells when those of the engine are not understood, several looks in a row."""

    name: str
    measured: Callable[[EngineWork], None]
    told: Callable[[Failure], None]
    _missed: int = 0

    def take(self, work: EngineWork) -> None:
        self._missed = 0
        self.measured(work)

    def miss(self, lacks: tuple[str, ...]) -> None:
        self._missed += 1
        if self._missed == UNCOUNTED_LOOKS:
            self.told(uncounted(self.name, lacks))


@dataclass
class _Processes:
    """Those of the engine's container: one that ends is a reason to look."""

    ends: ProcessEnds
    where: Callable[[], ContainerFacts | None]
    watch: Watch
    _leave: Callable[[], None] | None = None

    def follow(self) -> None:
        """Once it is known which they are."""
        container = self.where()
        if self._leave is None and container is not None:
            self._leave = self.ends.follow(container.container_id, self._ended)

    def leave(self) -> None:
        if self._leave is not None:
            self._leave()

    def _ended(self) -> None:
        self.watch.hint()


def build_rules(profile: Profile) -> Rules:
    """What the profile says of the longest step of its engine; its own arguments come last, and
    count."""
    vllm, arguments = profile.vllm, profile.vllm.extra_args
    prompt = longest_prompt(arguments) or vllm.max_model_len
    tokens = max(prompt, batched_tokens(arguments))
    known_s = longest_step_s(tokens, is_eager(arguments, otherwise=vllm.enforce_eager))
    return Rules(profile.longest_step_s or known_s)
