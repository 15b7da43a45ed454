"""What the checker finds."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import final

from drumbeat.history import Record
from drumbeat_conformance.checker._operation import Operation

#: A line of a history: what a session told of itself, or what a program did.
Proof = Record | Operation


class Kind(Enum):
    """Which promise was broken."""

    #: Two terms of one seat were held at the same time.
    OVERLAP = "overlapping terms"
    #: A later term's token is not greater than that of an earlier one.
    TOKEN = "token does not rise"  # noqa: S105 - the name of a fault
    #: A term said that it was held after its deadline, or after its end.
    LATE = "held after its end"
    #: A term said that it was held, or was released, though nobody had won it.
    UNWON = "held without a win"
    #: A session went on after its end, or beside the one that took its place.
    SESSION = "session past its end"
    #: A watcher did not see what changed in a group, although it had time.
    MISSED = "missed change"
    #: Watchers of a quiet group ended with different views.
    DIVERGING = "diverging views"
    #: No order of the acquires and releases of a lock explains what was answered.
    LOCK = "broken lock"
    #: No order of the writes and reads of a fenced register explains what was answered.
    REGISTER = "broken register"
    #: No order of the increments and reads of a counter explains what was answered: an increment was lost.
    COUNTER = "lost update"
    #: No broken promise, but no good history either: it could not be judged, and the sentence says why.
    UNDECIDED = "not decided"


@final
@dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise: which, what happened in a sentence, and the records that prove it."""

    kind: Kind
    says: str
    records: tuple[Proof, ...] = field(repr=False)

    def __str__(self) -> str:
        return f"{self.kind.value}: {self.says}"


def moment(at: float) -> str:
    """Return a time for a sentence."""
    return f"{at:.3f} s"
