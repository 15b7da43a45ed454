"""What the core tells observers and callbacks."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal


class State(Enum):
    """The state of a session, with Curator's words."""

    #: Heartbeats succeed.
    CONNECTED = "CONNECTED"
    #: Heartbeats fail, but the deadline has not passed: everything that is held is still held.
    SUSPENDED = "SUSPENDED"
    #: The deadline passed, or the server said so: nothing is held; the session is being reopened.
    LOST = "LOST"
    #: The session was closed and stays closed.
    CLOSED = "CLOSED"


#: What happened. The first four are changes of a session's state.
EventKind = Literal[
    "connected", "suspended", "lost", "closed",
    "beat", "beat_failed",
    "joined", "left", "updated", "view",
    "campaigning", "won", "resigned", "term_lost",
    "warning",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened to a session; which of the optional fields are set depends on `kind`."""

    kind: EventKind
    #: When it happened, in seconds of the session's clock (CLOCK_BOOTTIME, shared by all processes of a host).
    at: float
    namespace: str
    member_id: str
    incarnation: str
    #: The group, or the election qualified by its kind (`election/NAME`, `lock/NAME`, `shard/GROUP/NUMBER`).
    subject: str | None = None
    #: The fencing token of a term.
    token: int | None = None
    #: Until when the session may believe in itself, on the same clock as `at`.
    deadline: float | None = None
    #: How long the request took, in seconds.
    seconds: float | None = None
    #: For `view`: the members now, as (member id, incarnation).
    members: tuple[tuple[str, str], ...] | None = None
    #: Why, in words.
    reason: str | None = None
