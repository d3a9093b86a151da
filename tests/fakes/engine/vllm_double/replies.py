# SPDX-License-Identifier: MulanPSL-2.0
"""Answers of the OpenAI API: in tokens, out the JSON bodies and stream chunks of vLLM. Pure."""

import uuid
from dataclasses import dataclass, field
from typing import Any

from .openai import Ask, Served


class Splitter:
    """Tells thinking from answer. Without a reasoning parser all is content, marks included."""

    def __init__(self, active: bool) -> None:
        self._active = active
        self._thinking = active

    def split(self, text: str) -> tuple[str, str]:
        """The token as (thinking, content)."""
        if not self._active:
            return ("", text)
        if text == "<think>":
            return ("", "")
        if text == "</think>":
            self._thinking = False
            return ("", "")
        return (text, "") if self._thinking else ("", text)


@dataclass(slots=True)
class Reply:
    """One answer while it grows."""

    ask: Ask
    served: Served
    created: int
    thinking: str = ""
    content: str = ""
    made: int = 0
    finish: str | None = None
    id: str = field(init=False)
    splitter: Splitter = field(init=False)

    def __post_init__(self) -> None:
        kind = "chatcmpl" if self.ask.job.chat else "cmpl"
        self.id = f"{kind}-{uuid.uuid4().hex}"
        self.splitter = Splitter(self.ask.job.chat and self.served.reasoning)

    def add(self, text: str, finish: str | None) -> tuple[str, str]:
        """Take a token; what it adds as (thinking, content)."""
        thinking, content = self.splitter.split(text)
        self.thinking += thinking
        self.content += content
        self.made += 1
        self.finish = finish
        return (thinking, content)

    def usage(self) -> dict[str, Any]:
        prompt = self.ask.job.prompt_tokens
        return {
            "prompt_tokens": prompt,
            "total_tokens": prompt + self.made,
            "completion_tokens": self.made,
            "prompt_tokens_details": None,
        }

    def body(self) -> dict[str, Any]:
        chat = self.ask.job.chat
        choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": self.finish}
        if chat:
            choice["message"] = self._message()
        else:
            choice["text"] = self.content
        kind = "chat.completion" if chat else "text_completion"
        return {**self._head(kind), "choices": [choice], "usage": self.usage()}

    def _message(self) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": self.content, "tool_calls": []}
        if self.served.reasoning:
            message["content"] = self.content or None
            message |= _thinking_fields(self.thinking or None)
        return message

    def first_chunk(self) -> dict[str, Any] | None:
        """The chunk before any token; only chats have one."""
        if not self.ask.job.chat:
            return None
        return self._chunk({"delta": {"role": "assistant", "content": ""}}, None)

    def chunk(self, text: str, finish: str | None) -> dict[str, Any]:
        thinking, content = self.add(text, finish)
        if not self.ask.job.chat:
            return self._chunk({"text": content}, finish)
        delta: dict[str, Any] = {}
        if thinking:
            delta |= _thinking_fields(thinking)
        elif content:
            delta["content"] = content
        return self._chunk({"delta": delta}, finish)

    def usage_chunk(self) -> dict[str, Any]:
        return {**self._head(self._chunk_kind()), "choices": [], "usage": self.usage()}

    def _chunk(self, what: dict[str, Any], finish: str | None) -> dict[str, Any]:
        choice = {"index": 0, **what, "logprobs": None, "finish_reason": finish}
        return {**self._head(self._chunk_kind()), "choices": [choice]}

    def _chunk_kind(self) -> str:
        return "chat.completion.chunk" if self.ask.job.chat else "text_completion"

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.ask.model,
        }


def _thinking_fields(text: str | None) -> dict[str, Any]:
    """Both names: newer releases say `reasoning`, older ones `reasoning_content`."""
    return {"reasoning_content": text, "reasoning": text}


def models_body(served: Served) -> dict[str, Any]:
    """The answer of /v1/models."""
    return {
        "object": "list",
        "data": [
            {
                "id": name,
                "object": "model",
                "created": served.created,
                "owned_by": "vllm",
                "root": served.root,
                "parent": None,
                "max_model_len": served.max_model_len,
            }
            for name in served.names
        ],
    }
