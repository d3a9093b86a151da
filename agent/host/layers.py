# SPDX-License-Identifier: MulanPSL-2.0
"""How far a pull is: in come the lines that Podman's API streams, out come bytes.

`compatMode=true` of the libpod endpoint gives bytes of each layer, and obeys tlsVerify, from Podman
4.8 on (#20328). The compat endpoint gives bytes before that too, and obeys no tlsVerify (seen with
4.3.1 and 5.4.2). Before 4.8 the parameter is ignored and the lines are text, without bytes.
"""

from collections.abc import Mapping, Sequence

from agent.host.registry import Layer

SHORT_DIGEST = 12


class Layers:
    """Of one image. The lines are Podman's own, so shapes are looked at, and nothing is believed
    to be there."""

    def __init__(self, layers: Sequence[Layer] | None) -> None:
        self._known = layers is not None
        self._sizes = {_short(one.digest): one.size for one in layers or ()}
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

    def take(self, line: Mapping[str, object]) -> None:
        status, layer = line.get("status"), str(line.get("id", ""))
        self.has_bytes |= status == "Pulling fs layer"
        if self._known and layer not in self._sizes:
            return  # the image's configuration
        if status == "Pulling fs layer":
            self._done.setdefault(layer, 0)
            self._complete.discard(layer)
        elif status == "Downloading":
            self._take_bytes(layer, line.get("progressDetail"))
        elif status in ("Download complete", "Already exists"):
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
