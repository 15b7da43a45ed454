"""One call of a hook: its time, what it has read, and what is known of its writes when it fails."""

from __future__ import annotations

import random
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

from drumbeat._errors import BadData, Unavailable

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping

    from drumbeat._cas.records import Record

R = TypeVar("R", bound="Record")

#: Races that are run again at once; from then on the pauses grow, at random, so that racers part.
FREE_RACES: Final = 2
#: Seconds of the shortest and of the longest such pause, on average.
PAUSES: Final = (0.002, 0.05)


@dataclass(slots=True)
class Call:
    """The time left for one hook, and whether it has written.

    Requests to a store take real time, whatever clock the leases run on.
    """

    timeout: float
    wrote: bool = False
    _races: int = 0
    _end: float = field(init=False)

    def __post_init__(self) -> None:
        self._end = time.monotonic() + self.timeout

    def left(self) -> float:
        """Return the seconds left; raise Unavailable if there are none."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise Unavailable(
                f"no result within {self.timeout:g} s, after {self._races} lost races with other sessions",
                outcome="unknown" if self.wrote else "not_applied",
            )
        return left

    def lost_race(self) -> None:
        """Return when it is time to read and try again, after another session wrote first."""
        self._races += 1
        if self._races > FREE_RACES:
            shortest, longest = PAUSES
            pause = min(longest, shortest * 2 ** (self._races - FREE_RACES))
            time.sleep(min(self.left(), pause * random.uniform(0.5, 1.5)))  # noqa: S311 - no secret
        self.left()

    @contextmanager
    def requesting(self, *, writes: bool) -> Iterator[float]:
        """Run one request, given its timeout; if it fails, say what is known of the whole call.

        A read changes nothing. Of a write that failed the store says what is known, but what this call wrote
        before stays written.
        """
        try:
            yield self.left()
        except Unavailable as error:
            wrote = self.wrote or (writes and error.outcome == "unknown")
            raise Unavailable(str(error.args[0]), outcome="unknown" if wrote else "not_applied") from error


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one read of several keys returned, and when on the session's clock it had returned."""

    values: Mapping[str, tuple[bytes, Hashable]]
    read_at: float
    #: The keys that were read: any other may be present or absent.
    asked: frozenset[str]

    def version(self, key: str) -> Hashable | None:
        """Return the version to compare with, or None if the store does not have the key."""
        found = self.values.get(key)
        return None if found is None else found[1]

    def get(self, key: str, kind: type[R]) -> R | None:
        """Return the record under a key, or None if it is absent or was deleted; raise BadData for rubbish."""
        found = self.values.get(key)
        return None if found is None or not found[0] else kind.decode(key, found[0])

    def legible(self, key: str, kind: type[R]) -> R | None:
        """Return what `get` returns, or None for rubbish, which nobody holds anything by."""
        try:
            return self.get(key, kind)
        except BadData:
            return None

    def merged(self, later: Snapshot) -> Snapshot:
        """Return both as one, as if all had been read by the later read."""
        kept = {key: found for key, found in self.values.items() if key not in later.asked}
        return Snapshot({**kept, **later.values}, later.read_at, self.asked | later.asked)
