# SPDX-License-Identifier: MulanPSL-2.0
"""What engines print when they cannot go on, and what that means: the table of `diagnosis`.

A row that another try may mend stands before those that it cannot: what a dying engine prints
besides must never make an instance wait for a person. The words are those of vLLM (0.8 to 0.32),
transformers, safetensors, torch_npu and CANN; numbers of ACL are in `acl`.
"""

import re
from dataclasses import dataclass

from agent.errors import Code

# A word, number or sentence out of a line; it ends up in a message, so it is short.
WORD = r"(?P<what>[^\s'\"]{1,80})"
REST = r"(?P<what>[^\r\n]{1,160})"


@dataclass(frozen=True, slots=True)
class Sign:
    """`pattern` is looked for in each line; `why` and `hint` may use its groups by name."""

    code: Code
    why: str
    hint: str
    pattern: re.Pattern[str]


def _sign(code: Code, why: str, hint: str, *patterns: str) -> Sign:
    return Sign(code, why, hint, re.compile("|".join(patterns)))


SEE_LOG = "deepseekctl logs INSTANCE shows the engine's last words"
SEE_NPUS = "deepseekctl npus; npu-smi info"
FREE_MEMORY = (
    "if it comes again: lower vllm.max_model_len or vllm.gpu_memory_utilization in the profile, "
    "or give it more NPUs; who else uses the NPU: npu-smi info"
)
MEND_MODEL = (
    "what the agent has brought it mends by itself; where that does not help: deepseekctl update "
    "INSTANCE --revision REV; your own: compare its files with their published checksums, and copy "
    "the damaged ones again; it is started by itself when they have changed"
)
MEND_PROFILE = (
    "it is started by itself when the profile has changed: systemctl reload deepseek-agent"
)

# --- another try may help ------------------------------------------------------------------------

PASSING = (
    _sign(
        Code.NPU_MEMORY_IN_USE,
        "memory of its NPU is in use by something else ({what})",
        "who it is: npu-smi info; an engine that has just ended may still be letting go of it",
        r"Free memory on device[^(]{0,40}"
        r"\((?P<what>[\d.]{1,12}/[\d.]{1,12} GiB)\) on startup is less",
    ),
    _sign(
        Code.NPU_MEMORY_IN_USE,
        "the memory of its NPU changed while it was being measured",
        "who else uses the NPU: npu-smi info",
        r"Error in memory profiling",
    ),
    _sign(
        Code.NPU_OUT_OF_MEMORY,
        "the memory of its NPU does not suffice",
        FREE_MEMORY,
        r"NPU out of memory",
        r"\bEL0004\b",
    ),
    _sign(
        Code.NPU_BUSY,
        "its NPU is held by another process or container (-8020)",
        "who it is: npu-smi info; podman ps --all",
        r"(?<!\d)-8020\b",
    ),
    _sign(
        Code.HCCL_TIMEOUT,
        "its NPUs could not connect to each other in time",
        "are all of them well, and the network between them: deepseekctl npus; hccn_tool",
        r"\bEI0006\b",
        r"\bEI0002\b",
        r"Getting socket times out",
    ),
    _sign(
        Code.NPU_FAULTED,
        "its NPU does not answer any more",
        SEE_NPUS,
        r"\bEL0001\b",
        r"Device\[\d+\] lost heartbeat",
    ),
)
# After the codes of ACL, which say more.
PASSING_LAST = (
    _sign(
        Code.NPU_INIT_FAILED,
        "the driver refuses it inside the container (-8005)",
        "is the driver well on the host: npu-smi info, dmesg",
        r"(?<!\d)-8005\b",
    ),
    _sign(
        Code.PORT_IN_USE,
        "Podman cannot open its port: something else on this host has it",
        "who it is: ss -ltnp",
        r"bind: address already in use",  # Podman's own words
    ),
    _sign(
        Code.PORT_IN_USE,
        "a port that it needs is taken inside its container",
        "does vllm.extra_args or environment set a port? " + SEE_LOG,
        r"Address already in use",
        r"error while attempting to bind on address",
        r"EADDRINUSE",
    ),
)

# --- something has to change first ---------------------------------------------------------------

LASTING = (
    _sign(
        Code.ENGINE_OPTION_INVALID,
        "vLLM does not take its command line: {what}",
        "correct vllm.extra_args in the profile, or use the image that it was written for; "
        + MEND_PROFILE,
        # The name of the program, as argparse prints it, differs from version to version.
        r"[\w.-]{1,40}(?: serve)?: error: (?P<what>(?:unrecognized arguments|argument -|ambiguous"
        r" option|the following arguments)[^\r\n]{0,160})",
    ),
    _sign(
        Code.ENGINE_OPTION_INVALID,
        "vLLM has no reasoning parser {what}",
        "correct vllm.reasoning_parser in the profile; empty: none. " + MEND_PROFILE,
        rf"invalid reasoning parser: {WORD}",
    ),
    _sign(
        Code.ENGINE_OPTION_INVALID,
        "vLLM does not have the reasoning parser that the profile names",
        "correct vllm.reasoning_parser in the profile; empty: none. " + MEND_PROFILE,
        r"[Rr]easoning parser '[^']{1,80}' (?:is )?not found",
        r"reasoning helper: '[^']{1,80}' not found",
    ),
    _sign(
        Code.DTYPE_UNSUPPORTED,
        "its NPU or vLLM cannot compute in this type of numbers ({what})",
        'set vllm.dtype in the profile: "float16" runs on all of them, 310P has nothing else. '
        + MEND_PROFILE,
        rf"Unknown dtype: {WORD}",
        r"(?P<bf>[Bb]float16) is (?:only|not) supported",
        r"does not support (?:dtype )?(?:torch\.)?bfloat16",
        r"not implemented for DT_\w{1,12}",
        r"[Dd]type [^\r\n]{0,40}is not supported (?:for|on|by)",
    ),
    _sign(
        Code.KV_CACHE_TOO_SMALL,
        "no room is left for its KV cache: the model is too big, or max_model_len too long",
        "lower vllm.max_model_len, raise vllm.gpu_memory_utilization, or give it more NPUs (npus). "
        + MEND_PROFILE,
        r"No available memory for the cache blocks",
        r"larger than the available KV [Cc]ache memory",
        r"larger than the maximum number of tokens that can be stored in KV cache",
    ),
    _sign(
        Code.MODEL_INVALID,
        "a file of the model is damaged ({what})",
        MEND_MODEL,
        rf"SafetensorError: {REST}",
        r"(?P<zip>PytorchStreamReader failed)",
    ),
    _sign(
        Code.MODEL_INVALID,
        "weights of the model are missing",
        MEND_MODEL,
        r"No such file or directory: [^\r\n]{1,300}\.(?:safetensors|bin)\b",
        r"Cannot find any model weights",
        r"weights were not initialized from checkpoint",
    ),
    _sign(
        Code.MODEL_INVALID,
        "the weights of the model do not fit its config.json",
        MEND_MODEL,
        r"Attempted to load weight",
        r"KeyError: '(?:model|lm_head|transformer)\.[\w.]{1,120}'",
        r"start \(\d+\) \+ length \(\d+\) exceeds dimension size",
    ),
    _sign(
        Code.MODEL_INVALID,
        "config.json or the tokenizer of the model is missing or damaged",
        MEND_MODEL,
        r"is not a valid JSON file",
        r"json\.decoder\.JSONDecodeError",
        r"\bline \d+ column \d+ \(char \d+\)",  # a JSON error under another name
        r"Invalid repository ID or local directory specified",
        r"HFValidationError: Repo id must be",
        r"Can't load (?:the )?(?:tokenizer|configuration|config|processor)",
        r"Couldn't instantiate the backend tokenizer",
        r"did not match any variant of untagged enum",
    ),
    _sign(
        Code.MODEL_UNSUPPORTED,
        "the vLLM of its image does not know this kind of model",
        "use an image with a newer vLLM (image in the profile), or another model",
        r"Model architectures? \[[^\]]{0,200}\] (?:are|is) not supported",
        r"has no vLLM implementation",
        r"does not recognize this architecture",
    ),
    _sign(
        Code.ENGINE_OPTION_INVALID,
        "max_model_len {what} is more than the model was made for",
        "lower vllm.max_model_len in the profile. " + MEND_PROFILE,
        r"max_model_len \((?P<what>\d{1,12})\) is greater than the derived",
    ),
    _sign(
        Code.ENGINE_OPTION_INVALID,
        "vLLM refuses its configuration: {what}",
        MEND_PROFILE,
        rf"\bValue error, {REST}",
    ),
    _sign(
        Code.NPU_SOFTWARE_MISMATCH,
        "driver, CANN and torch_npu do not fit together ({what})",
        "use an image made for this driver, or install the driver and firmware that it needs",
        r"lib(?P<what>(?:ascend|torch_npu|op_plugin|hccl|runtime|atb|tbe|c_sec|drv)\w{0,40}\.so"
        r"[\w.]{0,12}): (?:undefined symbol|cannot open shared object)",
        r"(?:driver|firmware|CANN)\b[^\r\n]{0,60}\bversion\b[^\r\n]{0,60}"
        r"(?:mismatch|not match|incompatible)",
    ),
)
