# SPDX-License-Identifier: MulanPSL-2.0
"""What npud does not load, each in a fresh interpreter as the launcher starts it."""

import json
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[3]


def run(code: str) -> object:
    start = f"import sys, json\nsys.path.insert(0, {str(REPOSITORY)!r})\n"
    start += "from agent.lean import spare_dataclasses\nspare_dataclasses()\n"
    told = subprocess.run(
        [sys.executable, "-ISB", "-c", start + code], capture_output=True, text=True, check=True
    )
    return json.loads(told.stdout)


def test_what_is_big_is_not_loaded() -> None:
    loaded = run("import agent.npud.__main__\nprint(json.dumps(sorted(sys.modules)))")
    assert isinstance(loaded, list)
    assert "agent.npud.dcmi.reader" in loaded
    big = {"typing", "asyncio", "logging", "subprocess", "argparse"}
    if sys.version_info < (3, 12):  # what ships; later dataclasses want more of inspect
        big |= {"ast", "dis", "tokenize"}
    assert not big & set(loaded)


def test_who_wants_inspect_gets_it() -> None:
    code = """
import agent.npud.__main__
import inspect
here = inspect.cleandoc("  words")
import inspect as again
real = sys.modules["inspect"]
print(json.dumps([here, again is inspect, again is real, again.getdoc(again)[:7]]))
"""
    assert run(code) == ["words", False, True, "Get use"]


def test_dataclasses_work() -> None:
    code = """
import agent.npud.__main__
from agent.npud.requests import Reset, Refresh
print(json.dumps([repr(Reset(1, (1,))), Reset(1, (1,)) == Reset(1, (1,)), repr(Refresh())]))
"""
    assert run(code) == ["Reset(logic_id=1, ring=(1,), codes=())", True, "Refresh()"]
