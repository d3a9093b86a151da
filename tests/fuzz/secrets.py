# SPDX-License-Identifier: MulanPSL-2.0
"""Texts that leave the host, in evidence and support bundles: no secret is left in them, whatever
stands around it."""

from agent.evidence.redact import redact
from agent.support.clean import Kind, clean
from tests.fuzz.target import Target, text_of, words_of

KNOWN = "zq-known-Secret9"
LOOKS = "zqhiddenZQ8172635"
FORMS = (
    "API_KEY={}",
    "--api-key={}",
    "--api-key {}",
    '"token": "{}"',
    "Authorization: Bearer {}",
    "https://user:{}@host.example/x",
    "hf_{}",
)


def _texts(data: bytes) -> tuple[str, str]:
    """Before and after; the first byte says which form is between them."""
    before, _, after = text_of(data[1:]).partition("\n\n")
    return before, after


def check_redact(data: bytes) -> None:
    before, after = _texts(data)
    assert KNOWN not in redact(f"{before}{KNOWN}{after}", (KNOWN,))
    form = FORMS[data[0] % len(FORMS) if data else 0].format(LOOKS)
    text = f"{before}\n{form}\n{after}"
    clean_text = redact(text)
    assert LOOKS not in clean_text, clean_text
    assert len(clean_text) <= 12 * len(text) + 100


def check_clean(data: bytes) -> None:
    kinds = tuple(Kind)
    kind = kinds[data[0] % len(kinds)] if data else Kind.TEXT
    text = text_of(data[1:])
    cleaned = clean(kind, f"{text}{KNOWN}\n", (KNOWN,))
    assert KNOWN not in cleaned.text, cleaned.text
    assert len(cleaned.text) <= 12 * len(text) + 1000


WORDS = words_of("agent/evidence/redact.py", "agent/support/clean.py", "agent/support/prompts.py")
TARGETS = (
    Target("redact", check_redact, words=WORDS),
    Target("clean", check_clean, words=WORDS),
)
