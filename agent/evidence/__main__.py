# SPDX-License-Identifier: MulanPSL-2.0
"""`evidence INSTANCE`: gathers what is known of an engine now, and writes it down.

Exit status 0 when there is a file, also when not all could be had in time.
"""

import os
import signal
import sys
from pathlib import Path

from agent.evidence.children import Children
from agent.evidence.files import FOLDER, RUN, api_key, file_name, make_room, read_notes, save
from agent.evidence.gather import Gathering
from agent.evidence.redact import redact
from agent.evidence.report import Section, compose
from agent.model import is_instance_name

EXIT_FAILED = 1
EXIT_USAGE = 2


class Ended(Exception):
    """SIGTERM: the agent waits no longer."""


def main(arguments: list[str] | None = None, run: Path = RUN, folder: Path = FOLDER) -> int:
    words = sys.argv[1:] if arguments is None else arguments
    if len(words) != 1 or not is_instance_name(words[0]):
        sys.stderr.write("usage: evidence INSTANCE\n")
        return EXIT_USAGE
    try:
        path = write_evidence(words[0], run, folder)
    except OSError as error:
        sys.stderr.write(f"cannot write evidence: {error}\n")
        return EXIT_FAILED
    sys.stdout.write(f"{path}\n")
    return 0


def write_evidence(instance: str, run: Path, folder: Path) -> Path:
    """Raises OSError when nothing can be written."""
    notes = read_notes(instance, run)
    name, secrets = file_name(instance, notes.file), [api_key(instance, run)]
    children = Children()

    def write(*, durably: bool) -> None:
        sections = [
            Section(one.title, redact(one.text, secrets), one.keep_end)
            for one in gathering.sections
        ]
        save(folder, name, compose(sections), durably=durably)

    gathering = Gathering(instance, notes, children, lambda: write(durably=False))
    os.umask(0o077)
    folder.mkdir(mode=0o700, exist_ok=True)
    signal.signal(signal.SIGTERM, _end)
    try:
        gathering.run()
    except Ended:
        sys.stderr.write("ended before all was gathered\n")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what is left to do is short
    children.end()
    write(durably=True)
    make_room(folder, instance, name)
    return folder / name


def _end(_number: int, _frame: object) -> None:
    raise Ended


if __name__ == "__main__":
    sys.exit(main())
