# SPDX-License-Identifier: MulanPSL-2.0
"""Instances that are to serve and have no profile: a typing error, or a file that somebody removed.

Of those there is no record, and attach is refused and goes; without this nobody would hear of a
model that does not come up after a boot, nor of an engine that a new agent knows nothing of.
"""

from agent.config.values import Config, no_profile
from agent.control.events import EventLog
from agent.control.messages import UnitsSeen
from agent.control.roster import Roster
from agent.policy.wish import is_refused, is_wished


class Strangers:
    """By what systemd says of their front units."""

    def __init__(self, roster: Roster, events: EventLog) -> None:
        self._roster = roster
        self._events = events
        self._wished: set[str] = set()  # of those that are not in the roster
        self.names: tuple[str, ...] = ()  # those without a profile, by the latest look

    def __contains__(self, name: str) -> bool:
        return name in self._wished

    def take(self, seen: UnitsSeen) -> None:
        """Of an instance that is not in the roster."""
        if is_wished(seen.front) or is_refused(seen.front):
            self._wished.add(seen.instance)
        else:
            self._wished.discard(seen.instance)

    def look(self, config: Config) -> None:
        """Tells of each once; of the ones in the roster, too, as they do not start again."""
        ours = [one.name for one in self._roster if one.state.wished]
        wished = sorted(self._wished.difference(self._roster.names()).union(ours))
        names = tuple(name for name in wished if config.profile(name) is None)
        for name in names:
            if name not in self.names:
                failure = no_profile(config, name).failure
                self._events.note(name, failure.code, failure.message)
        self.names = names
