# SPDX-License-Identifier: MulanPSL-2.0
"""What the double says: in a question, out text in tokens. Pure."""

import re
from collections.abc import Iterator

CJK = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]")
TOKEN = re.compile(
    r"</?think>|[\u3000-\u303f\u3400-\u9fff\uf900-\uffef]|\s+|[^\s\u3000-\uffef<]+|."
)


def compose_chat(question: str) -> str:
    """An answer in the language of the question, with its thinking as DeepSeek-R1 gives it."""
    if CJK.search(question):
        return (
            "<think>\n用户在提问，我是引擎替身，没有模型，只需复述问题。\n</think>\n\n"
            f"我是 deepseek-agent 实验室的引擎替身，不是真正的模型。您的问题是：“{question}”。"
        )
    return (
        "<think>\nThe user asks something. I am a double without a model, so I repeat it.\n"
        "</think>\n\n"
        "I am the engine double of deepseek-agent's lab, not a real model. "
        f'You asked: "{question}".'
    )


def compose_completion(prompt: str) -> str:
    """Text that goes on after a plain prompt: no thinking."""
    return compose_chat(prompt).partition("</think>")[2]


def split_tokens(text: str) -> list[str]:
    return TOKEN.findall(text)


def stream_tokens(text: str, endless: bool) -> Iterator[str]:
    tokens = split_tokens(text)
    yield from tokens
    while endless:
        yield from tokens
