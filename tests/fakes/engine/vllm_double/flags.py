# SPDX-License-Identifier: MulanPSL-2.0
"""The command line of `vllm serve`: in arguments, out a checked `Arguments` value.

Only flags that the agent renders or may render exist here. As with the real one, an unknown flag
ends the process with status 2, so a wrong render is seen. Underscores count as dashes.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

VERSION = "0.23.0+double"
DTYPES = ("auto", "bfloat16", "float", "float16", "float32", "half")
REASONING_PARSERS = ("deepseek_r1", "deepseek_v3", "qwen3")
LOG_LEVELS = ("critical", "error", "warning", "info", "debug", "trace")


@dataclass(frozen=True, slots=True)
class Arguments:
    model: str
    served_names: tuple[str, ...]
    host: str
    port: int
    max_model_len: int | None
    tensor_parallel_size: int
    max_num_seqs: int
    reasoning: bool
    api_key: str
    ssl_certfile: str  # both empty: plain HTTP
    ssl_keyfile: str
    access_log: bool
    log_requests: bool
    shutdown_timeout_s: int


def parse_arguments(argv: Sequence[str], environ: Mapping[str, str]) -> Arguments:
    """Exits 2 with vLLM's words when the command line is wrong."""
    parser = _build_parser()
    found = parser.parse_args([dashed(argument) for argument in argv])
    if bool(found.ssl_certfile) != bool(found.ssl_keyfile):
        parser.error("the engine double wants --ssl-certfile and --ssl-keyfile, both or neither")
    quiet = LOG_LEVELS.index(found.uvicorn_log_level) < LOG_LEVELS.index("info")
    return Arguments(
        model=found.model_tag,
        served_names=tuple(found.served_model_name or [found.model_tag]),
        host=found.host,
        port=found.port,
        max_model_len=found.max_model_len,
        tensor_parallel_size=found.tensor_parallel_size,
        max_num_seqs=found.max_num_seqs,
        reasoning=found.reasoning_parser is not None,
        api_key=found.api_key or environ.get("VLLM_API_KEY", ""),
        ssl_certfile=found.ssl_certfile,
        ssl_keyfile=found.ssl_keyfile,
        access_log=not quiet and not found.disable_uvicorn_access_log,
        log_requests=found.enable_log_requests and not found.disable_log_requests,
        shutdown_timeout_s=found.shutdown_timeout,
    )


def dashed(argument: str) -> str:
    """`--a_b=c_d` is `--a-b=c_d`, as in vLLM's own parser."""
    if not argument.startswith("--"):
        return argument
    key, equals, value = argument.partition("=")
    return key.replace("_", "-") + equals + value


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vllm", allow_abbrev=False)
    parser.add_argument("-v", "--version", action="version", version=VERSION)
    commands = parser.add_subparsers(required=True, metavar="{serve}")
    serve = commands.add_parser("serve", allow_abbrev=False)
    serve.add_argument("model_tag")
    _add_server_flags(serve)
    _add_engine_flags(serve)
    return parser


def _add_server_flags(serve: argparse.ArgumentParser) -> None:
    serve.add_argument("--served-model-name", nargs="+")
    serve.add_argument("--host", default="0.0.0.0")  # noqa: S104 - as the real one
    serve.add_argument("--port", type=_whole(0, 65535), default=8000)
    serve.add_argument("--api-key")
    serve.add_argument("--ssl-certfile", default="")
    serve.add_argument("--ssl-keyfile", default="")
    serve.add_argument("--uvicorn-log-level", choices=LOG_LEVELS, default="info")
    serve.add_argument("--disable-uvicorn-access-log", action="store_true")
    serve.add_argument("--disable-log-requests", action="store_true")
    serve.add_argument(
        "--enable-log-requests", action=argparse.BooleanOptionalAction, default=False
    )
    serve.add_argument("--reasoning-parser", choices=REASONING_PARSERS)
    serve.add_argument("--shutdown-timeout", type=_whole(0), default=0)


def _add_engine_flags(serve: argparse.ArgumentParser) -> None:
    serve.add_argument("--max-model-len", type=_whole(1))
    serve.add_argument("--tensor-parallel-size", "-tp", type=_whole(1), default=1)
    serve.add_argument("--gpu-memory-utilization", type=_memory_share, default=0.9)
    serve.add_argument("--dtype", choices=DTYPES, default="auto")
    serve.add_argument("--quantization", "-q")
    serve.add_argument("--load-format", default="auto")
    serve.add_argument("--max-num-seqs", type=_whole(1), default=256)
    serve.add_argument("--max-num-batched-tokens", type=_whole(1))
    serve.add_argument("--seed", type=int)
    serve.add_argument("--additional-config", type=_json_object)
    serve.add_argument("--compilation-config", type=_json_object)
    for flag in ("--enforce-eager", "--trust-remote-code", "--enable-prefix-caching"):
        serve.add_argument(flag, action=argparse.BooleanOptionalAction)


def _whole(low: int, high: int = 2**31 - 1) -> Callable[[str], int]:
    def whole_number(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{value} is not within {low} and {high}")
        return value

    return whole_number


def _memory_share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(
            f"GPU memory utilization must be greater than 0 and at most 1.0. Got {text}."
        )
    return value


def _json_object(text: str) -> dict[str, object]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"Value {text} cannot be converted to JSON") from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"Value {text} is not a JSON object")
    return value
