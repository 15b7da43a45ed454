"""What the live table shows: where each agent stands."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from drumbeat.cli.demo._records import (
    Dismissed,
    Frozen,
    Joined,
    Killed,
    Over,
    Polled,
    Record,
    Resumed,
    Started,
    StateChanged,
    Summarised,
    Won,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Where one agent stands."""

    agent: str
    pid: int
    state: str = "starting"
    #: How many meters it polled in its last cycle.
    share: int = 0
    #: The token with which it leads, as far as is known.
    token: int | None = None


_STATES: dict[type[Record], str] = {
    Joined: "polling",
    Resumed: "woken",
    Dismissed: "leaving",
}
_SESSION_STATES = {"CONNECTED": "polling", "SUSPENDED": "suspended", "LOST": "lost", "CLOSED": "left"}


class Board:
    """The rows of the table, kept up to date by records in the order in which they become known."""

    def __init__(self) -> None:
        self._rows: dict[str, Row] = {}
        #: The newest cycle that has a summary, with its text and its author.
        self.summary: Summarised | None = None

    @property
    def rows(self) -> Iterable[Row]:
        """One row for each agent, by name."""
        return sorted(self._rows.values(), key=lambda row: row.agent)

    def update(self, record: Record) -> None:
        """Take one record into account."""
        if isinstance(record, Started):
            self._rows[record.agent] = Row(agent=record.agent, pid=record.pid)
        elif isinstance(record, Summarised):
            self.summary = record
        elif record.agent in self._rows:
            self._rows[record.agent] = _updated(self._rows[record.agent], record)
            if isinstance(record, Won):
                self._depose_others(record.agent)

    def _depose_others(self, leader: str) -> None:
        for row in self.rows:
            if row.agent != leader:
                self._rows[row.agent] = replace(row, token=None)


def _updated(row: Row, record: Record) -> Row:
    match record:
        case Polled(values=values):
            row = replace(row, share=len(values))
        case Won(token=token):
            row = replace(row, token=token)
        case Over(token=token) if token == row.token:
            row = replace(row, token=None)
        case Killed():
            row = replace(row, state="killed", share=0, token=None)
        case Frozen():
            row = replace(row, state="frozen", share=0)
        case StateChanged(state=state):
            row = replace(row, state=_SESSION_STATES.get(state, state.lower()))
        case _:
            row = replace(row, state=_STATES.get(type(record), row.state))
    return row
