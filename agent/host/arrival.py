# SPDX-License-Identifier: MulanPSL-2.0
"""How far a pull is, and whether it waits for the registry or for the disk: in come Podman's lines,
and the files that it fetches into; out a stage with bytes, whenever one of both changes.

Podman says nothing while it unpacks: "Download complete" comes when a layer, and all that were
queued behind it, lie in storage (copy/blob.go and storage/storage_dest.go of containers/image, 5.25
to 5.34). The other layers wait meanwhile for the lock of the storage. So the files tell that
nothing is on its way. Before 4.8 they are all there is: the API tells no bytes.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from agent.host.image_space import list_staging, read_staged
from agent.host.layers import Layers
from agent.supplies import Stage

SAMPLE_S = 1.0
Tell = Callable[[Stage, int, int], None]


class Arrival:
    """Of one image. `tell` is called by one thread at a time: stage, bytes that are there, bytes
    of all (0: unknown)."""

    def __init__(
        self, layers: Layers, temporary: str, tell: Tell, sample_s: float = SAMPLE_S
    ) -> None:
        self._layers, self._temporary, self._tell = layers, temporary, tell
        self._sample_s = sample_s
        self._before = list_staging(temporary)
        self._files: tuple[int, ...] = ()
        self._told: tuple[Stage, int] | None = None
        self._lock = threading.Lock()

    def take(self, line: Mapping[str, object]) -> None:
        with self._lock:
            self._layers.take(line)
            if self._layers.has_bytes:
                self._say()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """The files are looked at meanwhile."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(self._sample_s):
                files = read_staged(self._temporary, self._before)
                with self._lock:
                    self._files = files
                    self._say()

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()

    def _say(self) -> None:
        has_come = self._layers.has_come(self._files)
        now = (Stage.PLACING if has_come else Stage.FETCHING, self._layers.count(self._files))
        if now != self._told:
            self._told = now
            self._tell(*now, self._layers.total)
