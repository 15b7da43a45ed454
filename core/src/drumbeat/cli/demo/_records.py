"""What agents and director write down during the demo: one JSON object a line, one file for each writer."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from drumbeat.cli.demo._meters import Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Something that happened to an agent."""

    agent: str
    #: Seconds of CLOCK_BOOTTIME, which all processes of a host share.
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Started(Record):
    """The director has started the agent's process."""

    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Killed(Record):
    """The director has sent SIGKILL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen(Record):
    """The director has sent SIGSTOP."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed(Record):
    """The director has sent SIGCONT."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dismissed(Record):
    """The director has told the agent that the run is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Milestone(Record):
    """The director has seen something that concerns all agents."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined(Record):
    """The agent is a member of the group, on terms that the backend set, in seconds."""

    server: str
    lease_ttl: float
    failover_bound: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Polled(Record):
    """The agent has read its share of the meters in a cycle, from `began` to `at`."""

    cycle: int
    began: float
    values: Mapping[str, Reading]


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChanged(Record):
    """The agent's session has a new state."""

    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Won(Record):
    """The agent leads."""

    token: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Over(Record):
    """The agent has noticed that its term is over."""

    token: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Summarised(Record):
    """The store took the leader's summary of a cycle."""

    token: int
    cycle: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Woke(Record):
    """The agent runs again after a stop; `held` is what its last term said, first of all."""

    token: int
    held: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected(Record):
    """The store refused a write, because it has seen a higher token."""

    token: int
    highest: int


_KINDS: Final[Mapping[str, type[Record]]] = {
    kind.__name__: kind
    for kind in (
        *(Started, Killed, Frozen, Resumed, Dismissed, Milestone),
        *(Joined, Polled, StateChanged, Won, Over, Summarised, Woke, Rejected),
    )
}


def to_line(record: Record) -> bytes:
    """Return a record as one line of JSON."""
    return json.dumps({"kind": type(record).__name__, **asdict(record)}).encode() + b"\n"


def from_line(line: bytes) -> Record:
    """Return the record in a line that `to_line` made."""
    fields = cast("dict[str, object]", json.loads(line))
    # What a journal holds has been written by `to_line`, so that the fields fit the kind.
    make = cast("Callable[..., Record]", _KINDS[str(fields.pop("kind"))])
    return make(**fields)


class Journal:
    """A file to which one process appends its records; safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._lock = threading.Lock()

    def write(self, record: Record) -> None:
        """Append a record, so that readers see all of it, or none if this process is killed meanwhile."""
        line = to_line(record)
        with self._lock:
            while line:
                line = line[os.write(self._file, line) :]


class Reader:
    """Reads what is appended to all the journals in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[Path, int] = {}

    def new(self) -> Iterator[Record]:
        """Give the records that were written since the last call; a line without its end is not written yet."""
        for path in sorted(self._folder.glob("*.journal")):
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    self._read[path] = self._read.get(path, 0) + len(line)
                    yield from_line(line)
