"""Time without a server's clock: what was seen unchanged, since when, by this process's own clock."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from drumbeat._timing import DRIFT

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable

    from drumbeat._cas.records import Owner
    from drumbeat._clock import Clock

#: Of how many names that were looked at without belonging to them a session goes on observing the owners.
MAX_NAMES: Final = 256


@dataclass(frozen=True, slots=True)
class _Sight:
    state: Hashable
    since: float
    last: float


class Observations:
    """How long each subject has been seen in one state.

    An entry says "a read that returned at `since` saw this state". The holder of a lease that was seen unchanged
    sent its last heartbeat before that, so once its TTL has passed since then (and a little more, for clocks that
    run at different speeds), its own deadline has passed too. Entries are replaced whole, so no lock is needed.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sights: dict[Hashable, _Sight] = {}

    def time_left(self, subject: Hashable, state: Hashable, *, needed: float, read_at: float) -> float:
        """Return the seconds until `subject` has been seen in `state` for `needed` seconds.

        `read_at` is when the read that showed this state had returned.
        """
        sight = self._sights.get(subject)
        since = sight.since if sight is not None and sight.state == state else read_at
        self._sights[subject] = _Sight(state, since, read_at)
        return since + needed * (1 + DRIFT) - self._clock.now()

    def forget_older_than(self, seconds: float) -> None:
        """Drop what nobody has looked at for so long; it would be observed anew."""
        oldest = self._clock.now() - seconds
        for subject, sight in list(self._sights.items()):
            if sight.last < oldest:
                self._sights.pop(subject, None)


class Interests:
    """The owners behind the names that a session looked at last, so that its heartbeats go on observing them."""

    def __init__(self) -> None:
        self._owners: dict[str, tuple[Owner, ...]] = {}
        self._lock = threading.Lock()

    def update(self, name: str, owners: Collection[Owner]) -> None:
        """Remember a name as the newest, and forget the oldest beyond MAX_NAMES."""
        with self._lock:
            self._owners.pop(name, None)
            self._owners[name] = tuple(owners)
            if len(self._owners) > MAX_NAMES:
                del self._owners[next(iter(self._owners))]

    def refresh(self, name: str, owners: Collection[Owner]) -> None:
        """Replace the owners of a name that is remembered, without making it newer."""
        with self._lock:
            if name in self._owners:
                self._owners[name] = tuple(owners)

    def names(self) -> tuple[str, ...]:
        """Return the names, oldest first."""
        with self._lock:
            return tuple(self._owners)

    def owners(self, name: str | None = None) -> frozenset[Owner]:
        """Return the owners behind one name, or behind all."""
        with self._lock:
            found = self._owners.values() if name is None else (self._owners.get(name, ()),)
            return frozenset(owner for owners in found for owner in owners)
