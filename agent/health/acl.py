# SPDX-License-Identifier: MulanPSL-2.0
"""Error codes of ACL, CANN's runtime (facts: ascend, 5), in plain words: data for `diagnosis`.

NPU_FAULTED and NPU_INIT_FAILED are the NPU's own trouble: what the driver says of it is acted on by
the policy for NPUs, and the engine is tried again. NPU_NOT_USABLE is how the container was set up.
"""

from agent.errors import Code

ACL: dict[int, tuple[Code, str]] = {
    107001: (Code.NPU_NOT_USABLE, "it asks for an NPU that its container does not have"),
    107002: (Code.NPU_INIT_FAILED, "its NPU was not initialised"),
    107003: (Code.NPU_INIT_FAILED, "a stream of its NPU was lost"),
    207001: (Code.NPU_OUT_OF_MEMORY, "the memory of its NPU does not suffice"),
    207004: (Code.NPU_INIT_FAILED, "the driver offers it no NPU"),
    207006: (Code.NPU_NOT_USABLE, "it may not use its NPU"),
    507000: (Code.NPU_INIT_FAILED, "the runtime of its NPU failed"),
    507001: (Code.NPU_FAULTED, "the task scheduler of its NPU failed"),
    507008: (Code.NPU_INIT_FAILED, "the driver does not tell the kind of its NPU"),
    507010: (Code.NPU_FAULTED, "its NPU does not answer any more"),
    507011: (Code.NPU_FAULTED, "a model failed on its NPU"),
    507012: (Code.NPU_FAULTED, "its NPU did not report in time"),
    507013: (Code.NPU_FAULTED, "copying memory failed on its NPU"),
    507014: (Code.NPU_FAULTED, "an AI core of its NPU took too long"),
    507015: (Code.NPU_FAULTED, "an AI core of its NPU failed"),
    507016: (Code.NPU_FAULTED, "an AI core of its NPU trapped"),
    507017: (Code.NPU_FAULTED, "an AI CPU of its NPU took too long"),
    507018: (Code.NPU_FAULTED, "an AI CPU of its NPU failed"),
    507033: (Code.NPU_INIT_FAILED, "its NPU could not be set up"),
    507034: (Code.NPU_FAULTED, "a vector core of its NPU took too long"),
    507035: (Code.NPU_FAULTED, "a vector core of its NPU failed"),
    507899: (Code.NPU_INIT_FAILED, "the driver of its NPU failed"),
    507900: (Code.NPU_FAULTED, "an AI CPU of its NPU failed inside"),
    507901: (Code.NPU_FAULTED, "the connection to its NPU was lost"),
}
HINTS: dict[Code, str] = {
    Code.NPU_NOT_USABLE: "is ASCEND_RT_VISIBLE_DEVICES in the profile's environment? It "
    "counts from 0 inside the container. SELinux can refuse it, too: ausearch -m avc",
    Code.NPU_OUT_OF_MEMORY: "if it comes again: lower vllm.max_model_len or "
    "vllm.gpu_memory_utilization in the profile, or give it more NPUs; who else uses the NPU: "
    "npu-smi info",
    Code.NPU_INIT_FAILED: "deepseekctl npus; does something else use the NPU: npu-smi info; dmesg",
    Code.NPU_FAULTED: "deepseekctl npus tells what the driver says of it; dmesg",
}
# 507xxx that is not in the table: all of them are the device's (aclError, CANN's documentation).
OTHER = (Code.NPU_FAULTED, "its NPU failed")
