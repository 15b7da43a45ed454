"""What is asked of etcd and what it answers, as plain values that know neither gRPC nor protobuf."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Put:
    """Store a value under a lease; 0 is none."""

    key: str
    value: bytes = field(repr=False)
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a key, or all from `key` up to but without `end`."""

    key: str
    end: str | None = None


@dataclass(frozen=True, slots=True)
class Read:
    """Read a key, or all from `key` up to but without `end`, now and with the consent of a majority."""

    key: str
    end: str | None = None
    keys_only: bool = False
    #: Only the one that was created first.
    oldest: bool = False
    #: Only the one that was created last before this revision.
    newest_before: int | None = None


@dataclass(frozen=True, slots=True)
class Created:
    """The condition that a key was created by a revision; 0: is absent. With `end` it is asked of the whole range."""

    key: str
    revision: int = 0
    end: str | None = None


@dataclass(frozen=True, slots=True)
class Leased:
    """The condition that a key hangs on a lease."""

    key: str
    lease: int


@dataclass(frozen=True, slots=True)
class Transaction:
    """Operations applied at one moment: `then` if all the conditions are true, else `otherwise`."""

    conditions: tuple[Created | Leased, ...] = ()
    then: tuple[Operation, ...] = ()
    otherwise: tuple[Operation, ...] = ()


Operation = Put | Delete | Read | Transaction


@dataclass(frozen=True, slots=True)
class Entry:
    """A key with its value."""

    key: str
    value: bytes = field(repr=False)
    #: The revision that created the key.
    created: int
    lease: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What one operation of a transaction gave."""

    entries: tuple[Entry, ...] = ()
    deleted: int = 0

    @property
    def entry(self) -> Entry | None:
        """The entry of a read that asked for one key."""
        return self.entries[0] if self.entries else None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a transaction did."""

    #: Whether the conditions were true.
    succeeded: bool
    #: The store's revision after it.
    revision: int
    answers: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class Renewal:
    """The server's answers to one heartbeat."""

    #: Seconds, as granted; 0 if the server has no such lease.
    ttl: int
    #: All keys that hang on the lease.
    keys: frozenset[str]
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Place:
    """What one watch looks at: a key or a range, from a revision on or, with 0, from now."""

    key: str
    end: str | None = None
    start: int = 0


@dataclass(frozen=True, slots=True)
class Told:
    """What the server says of one watch: that it stands, that it has ended, or that something changed."""

    watch_id: int
    created: bool
    ended: bool
    reason: str


def countdown(timeout: float) -> Callable[[], float]:
    """Return a function that tells how many of `timeout` seconds are left, a little at least."""
    until = time.monotonic() + timeout
    return lambda: max(until - time.monotonic(), 0.001)
