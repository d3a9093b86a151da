# SPDX-License-Identifier: MulanPSL-2.0
"""Which profiles are in force when the files say something that cannot be used. Pure.

An engine that serves is not left alone because of a typing error, or because a newer version of
ours refuses what an older one took: it stays under the profile that was last in force.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from agent.config.faults import BrokenFaults, FaultCatalogue
from agent.config.values import NO_CONFIG, BrokenProfile, Config
from agent.errors import Code, Failure


def keep_last(read: Config | Failure, last: Config | None) -> Config:
    """`read`, with the profiles of `last` for those that are broken now. They are listed under both
    `profiles` and `broken`: what runs goes on, and nothing is started anew under them.

    When the files could not be read at all, `last` is in force as if nothing were wrong: after a
    boot at which memory was short the models shall serve."""
    if isinstance(read, Failure) and read.code is Code.CONFIG_UNREAD and last is not None:
        return last
    if isinstance(read, Failure):
        last = last or NO_CONFIG
        names = (profile.name for profile in last.profiles)
        return replace(
            last, broken=tuple(BrokenProfile(name, read.message, read.hint) for name in names)
        )
    broken = {one.name for one in read.broken}
    kept = (one for one in (last.profiles if last else ()) if one.name in broken)
    faults = _keep_rules(read.faults, last.faults) if last else read.faults
    origins = read.origins | (_of_profiles(last.origins, broken) if last else {})
    return replace(read, profiles=(*read.profiles, *kept), faults=faults, origins=origins)


def _of_profiles(origins: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    prefixes = tuple(f"profiles.{name}." for name in names)
    return {key: where for key, where in origins.items() if key.startswith(prefixes)}


def _keep_rules(read: FaultCatalogue, last: FaultCatalogue) -> FaultCatalogue:
    """The rules that a file set which is broken now."""
    kept = {
        code: rule
        for code, rule in last.rules.items()
        if any(_is_in(rule.set_in, one) for one in read.broken)
    }
    return replace(read, rules=read.rules | kept)


def _is_in(file: str, broken: BrokenFaults) -> bool:
    """The folder as a whole may be what cannot be read."""
    return file == broken.file or file.startswith(f"{broken.file}/")
