# SPDX-License-Identifier: MulanPSL-2.0
"""EngineCore: the child process that opens the NPUs, "loads" the model and computes each token.

In: `add` and `abort` messages. Out: `ready`, then per step the new tokens and the two gauges.
Everything that takes time passes through `_spend`, so a hang or a slow-down bites at once, and a
SIGSTOP of this process has the effect that was measured on the real one: nothing is told at all.
"""

import contextlib
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from .answer import compose_chat, compose_completion, stream_tokens
from .channel import Channel, Message
from .devices import open_devices
from .failures import FAILURES
from .flags import Arguments
from .log import Log
from .model import Model, StartError
from .options import OFF, Options, OptionsReader

TICK_S = 0.02
PROCESS_NAME = "VLLM::EngineCore"  # the kernel keeps 15 bytes
Output = tuple[int, str, str | None]  # request, text of the token, why it ended


@dataclass(slots=True)
class Sequence:
    id: int
    prompt_tokens: int
    max_tokens: int
    tokens: Iterator[str]
    made: int = field(default=0)


class EngineCore:
    def __init__(
        self,
        channel: Channel,
        reader: OptionsReader,
        arguments: Arguments,
        model: Model,
        parent: int,
    ) -> None:
        self._channel = channel
        self._reader = reader
        self._arguments = arguments
        self._model = model
        self._log = Log("EngineCore_DP0")
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []
        self._finished = 0
        self._devices: list[int] = []
        self._parent = parent

    def run(self) -> int:
        """The exit status of the process."""
        name_process(PROCESS_NAME)
        signal.signal(signal.SIGTERM, self._on_sigterm)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        try:
            self._start()
            while True:
                self._serve_step()
        except StartError as error:
            self._log.fail("core.py:700", f"EngineCore failed to start.\n{error}")
            return 1
        except (EOFError, OSError):  # the API server is gone: so are we
            return 0

    def _start(self) -> None:
        options = self._options()
        if (failure := FAILURES.get(options.fail_at_start)) and failure.in_engine:
            raise StartError(failure.text)
        if options.needs_npu:
            visible = os.environ.get("ASCEND_RT_VISIBLE_DEVICES")
            size = self._arguments.tensor_parallel_size
            self._devices = open_devices(options.dev_dir, size, visible)
        self._log.note(
            "core.py:58", f"Initializing a V1 LLM engine with config: model='{self._model.name}'"
        )
        self._load()
        self._channel.send({"ready": True})

    def _load(self) -> None:
        shards = self._model.shards or max(1, self._options().shards)
        self._log.note("model_runner_v1.py:2000", "Starting to load model...")
        started = time.monotonic()
        for done in range(shards + 1):
            spent = time.monotonic() - started
            self._log.raw(loading_line(done, shards, spent))
            if done < shards:
                self._spend(lambda options: options.load_s / shards, loading=done >= shards // 2)
        spent = time.monotonic() - started
        self._log.note("default_loader.py:268", f"Loading weights took {spent:.2f} seconds")

    def _serve_step(self) -> None:
        busy = bool(self._running or self._waiting)
        if self._hangs(self._options()):
            self._die_with_parent()
            time.sleep(TICK_S)
            return
        for message in self._channel.receive(0 if busy else 5 * TICK_S):
            self._take(message)
        self._admit()
        if self._running:
            self._compute_step()

    def _take(self, message: Message) -> None:
        if "abort" in message:
            gone = message["abort"]
            self._running = [one for one in self._running if one.id != gone]
            self._waiting = deque(one for one in self._waiting if one.id != gone)
            self._report([])
            return
        compose = compose_chat if message["chat"] else compose_completion
        endless = message["ignore_eos"] or self._options().endless
        self._waiting.append(
            Sequence(
                id=message["add"],
                prompt_tokens=message["prompt_tokens"],
                max_tokens=message["max_tokens"],
                tokens=stream_tokens(compose(message["question"]), endless),
            )
        )

    def _admit(self) -> None:
        """Prefill, one prompt after the other: long prompts are slow, and meanwhile all wait."""
        while self._waiting and len(self._running) < self._arguments.max_num_seqs:
            sequence = self._waiting.popleft()
            first = self._finished == 0 and not self._running
            self._spend(
                lambda options, one=sequence, first=first: (  # type: ignore[misc]
                    one.prompt_tokens / max(options.prefill_tokens_per_s, 1e-6)
                    + (options.first_request_s if first else 0)
                )
            )
            self._running.append(sequence)

    def _compute_step(self) -> None:
        self._spend(lambda options: 1 / max(options.tokens_per_s, 1e-6))
        endless = self._options().endless
        outputs = [self._next_output(sequence, endless) for sequence in self._running]
        ended = {id_ for id_, _, finish in outputs if finish}
        self._running = [one for one in self._running if one.id not in ended]
        self._finished += len(ended)
        self._report(outputs)

    def _next_output(self, sequence: Sequence, endless: bool) -> Output:
        text = next(sequence.tokens, None)
        sequence.made += 1
        if text is None:
            return (sequence.id, "", "stop")  # the end-of-sequence token, which has no text
        full = sequence.made >= sequence.max_tokens and not endless
        return (sequence.id, text, "length" if full else None)

    def _report(self, outputs: list[Output]) -> None:
        gauges = {"running": len(self._running), "waiting": len(self._waiting)}
        self._channel.send({"outputs": outputs, **gauges})

    def _spend(self, cost: Callable[[Options], float], loading: bool = False) -> None:
        """Let the time pass that `cost` says, by the options of each moment."""
        started = time.monotonic()
        while True:
            options = self._options()
            rest = cost(options) * options.slowdown - (time.monotonic() - started)
            frozen = options.stall_loading if loading else self._hangs(options)
            if rest <= 0 and not frozen:
                return
            self._die_with_parent()
            time.sleep(TICK_S if frozen else min(rest, TICK_S))

    def _hangs(self, options: Options) -> bool:
        after = options.hang_after_requests
        return options.hang or (after != OFF and self._finished >= after)

    def _die_with_parent(self) -> None:
        if os.getppid() != self._parent:
            raise EOFError

    def _on_sigterm(self, _signal: int, _frame: object) -> None:
        if not self._options().ignore_sigterm:
            os._exit(0)

    def _options(self) -> Options:
        return self._reader.refresh(self._log)


def loading_line(done: int, shards: int, spent: float) -> str:
    """The progress line of vLLM's weight loader (tqdm)."""
    percent = 100 * done // shards
    pace = f"{spent / done:.2f}s/it" if done else "?it/s"
    left = f"{spent / done * (shards - done):02.0f}" if done else "?"
    return (
        f"Loading safetensors checkpoint shards: {percent:3d}% Completed | {done}/{shards} "
        f"[00:{spent:02.0f}<00:{left}, {pace}]"
    )


def name_process(name: str) -> None:
    """What ps, /proc and npu-smi show. A kernel that refuses changes nothing that matters."""
    with contextlib.suppress(OSError), open("/proc/self/comm", "w", encoding="ascii") as file:
        file.write(name[:15])
