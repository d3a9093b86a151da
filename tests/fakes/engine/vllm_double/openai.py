# SPDX-License-Identifier: MulanPSL-2.0
"""Requests of the OpenAI API: in a body, out an `Ask`, or an ApiError in vLLM's shape. Pure."""

import json
from dataclasses import dataclass
from typing import Any

from .answer import split_tokens
from .core import Job

QUESTION_CHARS = 500  # of the question, which is all that the answer needs of it
DEFAULT_COMPLETION_TOKENS = 16


class ApiError(Exception):
    def __init__(self, status: int, message: str, kind: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.param = param

    def body(self) -> dict[str, Any]:
        error = {"message": str(self), "type": self.kind, "param": self.param, "code": self.status}
        return {"error": error}


def bad_request(message: str, param: str | None = None) -> ApiError:
    return ApiError(400, message, "BadRequestError", param)


@dataclass(frozen=True, slots=True)
class Served:
    """What this server serves, and how."""

    names: tuple[str, ...]
    root: str
    max_model_len: int
    reasoning: bool
    api_key: str
    created: int


@dataclass(frozen=True, slots=True)
class Ask:
    model: str
    stream: bool
    include_usage: bool
    job: Job


def parse_chat(body: bytes, served: Served) -> Ask:
    fields = _parse_fields(body, served)
    messages = fields.get("messages")
    if not isinstance(messages, list) or not messages:
        raise bad_request("[{'type': 'missing', 'loc': ('body', 'messages')}]", "messages")
    texts = [_message_text(message) for message in messages]
    return _build_ask(fields, served, chat=True, texts=texts, default_tokens=None)


def parse_completion(body: bytes, served: Served) -> Ask:
    fields = _parse_fields(body, served)
    prompt = fields.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str):
        prompt = prompt[0]
    if isinstance(prompt, list) and prompt and all(isinstance(word, int) for word in prompt):
        prompt = "token " * len(prompt)
    if not isinstance(prompt, str) or not prompt:
        raise bad_request("the engine double wants one prompt, a text or token ids", "prompt")
    default = DEFAULT_COMPLETION_TOKENS
    return _build_ask(fields, served, chat=False, texts=[prompt], default_tokens=default)


def _parse_fields(body: bytes, served: Served) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except ValueError as error:
        raise bad_request(
            f"[{{'type': 'json_invalid', 'msg': 'JSON decode error: {error}'}}]"
        ) from error
    if not isinstance(fields, dict):
        raise bad_request("[{'type': 'model_attributes_type', 'loc': ('body',)}]")
    model = fields.setdefault("model", served.names[0])
    if model not in served.names:
        raise ApiError(404, f"The model `{model}` does not exist.", "NotFoundError", "model")
    if fields.get("n", 1) != 1:
        raise bad_request("the engine double gives one choice", "n")
    return fields


def _message_text(message: object) -> str:
    """The text of a message: plain, or the text parts of a list."""
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise bad_request("[{'type': 'missing', 'loc': ('body', 'messages', 'role')}]", "messages")
    match message.get("content"):
        case str() as text:
            return text
        case list() as parts:
            return "".join(str(part.get("text", "")) for part in parts if isinstance(part, dict))
        case None:
            return ""
        case _:
            raise bad_request("message content is neither text nor a list", "messages")


def _build_ask(
    fields: dict[str, Any],
    served: Served,
    *,
    chat: bool,
    texts: list[str],
    default_tokens: int | None,
) -> Ask:
    prompt_tokens = sum(len(split_tokens(text)) for text in texts) + (2 if chat else 0)
    options = fields.get("stream_options") or {}
    return Ask(
        model=fields["model"],
        stream=bool(fields.get("stream", False)),
        include_usage=isinstance(options, dict) and bool(options.get("include_usage", False)),
        job=Job(
            chat=chat,
            question=texts[-1][:QUESTION_CHARS],
            prompt_tokens=prompt_tokens,
            max_tokens=_max_tokens(fields, served, prompt_tokens, default_tokens),
            ignore_eos=bool(fields.get("ignore_eos", False)),
        ),
    )


def _max_tokens(
    fields: dict[str, Any], served: Served, prompt_tokens: int, default: int | None
) -> int:
    room = served.max_model_len - prompt_tokens
    asked = fields.get("max_completion_tokens", fields.get("max_tokens"))
    if asked is None:
        asked = default if default is not None else max(room, 1)
    if isinstance(asked, bool) or not isinstance(asked, int) or asked < 1:
        raise bad_request(f"max_tokens must be at least 1, got {asked}.", "max_tokens")
    if asked > room:
        raise bad_request(
            f"This model's maximum context length is {served.max_model_len} tokens. However, you "
            f"requested {asked} output tokens and your prompt contains {prompt_tokens} input "
            "tokens. Please reduce the length of the input messages or the requested output tokens."
        )
    return asked
