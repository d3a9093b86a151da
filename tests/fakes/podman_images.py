# SPDX-License-Identifier: MulanPSL-2.0
"""Stands in for `podman` on the PATH, for its storage of images only.

    podman image exists REF | image inspect --format json REF | info --format json | tag ID REF
    podman save --quiet --format docker-archive REF | pull --quiet docker-archive:FILE
    podman image rm REF

An image is an archive in $PODMAN_IMAGES, called by its id; `names.json` says who is called what. As
Podman does (4.3.1 and 5.4.2): an unknown image is status 1 of `exists` and 125 of everything else;
`pull` gives the names that stand in the archive, which are none when it was saved by an id; the id
is the sha256 of the configuration. A file
`fault` there holds the name of a command that fails: of `save` after half of the bytes. A file
`damaged` holds the id of an image whose layers are, until its last name is removed; with a file
`denied` there is none before the next load, and with a file `stays` the layers stay so.
"""

import hashlib
import io
import json
import os
import shutil
import sys
import tarfile
from pathlib import Path

STORE = Path(os.environ.get("PODMAN_IMAGES", "/nonexistent"))
FAILED = 125
KIND = "docker-archive:"


def make_archive(reference: str, content: bytes, architecture: str = "arm64") -> tuple[str, bytes]:
    """The id of an image with one layer, and its archive as Podman writes it."""
    layer = hashlib.sha256(content).hexdigest()
    config = json.dumps({"architecture": architecture, "os": "linux", "layer": layer}).encode()
    image_id = hashlib.sha256(config).hexdigest()
    manifest = [{"Config": f"{image_id}.json", "RepoTags": [reference], "Layers": [f"{layer}.tar"]}]
    return image_id, pack(
        {
            f"{layer}.tar": content,
            f"{image_id}.json": config,
            "manifest.json": json.dumps(manifest).encode(),
        }
    )


def pack(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def names() -> dict[str, str]:
    try:
        found: dict[str, str] = json.loads((STORE / "names.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return found


def give_name(reference: str, image_id: str) -> None:
    write_names({**names(), reference: image_id})


def write_names(named: dict[str, str]) -> None:
    """Also as containers/storage notes them."""
    (STORE / "names.json").write_text(json.dumps(named), encoding="utf-8")
    ids = sorted(set(named.values()))
    rows = [{"id": one, "names": [name for name in named if named[name] == one]} for one in ids]
    records = STORE / "overlay-images"
    records.mkdir(exist_ok=True)
    (records / "images.json").write_text(json.dumps(rows), encoding="utf-8")


def remove(path: Path, name: str) -> int:
    """By an id: only an image without more names than one."""
    left = {one: image_id for one, image_id in names().items() if one != name}
    if name == path.name and path.name in left.values():
        return FAILED
    write_names(left)
    if path.name not in left.values():
        path.unlink()
        if not (STORE / "stays").exists():
            (STORE / "damaged").unlink(missing_ok=True)
    return 0


def is_damaged(path: Path) -> bool:
    note = STORE / "damaged"
    return note.exists() and note.read_text(encoding="utf-8") == path.name


def find(image: str) -> Path | None:
    """By id, or by a name that may lack its registry and ":latest"."""
    for name, image_id in names().items():
        if name in (image, f"{image}:latest") or name.endswith((f"/{image}", f"/{image}:latest")):
            return STORE / image_id
    path = STORE / image
    return path if path.is_file() else None


def load(archive: Path) -> str:
    """The only image of it."""
    with tarfile.open(archive) as opened:
        (row,) = json.loads(member(opened, "manifest.json"))
        image_id = hashlib.sha256(member(opened, row["Config"])).hexdigest()
        shutil.copyfile(archive, STORE / image_id)
        (STORE / "denied").unlink(missing_ok=True)
        for tag in row["RepoTags"] or []:
            give_name(tag, image_id)
        return image_id


def member(opened: tarfile.TarFile, name: str) -> bytes:
    stream = opened.extractfile(name)
    assert stream is not None
    return stream.read()


def without_names(path: Path) -> bytes:
    with tarfile.open(path) as opened:
        files = {name: member(opened, name) for name in opened.getnames()}
    rows = [{**row, "RepoTags": []} for row in json.loads(files["manifest.json"])]
    return pack({**files, "manifest.json": json.dumps(rows).encode()})


def inspect(path: Path) -> list[dict[str, object]]:
    with tarfile.open(path) as opened:
        config = json.loads(member(opened, f"{path.name}.json"))
    return [
        {
            "Id": path.name,
            "RepoTags": [name for name, image_id in names().items() if image_id == path.name],
            "Digest": f"sha256:{'d' * 64}",
            "Architecture": config["architecture"],
            "Size": path.stat().st_size,
        }
    ]


def main(arguments: list[str]) -> int:
    fault = STORE / "fault"
    failing = fault.exists() and fault.read_text(encoding="utf-8") == arguments[0]
    match arguments:
        case ["image", "exists", image]:
            return 0 if find(image) and not (STORE / "denied").exists() else 1
        case ["info", "--format", "json"]:
            print(json.dumps({"store": {"graphRoot": str(STORE), "imageCopyTmpDir": str(STORE)}}))
            return 0
        case ["pull", "--quiet", source] if source.startswith(KIND) and not failing:
            print(load(Path(source.removeprefix(KIND))))
            return 0
        case ["image", "rm", image]:
            return remove(path, image) if (path := find(image)) else 1
        case ["image", "inspect", *_, image] if not failing and (path := find(image)):
            if is_damaged(path):
                sys.stderr.write(f"Error: readlink {STORE}/overlay: invalid argument\n")
                return FAILED
            print(json.dumps(inspect(path)))
            return 0
        case ["save", "--quiet", "--format", "docker-archive", image] if path := find(image):
            content = path.read_bytes() if image != path.name else without_names(path)
            sys.stdout.buffer.write(content[: len(content) // 2] if failing else content)
            return FAILED if failing else 0
        case ["tag", image, reference] if path := find(image):
            give_name(reference, path.name)
            return 0
    sys.stderr.write(f"Error: {' '.join(arguments)}: no such thing in this storage\n")
    return FAILED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
