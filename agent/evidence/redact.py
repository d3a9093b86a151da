# SPDX-License-Identifier: MulanPSL-2.0
"""Takes secrets out of text: what is known to be one, and what looks like one. Pure."""

import re
from collections.abc import Iterable

REMOVED = "[removed]"

_NAME = r"(?:[\w.-]*[_.-])?(?:key|token|secret|password|passwd|passphrase|credentials?)"
_VALUE = r"""(?:"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[^\s"',;&)}\]]+)"""
# NAME=value, --name=value, --name value; "name": "value", 'name': 'value'; Authorization: scheme
# value. "tokens" and "token_id" are no secrets, and end otherwise.
_PATTERNS = (
    re.compile(rf"(?P<kept>(?<![\w.-]){_NAME}=){_VALUE}", re.IGNORECASE),
    re.compile(rf"(?P<kept>(?<!\S)--{_NAME}[ \t]+)(?!-){_VALUE}", re.IGNORECASE),
    re.compile(rf"""(?P<kept>["']{_NAME}["'][ \t]*:[ \t]*){_VALUE}""", re.IGNORECASE),
    re.compile(r"(?P<kept>\bauthorization[\"']?[ \t]*[:=][ \t]*[\"']?)[^\"'\r\n]+", re.IGNORECASE),
    re.compile(r"(?P<kept>\bbearer[ \t]+)[A-Za-z0-9._~+/-]{8,}=*", re.IGNORECASE),
    re.compile(r"(?P<kept>://)[^\s/@:]*:[^\s/@]+(?=@)"),  # user:password of a URL
    re.compile(r"(?P<kept>\b(?:hf_|sk-))[A-Za-z0-9_-]{16,}"),  # Hugging Face, OpenAI
)


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """`secrets` are removed wherever they stand."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, REMOVED)
    for pattern in _PATTERNS:
        text = pattern.sub(rf"\g<kept>{REMOVED}", text)
    return text
