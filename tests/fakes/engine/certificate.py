# SPDX-License-Identifier: MulanPSL-2.0
"""A self-signed certificate for tests: in a folder, out two PEM files, made by `openssl`."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

DAYS = 2


@dataclass(frozen=True, slots=True)
class Certificate:
    certfile: Path
    keyfile: Path

    @property
    def flags(self) -> tuple[str, str]:
        """For `vllm serve`."""
        return (f"--ssl-certfile={self.certfile}", f"--ssl-keyfile={self.keyfile}")


def make_certificate(folder: Path) -> Certificate:
    """For 127.0.0.1 and localhost; a client trusts it by its own file."""
    made = Certificate(folder / "certificate.pem", folder / "key.pem")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-nodes", "-days", str(DAYS), "-subj", "/CN=localhost"),
            *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"),
            *("-keyout", str(made.keyfile), "-out", str(made.certfile)),
        ],
        capture_output=True,
        timeout=10,
        check=True,
    )
    return made
