# SPDX-License-Identifier: MulanPSL-2.0
"""Runs the commands and reads the files of `sources`, cleans them, and packs what has room."""

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from agent.evidence import engine_log
from agent.evidence.children import Child, Children, Work
from agent.host.reading import read_regular
from agent.support.clean import Kind, clean
from agent.support.events import read_events
from agent.support.manifest import Entry
from agent.support.pack import Packing
from agent.support.sources import COMMANDS, ETC, EVENTS_S, FILES, Command, Files, find

AT_A_TIME = 4  # a model may be serving on this host
EXIT_STATUS = "exit status"
WHY_LINES, WHY_CHARS = 4, 120
READ_S = 5.0  # a file, on a disk that may hang


@dataclass
class Gathering:
    """`entries` tells what is packed, and what is not."""

    root: Path
    secrets: Collection[str]
    packing: Packing
    on_progress: Callable[[str], None]
    entries: list[Entry] = field(default_factory=list)
    children: Children = field(default_factory=Children)

    def run(self) -> None:
        self.run_commands(COMMANDS)
        events = self.children.start(_write(partial(read_events, self.root)), EVENTS_S)
        self._take("events.json", "what happened in two weeks", Kind.JSON_LINES, events)
        for files in FILES:
            self.read_files(files)
        self._list_others()

    def run_commands(self, commands: Sequence[Command]) -> None:
        for first in range(0, len(commands), AT_A_TIME):
            group = commands[first : first + AT_A_TIME]
            running = [self._start(one) for one in group]
            for command, child in zip(group, running, strict=True):
                read = engine_log.turn_round if command.of_engines else str
                self._take(command.name, command.about, command.kind, child, read)

    def _start(self, command: Command) -> Child:
        if command.of_engines:
            return self.children.start(partial(engine_log.tell, command.argv), command.limit_s)
        return self.children.run(command.argv, command.limit_s)

    def read_files(self, files: Files) -> None:
        base = self._base(files)
        try:
            paths = list(find(files, self.root)) if os.listdir(base) else []
        except FileNotFoundError:
            return
        except OSError as error:
            problem = f"{base}: {error.strerror}"
            self.entries.append(Entry(files.name, files.about, taken=False, problem=problem))
            return
        for path in paths:
            name = f"{files.name}/{path.relative_to(base)}"
            child = self.children.start(_write(partial(_content, path)), READ_S)
            self._take(name, files.about, files.kind, child)

    def _base(self, files: Files) -> Path:
        return self.root / files.pattern.partition("*")[0].rpartition("/")[0]

    def _list_others(self) -> None:
        """Keys and certificates may lie beside the settings: their names alone."""
        child = self.children.run(("ls", "-lnR", str(self.root / ETC)), READ_S)
        self._take(
            "etc/list.txt", "names of all files there; of others nothing is taken", Kind.TEXT, child
        )

    def _take(
        self,
        name: str,
        about: str,
        kind: Kind,
        child: Child,
        read: Callable[[str], str] = str,
    ) -> None:
        self.on_progress(name)
        self.children.wait([child])
        said = read(child.output.decode(errors="replace"))
        cleaned = clean(kind, said, self.secrets)
        problem = _problem(child, clean(Kind.TEXT, said, self.secrets).text)
        text = cleaned.text if not child.note else f"{cleaned.text.rstrip()}\n({child.note})\n"
        taken = bool(cleaned.text.strip()) or not problem
        if taken and not self.packing.add(name, text):
            taken, problem = False, "no room for it within the limit"
        size = len(text.encode(errors="replace"))
        self.entries.append(
            Entry(name, about, taken, size, cleaned.secrets, cleaned.lines, problem)
        )


def _content(path: Path) -> list[bytes]:
    return [read_regular(path)]


def _problem(child: Child, text: str) -> str:
    """Some programs end badly when all is well, or where a part of it is not there; but then they
    say more than why."""
    lines = text.strip().splitlines()
    if child.note.startswith(EXIT_STATUS):
        few = len(lines) <= WHY_LINES
        return (lines[0].strip()[:WHY_CHARS] if lines else child.note) if few else ""
    return child.note


def _write(pieces: Callable[[], Iterator[bytes] | list[bytes]]) -> Work:
    def work(output: int) -> None:
        for piece in pieces():
            view = memoryview(piece)
            while view:
                view = view[os.write(output, view) :]

    return work
