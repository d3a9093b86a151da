# SPDX-License-Identifier: MulanPSL-2.0
"""What a vLLM server does when its processes are stopped or killed: in a URL and the processes, out
an AssertionError or nothing. Seen on vLLM 0.32 (its build for CPUs); the double has to do the same.

FAULT_CHECKS leave the server as they found it; FATAL_CHECKS end it. Standard library only, as
contract.py: a lab runs both inside a host, as a program (`python3 -m ... URL MODEL PID CHECK`).
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from .contract import (
    Answer,
    Target,
    ask,
    check_health,
    completion,
    is_port_open,
    read_events,
    read_metrics,
)

# Names as the kernel keeps them, 15 bytes.
CORE_NAME = "VLLM::EngineCor"
WORKER_NAME = "VLLM::Worker"
HURRIED_S = 2.0
LONG_ANSWER = 2000
# Seen: 0.6 to 1.2 s from SIGKILL of EngineCore to the end of all, 1.5 s once.
END_S = 5.0
# uvicorn ends as if it had been told to: who asks for the exit status learns nothing.
STATUS_AFTER_CORE_DEATH = 0


@dataclass(frozen=True, slots=True)
class Processes:
    api: int
    core: int
    workers: tuple[int, ...]  # none where EngineCore computes by itself

    @property
    def computing(self) -> tuple[int, ...]:
        return (self.core, *self.workers)


def find_processes(root: int) -> Processes:
    """Among the descendants of `root`, which may be the API server itself."""
    parents, names = _read_processes()
    family = [pid for pid in parents if _descends(pid, root, parents)]
    cores = [pid for pid in family if names[pid] == CORE_NAME]
    assert len(cores) == 1, {pid: names[pid] for pid in family}
    workers = [pid for pid in family if names[pid].startswith(WORKER_NAME)]
    return Processes(parents[cores[0]], cores[0], tuple(workers))


def _read_processes() -> tuple[dict[int, int], dict[int, str]]:
    parents, names = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            head, _, rest = path.read_text().rpartition(")")
            pid = int(path.parent.name)
            parents[pid], names[pid] = int(rest.split()[1]), head.partition("(")[2]
    return parents, names


def _descends(pid: int, root: int, parents: dict[int, int]) -> bool:
    while pid and pid != root:
        pid = parents.get(pid, 0)
    return pid == root


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(0.1)  # what was on its way has arrived
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def check_stopped_while_idle(target: Target, processes: Processes) -> None:
    """/health says 200, no gauge shows the request that hangs, and it is answered when all goes on:
    only who asks for a token learns of it."""
    for pid in processes.computing:
        _ask_for_tokens(target)
        before = read_metrics(target)
        with ThreadPoolExecutor(1) as pool:
            with stopped(pid):
                hanging = pool.submit(_ask_for_tokens, target)
                _assert_looks_well(target)
                _assert_times_out(target)
                assert read_metrics(target) == before
                assert before["vllm:num_requests_running"] == 0
                assert before["vllm:num_requests_waiting"] == 0
                assert not hanging.done()
            assert hanging.result().status == 200


def check_stopped_while_busy(target: Target, processes: Processes) -> None:
    """The gauges stay as they were, and no token comes."""
    for pid in processes.computing:
        body = completion(target, LONG_ANSWER, stream=True, ignore_eos=True)
        events = read_events(target, "/v1/completions", body)
        next(events)
        with stopped(pid):
            before = read_metrics(target)
            assert before["vllm:num_requests_running"] == 1
            _assert_looks_well(target)
            _assert_times_out(target)
            assert read_metrics(target) == before
        assert next(events) != "[DONE]"
        events.close()  # type: ignore[attr-defined]


def check_stopped_api_server(target: Target, processes: Processes) -> None:
    """The kernel accepts connections, and nothing is said on them."""
    with stopped(processes.api):
        assert is_port_open(target)
        _assert_times_out(target, "/health")
    check_health(target)


def check_killed_core(target: Target, processes: Processes) -> None:
    _check_killed(target, processes, processes.core)


def check_killed_worker(target: Target, processes: Processes) -> None:
    assert processes.workers, "there is no worker"
    _check_killed(target, processes, processes.workers[0])


def _check_killed(target: Target, processes: Processes, victim: int) -> None:
    """What is under way, and what comes, gets 500; then the port is closed and all of it ends."""
    body = completion(target, LONG_ANSWER, ignore_eos=True)
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(ask, target, "/v1/completions", body)
        _wait(lambda: read_metrics(target)["vllm:num_requests_running"] == 1, "a running request")
        os.kill(victim, signal.SIGKILL)
        assert under_way.result().status == 500
    _assert_ends(target, processes)


def check_killed_api_server(target: Target, processes: Processes) -> None:
    """The connection is cut, and nobody is left that holds devices."""
    body = completion(target, LONG_ANSWER, ignore_eos=True)
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(ask, target, "/v1/completions", body)
        _wait(lambda: read_metrics(target)["vllm:num_requests_running"] == 1, "a running request")
        os.kill(processes.api, signal.SIGKILL)
        _assert_cut(under_way)
    _assert_ends(target, processes)


def check_sigterm_while_idle(target: Target, processes: Processes) -> None:
    os.kill(processes.api, signal.SIGTERM)
    _assert_ends(target, processes)


def check_sigterm_with_a_stopped_core(target: Target, processes: Processes) -> None:
    os.kill(processes.core, signal.SIGSTOP)
    os.kill(processes.api, signal.SIGTERM)
    _assert_ends(target, processes)


def check_sigterm_while_busy(target: Target, processes: Processes) -> None:
    """The port is closed at once. The request is answered with 500, or not at all, and then the
    server waits until the client goes away: both were seen."""
    body = completion(target, LONG_ANSWER, ignore_eos=True)
    with ThreadPoolExecutor(1) as pool:
        hurried = replace(target, timeout_s=HURRIED_S)
        under_way = pool.submit(ask, hurried, "/v1/completions", body)
        _wait(lambda: read_metrics(target)["vllm:num_requests_running"] == 1, "a running request")
        os.kill(processes.api, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            assert under_way.result().status == 500
    _assert_ends(target, processes)


def _ask_for_tokens(target: Target) -> Answer:
    return ask(target, "/v1/completions", completion(target, 2, ignore_eos=True))


def _assert_looks_well(target: Target) -> None:
    for _ in range(20):
        check_health(target)


def _assert_times_out(target: Target, path: str = "/v1/completions") -> None:
    hurried = replace(target, timeout_s=HURRIED_S)
    body = None if path == "/health" else completion(target)
    try:
        answer = ask(hurried, path, body)
    except TimeoutError:
        return
    raise AssertionError(f"{path} was answered: {answer}")


def _assert_cut(under_way: "Future[Answer]") -> None:
    try:
        answer = under_way.result()
    except (OSError, EOFError):  # RemoteDisconnected is a ConnectionError
        return
    raise AssertionError(f"answered: {answer}")


def _assert_ends(target: Target, processes: Processes) -> None:
    _wait(lambda: not is_port_open(target), "a closed port", END_S)
    for pid in (processes.api, *processes.computing):
        _wait(lambda pid=pid: not is_alive(pid), f"the end of {pid}", END_S)  # type: ignore[misc]


def _wait(holds: Callable[[], bool], what: str, limit_s: float = END_S) -> None:
    deadline = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {limit_s} s: {what}"
        time.sleep(0.01)


Check = Callable[[Target, Processes], None]
FAULT_CHECKS: tuple[Check, ...] = (
    check_stopped_while_idle,
    check_stopped_while_busy,
    check_stopped_api_server,
)
FATAL_CHECKS: tuple[Check, ...] = (
    check_killed_core,
    check_killed_api_server,
    check_sigterm_while_idle,
    check_sigterm_with_a_stopped_core,
    check_sigterm_while_busy,
)
WORKER_CHECKS: tuple[Check, ...] = (check_killed_worker,)


def main() -> None:
    url, model, root, wanted = sys.argv[1:]
    every = (*FAULT_CHECKS, *FATAL_CHECKS, *WORKER_CHECKS)
    check = next(one for one in every if one.__name__ == wanted)
    check(Target(url, model, timeout_s=60), find_processes(int(root)))


if __name__ == "__main__":
    main()
