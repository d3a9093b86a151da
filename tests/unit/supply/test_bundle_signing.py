# SPDX-License-Identifier: MulanPSL-2.0
"""Who has made a bundle: a real ssh-keygen signs and checks."""

import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from agent.errors import AgentError, Code
from agent.supply.bundle import signing
from agent.supply.bundle.format import BUNDLE_NAME, SIGNATURE_NAME

from .bundle_scene import Scene, content_of, put_model

SMALL = {"config.json": b"{}"}
pytestmark = pytest.mark.timeout(60)  # every file is synced, on a disk that may be busy


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    made = Scene(tmp_path)
    put_model(made.model, SMALL)
    made.models_dir.mkdir(parents=True)
    return made


def make_key(folder: Path, name: str) -> Path:
    key = folder / name
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(key)], check=True
    )
    return key


def allow(scene: Scene, key: Path, name: str = "depot@example.com", options: str = "") -> None:
    public = key.with_suffix(".pub").read_text(encoding="utf-8")
    scene.signers.write_text(f"{name} {options} {public}", encoding="utf-8")


def refused(scene: Scene) -> str:
    """The words of it; and nothing was brought."""
    with pytest.raises(AgentError) as raised:
        scene.bring()
    assert raised.value.failure.code is Code.BUNDLE_UNTRUSTED
    assert os.listdir(scene.models_dir) == []
    return raised.value.failure.message


def test_signed_by_one_who_may(scene: Scene) -> None:
    key = make_key(scene.root, "depot")
    allow(scene, key)
    scene.create(image="", key=key)
    assert scene.bring().signer == "depot@example.com"
    assert content_of(scene.models_dir / "small") == SMALL


@pytest.mark.parametrize(
    ("name", "options", "signer"),
    [
        ("*@example.com", "", "*@example.com"),
        ("depot@a.example,depot@b.example", "", "depot@a.example"),
        ("depot", 'namespaces="deepseek-bundle"', "depot"),
        ("depot", 'valid-after="20200101"', "depot"),
    ],
)
def test_all_that_the_file_can_say(scene: Scene, name: str, options: str, signer: str) -> None:
    key = make_key(scene.root, "depot")
    allow(scene, key, name, options)
    scene.create(image="", key=key)
    assert scene.bring().signer == signer


def test_without_signers_nobody_has_to_sign(scene: Scene) -> None:
    scene.create(image="")
    assert scene.bring().signer == ""


def test_unsigned_where_signers_are_named(scene: Scene) -> None:
    allow(scene, make_key(scene.root, "depot"))
    scene.create(image="")
    assert "it is not signed" in refused(scene)


def test_signed_by_another(scene: Scene) -> None:
    allow(scene, make_key(scene.root, "depot"))
    scene.create(image="", key=make_key(scene.root, "other"))
    assert "none of those who may" in refused(scene)


@pytest.mark.parametrize("options", ['namespaces="git"', 'valid-before="20200101"'])
def test_signed_by_one_who_may_not_this(scene: Scene, options: str) -> None:
    key = make_key(scene.root, "depot")
    allow(scene, key, options=options)
    scene.create(image="", key=key)
    assert "signature" in refused(scene) or "none of those" in refused(scene)


def test_a_signature_for_something_else(scene: Scene) -> None:
    """Whoever signs commits with the same key has not signed a bundle."""
    key = make_key(scene.root, "depot")
    allow(scene, key)
    scene.create(image="")
    text = scene.output / BUNDLE_NAME
    subprocess.run(["ssh-keygen", "-q", "-Y", "sign", "-n", "git", "-f", key, text], check=True)
    assert (scene.output / SIGNATURE_NAME).exists()
    assert "not of this list" in refused(scene)


def test_the_signature_of_another_bundle(scene: Scene) -> None:
    key = make_key(scene.root, "depot")
    allow(scene, key)
    scene.create(image="", key=key)
    text = scene.output / BUNDLE_NAME
    text.write_bytes(text.read_bytes().replace(b'"8b"', b'"9b"'))
    assert "not of this list" in refused(scene)


@pytest.mark.parametrize("rubbish", [b"", b"\x00" * 1000, b"-----BEGIN SSH SIGNATURE-----\nAAAA\n"])
def test_rubbish_as_a_signature(scene: Scene, rubbish: bytes) -> None:
    allow(scene, make_key(scene.root, "depot"))
    scene.create(image="")
    (scene.output / SIGNATURE_NAME).write_bytes(rubbish)
    refused(scene)


@pytest.mark.parametrize("kind", ["empty", "folder", "dangling link", "rubbish"])
def test_signers_that_cannot_be_read_are_no_permission(scene: Scene, kind: str) -> None:
    key = make_key(scene.root, "depot")
    scene.create(image="", key=key)
    match kind:
        case "folder":
            scene.signers.mkdir()
        case "dangling link":
            scene.signers.symlink_to("nowhere")
        case "empty":
            scene.signers.touch()
        case _:
            scene.signers.write_bytes(b"\xff\x00 nothing\n")
    with pytest.raises(AgentError) as raised:
        scene.bring()
    assert raised.value.failure.code in (Code.BUNDLE_UNTRUSTED, Code.FILE_UNUSABLE)
    assert os.listdir(scene.models_dir) == []


def test_a_signature_is_no_way_out_of_the_folder(scene: Scene) -> None:
    key = make_key(scene.root, "depot")
    allow(scene, key)
    scene.create(image="", key=key)
    signature = scene.output / SIGNATURE_NAME
    signature.rename(scene.root / "elsewhere")
    signature.symlink_to(scene.root / "elsewhere")
    with pytest.raises(AgentError, match=SIGNATURE_NAME):
        scene.bring()


def test_without_ssh_keygen(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    key = make_key(scene.root, "depot")
    allow(scene, key)
    scene.create(image="", key=key)
    monkeypatch.setenv("PATH", str(scene.root))
    with pytest.raises(AgentError) as raised:
        scene.bring()
    assert raised.value.failure.hint == "dnf install openssh"


def test_without_a_temporary_folder(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """All disks are full. What is wanted may be had elsewhere."""
    key = make_key(scene.root, "depot")
    allow(scene, key)
    scene.create(image="", key=key)
    monkeypatch.setattr(tempfile, "tempdir", str(scene.root / "none"))
    with pytest.raises(AgentError, match="cannot check the signature") as refused:
        scene.bring()
    assert refused.value.failure.code is Code.FILE_NOT_WRITTEN


def test_a_key_that_is_none(scene: Scene) -> None:
    with pytest.raises(AgentError) as raised:
        scene.create(image="", key=scene.root / "nothing")
    assert raised.value.failure.code is Code.BUNDLE_UNTRUSTED
    assert not (scene.output / BUNDLE_NAME).exists()


def test_its_words_are_harmless(tmp_path: Path) -> None:
    """An ssh-keygen that fails with an escape sequence of the signature's maker."""
    with pytest.raises(AgentError) as raised:
        signing.sign(b"x", tmp_path / "\x1b[2J")
    assert "\x1b" not in raised.value.failure.message.replace(str(tmp_path / "\x1b[2J"), "")
