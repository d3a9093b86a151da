# SPDX-License-Identifier: MulanPSL-2.0
"""The SQLite file with events. Synchronous; for one thread at a time.

WAL with `synchronous = FULL`: what was committed lasts over a power cut, and a cut in the middle of
a commit leaves the file as it was before it (sqlite.org/wal.html).
"""

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

from agent.ports import EventQuery, StoredEvent

PAGE_BYTES = 4096
CACHE_KIB = 256  # the default of 2 MiB would stay in the agent
BUSY_S = 2.0  # somebody may look at it with sqlite3
DAMAGED = ".damaged"
BESIDE = ("", "-wal", "-shm")
# It is trimmed from 90 % of its size, a tenth of the events at a time.
FULL_PERCENT = 90
TRIMMED_PART = 10
# What is given back to the disk each time, 2 MiB: more would keep what is to be written waiting.
FREED_PAGES = 512
TABLE = """
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY, at REAL NOT NULL, instance TEXT NOT NULL, kind TEXT NOT NULL,
    npu INTEGER, text TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS events_at ON events (at);
"""
SELECT = "SELECT id, at, instance, kind, npu, text FROM events"

DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
LOW_BYTE = 0xFF  # of an extended result code: the plain one


class DamagedError(sqlite3.DatabaseError):
    """What the file holds is not what was written."""


def is_damage(error: sqlite3.Error) -> bool:
    """And not a full disk, or somebody else's lock."""
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(error, DamagedError) or (code is not None and code & LOW_BYTE in DAMAGE)


class EventFile:
    """`limit_bytes`: how long the file may get, its log aside (4 MiB); `kept_s`: how long events
    stay; `at_least`: so many stay whatever their age, as a clock may jump."""

    def __init__(self, path: Path, limit_bytes: int, kept_s: float, at_least: int) -> None:
        self._path = path
        self._limit_pages = max(1, limit_bytes // PAGE_BYTES)
        self._kept_s = kept_s
        self._at_least = at_least
        self._database: sqlite3.Connection | None = None
        self._inode = 0

    def open(self) -> None:
        """Raises sqlite3.Error and OSError."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if not self._path.exists():
            os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        database = sqlite3.connect(
            self._path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
        )
        try:
            database.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            database.execute("PRAGMA auto_vacuum = INCREMENTAL")
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            database.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            database.execute(f"PRAGMA max_page_count = {self._limit_pages}")
            (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise DamagedError(found)
            database.executescript(TABLE)
        except BaseException:
            database.close()
            raise
        self._database, self._inode = database, self._path.stat().st_ino

    def close(self) -> None:
        """Also of one that is not open."""
        if self._database is not None:
            with suppress(sqlite3.Error):
                self._database.close()
            self._database = None

    def set_aside(self) -> Path:
        """Out of the way, for a person to look at; one that was set aside before goes."""
        self.close()
        for end in BESIDE:
            file = self._path.with_name(self._path.name + end)
            with suppress(OSError):
                os.replace(file, file.with_name(file.name + DAMAGED))
        return self._path.with_name(self._path.name + DAMAGED)

    def add(self, events: Sequence[StoredEvent], now: float) -> None:
        """All of them or none. Removes what is too old by `now` (seconds since the epoch), and the
        oldest where room is short. Raises sqlite3.Error."""
        database = self._open()
        self._trim(now)
        rows = [(one.id, one.at, one.instance, one.kind, one.npu, one.text) for one in events]
        with _transaction(database):
            database.executemany("INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?, ?, ?)", rows)

    def read(self, query: EventQuery) -> list[StoredEvent]:
        """Raises sqlite3.Error."""
        words: list[str | int] = [query.after]
        where = "id > ?"
        for name, value in (("instance", query.instance), ("kind", query.kind)):
            if value:
                where += f" AND {name} = ?"
                words.append(value)
        if query.npu is not None:
            where += " AND npu = ?"
            words.append(query.npu)
        order = "DESC" if query.newest else "ASC"
        text = f"{SELECT} WHERE {where} ORDER BY id {order} LIMIT ?"
        with closing(self._open().execute(text, (*words, query.limit))) as rows:
            found = [StoredEvent(*row) for row in rows]
        return found[::-1] if query.newest else found

    def oldest(self) -> int:
        """Its id; 0 when there is none. Raises sqlite3.Error."""
        (found,) = self._open().execute("SELECT min(id) FROM events").fetchone()
        return int(found or 0)

    def _open(self) -> sqlite3.Connection:
        if self._database is not None and not self._is_there():
            self.close()
        if self._database is None:
            self.open()
        if self._database is None:
            raise sqlite3.OperationalError("not open")
        return self._database

    def _is_there(self) -> bool:
        """A file that somebody has removed would be written to, and be gone with the agent."""
        try:
            return self._path.stat().st_ino == self._inode
        except FileNotFoundError:
            return False

    def _trim(self, now: float) -> None:
        database = self._open()
        (stays,) = database.execute(
            "SELECT min(id) FROM (SELECT id FROM events ORDER BY id DESC LIMIT ?)",
            (self._at_least,),
        ).fetchone()
        with _transaction(database):
            database.execute(
                "DELETE FROM events WHERE at < ? AND id < ?", (now - self._kept_s, stays or 0)
            )
            if self._used_pages() * 100 > self._limit_pages * FULL_PERCENT:
                database.execute(
                    "DELETE FROM events WHERE id IN (SELECT id FROM events ORDER BY id LIMIT"
                    " (SELECT count(*) / ? + 1 FROM events))",
                    (TRIMMED_PART,),
                )
        # A row for each page: `execute` would take the first step alone, and free one page (seen
        # with 3.40).
        database.executescript(f"PRAGMA incremental_vacuum({FREED_PAGES})")

    def _used_pages(self) -> int:
        database = self._open()
        (pages,) = database.execute("PRAGMA page_count").fetchone()
        (free,) = database.execute("PRAGMA freelist_count").fetchone()
        return int(pages) - int(free)


class _transaction:
    """Commits, or takes back when something is raised."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def __enter__(self) -> None:
        self._database.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            self._database.execute("COMMIT")
        else:
            with suppress(sqlite3.Error):
                self._database.execute("ROLLBACK")
