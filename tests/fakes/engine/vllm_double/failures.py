# SPDX-License-Identifier: MulanPSL-2.0
"""Failures at start by name: in a name, out the text the real engine prints and its exit status.

The words follow vLLM, torch_npu and the ACL code table in the project's Ascend facts. A process
that fails `in_engine` dies as EngineCore, and the API server then reports that its core is gone.
"""

from dataclasses import dataclass

ACL_CODES = {
    107001: "Invalid device ID.",
    107002: "The context is a null pointer.",
    107003: "The stream is not in the current context.",
    207001: "Failed to allocate memory.",
    207004: "No device is available.",
    207006: "Failed to obtain permissions.",
    507000: "An internal error occurs in the Runtime module.",
    507008: "The SoC version does not match.",
    507010: "The TS lost its heartbeat.",
    507014: "The AI Core execution times out.",
    507015: "The AI Core execution is abnormal.",
    507033: "Failed to start the device.",
    507034: "The vector core execution times out.",
    507035: "The vector core execution is abnormal.",
    507899: "An internal error occurs in the Driver module.",
    507901: "The HDC is disconnected.",
}


@dataclass(frozen=True, slots=True)
class Failure:
    text: str
    exit_code: int = 1
    in_engine: bool = True


def acl_text(code: int, device: int = 0) -> str:
    """What torch_npu prints when ACL refuses a device."""
    return (
        f"ERROR: aclrtSetDevice({device}) failed, error code {code}\n"
        "RuntimeError: Initialize:torch_npu NPU function error: "
        f"c10_npu::SetDevice(device_id_), error code is {code}\n"
        f"[ERROR] (PID:1, Device:{device}, RankID:0) ERR00100 PTA call acl api failed\n"
        f"[Error]: {ACL_CODES[code]}"
    )


def dcmi_text(code: int) -> str:
    if code == -8020:
        return f"dcmi model initialized failed, because the device is used. ret is {code}"
    return (
        "DrvMngGetConsoleLogLevel failed. (g_conLogLevel=3)\n"
        f"dcmi module initialize failed. ret is {code}"
    )


NAMED = {
    "npu-out-of-memory": Failure(
        "RuntimeError: NPU out of memory. Tried to allocate 896.00 MiB (NPU 0; 60.96 GiB total "
        "capacity; 58.71 GiB already allocated; 58.71 GiB current active; 402.50 MiB free; "
        "58.95 GiB reserved in total by PyTorch)"
    ),
    "npu-memory-in-use": Failure(
        "ValueError: Free memory on device (8.0/64.0 GiB) on startup is less than desired GPU "
        "memory utilization (0.9, 57.6 GiB). Decrease GPU memory utilization or reduce GPU "
        "memory used by other processes."
    ),
    "bad-dtype": Failure(
        "usage: vllm serve [model_tag] [options]\n"
        "vllm serve: error: argument --dtype: invalid choice: 'bfloat15' (choose from 'auto', "
        "'bfloat16', 'float', 'float16', 'float32', 'half')",
        exit_code=2,
        in_engine=False,
    ),
    "damaged-model": Failure(
        "safetensors._safetensors_rust.SafetensorError: Error while deserializing header: "
        "incomplete metadata, file not fully covered"
    ),
    "unknown-flag": Failure(
        "usage: vllm [-h] [-v] {serve} ...\n"
        "vllm: error: unrecognized arguments: --flag-of-another-version",
        exit_code=2,
        in_engine=False,
    ),
    "port-in-use": Failure("OSError: [Errno 98] Address already in use", in_engine=False),
    "dcmi-8005": Failure(dcmi_text(-8005)),
    "dcmi-8020": Failure(dcmi_text(-8020)),
    "hccl-timeout": Failure(
        "RuntimeError: HCCL function error: hcclCommInitRootInfoConfig, error code is 6\n"
        "EI0006: Getting socket times out. Reason: 1. The remote does not initiate a connect "
        "request. some NPUs in the cluster are abnormal. (timeout 120s)"
    ),
}
FAILURES: dict[str, Failure] = NAMED | {
    f"acl-{code}": Failure(acl_text(code)) for code in ACL_CODES
}
