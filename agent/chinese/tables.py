# SPDX-License-Identifier: MulanPSL-2.0
"""All of it, as `agent.language` takes it."""

from agent.chinese.causes import CAUSES
from agent.chinese.doctor import DOCTOR
from agent.chinese.failures import FAILURES
from agent.chinese.help import HELP
from agent.chinese.hints import HINTS
from agent.chinese.meanings import CHECKS, CODES, KINDS
from agent.chinese.messages import MESSAGES
from agent.chinese.supply import SUPPLY
from agent.chinese.texts import TEXTS
from agent.chinese.words import WORDS
from agent.language import Tables

CHINESE = Tables(
    texts={**TEXTS, **HELP},
    words=WORDS,
    meanings={**CODES, **KINDS, **CHECKS},
    templates={**MESSAGES, **FAILURES, **SUPPLY, **CAUSES, **HINTS, **DOCTOR},
)
