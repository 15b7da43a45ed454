"""Where summaries are kept: a store that defends itself against leaders of the past."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

#: Seconds for which a write waits for another one.
BUSY_TIMEOUT: Final = 2.0

_CREATE: Final = """
    CREATE TABLE summaries (
        number INTEGER PRIMARY KEY,
        cycle INTEGER NOT NULL,
        token INTEGER NOT NULL,
        agent TEXT NOT NULL,
        text TEXT NOT NULL
    )
"""

# The comparison and the write are one statement, so that no other write can come between them.
_WRITE: Final = """
    INSERT INTO summaries (cycle, token, agent, text)
    SELECT :cycle, :token, :agent, :text
    WHERE :token >= (SELECT coalesce(max(token), 0) FROM summaries)
"""


class StaleToken(Exception):
    """The store has seen a higher token: whoever wrote this does not lead any more. Nothing was written."""

    def __init__(self, token: int, *, highest: int) -> None:
        super().__init__(token, highest)
        self.token = token
        self.highest = highest

    def __str__(self) -> str:
        return f"the write with token {self.token} was rejected: the store has seen {self.highest}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a leader wrote of a cycle, with the fencing token of its term."""

    cycle: int
    token: int
    agent: str
    text: str


class SummaryStore:
    """A table of summaries in a file, shared by processes; `create` makes it once."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def create(self) -> None:
        """Make the empty store."""
        with self._connect() as connection:
            connection.execute(_CREATE)

    def write(self, summary: Summary) -> None:
        """Keep a summary; raise StaleToken, and keep nothing, if a higher token has been seen."""
        fields = {
            "cycle": summary.cycle,
            "token": summary.token,
            "agent": summary.agent,
            "text": summary.text,
        }
        with self._connect() as connection:
            if connection.execute(_WRITE, fields).rowcount != 1:
                (highest,) = connection.execute("SELECT max(token) FROM summaries").fetchone()
                raise StaleToken(summary.token, highest=highest)

    def newest_cycle(self) -> int | None:
        """Return the number of the last cycle that has a summary, or None."""
        with self._connect() as connection:
            (newest,) = connection.execute("SELECT max(cycle) FROM summaries").fetchone()
        return None if newest is None else int(newest)

    def summaries(self) -> tuple[Summary, ...]:
        """Return all summaries in the order in which they were written."""
        with self._connect() as connection:
            rows = connection.execute("SELECT cycle, token, agent, text FROM summaries ORDER BY number").fetchall()
        return tuple(Summary(cycle=cycle, token=token, agent=agent, text=text) for cycle, token, agent, text in rows)

    def is_free(self) -> bool:
        """Return whether no process is inside a write; one that is frozen there would lock all others out."""
        with self._connect(timeout=0.0) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return False
            connection.execute("ROLLBACK")
            return True

    @contextmanager
    def _connect(self, *, timeout: float = BUSY_TIMEOUT) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._path, timeout=timeout, isolation_level=None)) as connection:
            # What a killed process had written stays; only the power failing could lose it, and the file is temporary.
            connection.execute("PRAGMA synchronous = OFF")
            yield connection
