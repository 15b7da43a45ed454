"""One opening of a session: its lease, its deadline and all that it holds."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from drumbeat._errors import SessionLost
from drumbeat.hookspecs import Candidacy, Holdings, Lease, Membership, Seat

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drumbeat._clock import Clock
    from drumbeat._term import Term
    from drumbeat._timing import Timing


@dataclass(slots=True)
class _Place:
    """A membership that was asked for; it counts as lost only once a join has returned."""

    attempt: int
    #: The attempt that the server has while a second join is under way.
    previous: int | None = None
    joined: bool = False


class Incarnation:
    """What is known of one opening of a session; once over, it stays over.

    Whether it is alive is computed when it is asked, from the clock, so no thread has to run for it to end.
    """

    def __init__(self, lease: Lease, timing: Timing, *, sent: float, clock: Clock) -> None:
        self.lease = lease
        self.timing = timing
        self.deadline = sent + timing.usable
        self.next_beat = sent + timing.heartbeat_interval
        self.suspended = False
        self.over: str | None = None
        self.rejoin_due = True
        self._clock = clock
        self._pid = os.getpid()
        self._wall_offset = clock.wall() - clock.now()
        self._lock = threading.RLock()
        self._expired = False
        self._newest_attempt = 0
        self._candidacies: set[Candidacy] = set()
        self._terms: dict[Seat, Term] = {}
        #: Seats that the server is being asked to free.
        self._resigning: set[Seat] = set()
        self._places: dict[str, _Place] = {}

    @property
    def id(self) -> str:
        """The incarnation's unique id."""
        return self.lease.incarnation

    def alive(self) -> bool:
        """Return whether the session may still believe in itself; once False, no answer makes it True again."""
        if self.over is not None or os.getpid() != self._pid or self._expired:
            return False
        if self._clock.now() < self.deadline:
            return True
        with self._lock:
            self._expired = self._clock.now() >= self.deadline
            return not self._expired

    def clock_jumped(self) -> bool:
        """Return whether wall time moved against the session's clock, as after a restored snapshot."""
        moved = self._clock.wall() - self._clock.now() - self._wall_offset
        return abs(moved) > max(0.05, self.timing.ttl / 20)

    def renew(self, lease: Lease, timing: Timing, *, sent: float) -> bool:
        """Take a heartbeat's answer; return False, and change nothing, if it came after the deadline."""
        with self._lock:
            if not self.alive():
                return False
            self.lease = lease
            self.timing = timing
            self.deadline = max(self.deadline, sent + timing.usable)
            self.next_beat = sent + timing.heartbeat_interval
            self._wall_offset = self._clock.wall() - self._clock.now()
            return True

    def holdings(self) -> Holdings:
        """Return all that this incarnation believes it holds or is asking for."""
        with self._lock:
            return Holdings(
                memberships=tuple(
                    Membership(group, attempt)
                    for group, place in self._places.items()
                    for attempt in (place.attempt, place.previous)
                    if attempt is not None
                ),
                candidacies=tuple(self._candidacies),
                # One that is given up stays listed until its resignation is answered: a heartbeat that came first
                # would free it, and the server would say that it was not held.
                seats=(*self._terms, *self._resigning),
                newest_attempt=self._newest_attempt,
            )

    def new_candidacy(self, election: str) -> Candidacy:
        """Give a new attempt its number and count it as wanted, before anything is sent."""
        with self._lock:
            self._newest_attempt += 1
            candidacy = Candidacy(election, self._newest_attempt)
            self._candidacies.add(candidacy)
            return candidacy

    def end_candidacy(self, candidacy: Candidacy) -> None:
        """Stop wanting an attempt: what the store holds for it goes at the next heartbeat."""
        with self._lock:
            self._candidacies.discard(candidacy)

    def add_term(self, candidacy: Candidacy, seat: Seat, term: Term) -> bool:
        """Turn a won attempt into a held seat; return False if the incarnation is over."""
        with self._lock:
            self._candidacies.discard(candidacy)
            if not self.alive():
                return False
            self._terms[seat] = term
            return True

    def remove_term(self, seat: Seat, reason: str, *, resigns: bool = False) -> Term | None:
        """End a term and stop holding its seat; return the term to the one caller that ended it.

        In this order and under the lock: a heartbeat that leaves the seat out frees it, so `held` is False before.
        Who `resigns` asks the server to free it, and calls `resigned` once that is answered or has failed.
        """
        with self._lock:
            term = self._terms.get(seat)
            if term is not None:
                term._over = reason  # noqa: SLF001 - a term ends where it is held
                del self._terms[seat]
                if resigns:
                    self._resigning.add(seat)
            return term

    def resigned(self, seat: Seat) -> None:
        """Leave a seat out of heartbeats from now on: if the server still has it for us, the next one frees it."""
        with self._lock:
            self._resigning.discard(seat)

    def new_place(self, group: str) -> int:
        """Give a join its number and count it as wanted, before anything is sent."""
        with self._lock:
            self._newest_attempt += 1
            old = self._places.get(group)
            self._places[group] = _Place(self._newest_attempt, previous=None if old is None else old.attempt)
            return self._newest_attempt

    def joined(self, group: str) -> None:
        """Count a membership as held; raise SessionLost if the incarnation ended meanwhile."""
        with self._lock:
            place = self._places.get(group)
            if place is None:
                raise SessionLost(f"the session ended while {group!r} was joined: {self.over}")
            place.joined, place.previous = True, None

    def undo_place(self, group: str) -> None:
        """Stop wanting what a join that failed asked for; a membership from before it stays."""
        with self._lock:
            place = self._places.pop(group, None)
            if place is not None and place.previous is not None:
                self._places[group] = _Place(place.previous, joined=True)

    def end_place(self, group: str) -> None:
        """Stop wanting a membership."""
        with self._lock:
            self._places.pop(group, None)

    def end_in_child(self) -> None:
        """End the incarnation in a forked child, where no lock may be taken."""
        self.over = "this process is a forked child"
        for term in list(self._terms.values()):
            term.lost.set_in_child()

    def has_place(self, group: str) -> bool:
        """Return whether a membership is held or being asked for."""
        return group in self._places

    def take_lost(self, lost: Sequence[Seat | Membership]) -> list[Term]:
        """Forget what a heartbeat found gone; return the terms among it, and have memberships joined again."""
        terms: list[Term] = []
        with self._lock:
            for item in lost:
                if isinstance(item, Seat):
                    term = self._terms.pop(item, None)
                    terms += [] if term is None else [term]
                else:
                    self._forget_place(item)
        return terms

    def end(self, reason: str) -> list[Term] | None:
        """End the incarnation; return its terms to the first caller, and None to any later one."""
        with self._lock:
            if self.over is not None:
                return None
            self.over = reason
            terms = list(self._terms.values())
            self._terms.clear()
            self._candidacies.clear()
            self._places.clear()
            return terms

    def _forget_place(self, membership: Membership) -> None:
        place = self._places.get(membership.group)
        if place is not None and place.joined and place.attempt == membership.attempt:
            del self._places[membership.group]
            self.rejoin_due = True
