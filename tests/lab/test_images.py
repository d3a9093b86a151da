# SPDX-License-Identifier: MulanPSL-2.0
"""An image from real registries and archives into real Podman, as `supply/` brings it: the right
bytes or a clear error, whatever the registry is like.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from agent.errors import Code
from agent.host.pull_failures import explain_pull

from .host import LabHost
from .registry import (
    AUTH_FILE,
    CA,
    FOLDER,
    LARGE_MB,
    NAME,
    OTHER_CA,
    WRONG_AUTH_FILE,
    Pushed,
    Registry,
    count_fetched,
    cut,
    push,
    remove_images,
    start_registries,
)

pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.timeout(400)]

IMPORT = "/var/lib/deepseek/import"
CERTIFICATES = "/etc/containers/certs.d"
# In: [reference, [source ...], keep_free_mib]. Out: what came of it, and what was told meanwhile.
BRING = """
import glob, json, sys
sys.path[:0] = glob.glob("/usr/lib*/deepseek-agent/vendor") + glob.glob("/usr/lib*/deepseek-agent")
from agent.errors import AgentError
from agent.supplies import ImageOrder, ImageSource
from agent.supply.image import bring_image
reference, sources, keep_free_mib = json.load(sys.stdin)
order = ImageOrder(reference, tuple(ImageSource(**source) for source in sources))
told, out = [], {}
try:
    brought = bring_image(order, IMPORT, keep_free_mib, told.append, pause=lambda _: None)
    out = {"image_id": brought.image_id, "digest": brought.digest}
except AgentError as error:
    failure = error.failure
    out = {"code": failure.code, "message": failure.message, "hint": failure.hint}
out["told"] = [[one.stage, one.source, one.done_bytes, one.total_bytes] for one in told]
out["trouble"] = [one.trouble for one in told if one.trouble]
print(json.dumps(out))
""".replace("IMPORT", repr(IMPORT))


@pytest.fixture(scope="module")
def pushed(host: LabHost) -> Pushed:
    return start_registries(host)


@pytest.fixture(autouse=True)
def _nothing_is_there(host: LabHost, pushed: Pushed) -> Iterator[None]:
    host.run(["systemctl", "start", "podman.socket"])
    host.run(["mkdir", "-p", IMPORT])
    yield
    remove_images(host)
    host.run(["find", IMPORT, "-mindepth", "1", "-delete"])


@dataclass(frozen=True, slots=True)
class Outcome:
    image_id: str
    digest: str
    code: str
    message: str
    hint: str
    told: list[tuple[str, str, int, int]]
    trouble: list[str]


def source(registry: Registry, reference: str = "", **options: object) -> dict[str, object]:
    return {"reference": reference or registry.reference(), **options}


PLAIN = source(Registry.PLAIN, tls_verify=False)


def bring(
    host: LabHost, *sources: dict[str, Any], keep_free_mib: int = 0, name: str = NAME
) -> Outcome:
    order = json.dumps([name, sources, keep_free_mib])
    done = host.run(["/usr/bin/python3", "-ISB", "-c", BRING], input=order, timeout_s=180)
    said = json.loads(done.stdout)
    return Outcome(
        image_id=said.get("image_id", ""),
        digest=said.get("digest", ""),
        code=said.get("code", ""),
        message=said.get("message", ""),
        hint=said.get("hint", ""),
        told=[tuple(one) for one in said["told"]],
        trouble=said["trouble"],
    )


def named(host: LabHost, name: str = NAME) -> str:
    """The id of the image that Podman has under that name; empty when there is none."""
    shown = host.run(["podman", "image", "inspect", "--format", "{{.Id}}", name], check=False)
    return shown.stdout.strip() if shown.returncode == 0 else ""


def certificates(host: LabHost) -> list[str]:
    found = host.run(
        ["sh", "-c", f"find {CERTIFICATES} -type f -o -type l 2>/dev/null"], check=False
    )
    return found.stdout.split()


def assert_brought(host: LabHost, outcome: Outcome, pushed: Pushed) -> None:
    assert outcome.message == ""
    assert (outcome.image_id, outcome.digest) == (pushed.image_id, pushed.digest)
    assert named(host) == pushed.image_id
    assert names_of(host, pushed) == [NAME]
    assert certificates(host) == []


def names_of(host: LabHost, pushed: Pushed) -> list[str]:
    """All that the image has."""
    inspect = ["podman", "image", "inspect", "--format", "{{json .RepoTags}}", pushed.image_id]
    return sorted(json.loads(host.run(inspect).stdout))


GOOD = [
    pytest.param(PLAIN, id="plain"),
    pytest.param(source(Registry.TLS, ca_file=CA), id="ca-file"),
    pytest.param(source(Registry.TLS, tls_verify=False), id="tls-not-verified"),
    pytest.param(source(Registry.AUTH, ca_file=CA, auth_file=AUTH_FILE), id="password"),
]


@pytest.mark.parametrize("given", GOOD)
def test_an_image_is_brought(host: LabHost, pushed: Pushed, given: dict[str, object]) -> None:
    outcome = bring(host, given)
    assert_brought(host, outcome, pushed)
    fetched = [one for one in outcome.told if one[0] in ("fetching", "placing")]
    assert all(total > LARGE_MB << 20 for *_, total in fetched)


def test_a_name_that_somebody_has_pulled_stays(host: LabHost, pushed: Pushed) -> None:
    host.run(["podman", "pull", "--quiet", "--tls-verify=false", Registry.PLAIN.reference()])
    assert bring(host, PLAIN).image_id == pushed.image_id
    assert names_of(host, pushed) == [Registry.PLAIN.reference(), NAME]


def test_a_digest_is_ordered(host: LabHost, pushed: Pushed) -> None:
    name = f"quay.io/lab/small@{pushed.digest}"
    there = source(Registry.PLAIN, f"localhost:5000/lab/small@{pushed.digest}", tls_verify=False)
    assert bring(host, there, name=name).image_id == pushed.image_id
    assert named(host, name) == pushed.image_id


BAD = [
    pytest.param(source(Registry.PLAIN), Code.SOURCE_UNTRUSTED, id="plain-instead-of-tls"),
    pytest.param(source(Registry.TLS), Code.SOURCE_UNTRUSTED, id="self-signed"),
    pytest.param(source(Registry.TLS, ca_file=OTHER_CA), Code.SOURCE_UNTRUSTED, id="wrong-ca"),
    pytest.param(source(Registry.TLS, ca_file="/missing"), Code.FILE_UNUSABLE, id="no-ca"),
    pytest.param(source(Registry.AUTH, ca_file=CA), Code.SOURCE_REFUSED, id="no-password"),
    pytest.param(
        source(Registry.AUTH, ca_file=CA, auth_file=WRONG_AUTH_FILE),
        Code.SOURCE_REFUSED,
        id="wrong-password",
    ),
    pytest.param(
        source(Registry.PLAIN, Registry.PLAIN.reference("lab/small:2"), tls_verify=False),
        Code.SOURCE_NOT_FOUND,
        id="unknown-tag",
    ),
    pytest.param(
        source(Registry.PLAIN, Registry.PLAIN.reference("lab/none:1"), tls_verify=False),
        Code.SOURCE_NOT_FOUND,
        id="unknown-name",
    ),
    pytest.param(
        source(Registry.ABSENT, tls_verify=False), Code.SOURCE_UNREACHABLE, id="nobody-there"
    ),
    pytest.param(source(Registry.BROKEN, tls_verify=False), Code.SOURCE_UNREACHABLE, id="503"),
    pytest.param(
        source(Registry.PLAIN, "nohost.example/lab/small:1"), Code.SOURCE_UNREACHABLE, id="no-name"
    ),
]


@pytest.mark.parametrize(("given", "code"), BAD)
def test_a_registry_that_does_not_give_it(
    host: LabHost, given: dict[str, object], code: Code
) -> None:
    outcome = bring(host, given)
    assert (outcome.code, outcome.image_id) == (code, "")
    assert outcome.hint
    assert named(host) == ""
    assert certificates(host) == []
    assert bool(outcome.trouble) == (code is Code.SOURCE_UNREACHABLE)  # tried again


def test_the_first_mirror_that_has_it(host: LabHost, pushed: Pushed) -> None:
    refusing = [source(one) for one in (Registry.ABSENT, Registry.TLS, Registry.AUTH)]
    outcome = bring(host, *refusing, source(Registry.BROKEN), PLAIN)
    assert_brought(host, outcome, pushed)


def test_all_that_failed_are_named(host: LabHost) -> None:
    outcome = bring(host, source(Registry.TLS), source(Registry.AUTH, tls_verify=False))
    assert "localhost:5001: " in outcome.message
    assert "localhost:5002: " in outcome.message
    assert outcome.code == Code.SOURCE_REFUSED


def test_a_pull_that_was_cut_goes_on_by_layers(host: LabHost, pushed: Pushed) -> None:
    """In the middle of the large layer the registry is gone, for good."""
    before = count_fetched(host, pushed.layers[0])
    cut(host, after_mb=LARGE_MB // 2, mb_per_s=4)
    outcome = bring(host, source(Registry.CUT, tls_verify=False), PLAIN)
    assert_brought(host, outcome, pushed)
    assert outcome.trouble != []
    assert count_fetched(host, pushed.layers[0]) == before + 1


def test_wrong_bytes_are_never_an_image(host: LabHost) -> None:
    damaged = push(host, "lab/damaged:1")
    layer = damaged.layers[-1].removeprefix("sha256:")
    blob = f"{FOLDER}/data/docker/registry/v2/blobs/sha256/{layer[:2]}/{layer}/data"
    # Within what gzip had to store as it was: only the digest can tell.
    host.run(["sh", "-c", f"printf XXXX | dd of={blob} bs=1 seek=9000000 conv=notrunc status=none"])
    reference = Registry.PLAIN.reference("lab/damaged:1")
    outcome = bring(host, source(Registry.PLAIN, reference, tls_verify=False))
    assert (outcome.code, outcome.image_id) == (Code.CONTENT_DAMAGED, "")
    assert named(host) == ""


# --- room ----------------------------------------------------------------------------------------


def test_too_little_room_is_told_before_the_first_byte(host: LabHost, pushed: Pushed) -> None:
    before = count_fetched(host, pushed.layers[-1])
    outcome = bring(host, PLAIN, keep_free_mib=1 << 30)
    assert outcome.code == Code.DISK_TOO_FULL
    assert "MiB free" in outcome.message
    assert count_fetched(host, pushed.layers[-1]) == before
    assert bring(host, PLAIN).image_id == pushed.image_id


def test_what_podman_says_of_a_full_disk(host: LabHost) -> None:
    host.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", "/var/tmp"])
    try:
        assert bring(host, PLAIN).code == Code.DISK_TOO_FULL
        pull = ["podman", "pull", "--tls-verify=false", Registry.PLAIN.reference()]
        done = host.run(pull, check=False)
    finally:
        host.run(["umount", "/var/tmp"])
    assert explain_pull("it", done.stderr).code is Code.DISK_TOO_FULL, done.stderr


# --- archives ------------------------------------------------------------------------------------

ARCHIVES = [
    ("docker-archive", "cat", "a.tar"),
    ("docker-archive", "gzip", "a.tar.gz"),
    ("docker-archive", "gzip", "a.tgz"),
    ("docker-archive", "zstd -q", "a.tar.zst"),
    ("docker-archive", "xz -0", "a.tar.xz"),
    ("oci-archive", "cat", "a.tar"),
    ("oci-archive", "gzip", "a.tar.gz"),
    ("oci-archive", "zstd -q", "a.tar.zst"),
    ("oci-archive", "cat", "a:b c.tar"),
    ("oci-dir", "", "layout"),
]
SAVE = f"""
set -eu
rm -rf {FOLDER}/saved
podman save --quiet --format "$1" --output {FOLDER}/saved "$2"
if test -d {FOLDER}/saved
then cp -r {FOLDER}/saved "$4"
else $3 < {FOLDER}/saved > "$4"
fi
find {IMPORT} -exec touch -d '1 minute ago' '{{}}' +
"""


def save(host: LabHost, kind: str, pack: str, file: str, name: str = NAME) -> str:
    """The image as an archive in the import folder, and no longer in Podman's storage."""
    assert bring(host, PLAIN, name=name).message == ""
    path = f"{IMPORT}/{file}"
    host.run(["sh", "-c", SAVE, "sh", kind, name, pack, path], timeout_s=120)
    remove_images(host)
    assert named(host, name) == ""
    return path


@pytest.mark.parametrize(("kind", "pack", "file"), ARCHIVES)
def test_an_archive(host: LabHost, pushed: Pushed, kind: str, pack: str, file: str) -> None:
    path = save(host, kind, pack, file)
    before = host.run(["find", path, "-type", "f", "-exec", "cksum", "{}", "+"]).stdout
    outcome = bring(host)
    assert (outcome.message, outcome.image_id, outcome.digest) == ("", pushed.image_id, "")
    assert named(host) == pushed.image_id
    names = host.run(["podman", "images", "--format", "{{.Repository}}"]).stdout.split()
    assert [name for name in names if "/fd/" in name] == []
    assert host.run(["find", path, "-type", "f", "-exec", "cksum", "{}", "+"]).stdout == before


@pytest.mark.parametrize(("kind", "pack", "file"), [*ARCHIVES[:4], ARCHIVES[5]])
def test_half_an_archive_is_not_loaded(host: LabHost, kind: str, pack: str, file: str) -> None:
    path = save(host, kind, pack, file)
    host.run(["truncate", f"--size={LARGE_MB // 2}M", path])
    host.run(["touch", "-d", "1 minute ago", path])
    outcome = bring(host)
    assert (outcome.code, outcome.image_id) == (Code.IMAGE_MISSING, "")
    assert f"{path}: " in outcome.message
    assert named(host) == ""


def test_one_that_is_being_copied_is_not_loaded(host: LabHost) -> None:
    host.run(["touch", save(host, *ARCHIVES[0])])
    outcome = bring(host)
    assert outcome.code == Code.SOURCE_UNREACHABLE
    assert "still being copied" in outcome.message
    assert named(host) == ""


def test_half_an_archive_does_not_keep_from_pulling(host: LabHost, pushed: Pushed) -> None:
    path = save(host, *ARCHIVES[0])
    host.run(["truncate", "--size=1M", path])
    assert_brought(host, bring(host, PLAIN), pushed)


def test_an_archive_of_another_image_is_left_alone(host: LabHost) -> None:
    path = save(host, *ARCHIVES[0], name="quay.io/lab/other:1")
    outcome = bring(host)
    assert outcome.code == Code.IMAGE_MISSING
    assert named(host, "quay.io/lab/other:1") == ""
    host.run(["test", "-e", path])


def test_too_little_room_for_an_archive(host: LabHost) -> None:
    save(host, *ARCHIVES[0])
    assert bring(host, keep_free_mib=1 << 30).code == Code.DISK_TOO_FULL
    assert named(host) == ""
