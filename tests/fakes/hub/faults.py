# SPDX-License-Identifier: MulanPSL-2.0
"""What is to go wrong: rules, of which the first that fits a request is used up by it."""

import re
import threading
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypedDict


class Kind(StrEnum):
    """Each with what it reads of a rule."""

    STATUS = "status"  # status, headers, text: that instead of the answer
    CUT = "cut"  # after: the connection ends after so many bytes of the body
    RESET = "reset"  # after: the same by a reset, which may take bytes with it that were on the way
    LENGTH = "length"  # more: Content-Length is wrong by so much
    FLIP = "flip"  # at: this byte of the file is another one
    WHOLE = "whole"  # Range is ignored
    SHIFT = "shift"  # Content-Range tells another start
    EXTRA = "extra"  # more: so many bytes behind the end, and the length says so
    STALL = "stall"  # after, seconds: stands still, then ends
    SLOW = "slow"  # rate: bytes per second
    LOOP = "loop"  # leads to itself
    LEAD = "lead"  # to: leads there
    TEXT = "text"  # text: 200 with that


class Rule(TypedDict, total=False):
    """As it is sent by a test."""

    match: str  # searched in the path with its query; empty: every request
    kind: str
    times: int  # how often; -1: for ever
    status: int
    headers: dict[str, str]
    text: str
    after: int
    more: int
    at: int
    seconds: float
    rate: int
    to: str


@dataclass
class Faults:
    """The rules and what was asked, shared by all threads."""

    rules: list[Rule] = field(default_factory=list)
    asked: list[dict[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def set(self, rules: list[Rule]) -> None:
        with self.lock:
            self.rules = [rule.copy() for rule in rules]
            self.asked = []

    def take(self, path: str, asked: dict[str, str]) -> Rule | None:
        with self.lock:
            self.asked.append(asked)
            for rule in self.rules:
                left = rule.get("times", 1)
                if left != 0 and re.search(rule.get("match", ""), path):
                    rule["times"] = left - 1 if left > 0 else left
                    return rule
        return None
