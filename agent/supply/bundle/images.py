# SPDX-License-Identifier: MulanPSL-2.0
"""Images of Podman's storage, by its command line: what it is, out into a pipe, in from a file.

In: a reference or an image id. Out: facts and bytes, or an `AgentError` with Podman's own words.

The command, not the API as in `host.images`: the API saves an image into a temporary file before it
sends the first byte, and writes what it is sent to load into another (ExportImage and ImagesLoad in
pkg/api/handlers/libpod/images.go, read in 4.x and 6.x): a second copy of 10 to 20 GB that the
command does not make. And a bundle is made and taken where nobody has opened podman.socket.

`podman load` of a pipe copies all of it into a file below TMPDIR first (cmd/podman/images/load.go,
5.x; tried with 5.4.2), so an archive is put together in our own folder and taken from there, as
`host.image_load` does: it is the same space, and an import goes on from it. `podman save` of a
docker-archive writes into a pipe layer by layer, with room for one layer below TMPDIR, and twice
the same bytes (tried with 4.3.1 and 5.4.2); oci-archive is compressed and made in a folder first.
Either version loads what the other has saved, with its name and with the same id.
"""

import os
import select
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from agent.errors import AgentError, Code
from agent.host import image_load
from agent.host.image_damage import LOOK_AGAIN_S, is_damage, read_names
from agent.host.image_space import Places, find_places
from agent.host.image_sync import sync_storage
from agent.host.podman_folder import end, own_folder, remove_left
from agent.json_text import load_json
from agent.references import carried_name
from agent.supply.bundle.fields import as_fields
from agent.supply.bundle.format import ARCHIVE_FORMAT

ASK_DEADLINE_S = 60.0
REMOVE_DEADLINE_S = 600.0  # an image of 20 GB is some 100 000 files
# Podman reads a layer from its storage before it writes the first byte of it: up to 10 GB.
SAVE_SILENCE_S = 600.0
SAVE_HINT = "it needs room for the largest layer in /var/tmp, or where TMPDIR says"
WORDS_BYTES = 500  # of Podman's last ones, in an error


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What Podman says of an image that it has."""

    image_id: str
    names: tuple[str, ...]  # in full, with their tags
    digest: str
    architecture: str
    size: int


class PodmanImages:
    """The images of this host."""

    def __init__(self, podman: str = "podman") -> None:
        self._podman = podman

    def find(self, image: str) -> ImageFacts | None:
        """None when there is none of this reference or id."""
        if self._run(("image", "exists", image), ASK_DEADLINE_S, fine=(0, 1)).returncode == 1:
            carried = carried_name(image)
            return self.find(carried) if carried else None
        asked = self._run(("image", "inspect", "--format", "json", image), ASK_DEADLINE_S)
        try:
            rows = load_json(asked.stdout)
            fields = as_fields(rows[0] if isinstance(rows, list) and rows else None, "")
            return ImageFacts(
                fields.text("Id").removeprefix("sha256:"),
                fields.texts("RepoTags"),
                fields.text("Digest"),
                fields.text("Architecture"),
                fields.whole("Size"),
            )
        except ValueError as error:
            raise AgentError(
                Code.PODMAN_UNSUPPORTED, f"cannot understand what Podman says of {image}: {error}"
            ) from error

    def drop_damaged(self, image_id: str) -> bool:
        """Whether it was there, damaged, and is removed: what is loaded upon its layers is damaged,
        too. Raises AgentError for one that a container uses."""
        if not self._is_damaged(image_id):
            return False
        time.sleep(LOOK_AGAIN_S)
        if not self._is_damaged(image_id):
            return False
        self._remove(image_id)
        return True

    def _is_damaged(self, image_id: str) -> bool:
        try:
            self.find(image_id)
        except AgentError as error:
            if is_damage(error.failure.message):
                return True
            raise
        return False

    def _remove(self, image_id: str) -> None:
        """The last of its names takes it along; one that is gone is status 1."""
        for name in read_names(self.places().storage, image_id) or (image_id,):
            self._run(("image", "rm", name), REMOVE_DEADLINE_S, fine=(0, 1))

    def places(self) -> Places:
        """Where images are kept, and where they are put meanwhile: with the room that is taken by
        what a cut has left of ours."""
        asked = self._run(("info", "--format", "json"), ASK_DEADLINE_S)
        try:
            info = load_json(asked.stdout)
        except ValueError:
            info = None
        places = find_places(info if isinstance(info, dict) else {})
        # Podman's own order (pkg/util, 4.3 and 5.4); it runs with our environment.
        places = replace(places, temporary=os.environ.get("TMPDIR") or places.temporary)
        remove_left(places.temporary)
        return places

    @contextmanager
    def save(self, reference: str) -> Iterator["SavedStream"]:
        argv = (self._podman, "save", "--quiet", "--format", ARCHIVE_FORMAT, reference)
        with tempfile.TemporaryFile() as words, own_folder(self.places().temporary) as own:
            try:
                child = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=words,
                    env=own.environment,
                    pass_fds=own.open_files,
                )
            except OSError as error:
                raise _no_podman(error) from error
            with child:
                try:
                    yield SavedStream(child, reference, words.fileno())
                finally:
                    end(child)

    def load(self, archive: Path, tell: image_load.Tell) -> None:
        places = self.places()
        temporary = places.temporary
        image_load.load(str(archive), ARCHIVE_FORMAT, "", temporary, tell, self._podman)
        sync_storage(places.storage)

    def tag(self, image_id: str, reference: str) -> None:
        """Of a name with a digest, which cannot be given, the one by which the agent finds it."""
        name = carried_name(reference) or reference
        self._run(("tag", image_id, name), ASK_DEADLINE_S)

    def _run(
        self, arguments: tuple[str, ...], deadline_s: float, fine: tuple[int, ...] = (0,)
    ) -> subprocess.CompletedProcess[bytes]:
        what = " ".join(arguments[:2])
        try:
            done = subprocess.run(
                (self._podman, *arguments),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=deadline_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise AgentError(
                Code.PODMAN_SILENT, f"cannot wait for podman {what}: no end in {deadline_s:.0f} s"
            ) from error
        except OSError as error:
            raise _no_podman(error) from error
        if done.returncode not in fine:
            raise _refused(what, done.returncode, done.stderr)
        return done


class SavedStream:
    """The archive, while Podman writes it."""

    def __init__(self, child: subprocess.Popen[bytes], reference: str, words: int) -> None:
        assert child.stdout is not None  # noqa: S101 - it was asked for
        self._child, self._reference, self._words = child, reference, words
        self._pipe = child.stdout.fileno()

    def read_into(self, buffer: memoryview) -> int:
        """0 at the end, and only when Podman says that it was all."""
        ready, _, _ = select.select((self._pipe,), (), (), SAVE_SILENCE_S)
        if not ready:
            raise AgentError(
                Code.PODMAN_SILENT,
                f"cannot save {self._reference}: Podman has written nothing for "
                f"{SAVE_SILENCE_S:.0f} s",
            )
        size = os.readv(self._pipe, (buffer,))
        if size == 0:
            self._check_end()
        return size

    def _check_end(self) -> None:
        try:
            status = self._child.wait(ASK_DEADLINE_S)
        except subprocess.TimeoutExpired as error:
            raise AgentError(
                Code.PODMAN_SILENT, f"cannot save {self._reference}: Podman does not end"
            ) from error
        if status != 0:
            length = os.fstat(self._words).st_size
            words = os.pread(self._words, WORDS_BYTES, max(0, length - WORDS_BYTES))
            raise _refused(f"save {self._reference}", status, words, SAVE_HINT)


def _no_podman(error: OSError) -> AgentError:
    return AgentError(
        Code.PODMAN_UNAVAILABLE, f"cannot run podman: {error.strerror}", "dnf install podman"
    )


def _refused(
    what: str, status: int, words: bytes, hint: str = "try it by hand; see: podman info"
) -> AgentError:
    text = words[-WORDS_BYTES:].decode(errors="replace").strip()
    return AgentError(
        Code.PODMAN_UNAVAILABLE,
        f"cannot podman {what}: {text or f'exit status {status}'}",
        hint,
    )
