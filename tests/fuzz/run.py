# SPDX-License-Identifier: MulanPSL-2.0
"""`python -m tests.fuzz.run TARGET ARGUMENT...`: libFuzzer's own arguments, with atheris.

Started by tests/fuzz/__main__.py, which has atheris in PYTHONPATH; imported by nobody.
"""

import shlex
import sys

import atheris

from tests.fuzz.json_mutator import mutate_json

with atheris.instrument_imports(include=["agent", "tomllib"]):
    from tests.fuzz.targets import TARGETS


def mutate(data: bytes, longest: int, seed: int) -> bytes:
    changed = mutate_json(data, longest, seed) if seed % 2 else None
    return bytes(atheris.Mutate(data, longest)) if changed is None else changed


def main() -> None:
    target = TARGETS[sys.argv[1]]
    options = [f"-max_len={target.longest}", "-timeout=10", "-rss_limit_mb=2048"]
    mutator = {"custom_mutator": mutate} if target.is_json else {}
    # To merge, libFuzzer has a shell start it again.
    itself = f"{shlex.quote(sys.executable)} -m {__spec__.name} {target.name}"
    atheris.Setup([itself, *options, *sys.argv[2:]], target.check, **mutator)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
