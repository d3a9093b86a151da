# SPDX-License-Identifier: MulanPSL-2.0
"""Files of a Debian package that is not installed, from the machine's own mirror."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .machine import apt_get
from .process import LabError, run_command

APT_LIMIT_S = 300


@contextmanager
def unpacked(package: str) -> Iterator[Path]:
    """A folder with what is in it, as below /; gone at the end. Raises LabError."""
    with tempfile.TemporaryDirectory(prefix="deepseek-lab-") as name:
        download = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", package]
        in_folder = ["env", f"--chdir={name}"]
        try:
            run_command([*in_folder, *download], timeout_s=APT_LIMIT_S)
        except LabError:  # no lists yet, or older than the mirror
            apt_get("update")
            run_command([*in_folder, *download], timeout_s=APT_LIMIT_S)
        (file,) = Path(name).glob("*.deb")
        run_command(["dpkg-deb", "--extract", str(file), f"{name}/out"])
        yield Path(name, "out")
