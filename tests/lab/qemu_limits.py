# SPDX-License-Identifier: MulanPSL-2.0
"""What of the unit suite is not asked of qemu's user mode, and why; `--all` asks it all the same.

There a program of ours needs 3 to 13 s to start, 50 times as long as on the processor itself, and
tests that start programs have deadlines of 20 to 60 s for what takes one second.
"""

STARTS_PROGRAMS = "starts our programs, with deadlines"
# Below tests/unit.
NOT_RUN = {
    "doctor": STARTS_PROGRAMS,
    "evidence": STARTS_PROGRAMS,
    "supply": STARTS_PROGRAMS,
    "support": STARTS_PROGRAMS,
    "test_bundling.py": STARTS_PROGRAMS,
    "test_chinese_failures.py": STARTS_PROGRAMS,
    "test_cli.py": STARTS_PROGRAMS,
    "test_image_build.py": STARTS_PROGRAMS,
    "test_journal.py": STARTS_PROGRAMS,
    "test_policy_npu_histories.py": "thousands of them, with a deadline; nothing of it compiled",
    "test_liveness.py": "simulates hours, nothing of it compiled: ten minutes",
}
# By the begin of a test's name.
REASONS: dict[str, str] = {}


def reason_for(test: str) -> str:
    """Why it may fail; nothing when it has to succeed."""
    return next((reason for begin, reason in REASONS.items() if test.startswith(begin)), "")
