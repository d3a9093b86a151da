# SPDX-License-Identifier: MulanPSL-2.0
"""Notices that device nodes came or went: a folder comes in, `on_devices` goes out.

Loading the driver makes several nodes within a second or so (and udev touches each again), so the
news is told when it has been quiet for SETTLE_S, and at the latest SETTLE_AT_MOST_S after the
first. Without inotify the names are looked at every POLL_S instead. Touches: /dev, read only.
"""

from collections.abc import Callable
from selectors import EVENT_READ, BaseSelector

from agent.npud.devices import Devices, IsDevice, is_of_driver, logic_id_of, read_devices
from agent.npud.inotify import Inotify, InotifyLost
from agent.npud.log import Log

SETTLE_S = 0.1
SETTLE_AT_MOST_S = 2.0
POLL_S = 2.0

# The nodes as they are now, and the chips whose node came or went (back, too) on the way there.
OnDevices = Callable[[Devices, frozenset[int]], None]


class DeviceWatch:
    """Keeps `devices` right; call `tick` when `next_at` has come."""

    def __init__(
        self,
        folder: str,
        is_device: IsDevice,
        selector: BaseSelector,
        log: Log,
        on_devices: OnDevices,
        now: Callable[[], float],
        open_inotify: Callable[[str], Inotify] = Inotify,
        poll_s: float = POLL_S,
    ) -> None:
        self._folder = folder
        self._is_device = is_device
        self._selector = selector
        self._log = log
        self._on_devices = on_devices
        self._now = now
        self._open_inotify = open_inotify
        self._poll_s = poll_s
        self._inotify: Inotify | None = None
        self._first_at = self._last_at = float("inf")  # of the news that has not been told
        self._touched: frozenset[int] = frozenset()
        self._poll_at = float("inf")
        self._listen()
        self.devices = self._read()  # after the watch began: nothing falls in between

    def next_at(self) -> float:
        settled_at = min(self._last_at + SETTLE_S, self._first_at + SETTLE_AT_MOST_S)
        return min(settled_at, self._poll_at)

    def tick(self, now: float) -> None:
        if now >= self._poll_at:
            self._poll(now)
        if now >= min(self._last_at + SETTLE_S, self._first_at + SETTLE_AT_MOST_S):
            self._tell()

    def close(self) -> None:
        if self._inotify is not None:
            self._selector.unregister(self._inotify)
            self._inotify.close()
            self._inotify = None

    def _listen(self) -> None:
        try:
            inotify = self._open_inotify(self._folder)
        except OSError as error:
            self._log.warning(
                "no inotify: looking for device nodes again and again",
                every_s=self._poll_s,
                folder=self._folder,
                error=error.strerror,
            )
            self._poll_at = self._now() + self._poll_s
            return
        self._inotify = inotify
        self._selector.register(inotify, EVENT_READ, lambda _mask: self._take(inotify))

    def _take(self, inotify: Inotify) -> None:
        try:
            events = [event for event in inotify.read() if is_of_driver(event.name)]
        except InotifyLost as error:
            self._log.warning("inotify lost events: reading all again", mask=error)
            self.close()
            self._listen()
            self._heard(self.devices.chips | self._read().chips)
            return
        if events:
            moved = (logic_id_of(event.name) for event in events if event.came_or_went)
            self._heard(frozenset(logic_id for logic_id in moved if logic_id is not None))

    def _heard(self, touched: frozenset[int]) -> None:
        self._last_at = self._now()
        self._first_at = min(self._first_at, self._last_at)
        self._touched |= touched

    def _poll(self, now: float) -> None:
        """Without inotify: also try whether the kernel has one by now (its limits are shared)."""
        self._poll_at = float("inf")
        self._listen()
        devices = self._read()
        if devices != self.devices:
            self._heard(devices.chips ^ self.devices.chips)

    def _tell(self) -> None:
        touched, self._touched = self._touched, frozenset()
        self._first_at = self._last_at = float("inf")
        before, self.devices = self.devices, self._read()
        self._on_devices(self.devices, touched | (before.chips ^ self.devices.chips))

    def _read(self) -> Devices:
        return read_devices(self._folder, self._is_device)
