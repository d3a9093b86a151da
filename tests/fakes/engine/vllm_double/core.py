# SPDX-License-Identifier: MulanPSL-2.0
"""The API server's side of EngineCore: in requests, out queues of tokens, counters and its death.

The counters are this side's, as in vLLM; the two gauges are only what EngineCore last told.
"""

import os
import queue
import signal
import threading
import time
import traceback
from collections import Counter
from dataclasses import dataclass

from .channel import Channel, Message, open_channels
from .engine import EngineCore
from .flags import Arguments
from .log import write_stderr
from .model import Model
from .options import OptionsReader

# Measured on the real one after SIGKILL of EngineCore: /health 200 for < 0.5 s, then 503.
NOTICE_S = 0.25


class EngineDeadError(Exception):
    """EngineCore is gone; nothing can be computed any more."""


@dataclass(frozen=True, slots=True)
class Token:
    text: str
    finish: str | None


@dataclass(frozen=True, slots=True)
class Job:
    """What EngineCore has to know of a request."""

    chat: bool
    question: str
    prompt_tokens: int
    max_tokens: int
    ignore_eos: bool


class Pending:
    """One request under way: its tokens arrive here; None says that the engine has died."""

    def __init__(self, id_: int, prompt_tokens: int) -> None:
        self.id = id_
        self.prompt_tokens = prompt_tokens
        self.asked_at = time.monotonic()
        self.started = False
        self.tokens: queue.SimpleQueue[Token | None] = queue.SimpleQueue()


class Core:
    def __init__(self, channel: Channel, pid: int) -> None:
        self.pid = pid
        self.exit_code: int | None = None
        self.ready = threading.Event()
        self.died_at: float | None = None
        self.running = 0
        self.waiting = 0
        self.prompt_tokens = 0
        self.generation_tokens = 0
        self.finished: Counter[str] = Counter()
        self.first_tokens = 0
        self.first_token_wait_s = 0.0
        self.leaves_unanswered = False
        self._channel = channel
        self._pending: dict[int, Pending] = {}
        self._last_id = 0
        self._lock = threading.Lock()

    def start_reader(self) -> None:
        threading.Thread(target=self._read, name="core-reader", daemon=True).start()

    @property
    def errored(self) -> bool:
        return self.died_at is not None and time.monotonic() - self.died_at >= NOTICE_S

    def submit(self, job: Job) -> Pending:
        """Raises EngineDeadError."""
        with self._lock:
            self._last_id += 1
            pending = Pending(self._last_id, job.prompt_tokens)
            self._pending[pending.id] = pending
        message: Message = {
            "add": pending.id,
            "chat": job.chat,
            "question": job.question,
            "prompt_tokens": job.prompt_tokens,
            "max_tokens": job.max_tokens,
            "ignore_eos": job.ignore_eos,
        }
        try:
            self._channel.send(message)
        except OSError:
            self._note_death()
        if self.died_at is not None:
            raise EngineDeadError
        return pending

    def abort(self, pending: Pending) -> None:
        """Forget a request whose client went away."""
        with self._lock:
            known = self._pending.pop(pending.id, None)
        if known and self.died_at is None:
            try:
                self._channel.send({"abort": pending.id})
            except OSError:
                self._note_death()

    def kill(self) -> None:
        """SIGKILL: it may be stopped, and a stopped process ignores all else."""
        if self.exit_code is None:
            os.kill(self.pid, signal.SIGKILL)

    def end(self) -> None:
        """Kill it and collect it, so that nothing is left when this process ends."""
        self.kill()
        if self.exit_code is None:
            self.exit_code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def reap(self) -> None:
        """Collect whatever child ended: as PID 1 of a container we inherit strangers, too."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.pid:
                self.exit_code = os.waitstatus_to_exitcode(status)
                self._note_death()

    def _read(self) -> None:
        try:
            while True:
                for message in self._channel.receive(None):
                    self._take(message)
        except (EOFError, OSError):
            self._note_death()

    def _take(self, message: Message) -> None:
        if "ready" in message:
            self.ready.set()
            return
        self.running, self.waiting = message["running"], message["waiting"]
        for id_, text, finish in message["outputs"]:
            self.generation_tokens += 1
            with self._lock:
                pending = self._pending.pop(id_, None) if finish else self._pending.get(id_)
            if finish:
                self.finished[finish] += 1
            if pending is not None:
                if not pending.started:
                    self._note_first(pending)
                pending.tokens.put(Token(text, finish))

    def _note_first(self, pending: Pending) -> None:
        pending.started = True
        self.prompt_tokens += pending.prompt_tokens
        self.first_tokens += 1
        self.first_token_wait_s += time.monotonic() - pending.asked_at

    def _note_death(self) -> None:
        with self._lock:
            if self.died_at is None:
                self.died_at = time.monotonic()
            orphans, self._pending = list(self._pending.values()), {}
        if self.leaves_unanswered:
            return
        for pending in orphans:
            pending.tokens.put(None)


def fork_core(reader: OptionsReader, arguments: Arguments, model: Model, bound: int) -> Core:
    """Start EngineCore. Call it before any thread; `bound` is the port, which the child lets go."""
    ours, theirs = open_channels()
    parent = os.getpid()
    pid = os.fork()
    if pid:
        theirs.close()
        return Core(ours, pid)
    code = 1
    try:
        os.close(bound)
        ours.close()
        code = EngineCore(theirs, reader, arguments, model, parent).run()
    except BaseException:  # the child may never return into the parent's code
        write_stderr(traceback.format_exc())
    finally:
        os._exit(code)
