# SPDX-License-Identifier: MulanPSL-2.0
"""What Podman says of an image that is damaged, and of other trouble; names of one, from the disk.

The first texts are those of 5.4.2 over a real storage of which files were emptied or removed.
"""

import json
from pathlib import Path

import pytest

from agent.host.image_damage import is_damage, read_names

STORAGE = "/var/lib/containers/storage"
LAYER = f"{STORAGE}/overlay/{'ab' * 32}"
ID = "cd" * 32


@pytest.mark.parametrize(
    "text",
    [
        f"failed in inspect image localhost/a:1: readlink {STORAGE}/overlay: invalid argument",
        f"failed in inspect image localhost/a:1: faccessat {LAYER}: no such file or directory",
        "failed in inspect image localhost/a:1: layer not known",
        "failed in inspect image localhost/a:1: unexpected end of JSON input",
        f'failed in inspect image {ID}: locating item named "manifest" for image with ID "{ID}" '
        "(consider removing the image to resolve the issue): file does not exist",
        f"Download config.json digest sha256:{'e' * 64} does not match expected sha256:{ID}",
        "runtime error: invalid memory address or nil pointer dereference",  # 4.3.1, of all of them
        f"stat {LAYER}: no such file or directory",  # its command
        f"readlink {STORAGE}/overlay/l/GMVU2BJI2CBP: no such file or directory",  # podman#5986
        "invalid character '\\x00' looking for beginning of value",
    ],
)
def test_damage(text: str) -> None:
    assert is_damage(text)


@pytest.mark.parametrize(
    "text",
    [
        "the database is locked",
        f"open {STORAGE}/overlay-images/{ID}/manifest: too many open files",
        f"open {LAYER}/lower: input/output error",
        f"open {STORAGE}/storage.lock: no such file or directory",
        f"creating {STORAGE}/overlay: no space left on device",
        "cannot run podman: No such file or directory",
    ],
)
def test_other_trouble(text: str) -> None:
    assert not is_damage(text)


def test_all_names_of_an_image(tmp_path: Path) -> None:
    names = ["quay.io/a/b:1", "localhost/deepseek-agent/8b:current"]
    records = tmp_path / "overlay-images/images.json"
    records.parent.mkdir()
    records.write_text(json.dumps([{"id": "other"}, {"id": ID, "names": names}]), encoding="utf-8")
    assert read_names(str(tmp_path), ID) == read_names(str(tmp_path), names[1]) == tuple(names)
    assert read_names(str(tmp_path), "other") == read_names(str(tmp_path), "none") == ()


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"id": 1, "names": "a"}]'])
def test_records_that_say_nothing(tmp_path: Path, text: str) -> None:
    assert read_names(str(tmp_path), ID) == ()
    (tmp_path / "overlay-images").mkdir()
    (tmp_path / "overlay-images/images.json").write_text(text, encoding="utf-8")
    assert read_names(str(tmp_path), ID) == ()
