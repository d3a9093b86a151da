# SPDX-License-Identifier: MulanPSL-2.0
"""How far a start has come, read from lines of vLLM (a real 0.32 for CPUs; others, as shown in
public by their users) and of the engine double."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.health.startup import advance, read_line
from agent.model import NO_PROGRESS, StartProgress, Step
from tests.fakes.engine.vllm_double.engine import loading_line

WEIGHTS_45 = StartProgress(Step.WEIGHTS, 45, 5, 11)
BAR = "Loading safetensors checkpoint shards:"
WORKER = "(Worker pid=41) INFO 11-25 14:50:51 "


@pytest.mark.parametrize(
    ("line", "progress"),
    [
        (
            "(APIServer pid=1) INFO 11-25 14:50:32 [api_utils.py:286] non-default args: {'mod",
            StartProgress(Step.ENGINE),
        ),
        (
            "(EngineCore pid=27) INFO 11-25 14:50:45 [core.py:133] Initializing a V1 LLM engine "
            "(v0.32.0) with config: model='/models/tiny', speculative_config=None",
            StartProgress(Step.ENGINE),
        ),
        (
            f"{WORKER}[cpu_model_runner.py:68] Starting to load model /models/tiny...",
            StartProgress(Step.WEIGHTS),
        ),
        (f"{BAR}   0% Completed | 0/1 [00:00<?, ?it/s]", StartProgress(Step.WEIGHTS, 0, 0, 1)),
        (f"{BAR}  45% Completed | 5/11 [00:13<00:11,  2.87s/it]", WEIGHTS_45),
        (
            "Loading pt checkpoint shards:  50% Completed | 1/2 [00:01<00:01,  1.02s/it]",
            StartProgress(Step.WEIGHTS, 50, 1, 2),
        ),
        (
            f"{WORKER}[default_loader.py:501] Loading weights took 0.00 seconds",
            StartProgress(Step.WEIGHTS, 100),
        ),
        (
            "(Worker_TP0 pid=34322) INFO 05-06 20:59:59 [gpu_model_runner.py:4879] Model loading "
            "took 12.66 GiB memory and 31.657031 seconds",
            StartProgress(Step.WEIGHTS, 100),
        ),
        (
            "(Worker_TP0 pid=34322) INFO 05-06 21:00:16 [backends.py:1128] Dynamo bytecode "
            "transform time: 3.54 s",
            StartProgress(Step.COMPILING),
        ),
        (
            "(EngineCore pid=27) INFO 11-25 14:50:52 [kv_cache_utils.py:2327] CPU KV cache size: "
            "262,144 tokens, Maximum concurrency for 4,096 tokens per request: 64.00x",
            StartProgress(Step.MEMORY),
        ),
        (
            "(EngineCore_DP0 pid=634) INFO 11-22 10:01:28 [worker_v1.py:256] Available memory: "
            "31412, total memory: 65452113920",
            StartProgress(Step.MEMORY),
        ),
        (
            "Capturing CUDA graphs (mixed prefill-decode, PIECEWISE):  31%|###       | 21/67 "
            "[00:01<00:02, 16.84it/s]",
            StartProgress(Step.CAPTURING, 31, 21, 67),
        ),
        (
            "Capturing CUDA graph shapes: 100%|██████████| 35/35 [00:06<00:00,  5.00it/s]",
            StartProgress(Step.CAPTURING, 100, 35, 35),
        ),
        (
            "(EngineCore pid=27) INFO 11-25 14:50:54 [core.py:402] init engine (profile, create kv "
            "cache, warmup model) took 2.27 s",
            StartProgress(Step.CAPTURING),
        ),
        ("INFO:     Started server process [1]", StartProgress(Step.LISTENING)),
        ("INFO:     Application startup complete.", StartProgress(Step.LISTENING)),
    ],
)
def test_a_line_tells_a_step(line: str, progress: StartProgress) -> None:
    assert read_line(line) == progress


@pytest.mark.parametrize(
    "line",
    [
        "",
        "(APIServer pid=1) WARNING 11-25 14:50:40 [vllm.py:1703] Enforce eager set, disabling "
        "torch.compile, CUDAGraphs, and JIT kernel warmup.",
        f"{WORKER}[shm_broadcast.py:466] No available shared memory broadcast block found in 60 s",
        "(EngineCore pid=27) INFO 11-25 14:50:52 [utils.py:347] Using LBHNC KV cache layout.",
        '(APIServer pid=1) INFO:     10.88.0.1:50134 - "GET /health HTTP/1.1" 200',
        # Before it loads, in older versions and in the double.
        "(APIServer pid=2) INFO 11-25 [api_server.py:1351] Starting vLLM API server 0 on http://0",
    ],
)
def test_other_lines_are_no_news(line: str) -> None:
    assert read_line(line) is None
    assert advance(WEIGHTS_45, line) == WEIGHTS_45


def test_a_step_is_never_gone_back_to() -> None:
    """A second worker, or a second model (of drafts), begins while the first has gone on."""
    memory = StartProgress(Step.MEMORY)
    assert advance(memory, f"{BAR}   0% Completed | 0/3 [00:00<?, ?it/s]") == memory
    assert advance(WEIGHTS_45, f"{WORKER}Starting to load model /models/x...") == WEIGHTS_45


def test_within_a_step_the_newest_counts() -> None:
    line = f"{BAR}  54% Completed | 6/11 [00:13<00:11,  2.87s/it]"
    assert advance(WEIGHTS_45, line) == StartProgress(Step.WEIGHTS, 54, 6, 11)


@given(st.integers(1, 400), st.data())
def test_the_doubles_bar_is_read(shards: int, data: st.DataObject) -> None:
    done = data.draw(st.integers(0, shards))
    line = loading_line(done, shards, 1.5)
    assert read_line(line) == StartProgress(Step.WEIGHTS, 100 * done // shards, done, shards)


@given(st.text())
def test_no_line_is_too_odd(line: str) -> None:
    advance(NO_PROGRESS, line)


@pytest.mark.parametrize("part", ["Loading ", "12% ", "Capturing a ", "(a" * 10, "9/9 ", "x"])
def test_a_long_line_takes_no_long_time(part: str) -> None:
    line = (part * 2000)[:2000]
    began = time.perf_counter()
    for _ in range(50):
        read_line(line)
    assert time.perf_counter() - began < 1.0
