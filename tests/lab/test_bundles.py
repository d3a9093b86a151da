# SPDX-License-Identifier: MulanPSL-2.0
"""A bundle is made where registry and hub are, carried, and imported on a host that has neither:
by hand, and by itself out of the import folder. One flipped bit is found, and named.
"""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import product
from .faults import ask_status, wait_failure, wait_held, wait_told
from .host import LabHost
from .images import ENGINE_IMAGE
from .models import MODEL_8B
from .npus import make_npus
from .product import FRONT
from .rootfs import Flavour
from .supply_scene import MODEL, bare_host, forget_images, forget_model, push_list

pytestmark = [pytest.mark.lab, pytest.mark.timeout(400)]

STICK = "/srv/stick"
OTHERS = "/srv/others"
BY_DIGEST = "/srv/by-digest"
PROFILE = "/etc/deepseek-agent/models.d/8b.toml"
OTHER_KIND = "arm64" if os.uname().machine == "x86_64" else "amd64"
IMPORT = "/var/lib/deepseek/import/usb"
WEIGHTS_MIB = 4
KEY = "/srv/bundle-key"
SIGNERS = "/etc/deepseek-agent/bundle-signers"
QUICK = "/etc/deepseek-agent/agent.toml.d/quick.toml"
FLIP = """
import sys
with open(sys.argv[1], "r+b") as stream:
    stream.seek(2000)
    byte = stream.read(1)[0]
    stream.seek(2000)
    stream.write(bytes([byte ^ 1]))
"""
# Made on a machine of another kind, and used on the first.
MAKER, USER = Flavour.MODERN, Flavour.LEGACY


@pytest.fixture(scope="module")
def stick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle, signed, as it lies on a disk; and the key that may sign."""
    folder = tmp_path_factory.mktemp("stick")
    with bare_host(MAKER, "bundle-maker", WEIGHTS_MIB) as host:
        host.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", KEY])
        make = ["deepseekctl", "bundle", "create", "8b", "-o", STICK, "--sign", KEY]
        made = host.run([*make, "--part-size", "8M", "--check"], timeout_s=300)
        assert "signed" in made.stdout
        make_by_digest(host)
        shutil.copytree(host.root / BY_DIGEST.lstrip("/"), folder / "by-digest")
        make_for_others(host)
        shutil.copytree(host.root / OTHERS.lstrip("/"), folder / "others")
        shutil.copytree(host.root / STICK.lstrip("/"), folder / "bundle")
        shutil.copy(host.root / f"{KEY.lstrip('/')}.pub", folder / "key.pub")
    return folder


def make_by_digest(host: LabHost) -> None:
    """A bundle of the same image, for a profile that names it by its digest."""
    inspect = ["podman", "image", "inspect", "--format={{.Digest}}", ENGINE_IMAGE]
    digest = host.run(inspect).stdout.strip()
    name_image(host, f"{ENGINE_IMAGE.rpartition(':')[0]}@{digest}")
    make = ["deepseekctl", "bundle", "create", "8b", "-o", BY_DIGEST]
    assert "not signed" in host.run(make, timeout_s=300).stdout
    host.write(PROFILE, product.SMALLER_NEEDS)


def name_image(host: LabHost, reference: str) -> None:
    host.write(PROFILE, f'image = "{reference}"\n{product.SMALLER_NEEDS}')


def make_for_others(host: LabHost) -> None:
    """A bundle for the other architecture, while the image's name goes on meaning this one's."""
    push_list(host)
    own = image_ids(host)
    make = ["deepseekctl", "bundle", "create", "8b", "-o", OTHERS, f"--arch={OTHER_KIND}"]
    made = host.run(make, timeout_s=300)
    assert f"bundle of 8b for {OTHER_KIND}, made" in made.stdout
    kept = f"localhost/deepseek-agent/bundle/8b:{OTHER_KIND}"
    assert {name: image for name, image in image_ids(host).items() if name != kept} == own
    refused = host.run(["runuser", "-u", "nobody", "--", *make], check=False)
    assert (refused.returncode, "[not-permitted]" in refused.stderr) == (1, True)


def image_ids(host: LabHost) -> dict[str, str]:
    """By name."""
    listed = ["podman", "images", "--no-trunc", "--format={{.Repository}}:{{.Tag}} {{.Id}}"]
    rows = host.run(listed).stdout.splitlines()
    return dict(row.split() for row in rows)


@pytest.fixture(scope="module")
def host(stick: Path) -> Iterator[LabHost]:
    """Stands in for the fixture of conftest.py: nothing is within reach but its own loopback."""
    with product.empty_host(USER, "bundle-user") as one:
        make_npus(one, 8, at_boot=True)
        make_npus(one, 8)
        product.add_repository(one)
        product.install(one)
        one.write(
            QUICK,
            "[limits]\nrecheck_held_s = 10\nbackoff_max_s = 10\n[supply]\nkeep_free_gib = 0\n",
        )
        one.run(["systemctl", "enable", FRONT])
        one.run(["systemctl", "restart", "deepseek-agent"])
        yield one


@pytest.fixture(autouse=True)
def _bare(host: LabHost) -> Iterator[None]:
    yield
    product.start(host, "stop", timeout_s=200)
    host.run(["systemctl", "reset-failed", FRONT], check=False)
    forget_model(host)
    forget_images(host)
    host.run(["rm", "-rf", IMPORT, STICK, SIGNERS])


def test_by_hand(host: LabHost, stick: Path) -> None:
    host.copy_in(stick / "bundle", STICK)
    imported = host.run(["deepseekctl", "bundle", "import", STICK], timeout_s=200)
    assert "image brought, model brought" in imported.stdout
    assert "signature not checked" in imported.stdout
    again = host.run(["deepseekctl", "bundle", "import", STICK], timeout_s=200)
    assert "image was there already, model was there already" in again.stdout
    assert product.start(host).returncode == 0
    assert product.ask(host) is not None


def test_one_for_others_is_refused_before_anything_is_written(host: LabHost, stick: Path) -> None:
    host.copy_in(stick / "others", STICK)
    refused = host.run(["deepseekctl", "bundle", "import", STICK], check=False)
    assert refused.returncode == 1
    assert f"it is for {OTHER_KIND}, this host is" in refused.stderr
    assert "hint: make it anew: deepseekctl bundle create 8b --arch" in refused.stderr
    assert host.run(["test", "-e", MODEL], check=False).returncode != 0
    assert ENGINE_IMAGE not in image_ids(host)
    verified = host.run(["deepseekctl", "bundle", "verify", STICK])
    assert f"for {OTHER_KIND}" in verified.stdout


def test_by_itself_out_of_the_import_folder(host: LabHost, stick: Path) -> None:
    assert product.start(host, timeout_s=120).returncode != 0
    wait_told(host, "held", lambda told: told.phase == "held", 60)
    host.copy_in(stick / "bundle", IMPORT)
    product.wait_serving(host, limit_s=120)  # looked at again, and found
    product.wait_state(host, FRONT, "active")
    assert product.ask(host) is not None


def test_an_image_by_its_digest(host: LabHost, stick: Path) -> None:
    """Podman has another digest of it then; it is found all the same, without the disk as well."""
    held = json.loads((stick / "by-digest/deepseek-bundle.json").read_text())
    reference = held["image"]["reference"]
    assert "@sha256:" in reference
    name_image(host, reference)
    try:
        host.run(["systemctl", "reload", "deepseek-agent"])
        host.copy_in(stick / "by-digest", IMPORT)
        assert product.start(host, timeout_s=200).returncode == 0
        assert product.ask(host) is not None
        assert host.run(["podman", "image", "exists", reference], check=False).returncode == 1
        host.run(["rm", "-rf", IMPORT])
        assert product.start(host, "restart", timeout_s=200).returncode == 0
        assert product.ask(host) is not None
    finally:
        host.write(PROFILE, product.SMALLER_NEEDS)
        host.run(["systemctl", "reload", "deepseek-agent"], check=False)


def test_one_flipped_bit_is_found_and_named(host: LabHost, stick: Path) -> None:
    host.copy_in(stick / "bundle", IMPORT)
    part = host.run(["sh", "-c", f"ls {IMPORT}/model/*.safetensors.000 | head -n 1"]).stdout.strip()
    host.run(["python3", "-c", FLIP, part])
    assert product.start(host, timeout_s=120).returncode != 0
    told = wait_held(host, "bundle-damaged")
    assert Path(part).name in told.message
    verify = host.run(["deepseekctl", "bundle", "verify", IMPORT], check=False)
    assert verify.returncode == 1
    assert Path(part).name in verify.stderr
    assert host.run(["test", "-e", MODEL], check=False).returncode != 0


def test_only_a_signature_that_is_known_is_taken(host: LabHost, stick: Path) -> None:
    host.copy_in(stick / "bundle", IMPORT)
    host.write(SIGNERS, f"other {other_key(host)}\n")
    assert product.start(host, timeout_s=120).returncode != 0
    wait_held(host, "bundle-untrusted")
    host.write(SIGNERS, f"site {(stick / 'key.pub').read_text()}")
    product.wait_serving(host, limit_s=120)
    assert ask_status(host).phase == "serving"


def other_key(host: LabHost) -> str:
    host.run(["rm", "-f", "/srv/other", "/srv/other.pub"])
    host.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/srv/other"])
    return host.read("/srv/other.pub").strip()


def test_an_import_that_was_cut_goes_on(host: LabHost, stick: Path) -> None:
    host.copy_in(stick / "bundle", STICK)
    cut = f"timeout -s KILL 1.5 deepseekctl bundle import {STICK}"
    host.run(["sh", "-c", cut], check=False)
    assert host.run(["test", "-e", MODEL], check=False).returncode != 0
    imported = host.run(["deepseekctl", "bundle", "import", STICK], timeout_s=200)
    assert "model brought" in imported.stdout
    assert product.start(host).returncode == 0


@pytest.mark.timeout(600)
def test_a_model_as_it_is_is_taken_when_it_is_whole(host: LabHost, stick: Path) -> None:
    """Copied with the times that it had elsewhere, and cut off in its weights at first."""
    host.copy_in(stick / "bundle", STICK)
    host.run(["deepseekctl", "bundle", "import", STICK], timeout_s=200)
    folder, whole = f"{IMPORT}/{MODEL_8B}", "/srv/whole"
    cut = f"mkdir -p {IMPORT} && cp -aL {MODEL} {folder} && rm {folder}/deepseek-manifest.json"
    cut += f" && mv {folder}/model.safetensors {whole}"
    cut += f" && head -c 5000 {whole} > {folder}/model.safetensors"
    host.run(["sh", "-c", f"{cut} && find {folder} -exec touch -d 2025-01-01 {{}} +"])
    forget_model(host)
    product.start(host, "--no-block", "start")
    wait_failure(host, ["source-unreachable"], f"{folder} yet: it is still being copied", 60)
    wait_failure(host, ["source-unreachable"], "model.safetensors: 5000 bytes, not", 120)
    host.run(["mv", whole, f"{folder}/model.safetensors"])
    product.wait_serving(host, limit_s=180)
    assert product.ask(host) is not None
