# SPDX-License-Identifier: MulanPSL-2.0
"""The engine double, run as a process on loopback: its API, its life, and each of its faults."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.engine import contract, contract_faults, contract_start
from tests.fakes.engine.contract import Target, ask, chat, completion, read_metrics
from tests.fakes.engine.runner import VLLM, RunningEngine, run_vllm, wait_until

ENGINE_ERRORS = (OSError, http.client.HTTPException)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    folder = tmp_path_factory.mktemp("engine")
    with RunningEngine(folder, "--reasoning-parser=deepseek_r1", key="secret") as engine:
        yield engine.wait_ready()


@pytest.mark.parametrize("check", [*contract.CHECKS, contract.check_api_key])
def test_the_double_passes_the_contract(served: Target, check: Callable[[Target], None]) -> None:
    check(served)


@pytest.mark.parametrize("check", [*contract_faults.FAULT_CHECKS, *contract_faults.FATAL_CHECKS])
def test_the_double_fails_as_the_contract_says(
    tmp_path: Path, check: contract_faults.Check
) -> None:
    with RunningEngine(tmp_path) as engine:
        target = engine.wait_ready()
        check(target, contract_faults.find_processes(engine.process.pid))


def test_the_double_says_what_a_start_says(tmp_path: Path) -> None:
    with RunningEngine(tmp_path) as engine:
        engine.wait_ready()
        wait_until(lambda: not contract_start.missing_start_lines(engine.log), "the lines")


def test_the_bar_and_the_log_of_a_start_come_in_any_order() -> None:
    """As a real one was seen to say it: once so, once the other way round."""
    bar = "Loading safetensors checkpoint shards: {} Completed | {}/1 [00:00<?, ?it/s]"
    first = ["Starting to load model /x...", bar.format("  0%", 0)]
    pair = [bar.format("100%", 1), "Loading weights took 0.01 seconds"]
    last = ["Starting vLLM server on http://0.0.0.0:8000", "INFO:     Started server process [2]"]
    last.append("INFO:     Application startup complete.")
    missing = contract_start.missing_start_lines
    assert missing("\n".join([*first, *pair, *last])) == []
    assert missing("\n".join([*first, *reversed(pair), *last])) == []
    assert len(missing("\n".join([*first, pair[0], *last]))) == 1
    assert len(missing("\n".join([*pair, *first, *last]))) == 2


@pytest.mark.parametrize("failure", contract_start.START_FAILURES, ids=lambda one: one.flag)
def test_the_double_refuses_what_vllm_refuses(
    model: Path, failure: contract_start.StartFailure
) -> None:
    result = run_vllm("serve", str(model), "--host=127.0.0.1", "--port=0", failure.flag)
    assert result.returncode == failure.status
    assert failure.words in result.stderr


def test_a_stop_may_wait_for_the_clients(tmp_path: Path) -> None:
    with RunningEngine(tmp_path, stop_waits=1) as engine:
        target = engine.wait_ready()
        contract_faults.check_sigterm_while_busy(
            target, contract_faults.find_processes(engine.process.pid)
        )
        assert "Waiting for connections to close" in engine.log


def test_a_shutdown_timeout_lets_requests_finish(tmp_path: Path) -> None:
    flags = ("--shutdown-timeout=20",)
    with RunningEngine(tmp_path, *flags, tokens_per_s=50) as engine, ThreadPoolExecutor(1) as pool:
        target = engine.wait_ready()
        under_way = pool.submit(ask, target, "/v1/completions", completion(target, 50))
        wait_until(lambda: read_metrics(target)["vllm:num_requests_running"] == 1, "a request")
        engine.process.terminate()
        time.sleep(0.1)
        assert ask(target, "/v1/completions", completion(target)).status == 500
        assert ask(target, "/health").status == 200
        assert under_way.result(5).status == 200
        assert engine.wait_exit() == 0


def answer_to(target: Target, question: str) -> dict[str, str]:
    body = ask(target, "/v1/chat/completions", chat(target, question)).json()
    message: dict[str, str] = body["choices"][0]["message"]
    return message


def test_a_reasoning_parser_puts_the_thinking_aside(served: Target) -> None:
    message = answer_to(served, "What is openEuler?")
    assert "<think>" not in message["content"] + message["reasoning_content"]
    assert "engine double of deepseek-agent's lab" in message["content"]
    assert "What is openEuler?" in message["content"]
    assert "double without a model" in message["reasoning_content"]


def test_a_stream_gives_thinking_before_content(served: Target) -> None:
    body = chat(served, "Why?", stream=True)
    events = list(contract.read_events(served, "/v1/chat/completions", body))
    deltas = [event["choices"][0]["delta"] for event in events[1:-1]]
    thinking = [index for index, delta in enumerate(deltas) if "reasoning_content" in delta]
    content = [index for index, delta in enumerate(deltas) if "content" in delta]
    assert max(thinking) < min(content)
    assert events[-2]["choices"][0]["finish_reason"] == "stop"


def test_without_a_parser_the_answer_keeps_its_marks(tmp_path: Path) -> None:
    with RunningEngine(tmp_path) as engine:
        message = answer_to(engine.wait_ready(), "请介绍一下开源操作系统openEuler")
    assert message["content"].startswith("<think>\n")
    assert "</think>" in message["content"]
    assert "引擎替身" in message["content"]
    assert "请介绍一下开源操作系统openEuler" in message["content"]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(
        '{"num_attention_heads": 28, "max_position_embeddings": 4096}'
    )
    return tmp_path


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--no-such-flag", "vllm: error: unrecognized arguments: --no-such-flag"),
        ("--tensor-parallel=2", "vllm: error: unrecognized arguments: --tensor-parallel=2"),
        ("--dtype=float17", "argument --dtype: invalid choice: 'float17'"),
        ("--gpu-memory-utilization=1.5", "GPU memory utilization must be greater than 0"),
        ("--port=70000", "70000 is not within 0 and 65535"),
        ("--tensor-parallel-size=0", "0 is not within 1"),
        ("--additional-config={broken", "cannot be converted to JSON"),
        ("--reasoning-parser=none", "invalid choice: 'none'"),
    ],
)
def test_a_wrong_flag_is_refused(model: Path, flag: str, message: str) -> None:
    result = run_vllm("serve", str(model), flag)
    assert result.returncode == 2
    assert message in result.stderr


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("-tp=8", "attention heads (28) must be divisible by tensor parallel size (8)"),
        ("--max-model-len=8192", "max_model_len (8192) is greater than the derived"),
    ],
)
def test_a_flag_that_does_not_fit_the_model_is_refused(
    model: Path, flag: str, message: str
) -> None:
    result = run_vllm("serve", str(model), flag)
    assert result.returncode == 1
    assert message in result.stderr


def test_a_folder_without_config_json_is_refused(tmp_path: Path) -> None:
    result = run_vllm("serve", str(tmp_path))
    assert result.returncode == 1
    assert "Invalid repository ID or local directory specified" in result.stderr


def test_all_flags_that_may_be_rendered_are_accepted(tmp_path: Path) -> None:
    flags = [
        *("--served-model-name", "m", "other"),
        *("--max_model_len", "4096", "-tp", "2", "--gpu_memory_utilization=0.8"),
        *("--dtype", "float16", "--enforce-eager", "--trust-remote-code"),
        *("--quantization=ascend", "--load-format", "auto"),
        *("--max-num-seqs", "32", "--seed", "7", "--no-enable-prefix-caching"),
        *("--uvicorn-log-level", "warning", "--disable-log-requests"),
        "--no-enable-log-requests",
    ]
    configs = ['--additional-config={"a_b": {}}', '--compilation-config={"custom_ops": ["none"]}']
    with RunningEngine(tmp_path, *flags, *configs) as engine:
        target = engine.wait_ready()
        ids = [card["id"] for card in ask(target, "/v1/models").json()["data"]]
        assert ids == ["m", "other"]
        assert "GET /v1/models" not in engine.log
        other = Target(target.base_url, "other")
        assert ask(other, "/v1/completions", completion(other)).status == 200


def test_it_runs_where_an_image_installs_it(tmp_path: Path, model: Path) -> None:
    (tmp_path / "bin").mkdir()
    shutil.copy(VLLM, tmp_path / "bin" / "vllm")
    shutil.copytree(VLLM.parent / "vllm_double", tmp_path / "lib" / "vllm_double")
    installed = [str(tmp_path / "bin" / "vllm"), "serve", str(model), "--no-such-flag"]
    result = subprocess.run(installed, capture_output=True, text=True, timeout=20, check=False)
    assert "vllm: error: unrecognized arguments" in result.stderr


def test_the_port_is_closed_while_loading(tmp_path: Path) -> None:
    with RunningEngine(tmp_path, load_s=0.4) as engine:
        target = engine.target
        assert not contract.is_port_open(target)
        wait_until(lambda: "50% Completed | 2/4" in engine.log, "half of the shards")
        assert not contract.is_port_open(target)
        engine.wait_ready()
        assert ask(target, "/health").status == 200
        assert "INFO:     Application startup complete." in engine.log
        assert f"Uvicorn running on {target.base_url}" in engine.log


def test_options_need_no_environment_and_the_environment_wins(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    layer = {"health_status": 500, "load_s": 9, "shards": 7, "tokens_per_s": 100}
    (tmp_path / "model" / "vllm_double.json").write_text(json.dumps(layer))
    with RunningEngine(tmp_path) as engine:
        engine.set_options(health_status=404)
        target = engine.wait_ready()  # the environment says 0.05 s
        assert ask(target, "/health").status == 404
        engine.control.unlink()
        assert ask(target, "/health").status == 500
        assert "Completed | 7/7" in engine.log


@pytest.mark.parametrize(
    ("name", "value"), [("LOAD_SECONDS", "1"), ("LOAD_S", "soon"), ("FAIL_AT_START", "maybe")]
)
def test_a_wrong_option_is_refused(model: Path, name: str, value: str) -> None:
    result = run_vllm("serve", str(model), **{f"VLLM_DOUBLE_{name}": value})
    assert result.returncode == 2
    assert name.lower() in result.stderr


def test_a_wrong_control_file_changes_nothing(tmp_path: Path) -> None:
    with RunningEngine(tmp_path) as engine:
        target = engine.wait_ready()
        engine.control.write_text("{")
        assert ask(target, "/v1/completions", completion(target)).status == 200
        wait_until(lambda: "keeps its options" in engine.log, "a line about the file")


@pytest.mark.parametrize(
    ("failure", "code", "message"),
    [
        ("npu-out-of-memory", 1, "NPU out of memory"),
        ("npu-memory-in-use", 1, "is less than desired GPU memory utilization"),
        ("bad-dtype", 2, "argument --dtype: invalid choice"),
        ("damaged-model", 1, "SafetensorError"),
        ("unknown-flag", 2, "unrecognized arguments"),
        ("port-in-use", 1, "Address already in use"),
        ("acl-507008", 1, "error code is 507008"),
        ("dcmi-8005", 1, "dcmi module initialize failed. ret is -8005"),
    ],
)
def test_a_failure_at_start(model: Path, failure: str, code: int, message: str) -> None:
    flags = ("--host=127.0.0.1", "--port=0")
    result = run_vllm("serve", str(model), *flags, VLLM_DOUBLE_FAIL_AT_START=failure)
    assert result.returncode == code
    assert message in result.stderr


def test_a_port_in_use_is_an_error_before_loading(model: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run_vllm("serve", str(model), "--host=127.0.0.1", f"--port={port}")
    assert result.returncode == 1
    assert "[Errno 98] Address already in use" in result.stderr
    assert "Loading safetensors" not in result.stderr


def test_loading_can_stall_for_ever(tmp_path: Path) -> None:
    with RunningEngine(tmp_path, stall_loading=1) as engine:
        wait_until(lambda: "50% Completed" in engine.log, "half of the shards")
        time.sleep(0.3)
        assert "75% Completed" not in engine.log
        assert not contract.is_port_open(engine.target)


@pytest.fixture
def devices(tmp_path: Path) -> Path:
    folder = tmp_path / "dev"
    folder.mkdir()
    for name in ("davinci0", "davinci3", "davinci_manager", "devmm_svm", "hisi_hdc"):
        (folder / name).touch()
    return folder


def run_on_devices(tmp_path: Path, *flags: str, **env: str) -> str:
    """stderr of a start that must fail."""
    (tmp_path / "config.json").write_text('{"num_attention_heads": 32}')
    needs = {"VLLM_DOUBLE_NEEDS_NPU": "1", "VLLM_DOUBLE_DEV_DIR": str(tmp_path / "dev"), **env}
    result = run_vllm("serve", str(tmp_path), "--host=127.0.0.1", "--port=0", *flags, **needs)
    assert result.returncode == 1
    return result.stderr


def test_engine_core_opens_and_holds_all_devices(tmp_path: Path, devices: Path) -> None:
    with RunningEngine(tmp_path, "-tp=2", needs_npu=1, dev_dir=devices) as engine:
        engine.wait_ready()
        held = {os.readlink(link) for link in Path(f"/proc/{engine.core_pid}/fd").iterdir()}
        assert {str(path) for path in devices.iterdir()} <= held
        assert all(path.stat().st_size == 1 for path in devices.iterdir())
        comm = Path(f"/proc/{engine.core_pid}/comm").read_text().strip()
        assert comm == contract_faults.CORE_NAME


def test_too_few_devices(tmp_path: Path, devices: Path) -> None:
    assert "error code 107001" in run_on_devices(tmp_path, "-tp=4")
    text = run_on_devices(tmp_path, ASCEND_RT_VISIBLE_DEVICES="3")
    assert "set ASCEND_RT_VISIBLE_DEVICES:3 error, input data rang[0-2)" in text
    (devices / "davinci0").unlink()
    (devices / "davinci3").unlink()
    assert "error code 207004" in run_on_devices(tmp_path)


def test_no_manager_device(tmp_path: Path, devices: Path) -> None:
    (devices / "hisi_hdc").unlink()
    text = run_on_devices(tmp_path)
    assert "dcmi module initialize failed. ret is -8005" in text
    assert "Engine core initialization failed" in text


def test_a_device_that_cannot_be_opened(tmp_path: Path, devices: Path) -> None:
    (devices / "davinci3").unlink()
    (devices / "davinci3").mkdir()
    assert "error code 507033" in run_on_devices(tmp_path)


def test_sigstop_of_engine_core_is_seen_by_nothing_but_a_canary(tmp_path: Path) -> None:
    with RunningEngine(tmp_path) as engine:
        target = engine.wait_ready()
        assert ask(target, "/v1/completions", completion(target)).status == 200
        before = read_metrics(target)
        os.kill(engine.core_pid, signal.SIGSTOP)
        hurried = Target(target.base_url, "m", timeout_s=0.5)
        with pytest.raises(TimeoutError):
            ask(hurried, "/v1/completions", completion(target))
        with ThreadPoolExecutor(1) as pool:
            hanging = pool.submit(ask, target, "/v1/completions", completion(target))
            for _ in range(20):
                assert ask(target, "/health").status == 200
            assert read_metrics(target) == before
            assert before["vllm:num_requests_running"] == 0
            assert before["vllm:num_requests_waiting"] == 0
            assert not hanging.done()
            assert engine.process.poll() is None
            os.kill(engine.core_pid, signal.SIGCONT)
            assert hanging.result(5).status == 200


def test_sigkill_of_engine_core_gives_503_and_then_the_end(tmp_path: Path) -> None:
    with RunningEngine(tmp_path) as engine:
        target = engine.wait_ready()
        killed_at = time.monotonic()
        os.kill(engine.core_pid, signal.SIGKILL)
        assert ask(target, "/health").status == 200
        wait_until(lambda: ask(target, "/health").status == 503, "503", timeout_s=0.5)
        assert ask(target, "/v1/completions", completion(target)).status == 500
        assert engine.wait_exit() == contract_faults.STATUS_AFTER_CORE_DEATH
        assert 0.5 < time.monotonic() - killed_at < 2.5
        assert not contract.is_port_open(target)
        assert "EngineCore_DP0 died unexpectedly" in engine.log


def test_a_request_under_way_fails_when_engine_core_dies(tmp_path: Path) -> None:
    with RunningEngine(tmp_path, tokens_per_s=1) as engine, ThreadPoolExecutor(2) as pool:
        target = engine.wait_ready()
        plain = pool.submit(ask, target, "/v1/completions", completion(target, 100))
        stream = pool.submit(read_stream, target, completion(target, 100, stream=True))
        time.sleep(0.3)
        os.kill(engine.core_pid, signal.SIGKILL)
        assert plain.result(5).json()["error"]["code"] == 500
        error, done = stream.result(5)
        assert error["error"]["type"] == "InternalServerError"
        assert done == "[DONE]"


def read_stream(target: Target, body: object) -> list[Any]:
    return list(contract.read_events(target, "/v1/completions", body))


def test_hang_switched_on_and_off_while_it_runs(tmp_path: Path) -> None:
    with RunningEngine(tmp_path) as engine:
        target = engine.wait_ready()
        engine.set_options(hang=True)
        time.sleep(0.1)
        hurried = Target(target.base_url, "m", timeout_s=0.3)
        with pytest.raises(TimeoutError):
            ask(hurried, "/v1/completions", completion(target))
        assert ask(target, "/health").status == 200
        engine.set_options(hang=False)
        assert ask(target, "/v1/completions", completion(target)).status == 200


def test_hang_after_some_requests(tmp_path: Path) -> None:
    with RunningEngine(tmp_path, hang_after_requests=2) as engine:
        target = engine.wait_ready()
        hurried = Target(target.base_url, "m", timeout_s=0.3)
        assert ask(target, "/v1/completions", completion(target)).status == 200
        assert ask(target, "/v1/completions", completion(target)).status == 200
        with pytest.raises(TimeoutError):
            ask(hurried, "/v1/completions", completion(target))


def test_a_busy_engine_shows_its_gauges_and_waits_in_line(tmp_path: Path) -> None:
    with RunningEngine(tmp_path, "--max-num-seqs=1", tokens_per_s=20) as engine:
        target = engine.wait_ready()
        with ThreadPoolExecutor(2) as pool:
            body = completion(target, 15)
            both = [pool.submit(ask, target, "/v1/completions", body) for _ in range(2)]
            wanted = {"vllm:num_requests_running": 1, "vllm:num_requests_waiting": 1}
            wait_until(lambda: wanted.items() <= read_metrics(target).items(), "1 and 1")
            assert [one.result(5).status for one in both] == [200, 200]
        assert read_metrics(target)["vllm:num_requests_running"] == 0


def test_slow_down_and_slow_first_request(tmp_path: Path) -> None:
    with RunningEngine(tmp_path, first_request_s=0.5) as engine:
        target = engine.wait_ready()
        first = timed(target, completion(target))
        second = timed(target, completion(target))
        engine.set_options(slowdown=100)
        slowed = timed(target, completion(target, 2))
        assert first > 0.5 > second
        assert slowed > 0.4  # 2 tokens of 2 ms, 100 times slower


def test_slow_metrics(tmp_path: Path) -> None:
    with RunningEngine(tmp_path, metrics_s=0.5) as engine:
        target = engine.wait_ready()
        started = time.monotonic()
        contract.check_metrics(target)
        assert time.monotonic() - started > 0.5
        assert timed(target, completion(target)) < 0.5


def timed(target: Target, body: object) -> float:
    started = time.monotonic()
    assert ask(target, "/v1/completions", body).status == 200
    return time.monotonic() - started


def test_a_client_that_goes_away_frees_its_place(tmp_path: Path) -> None:
    with RunningEngine(tmp_path, "--max-num-seqs=1", endless=1) as engine:
        target = engine.wait_ready()
        hurried = Target(target.base_url, "m", timeout_s=0.3)
        with pytest.raises(TimeoutError):
            ask(hurried, "/v1/completions", completion(target))
        wait_until(lambda: read_metrics(target)["vllm:num_requests_running"] == 0, "an abort")


def test_an_endless_stream_ignores_max_tokens(tmp_path: Path) -> None:
    with RunningEngine(tmp_path, endless=1) as engine:
        target = engine.wait_ready()
        body = completion(target, 2, stream=True)
        events = contract.read_events(target, "/v1/completions", body)
        assert [next(events)["choices"][0]["finish_reason"] for _ in range(200)] == [None] * 200
        events.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["http", "short"])
def test_malformed_http(tmp_path: Path, kind: str) -> None:
    with RunningEngine(tmp_path) as engine:
        target = engine.wait_ready()
        engine.set_options(malformed=kind)
        with pytest.raises(ENGINE_ERRORS):
            ask(target, "/health")
        engine.set_options(malformed="")
        assert ask(target, "/health").status == 200


def test_malformed_json(tmp_path: Path) -> None:
    with RunningEngine(tmp_path, malformed="json") as engine:
        target = engine.wait_ready()
        with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
            ask(target, "/v1/models").json()


def test_crash_after_some_seconds_with_a_chosen_status(tmp_path: Path) -> None:
    with RunningEngine(tmp_path, crash_after_s=0.5, crash_exit_code=139) as engine:
        target = engine.wait_ready()
        assert engine.wait_exit() == 139
        assert not contract.is_port_open(target)


def test_crash_while_loading(tmp_path: Path) -> None:
    with RunningEngine(tmp_path, load_s=60, crash_after_s=0.1, crash_exit_code=7) as engine:
        assert engine.wait_exit() == 7


def test_crash_after_some_requests(tmp_path: Path) -> None:
    with RunningEngine(tmp_path, crash_after_requests=1) as engine:
        target = engine.wait_ready()
        assert ask(target, "/v1/completions", completion(target)).status == 200
        assert engine.wait_exit() == 1


def test_crash_of_engine_core_by_order(tmp_path: Path) -> None:
    with RunningEngine(tmp_path) as engine:
        target = engine.wait_ready()
        engine.set_options(crash_who="engine", crash_after_s=0)
        wait_until(lambda: ask(target, "/health").status == 503, "503")
        assert engine.wait_exit() == 0


def test_sigterm_ends_it_cleanly_within_a_second(tmp_path: Path) -> None:
    with RunningEngine(tmp_path, tokens_per_s=1) as engine, ThreadPoolExecutor(1) as pool:
        target = engine.wait_ready()
        under_way = pool.submit(ask, target, "/v1/completions", completion(target, 100))
        time.sleep(0.2)
        core = engine.core_pid
        engine.process.terminate()
        assert engine.wait_exit(1.0) == 0
        assert not contract.is_port_open(target)
        assert not Path(f"/proc/{core}").exists()
        assert under_way.result(5).status == 500


def test_sigterm_with_a_stopped_engine_core(tmp_path: Path) -> None:
    with RunningEngine(tmp_path) as engine:
        engine.wait_ready()
        os.kill(engine.core_pid, signal.SIGSTOP)
        engine.process.terminate()
        assert engine.wait_exit(1.0) == 0


def test_sigterm_while_loading(tmp_path: Path) -> None:
    with RunningEngine(tmp_path, load_s=60) as engine:
        wait_until(lambda: "0% Completed" in engine.log, "loading")
        engine.process.terminate()
        assert engine.wait_exit(1.0) == 0


def test_sigterm_can_be_ignored(tmp_path: Path) -> None:
    with RunningEngine(tmp_path, ignore_sigterm=1) as engine:
        target = engine.wait_ready()
        engine.process.terminate()
        os.kill(engine.core_pid, signal.SIGTERM)
        wait_until(lambda: "ignores the signal" in engine.log, "a line about it")
        assert ask(target, "/v1/completions", completion(target)).status == 200


def test_sigkill_of_the_server_ends_engine_core(tmp_path: Path) -> None:
    with RunningEngine(tmp_path) as engine:
        engine.wait_ready()
        core = engine.core_pid
        engine.process.kill()
        engine.wait_exit()
        wait_until(lambda: not is_alive(core), "the end of EngineCore")


def is_alive(pid: int) -> bool:
    """A zombie that nobody has collected yet is not alive."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def may_unshare() -> bool:
    command = ["unshare", "--pid", "--fork", "true"]
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(command, capture_output=True, timeout=20, check=False).returncode == 0


@pytest.mark.skipif(not may_unshare(), reason="a PID namespace needs root")
def test_as_pid_1_it_obeys_sigterm_and_collects_strangers(tmp_path: Path) -> None:
    """A container's first process has no default signal actions, and inherits all orphans."""
    script = "unshare --pid --fork --kill-child"
    with RunningEngine(tmp_path, prefix=tuple(script.split())) as engine:
        engine.wait_ready()
        first = engine.child_of(engine.process.pid)
        orphan = ["nsenter", "-t", str(first), "-p", "sh", "-c", "sleep 0.5 & exit 0"]
        subprocess.run(orphan, timeout=20, check=True)
        wait_until(lambda: len(engine.children_of(first)) == 2, "the orphan's adoption")
        wait_until(lambda: len(engine.children_of(first)) == 1, "the orphan's end")
        os.kill(first, signal.SIGTERM)
        assert engine.wait_exit(1.0) == 0
        assert "(APIServer pid=1)" in engine.log
