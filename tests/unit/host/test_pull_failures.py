# SPDX-License-Identifier: MulanPSL-2.0
"""Texts of Podman about images, word for word, and what they mean."""

import pytest

from agent.errors import Code
from agent.host.pull_failures import explain_load, explain_pull

# Of Podman 5.4.2 and 4.3.1 against docker-registry 2.8.
TEXTS = [
    ("connection refused", Code.SOURCE_UNREACHABLE),
    (
        'pinging container registry localhost:5009: Get "http://localhost:5009/v2/": dial tcp '
        "[::1]:5009: connect: connection refused",
        Code.SOURCE_UNREACHABLE,
    ),
    (
        'writing blob: storing blob to file "/var/tmp/storage342831497/2": happened during read: '
        "unexpected EOF",
        Code.SOURCE_UNREACHABLE,
    ),
    ("lookup nohost.example on [::1]:53: no such host", Code.SOURCE_UNREACHABLE),
    ("manifest unknown: manifest unknown", Code.SOURCE_NOT_FOUND),
    (
        "initializing source docker://localhost:5001/lab/small:9: reading manifest 9 in "
        "localhost:5001/lab/small: manifest unknown: manifest unknown",
        Code.SOURCE_NOT_FOUND,
    ),
    (
        'no image found in image index for architecture "arm64", variant "v8", OS "linux"',
        Code.SOURCE_NOT_FOUND,
    ),
    ("unauthorized: authentication required", Code.SOURCE_REFUSED),
    ("denied: requested access to the resource is denied", Code.SOURCE_REFUSED),
    ("x509: certificate signed by unknown authority", Code.SOURCE_UNTRUSTED),
    (
        'pinging container registry localhost:5001: Get "https://localhost:5001/v2/": tls: failed '
        "to verify certificate: x509: certificate signed by unknown authority",
        Code.SOURCE_UNTRUSTED,
    ),
    ("http: server gave HTTP response to HTTPS client", Code.SOURCE_UNTRUSTED),
    (
        "copying system image from manifest list: writing blob: storing blob to file "
        '"/var/tmp/container_images_storage1/1": write /var/tmp/1: no space left on device',
        Code.DISK_TOO_FULL,
    ),
    (
        "Digest did not match, expected sha256:aa, got sha256:bb",
        Code.CONTENT_DAMAGED,
    ),
]


@pytest.mark.parametrize(("text", "code"), TEXTS)
def test_a_pull(text: str, code: Code) -> None:
    failure = explain_pull("quay.io", text)
    assert failure.code is code
    assert failure.message == f"cannot pull from quay.io: {text}"
    assert failure.hint


def test_an_untrusted_registry_has_the_way_out_in_its_hint() -> None:
    hint = explain_pull("hub.oepkgs.net", "x509: certificate signed by unknown authority").hint
    assert "ca_file" in hint
    assert "tls_verify = false" in hint


def test_a_long_text_keeps_its_end() -> None:
    failure = explain_pull("quay.io", "a\n" * 4000 + "no space left on device")
    assert failure.code is Code.DISK_TOO_FULL
    assert len(failure.message) < 500
    assert failure.message.endswith("no space left on device")


def test_an_archive() -> None:
    assert explain_load("/x.tar", "unexpected EOF").code is Code.CONTENT_DAMAGED
    assert explain_load("/x.tar", "no space left on device").code is Code.DISK_TOO_FULL
