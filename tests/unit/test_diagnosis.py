# SPDX-License-Identifier: MulanPSL-2.0
"""Why an engine ended, from last words of a real vLLM 0.32 (CPU), of vllm-ascend as its users have
shown them, and of the engine double."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import Code, Remedy
from agent.health.acl import ACL
from agent.health.diagnosis import LINE_LIMIT, diagnose
from tests.fakes.engine.vllm_double.failures import ACL_CODES, FAILURES
from tests.growth import cpu_s

WORKER = "(Worker pid=34) ERROR 11-25 14:52:26 [multiproc_executor.py:953] "
CORE = "(EngineCore pid=19) ERROR 11-25 14:55:33 [core.py:1510] "
VALIDATION = "  Value error, "
# What follows each failure of the engine's process, and says nothing.
AFTER = (
    f"{CORE}EngineCore failed to start.",
    f"{CORE}Exception: WorkerProc initialization failed due to an exception in a background "
    "process. See stack trace for root cause.",
    "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): "
    "{'EngineCore': 1}",
)

REAL: dict[str, Code | None] = {
    "vllm serve: error: argument --dtype: invalid choice: 'float15' (choose from 'auto', 'half')": (
        Code.ENGINE_OPTION_INVALID
    ),
    "-c: error: unrecognized arguments: --flag-of-another-version=1": Code.ENGINE_OPTION_INVALID,
    "KeyError: \"Reasoning parser 'nope' not found. Available parsers: deepseek_r1, glm45\"": (
        Code.ENGINE_OPTION_INVALID
    ),
    "OSError: It looks like the config file at '/models/x/config.json' is not a valid JSON file.": (
        Code.MODEL_INVALID
    ),
    f"{WORKER}safetensors._safetensors_rust.SafetensorError: Error while deserializing header: "
    "header too small": Code.MODEL_INVALID,
    f"{WORKER}RuntimeError: start (0) + length (768) exceeds dimension size (512).": (
        Code.MODEL_INVALID
    ),
    f"{VALIDATION}Unterminated string starting at: line 16 column 7 (char 290) [type=value_error, "
    "input_value=ArgsKwargs((), {'model_co...": Code.MODEL_INVALID,
    f"{VALIDATION}Couldn't instantiate the backend tokenizer from one of: ": Code.MODEL_INVALID,
    f"{WORKER}RuntimeError: Cannot find any model weights with `/models/x`": Code.MODEL_INVALID,
    "huggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name' or "
    "'namespace/repo_name': '/models/x'.": Code.MODEL_INVALID,
    "FileNotFoundError: No such file or directory: "
    '"/models/x/model-00002-of-00004.safetensors"': Code.MODEL_INVALID,
    f"{VALIDATION}Model architectures ['NoSuchForCausalLM'] are not supported for now. Supported "
    "architectures: dict_keys(['AfmoeForCausalLM'": Code.MODEL_UNSUPPORTED,
    f"{VALIDATION}User-specified max_model_len (99999) is greater than the derived max_model_len "
    "(max_position_embeddings=16384.0": Code.ENGINE_OPTION_INVALID,
    f"{VALIDATION}Total number of attention heads (4) must be divisible by tensor parallel size "
    "(3). [type=value_error, input_value=ArgsKwargs((), {": Code.ENGINE_OPTION_INVALID,
    f"{CORE}ValueError: No available memory for the cache blocks. Try increasing "
    "`gpu_memory_utilization` when initializing the engine": Code.KV_CACHE_TOO_SMALL,
    f"{CORE}ValueError: To serve at least one request with the model's max seq len (500000), (1.91 "
    "GiB KV cache is needed, which is larger than the available KV cache memory (1.0 GiB).": (
        Code.KV_CACHE_TOO_SMALL
    ),
    "ValueError: Bfloat16 is only supported on GPUs with compute capability of at least 8.0.": (
        Code.DTYPE_UNSUPPORTED
    ),
    "Tensor self not implemented for DT_BFLOAT16, should be in dtype support list [DT_FLOAT16]": (
        Code.DTYPE_UNSUPPORTED
    ),
    "OSError: [Errno 98] Address already in use": Code.PORT_IN_USE,
    "Error: cannot listen on the TCP port: listen tcp4 127.0.0.1:2023: bind: address already in "
    "use": Code.PORT_IN_USE,
    f"{CORE}EL0004: [PID: 3132] 2025-10-15-16:32:16.417.528 Failed to allocate memory.": (
        Code.NPU_OUT_OF_MEMORY
    ),
    f"{CORE}        alloc device memory failed, runtime result = 207001[FUNC:ReportCallError]": (
        Code.NPU_OUT_OF_MEMORY
    ),
    "ImportError: libascend_hal.so: cannot open shared object file: No such file or directory": (
        Code.NPU_SOFTWARE_MISMATCH
    ),
    "OSError: /usr/local/Ascend/nnal/atb/latest/atb/cxx_abi_1/lib/libtbe_adapter.so: undefined "
    "symbol: _ZN3Mki2DlC1ERKNSt7": Code.NPU_SOFTWARE_MISMATCH,
    "Segmentation fault (core dumped)": None,
    "FileNotFoundError: [Errno 2] No such file or directory": None,
}


@pytest.mark.parametrize(("line", "code"), REAL.items())
def test_real_last_words(line: str, code: Code | None) -> None:
    found = diagnose("8b", (line, *AFTER), served=False)
    assert (found.code if found else None) == code
    if found is not None:
        assert found.message.startswith("cannot start 8b: ")
        assert found.hint
        assert "type=" not in found.message
        assert len(found.message) < 300


DOUBLE = {
    "npu-out-of-memory": Code.NPU_OUT_OF_MEMORY,
    "npu-memory-in-use": Code.NPU_MEMORY_IN_USE,
    "bad-dtype": Code.ENGINE_OPTION_INVALID,
    "damaged-model": Code.MODEL_INVALID,
    "unknown-flag": Code.ENGINE_OPTION_INVALID,
    "port-in-use": Code.PORT_IN_USE,
    "dcmi-8005": Code.NPU_INIT_FAILED,
    "dcmi-8020": Code.NPU_BUSY,
    "hccl-timeout": Code.HCCL_TIMEOUT,
    **{f"acl-{code}": ACL[code][0] for code in ACL_CODES},
}


@pytest.mark.parametrize("name", FAILURES)
def test_every_failure_of_the_double_has_a_name(name: str) -> None:
    found = diagnose("8b", FAILURES[name].text.splitlines(), served=False)
    assert found is not None
    assert found.code is DOUBLE[name]


def test_what_only_a_change_can_mend() -> None:
    """Everything else is tried again: a wrong name here would leave a host down for good."""
    found = {
        name: diagnose("8b", failure.text.splitlines(), served=False)
        for name, failure in FAILURES.items()
    }
    lasting = {name for name, one in found.items() if one and one.remedy is Remedy.CHANGE}
    assert lasting == {"bad-dtype", "damaged-model", "unknown-flag", "acl-107001", "acl-207006"}


def test_numbers_are_told() -> None:
    text = FAILURES["npu-memory-in-use"].text
    found = diagnose("8b", [text], served=False)
    assert found is not None
    assert "(8.0/64.0 GiB)" in found.message


def test_trouble_that_passes_comes_before_what_lasts() -> None:
    """A core that dies of its NPU may print anything on its way out."""
    lines = [
        "ValueError: No available memory for the cache blocks.",
        *FAILURES["acl-507034"].text.splitlines(),
    ]
    found = diagnose("8b", lines, served=False)
    assert found is not None
    assert found.code is Code.NPU_FAULTED


def test_the_first_code_is_the_cause() -> None:
    found = diagnose("8b", ["error code is 507015", "error code is 107002"], served=False)
    assert found is not None
    assert "507015" in found.message


def test_a_code_that_nobody_knows() -> None:
    known = diagnose("8b", ["NPU function error: aclrtX, error code is 507048"], served=True)
    assert known is not None
    assert known.code is Code.NPU_FAULTED
    assert known.message == "cannot keep 8b serving: its NPU failed (ACL 507048)"
    assert diagnose("8b", ["HCCL function error, error code is 6"], served=False) is None
    assert diagnose("8b", ["error code is 500002"], served=False) is None


@pytest.mark.parametrize("name", FAILURES)
def test_what_had_served_is_never_held(name: str) -> None:
    """And its log may hold what users have written."""
    found = diagnose("8b", FAILURES[name].text.splitlines(), served=True)
    assert found is None or found.remedy is not Remedy.CHANGE


def test_no_control_characters_get_through() -> None:
    found = diagnose("8b", ["vllm: error: argument -x: \x1b[31m\x07 bad\u2028"], served=False)
    assert found is not None
    assert found.message.isprintable()


@given(st.lists(st.text()))
def test_nothing_is_too_odd(lines: list[str]) -> None:
    diagnose("8b", lines, served=False)


@pytest.mark.parametrize("part", ["error code ", "version ", "Dtype ", "libascend", "a.", "["])
def test_the_cost_of_a_line_grows_with_its_length_only(part: str) -> None:
    """Four times as long: four times the work; a pattern that goes back and forth has sixteen."""
    short, long = LINE_LIMIT // 4, LINE_LIMIT
    assert _work_of(part, long) < 8 * _work_of(part, short)


def _work_of(part: str, length: int) -> float:
    """Of 100 lines."""
    lines = [(part * length)[:length]] * 100
    return cpu_s(lambda: diagnose("8b", lines, served=False))
