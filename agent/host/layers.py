# SPDX-License-Identifier: MulanPSL-2.0
"""How far a pull is: in come the lines that Podman's API streams, out come bytes.

`compatMode=true` of the libpod endpoint gives bytes of each layer, and obeys tlsVerify, from Podman
4.8 on (#20328). The compat endpoint gives bytes before that too, and obeys no tlsVerify (seen with
4.3.1 and 5.4.2). Before 4.8 the parameter is ignored and the lines are text, without bytes.
"""

from collections.abc import Collection, Mapping, Sequence

from agent.host.registry import Layer

SHORT_DIGEST = 12


class Layers:
    """Of one image. The lines are Podman's own, so shapes are looked at, and nothing is believed
    to be there. `present`: digests of what is in storage, and need not come."""

    def __init__(
        self, layers: Sequence[Layer] | None, present: Collection[str] = frozenset()
    ) -> None:
        self._known = layers is not None
        self._sizes = {_short(one.digest): one.size for one in layers or ()}
        self._present = {_short(one) for one in present}
        self._done: dict[str, int] = {}
        self._complete: set[str] = set()
        self.has_bytes = False

    @property
    def done(self) -> int:
        return sum(self._done.values())

    @property
    def total(self) -> int:
        """0: unknown."""
        return sum(self._sizes.values()) if self._known else 0

    @property
    def is_fetched(self) -> bool:
        """What is left is to unpack them."""
        return bool(self._complete) and self._complete >= {*self._sizes, *self._done}

    def has_come(self, files: Sequence[int]) -> bool:
        """Whether nothing is on its way: what is left is to unpack. `files`: sizes of those that
        Podman fetches into; it keeps them until the end."""
        if self.is_fetched or not files:
            return self.is_fetched
        if self._known:
            return sum(files) >= self._missing or self._waits_for_unpacking(files)
        begun = self._done.keys() - self._present
        sized = all(one in self._sizes or one in self._complete for one in begun)
        return sized and sum(files) >= sum(self._sizes.get(one, 0) for one in begun)

    def _waits_for_unpacking(self, files: Sequence[int]) -> bool:
        """Each file is as long as a layer, and the others are asked for when these are unpacked: as
        long as one of these is not, where lines tell that (from 4.8 on)."""
        unpacked = len(self._complete - self._present)
        is_unpacking = not self.has_bytes or len(files) > unpacked
        return is_unpacking and {*files} <= {*self._sizes.values()}

    def count(self, files: Sequence[int]) -> int:
        """Bytes that are there, by what is told and by what lies in files."""
        by_files = self.total - self._missing + sum(files)
        return max(self.done, min(by_files, self.total) if self._known else by_files)

    @property
    def _missing(self) -> int:
        """Bytes that have to come, as far as it is known."""
        if not self._known:
            return 0
        return sum(size for one, size in self._sizes.items() if one not in self._present)

    def take(self, line: Mapping[str, object]) -> None:
        status, layer = line.get("status"), str(line.get("id", ""))
        self.has_bytes |= status == "Pulling fs layer"
        if self._known and layer not in self._sizes:
            return  # the image's configuration
        if status == "Pulling fs layer":
            self._done.setdefault(layer, 0)
            self._complete.discard(layer)
            self._present.discard(layer)  # it is fetched all the same
        elif status == "Downloading":
            self._take_bytes(layer, line.get("progressDetail"))
        elif status in ("Download complete", "Already exists"):
            if status == "Already exists":
                self._present.add(layer)
            self._complete.add(layer)
            self._done[layer] = self._sizes.get(layer, self._done.get(layer, 0))

    def _take_bytes(self, layer: str, detail: object) -> None:
        if not isinstance(detail, dict):
            return
        current, total = detail.get("current"), detail.get("total")
        if isinstance(current, int):
            self._done[layer] = current
        if isinstance(total, int) and not self._known:
            self._sizes[layer] = total


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:SHORT_DIGEST]
