# SPDX-License-Identifier: MulanPSL-2.0
"""The API server's life: bind, start EngineCore, wait until it has loaded, serve, end.

In: signals, the options, EngineCore's fate. Out: an exit status. As PID 1 of a container the
kernel gives it no default signal actions, so all handlers are installed here.
"""

import math
import os
import signal
import threading
import time

from .api import ApiServer
from .core import Core, fork_core
from .flags import VERSION, Arguments
from .log import Log
from .model import Model
from .openai import Served
from .options import OFF, Options, OptionsReader

TICK_S = 0.02
DRAIN_S = 0.5
LAST_WORDS_S = 0.2
# Measured on the real one: it ends 0.6 to 1.5 s after SIGKILL of EngineCore.
EXIT_AFTER_DEATH_S = 1.0


class Service:
    def __init__(
        self, arguments: Arguments, model: Model, reader: OptionsReader, keep_alive: bool
    ) -> None:
        self._arguments = arguments
        self._model = model
        self._reader = reader
        self._keep_alive = keep_alive
        self._log = Log("APIServer")
        self._started = time.monotonic()
        self._terminated = False
        self._death_told = False
        self._server: ApiServer
        self._core: Core

    def run(self) -> int:
        """The exit status. Raises what ApiServer raises."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        signal.signal(signal.SIGCHLD, lambda _signal, _frame: None)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        self._server = ApiServer(self._arguments, self._describe(), self._reader)
        where = self._server.url
        self._log.note("api_server.py:1971", f"vLLM API server version {VERSION}")
        self._log.note("double.py:1", f"engine double has the port of {where}")
        self._core = fork_core(
            self._reader, self._arguments, self._model, self._server.socket.fileno()
        )
        self._core.start_reader()
        self._server.core = self._core
        try:
            code = self._load()
            return self._serve(where) if code is None else code
        finally:
            self._core.end()

    def _describe(self) -> Served:
        return Served(
            names=self._arguments.served_names,
            root=self._model.name,
            max_model_len=self._model.max_model_len,
            reasoning=self._arguments.reasoning,
            api_key=self._arguments.api_key,
            created=int(time.time()),
        )

    def _load(self) -> int | None:
        """None when EngineCore is ready, else the exit status."""
        while not self._core.ready.is_set():
            options = self._tick()
            if self._terminated:
                return 0
            if (code := self._due_crash(options)) is not None:
                return code
            if self._core.died_at is not None:
                self._log.fail(
                    "api_server.py:1",
                    "RuntimeError: Engine core initialization failed. See root cause above. "
                    f"Failed core proc(s): {{'EngineCore_DP0': {self._core.exit_code}}}",
                )
                return 1
        return None

    def _serve(self, where: str) -> int:
        self._server.server_activate()
        threading.Thread(target=self._server.serve_forever, args=(TICK_S,), daemon=True).start()
        self._log.note("api_server.py:1351", f"Starting vLLM API server 0 on {where}")
        self._log.uvicorn(f"Started server process [{os.getpid()}]")
        self._log.uvicorn("Waiting for application startup.")
        self._log.uvicorn("Application startup complete.")
        self._log.uvicorn(f"Uvicorn running on {where} (Press CTRL+C to quit)")
        while True:
            options = self._tick()
            if self._terminated:
                return self._stop(0)
            if (code := self._due_crash(options)) is not None:
                return code
            if self._is_lost():
                return self._stop(0)  # seen: as if it had been told to end

    def _tick(self) -> Options:
        time.sleep(TICK_S)
        self._core.reap()
        options = self._reader.refresh(self._log)
        if self._terminated and options.ignore_sigterm:
            self._log.warn("double.py:1", "engine double ignores the signal, as told")
            self._terminated = False
        return options

    def _due_crash(self, options: Options) -> int | None:
        """The exit status when the API server shall crash now; EngineCore is crashed here."""
        after_s, after_requests = options.crash_after_s, options.crash_after_requests
        due = 0 <= after_s <= time.monotonic() - self._started
        due |= after_requests != OFF and self._server.answered >= after_requests
        if not due:
            return None
        if options.crash_who == "engine":
            self._core.kill()
            return None
        self._log.fail("double.py:1", f"engine double crashes as told: {options.crash_exit_code}")
        return options.crash_exit_code

    def _is_lost(self) -> bool:
        """EngineCore died, and the real server would end now."""
        died_at = self._core.died_at
        if died_at is None:
            return False
        if not self._death_told:
            self._death_told = True
            text = "Engine core proc EngineCore_DP0 died unexpectedly, shutting down client."
            self._log.fail("core_client.py:564", text)
        return not self._keep_alive and time.monotonic() - died_at >= EXIT_AFTER_DEATH_S

    def _stop(self, code: int) -> int:
        """Close the port, give requests under way a moment, then end."""
        self._drain()
        self._log.uvicorn("Shutting down")
        self._server.shutdown()
        self._server.server_close()
        self._wait_idle(DRAIN_S)
        waits = self._reader.refresh(self._log).stop_waits
        self._core.leaves_unanswered = waits
        self._core.end()  # what is still under way is answered with an error now, or never
        if waits:
            self._log.uvicorn("Waiting for connections to close. (CTRL+C to force quit)")
        self._wait_idle(math.inf if waits else LAST_WORDS_S)
        self._log.uvicorn("Application shutdown complete.")
        self._log.uvicorn(f"Finished server process [{os.getpid()}]")
        return code

    def _drain(self) -> None:
        """With --shutdown-timeout: answer what is under way, refuse what comes."""
        if self._core.died_at is None:
            self._server.drains = True
            self._wait_idle(self._arguments.shutdown_timeout_s)

    def _wait_idle(self, timeout_s: float) -> None:
        until = time.monotonic() + timeout_s
        while not self._server.idle and time.monotonic() < until:
            time.sleep(TICK_S)

    def _on_signal(self, _signal: int, _frame: object) -> None:
        self._terminated = True
