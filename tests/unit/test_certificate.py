# SPDX-License-Identifier: MulanPSL-2.0
"""When a certificate's time is over: as openssl says it, and nothing for what cannot be read."""

import ssl
import subprocess
from pathlib import Path

import pytest

from agent.certificate import expires_at

SELF_SIGNED = ("openssl", "req", "-x509", "-nodes", "-subj", "/CN=localhost")
KEYS = {
    "ec": ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
    "rsa": ("-newkey", "rsa:2048"),
}


def make(folder: Path, days: int, kind: str = "ec") -> tuple[str, float]:
    """PEM, and its end by openssl."""
    file = str(folder / f"{days}{kind}.pem")
    keys = ("-keyout", str(folder / "key.pem"), *KEYS[kind])
    subprocess.run(
        (*SELF_SIGNED, *keys, "-days", str(days), "-out", file), capture_output=True, check=True
    )
    shown = subprocess.run(
        ("openssl", "x509", "-in", file, "-noout", "-enddate"),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    end = ssl.cert_time_to_seconds(shown.strip().removeprefix("notAfter="))
    return Path(file).read_text(encoding="ascii"), end


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("days", [2, 20_000])  # from 2050 on it is written in another way
def test_as_openssl_says(tmp_path: Path, days: int, kind: str) -> None:
    pem, end = make(tmp_path, days, kind)
    assert expires_at(pem) == end
    assert expires_at(f"Bag Attributes\n{pem.replace(chr(10), chr(13) + chr(10))}") == end


def test_of_a_chain_the_first(tmp_path: Path) -> None:
    first, end = make(tmp_path, 2)
    second, _ = make(tmp_path, 900)
    assert expires_at(first + second) == end


def test_what_cannot_be_read(tmp_path: Path) -> None:
    pem, _ = make(tmp_path, 2)
    lines = pem.splitlines()
    for count in range(1, len(lines) - 2):
        cut = "\n".join((*lines[:count], lines[-1]))
        assert expires_at(cut) is None or count > 3  # the end of it is not needed
    nothing = "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n"
    for content in ("", "!", "MAA=", "MIQ=", "MIT/////", "MIIBMIIB", "AAAA" * 100, "MDAw" * 99):
        assert expires_at(nothing.format(content)) is None
    for text in ("", lines[0], "no PEM", pem.replace("CERTIFICATE", "PRIVATE KEY")):
        assert expires_at(text) is None
