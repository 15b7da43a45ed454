"""What the director tells each agent at its start, and the cycles that all of them count by."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

#: The names by which the agents find each other.
GROUP = "polling-agents"
ELECTION = "summaries"


@dataclass(frozen=True, slots=True)
class Cycles:
    """Numbered spans of `length` seconds of CLOCK_BOOTTIME from `epoch` on: all processes count the same."""

    epoch: float
    length: float

    def number(self, at: float) -> int:
        """Return the number of the cycle in which a moment lies; it belongs to the cycle that it begins."""
        return math.floor((at - self.epoch) / self.length)

    def start(self, number: int) -> float:
        """Return the moment at which a cycle begins, and the one before it ends."""
        return self.epoch + number * self.length


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What one agent needs to know; it comes by a pipe, since the URL may hold a password."""

    url: str
    namespace: str
    member_id: str
    lease_ttl: float
    cycles: Cycles
    #: The process id of the director, whose end ends the agent.
    director: int
    #: Where the journals, the histories, the list of meters and the store are.
    folder: Path

    def to_line(self) -> bytes:
        """Return the orders as one line."""
        return json.dumps({**asdict(self), "folder": str(self.folder)}).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Orders:
        """Return the orders in a line that `to_line` made."""
        fields = json.loads(line)
        return cls(**{**fields, "cycles": Cycles(**fields["cycles"]), "folder": Path(fields["folder"])})

    @property
    def meters(self) -> Path:
        """The file with the names of all meters, one a line."""
        return self.folder / "meters"

    @property
    def store(self) -> Path:
        """The file of the summaries."""
        return self.folder / "summaries.sqlite"

    @property
    def journal(self) -> Path:
        """The file for this agent's records."""
        return self.folder / f"{self.member_id}.journal"

    @property
    def history(self) -> Path:
        """The file in which all agents record the history of their sessions."""
        return self.folder / "history"
