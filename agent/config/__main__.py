# SPDX-License-Identifier: MulanPSL-2.0
"""The short-lived process that validates the configuration: `python -m agent.config`.

Out: on standard output one JSON object, `{"config": {...}}` or `{"error": {code, message, hint}}`;
exit status 0 or 78. With --check or --show, text for a person instead. agentd and deepseekctl run
this, so that both understand the same thing.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from agent import exits
from agent.config.load import Paths, load
from agent.errors import Code, ConfigError, Failure
from agent.language import choose_language, speak, tr, translate
from agent.terminal import run_command


def main(argv: list[str] | None = None) -> int:
    """Prints what was understood."""
    parser = argparse.ArgumentParser(prog="agent.config")
    parser.add_argument("--etc", type=Path, default=Paths().etc)
    parser.add_argument("--share", type=Path, default=Paths().share)
    parser.add_argument("--check", action="store_true", help="say only what is wrong")
    parser.add_argument("--show", action="store_true", help="as indented JSON")
    options = parser.parse_args(argv)
    if options.check or options.show:
        speak(choose_language(os.environ))
    try:
        config = load(Paths(options.etc, options.share))
    except ConfigError as error:
        return _refuse(error.failure, for_person=options.check or options.show)
    except (MemoryError, OSError) as error:  # of this process, and not of the files
        why = f"cannot read the configuration: {error!r}"[:500]
        failure = Failure(
            Code.CONFIG_UNREAD, why, "is memory short, or a disk ill? see: free, dmesg"
        )
        return _refuse(failure, for_person=options.check or options.show)
    except Exception as error:  # the root of a process
        why = f"cannot read the configuration: internal error: {error!r}"[:500]
        failure = Failure(
            Code.CONFIG_INVALID, why, "please report it; which file was changed last?"
        )
        return _refuse(failure, for_person=options.check or options.show)
    if options.check:
        return _check(config)
    answer = config if options.show else {"config": config}
    json.dump(answer, sys.stdout, ensure_ascii=False, indent=2 if options.show else None)
    return 0


def _refuse(failure: Failure, for_person: bool) -> int:
    if for_person:
        _tell(failure.message, failure.hint)
    else:
        error = {"code": failure.code, "message": failure.message, "hint": failure.hint}
        json.dump({"error": error}, sys.stdout, ensure_ascii=False)
    return exits.PERSON


def _check(config: Mapping[str, object]) -> int:
    broken = _broken(config)
    for note in _notes(config):
        sys.stdout.write(tr("note: {note}\n", note=note))
    if not broken:
        sys.stdout.write(tr("the configuration can be used\n"))
        return 0
    for one in broken:
        _tell(str(one["message"]), str(one["hint"]))
    return exits.PERSON


def _tell(message: str, hint: str) -> None:
    sys.stderr.write(f"{translate(message)}\n" + tr("  hint: {hint}\n", hint=translate(hint)))


def _broken(config: Mapping[str, object]) -> list[Mapping[str, object]]:
    """Profiles, and files about faults."""
    profiles, faults = config["broken"], config["faults"]
    files = faults["broken"] if isinstance(faults, dict) else []
    return [*profiles, *files] if isinstance(profiles, list) else files


def _notes(config: Mapping[str, object]) -> Iterator[str]:
    """What is allowed and can still surprise: profiles to choose from may share a port."""
    profiles = config["profiles"]
    if not isinstance(profiles, list):
        return
    ports: dict[int, list[str]] = {}
    for profile in profiles:
        ports.setdefault(profile["port"], []).append(profile["name"])
    for port, names in sorted(ports.items()):
        if len(names) > 1:
            yield tr(
                "{names} use the same port {port}: only one of them can serve",
                names=tr(" and ").join(names),
                port=port,
            )


if __name__ == "__main__":
    sys.exit(run_command(main, lambda code: exits.PERSON))
