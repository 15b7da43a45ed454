"""Locks that let a second one in, or the wrong one."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from drumbeat._election import Lock
from drumbeat.hookspecs import Beat, Holdings, Lease, Waiting, Won
from drumbeat.memory import MemoryBackend, _Candidate, _Election, _Session, _Space
from drumbeat_mutants import Patch, mutant

#: How many things a listing gives at once.
_PAGE: Final = 100

Campaign = Callable[..., Won | Waiting]


@mutant("looks-before-it-takes", breaks="LOCK-1")
def looks_before_it_takes(patch: Patch) -> None:
    """Whether the seat is free is read first, and the seat is written in a second request, unseen."""

    def campaign(
        original: Campaign, self: MemoryBackend, lease: Lease, election: str, attempt: int, *rest: object
    ) -> Won | Waiting:
        with self._store.call(self._namespace) as space:
            place = space.elections.setdefault(election, _Election())
            free = place.may_win(_Candidate(lease.incarnation, attempt))
        # Real time, in which another thread comes between.
        time.sleep(0.002)
        with self._store.call(self._namespace):
            place.holder = None if free else place.holder
            place.queue = [] if free else place.queue
        return original(self, lease, election, attempt, *rest)

    patch.wrap(MemoryBackend, "campaign", campaign)


@mutant("knows-the-session-alone", breaks=("LOCK-3", "LOCK-5"))
def knows_the_session_alone(patch: Patch) -> None:
    """A session that holds a seat is told that it has won, whichever of its attempts asks."""

    def campaign(
        original: Campaign, self: MemoryBackend, lease: Lease, election: str, attempt: int, *rest: object
    ) -> Won | Waiting:
        with self._store.call(self._namespace) as space:
            holder = space.elections.setdefault(election, _Election()).holder
        if holder is not None and holder.incarnation == lease.incarnation:
            attempt = holder.attempt
        return original(self, lease, election, attempt, *rest)

    patch.wrap(MemoryBackend, "campaign", campaign)


@mutant("gives-up-before-its-time", breaks="LOCK-2", like="peers 10")
def gives_up_before_its_time(patch: Patch) -> None:
    """A lock that is taken is tried once, whatever the timeout."""

    def acquire(original: Callable[..., object], self: Lock, *, timeout: float | None = None, **rest: object) -> object:
        return original(self, timeout=timeout and 0.0, **rest)

    patch.wrap(Lock, "acquire", acquire)


@mutant("locks-the-election", breaks="LOCK-7")
def locks_the_election(patch: Patch) -> None:
    """A lock and an election of one name are the same seat."""
    patch(Lock, "_kind", "election")


@mutant("frees-the-first-hundred", breaks="LOCK-8", like="hazard: a listing comes in pages")
def frees_the_first_hundred(patch: Patch) -> None:
    """The end of a session frees what the first page of a listing names."""

    def end(original: Callable[..., bool], self: _Space, incarnation: str) -> bool:
        elections = self.elections
        self.elections = dict(list(elections.items())[:_PAGE])
        try:
            return original(self, incarnation)
        finally:
            self.elections = elections
            session = _Session(incarnation, f"the late {incarnation}", 1.0, float("inf"))
            if any(place.holder and place.holder.incarnation == incarnation for place in elections.values()):
                self.sessions[incarnation] = session

    patch.wrap(_Space, "end", end)


@mutant("verifies-the-first-hundred", breaks="LOCK-8", like="hazard: a listing comes in pages")
def verifies_the_first_hundred(patch: Patch) -> None:
    """A heartbeat verifies a hundred seats, and takes the rest for held."""

    def heartbeat(original: Callable[..., Beat], self: MemoryBackend, lease: Lease, holdings: Holdings) -> Beat:
        beat = original(self, lease, holdings)
        return replace(beat, lost=tuple(one for one in beat.lost if one not in holdings.seats[_PAGE:]))

    patch.wrap(MemoryBackend, "heartbeat", heartbeat)


@mutant("tells-nobody-of-a-lost-lock", breaks="LEAD-11")
def tells_nobody_of_a_lost_lock(patch: Patch) -> None:
    """The callback that is given with a lock is not passed on."""

    def acquire(original: Callable[..., object], self: Lock, *, on_lost: object = None, **rest: object) -> object:
        assert on_lost is None or callable(on_lost)
        return original(self, **rest)

    patch.wrap(Lock, "acquire", acquire)
