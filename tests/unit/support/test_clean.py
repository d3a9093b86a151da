# SPDX-License-Identifier: MulanPSL-2.0
"""What is taken out of a support bundle, and what stays in it."""

import json

import msgspec
import pytest

from agent.errors import Code, Failure
from agent.support.clean import Kind, clean
from agent.support.prompts import drop_prompts
from tests.build import build_snapshot, build_view

SECRET = "dGhpcyBpcyBhIHNlY3JldA"
PROMPT = "my wife has cancer"
AT = "2026-11-29T23:37:00.123456+0000 edge1"
ENGINE = f"{AT} deepseek-vllm-8b[77]: "
HEAD = "(APIServer pid=1) INFO 11-29 23:37:00 [logger.py:39] "


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Kind.TEXT, f"api_key = {SECRET}"),
        (Kind.TEXT, f"registry token: {SECRET}, or not"),
        (Kind.TEXT, f"podman[1]: podman run --env MY_WORD={SECRET} image"),
        (Kind.TEXT, f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n-----END RSA PRIVATE KEY-----"),
        (Kind.TEXT, f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n"),
        (Kind.TOML, f'api_key = "{SECRET}"'),
        (Kind.TOML, f'[environment]\nMY_WORD = """\n{SECRET}\n"""'),
        (Kind.TOML, f'environment = {{ HF_TOKEN = "{SECRET}" }}'),
        (Kind.TOML, f'environment.VLLM_API_KEY = "{SECRET}"'),
        (Kind.TOML, f'[vllm]\nextra_args = ["--api-key", "{SECRET}"]'),
        (Kind.TOML, f'[vllm]\nextra_args = ["--api-key={SECRET}"]'),
        (Kind.TOML, f"mode = 1 # {SECRET}"),
        (Kind.TOML, f'broken [ "{SECRET}"\nthis = "{SECRET}"\n{SECRET} = = 1'),
        (Kind.TOML, f'endpoints = ["https://me:{SECRET}@hub.example"]'),
        (Kind.UNITS, f"Environment=MY_WORD={SECRET} OTHER=1"),
        (Kind.UNITS, f'Environment="MY_WORD=a {SECRET}"'),
        (Kind.UNITS, f'ExecStart=/usr/bin/podman run "--env=MY_WORD=a \\"b {SECRET}" -d'),
        (Kind.UNITS, f"SetCredential=hub:{SECRET}"),
        (Kind.UNITS, f"SetCredentialEncrypted = hub: \\\n    {SECRET} \\\n    {SECRET}\nUser=x"),
        (Kind.UNITS, f"PodmanArgs=--env MY_WORD={SECRET}"),
        (Kind.UNITS, f"   └─12 podman run -e MY_WORD={SECRET} image"),
        (Kind.UNITS, f"Exec=vllm serve --api-key {SECRET} --port=1"),
        (Kind.JSON, json.dumps({"Config": {"Env": [f"MY_WORD={SECRET}", "PATH=/bin"]}})),
        (Kind.JSON, json.dumps([{"CreateCommand": ["podman", "--env", f"MY_WORD={SECRET}"]}])),
        (Kind.JSON, json.dumps([{"Args": ["serve", "--api-key", SECRET]}])),
        (Kind.JSON, json.dumps({"environment": {"MY_WORD": SECRET}})),
        (Kind.JSON, json.dumps({"a": [{"identitytoken": SECRET}]})),
        (Kind.JSON, f'warning\n{{"Env": ["MY_WORD={SECRET}"'),
        (Kind.JSON_LINES, json.dumps({"message": f"it said --hf-token={SECRET}"})),
        (Kind.KERNEL, f"Command line: root=/dev/sda token={SECRET}"),
    ],
)
def test_secrets_are_removed(kind: Kind, text: str) -> None:
    cleaned = clean(kind, text, ())
    assert SECRET not in cleaned.text


@pytest.mark.parametrize("kind", Kind)
def test_a_known_secret_is_removed_from_everything(kind: Kind) -> None:
    text = {
        Kind.JSON: json.dumps({SECRET: [f"x{SECRET}", {"b": f"npu {SECRET}"}]}),
        Kind.JSON_LINES: json.dumps({"b": SECRET}),
        Kind.TOML: f'name = "{SECRET}x"',
    }.get(kind, f"npu {SECRET}x")
    cleaned = clean(kind, text, [SECRET[:8], SECRET])
    assert SECRET[8:] not in cleaned.text
    assert cleaned.secrets >= 1


@pytest.mark.parametrize(
    ("kind", "text", "stays"),
    [
        (Kind.TOML, "[limits]\nbackoff_max_s = 5", "limits.backoff_max_s = 5"),
        (Kind.TOML, 'api_key_file = "/etc/x.key"', 'api_key_file = "/etc/x.key"'),
        (Kind.TOML, 'environment = { HCCL_BUFFSIZE = "1" }', 'environment.HCCL_BUFFSIZE = "1"'),
        (Kind.UNITS, "ExecStart=podman run --env=VLLM_X=1 --shm-size=1g", "--env=VLLM_X=1"),
        (
            Kind.UNITS,
            "ExecStart={ path=/bin/x ; argv[]=/bin/x --name=y ; pid=7 }",
            "ExecStart={ path=/bin/x ; argv[]=/bin/x --name=y ; pid=7 }",
        ),
        (Kind.UNITS, "SetCredential=hub:\\x41\\\nx\nUser=x", "SetCredential=hub:[removed]\nUser=x"),
        (Kind.UNITS, "LoadCredential=hub:/etc/x", "LoadCredential=hub:/etc/x"),
        (Kind.JSON, '{"Env": ["HF_TOKEN=abcdef"]}', '"HF_TOKEN=[removed]"'),
        (Kind.UNITS, "   Active: active (running)  -- 3 h", "   Active: active (running)  -- 3 h"),
        (Kind.JSON, '{"Env": ["PATH=/bin"], "Pid": 7}', '"PATH=/bin"'),
        (Kind.KERNEL, "devdrv: dead\nusb 1-1: new", "devdrv: dead"),
        (
            Kind.TEXT,
            "metric vllm:prompt_tokens_total{} 5.0",
            "metric vllm:prompt_tokens_total{} 5.0",
        ),
    ],
)
def test_what_is_of_use_stays(kind: Kind, text: str, stays: str) -> None:
    assert stays in clean(kind, text, ()).text


def test_of_the_kernel_only_what_matters_is_taken() -> None:
    assert "usb" not in clean(Kind.KERNEL, "devdrv: dead\nusb 1-1: new", ()).text


def test_a_status_stays_readable_and_whole() -> None:
    failure = Failure(Code.ENGINE_DIED, f"it ended: token={SECRET}", "see")
    view = build_view(failure=failure, key_file="/run/key.env")
    raw = msgspec.json.encode(build_snapshot(view)).decode()
    cleaned = clean(Kind.JSON, raw, ())
    told = json.loads(cleaned.text)
    assert told["instances"][0]["failure"]["message"] == "it ended: token=[removed]"
    told["instances"][0]["failure"]["message"] = failure.message
    assert told == json.loads(raw)


# --- prompts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        f"{ENGINE}{HEAD}Received request c-1: prompt: '{PROMPT}', params: SamplingParams()",
        f"{ENGINE}{HEAD}Generated response chatcmpl-1: output: '{PROMPT}', output_token_ids: [1]",
        f"{ENGINE}pydantic: [type=missing, input_value={{'x': '{PROMPT}'}}, input_type=dict]",
        f'{ENGINE}{{"model": "m", "messages": [{{"role": "user", "content": "{PROMPT}"}}]}}',
        f"{ENGINE}{HEAD}Received request chatcmpl-1: prompt: 'a\n{PROMPT}\n{PROMPT}'",
        # A logger of vLLM that writes its head before every line.
        f"{ENGINE}{HEAD}prompt: a\n{ENGINE}{HEAD}{PROMPT}",
        f"{ENGINE}prompt: a\n{ENGINE}{PROMPT}\n{ENGINE}and {PROMPT}, x=1",
        f"{ENGINE}{HEAD}prompt: a\n{AT} systemd[1]: started\n{ENGINE}{PROMPT}",
        f"{HEAD}prompt: a\n{PROMPT}",
    ],
)
def test_prompts_are_removed(text: str) -> None:
    kept, dropped = drop_prompts(text)
    assert PROMPT not in kept
    assert dropped >= 1


@pytest.mark.parametrize(
    "text",
    [
        f"{ENGINE}{HEAD}Engine 000: Avg prompt throughput: 12.3 tokens/s, "
        "Avg generation throughput: 4.0 tokens/s, Running: 1 reqs, Waiting: 0 reqs, "
        "GPU KV cache usage: 0.1%, Prefix cache hit rate: 0.0%",
        f'{ENGINE}INFO:     10.0.0.1:80 - "POST /v1/chat/completions HTTP/1.1" 200 OK',
        f"{ENGINE}[ERROR] RUNTIME(77): 507011 device lost",
        f"{ENGINE}non-default args: {{'enable_prompt_tokens_details': True}}",
    ],
)
def test_what_an_engine_says_otherwise_stays(text: str) -> None:
    assert drop_prompts(text) == (text, 0)


@pytest.mark.parametrize(
    "after",
    [
        f"{ENGINE}{HEAD.replace('logger.py:39', 'core.py:1')}Shutting down",
        f"{ENGINE}[ERROR] RUNTIME(77): device lost",
        f"{ENGINE}EZ9999: inner error",
        f"{ENGINE}Traceback (most recent call last):",
        f"{AT} deepseek-vllm-7b[78]: something else",
        f"{AT} agentd[5]: engine-died instance=8b",
    ],
)
def test_what_comes_after_a_prompt_stays(after: str) -> None:
    assert drop_prompts(f"{ENGINE}{HEAD}prompt: a\n{after}")[0].endswith(after)


def test_the_agent_writes_one_line_at_a_time() -> None:
    kept, dropped = drop_prompts(f"{AT} agentd[5]: a prompt\n{AT} agentd[5]: npus npu=1")
    assert kept.endswith("npus npu=1")
    assert dropped == 1
