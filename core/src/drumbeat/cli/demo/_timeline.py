"""What people read of a run: one line for each thing that mattered."""

from __future__ import annotations

from dataclasses import dataclass

from drumbeat.cli.demo._records import (
    Frozen,
    Killed,
    Milestone,
    Record,
    Rejected,
    Resumed,
    StateChanged,
    Summarised,
    Woke,
    Won,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the timeline."""

    #: Seconds since the demo began.
    seconds: float
    #: The kind of record that it tells.
    kind: str
    #: Whom it is about; empty if all of them.
    agent: str
    text: str


class Timeline:
    """Puts records into words, in the order in which they become known."""

    def __init__(self, begin: float) -> None:
        self._begin = begin
        self._fault: Killed | Frozen | None = None
        self._resumed = begin
        self._lost: set[str] = set()

    def tell(self, record: Record) -> Entry | None:
        """Return the line for a record, or None if people need not read it."""
        text = self._words(record)
        if text is None:
            return None
        return Entry(seconds=record.at - self._begin, kind=type(record).__name__.lower(), agent=record.agent, text=text)

    def _words(self, record: Record) -> str | None:
        match record:
            case Milestone(text=text):
                return text
            case Killed():
                self._fault = record
                return "killed by SIGKILL while it leads"
            case Frozen():
                self._fault = record
                return "frozen by SIGSTOP while it leads"
            case Resumed():
                return self._woken(record)
            case _:
                return self._own_words(record)

    def _own_words(self, record: Record) -> str | None:
        match record:
            case Won(token=token):
                return f"leads with token {token}{self._since_fault(record)}"
            case Summarised(cycle=cycle, text=text):
                return f"cycle {cycle}: {text}"
            case Woke():
                return self._look(record)
            case Rejected(token=token):
                return f"write with the old token {token} rejected"
            case StateChanged(state=state):
                return self._state(record.agent, state)
            case _:
                return None

    def _since_fault(self, won: Won) -> str:
        if self._fault is None:
            return ""
        cause = "kill" if isinstance(self._fault, Killed) else "freeze"
        return f", {won.at - self._fault.at:.3f} s after the {cause}"

    def _woken(self, resumed: Resumed) -> str:
        self._resumed = resumed.at
        slept = resumed.at - (resumed.at if self._fault is None else self._fault.at)
        return f"woken by SIGCONT after {slept:.1f} s"

    def _look(self, woke: Woke) -> str:
        after = f"after {1000 * (woke.at - self._resumed):.1f} ms"
        if woke.held:
            return f"still believed in token {woke.token} {after}"
        return f"knew {after} that token {woke.token} is lost"

    def _state(self, agent: str, state: str) -> str | None:
        if state == "LOST":
            self._lost.add(agent)
            return "session LOST"
        if state == "CONNECTED" and agent in self._lost:
            self._lost.remove(agent)
            return "session opened again"
        return "session SUSPENDED" if state == "SUSPENDED" else None
