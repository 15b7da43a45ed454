"""Bugs of sessions: leases that end early, late or never, and heartbeats that say too little or do too much."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from drumbeat._cas.base import Base
from drumbeat._cas.call import Snapshot
from drumbeat._errors import ConfigurationError, Conflict, Unavailable
from drumbeat._events import State
from drumbeat._facade import Backend
from drumbeat._group import Group, GroupWatch
from drumbeat._incarnation import Incarnation
from drumbeat._keeper import Keeper
from drumbeat._timing import Timing
from drumbeat.hookspecs import (
    Beat,
    Holdings,
    Lease,
    Membership,
    Reaped,
    ReapTicket,
    Seat,
    SessionClosed,
    SessionRequest,
    Vacant,
    Waiting,
    Won,
)
from drumbeat.local._kernel import _FLOCK, LockFile
from drumbeat.memory import MemoryBackend, _Member, _Session, _Space
from drumbeat_mutants import Patch, mutant

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drumbeat._view import View

# How long a lease lasts --------------------------------------------------------------------------------------


@contextmanager
def _lasting(self: MemoryBackend, lease: Lease, seconds: float) -> Iterator[None]:
    """Let a hook run that renews a lease, which then lasts for so long."""
    yield
    with self._store.lock:
        session = self._store.spaces[self._namespace].sessions[lease.incarnation]
        session.deadline = self._store.clock.now() + seconds


def _let_leases_last(patch: Patch, factor: float) -> None:
    def open_session(original: Callable[..., Lease], self: MemoryBackend, request: SessionRequest) -> Lease:
        lease = original(self, request)
        with _lasting(self, lease, factor * lease.ttl):
            return lease

    def heartbeat(original: Callable[..., Beat], self: MemoryBackend, lease: Lease, holdings: Holdings) -> Beat:
        beat = original(self, lease, holdings)
        with _lasting(self, lease, factor * lease.ttl):
            return beat

    patch.wrap(MemoryBackend, "open_session", open_session)
    patch.wrap(MemoryBackend, "heartbeat", heartbeat)


@mutant("rounds-the-ttl-down", breaks=("BEAT-5", "BEAT-16", "GROUP-9"), like="hazard: memcached, whole seconds")
def rounds_the_ttl_down(patch: Patch) -> None:
    """A lease lives for up to a tenth of its TTL less, as on a server that counts in coarse steps, unsaid."""
    _let_leases_last(patch, 0.9)


@mutant("ends-leases-long-before-their-time", breaks=("BEAT-3", "BEAT-5"), like="hazard: memcached, TTL of 1 second")
def ends_leases_long_before_their_time(patch: Patch) -> None:
    """A lease lives for half of its TTL: enough for those that beat every quarter."""
    _let_leases_last(patch, 0.5)


@mutant(
    "collects-the-dead-too-rarely",
    breaks=("BEAT-2", "BEAT-5", "BEAT-16", "GROUP-9"),
    like="hazard: etcd, expiry is checked now and then",
)
def collects_the_dead_too_rarely(patch: Patch) -> None:
    """The server looks for silent sessions so rarely that they live for three TTLs, which it does not say."""
    _let_leases_last(patch, 3.0)


@mutant("renews-for-three-ttls", breaks="BEAT-1")
def renews_for_three_ttls(patch: Patch) -> None:
    """A session lives for three TTLs from its opening, however often it beats: its end is an absolute time."""

    def open_session(original: Callable[..., Lease], self: MemoryBackend, request: SessionRequest) -> Lease:
        lease = original(self, request)
        ends[lease.incarnation] = self._store.clock.now() + 3 * lease.ttl
        return lease

    def heartbeat(original: Callable[..., Beat], self: MemoryBackend, lease: Lease, holdings: Holdings) -> Beat:
        beat = original(self, lease, holdings)
        with _lasting(self, lease, min(lease.ttl, ends[lease.incarnation] - self._store.clock.now())):
            return beat

    ends: dict[str, float] = {}
    patch.wrap(MemoryBackend, "open_session", open_session)
    patch.wrap(MemoryBackend, "heartbeat", heartbeat)


@mutant("grants-what-it-likes", breaks="BEAT-12", like="hazard: etcd, 2 s granted for 1 s")
def grants_what_it_likes(patch: Patch) -> None:
    """The server lets every lease last a second longer than was asked for, and says so."""

    def open_session(original: Callable[..., Lease], self: MemoryBackend, request: SessionRequest) -> Lease:
        return original(self, replace(request, ttl=request.ttl + 1))

    patch.wrap(MemoryBackend, "open_session", open_session)


@mutant("takes-the-nearest-ttl", breaks="BEAT-15", like="hazard: zookeeper, negotiated timeout")
def takes_the_nearest_ttl(patch: Patch) -> None:
    """A TTL outside the limits is silently replaced by the limit."""

    def open_session(original: Callable[..., Lease], self: MemoryBackend, request: SessionRequest) -> Lease:
        limits = self.describe_backend().limits
        ttl = min(max(request.ttl, limits.min_ttl), limits.max_ttl)
        return original(self, replace(request, ttl=ttl))

    patch.wrap(MemoryBackend, "open_session", open_session)


@mutant("keeps-whole-seconds", breaks="BEAT-34", like="hazard: memcached, whole seconds")
def keeps_whole_seconds(patch: Patch) -> None:
    """The store keeps TTLs as whole seconds, rounded down, where the lease says the fraction."""
    _let_the_ttl_be(patch, lambda _, ttl: float(int(ttl)) or ttl)


@mutant("keeps-sixteen-bits-of-milliseconds", breaks="BEAT-35")
def keeps_sixteen_bits_of_milliseconds(patch: Patch) -> None:
    """A TTL is kept in sixteen bits of milliseconds, so that one of more than a minute begins again at nothing."""
    _let_the_ttl_be(patch, lambda _, ttl: ttl * 1000 % 65_536 / 1000)


@mutant("keeps-the-ttl-of-the-superseded", breaks="BEAT-34")
def keeps_the_ttl_of_the_superseded(patch: Patch) -> None:
    """A session that reopens has the TTL that it had before, where the lease says the new one."""
    _let_the_ttl_be(patch, lambda before, ttl: ttl if before is None else before)


def _let_the_ttl_be(patch: Patch, ttl: Callable[[float | None, float], float]) -> None:
    """Keep another TTL than the lease says, made from that of the session before, if there is one, and the wish."""

    def open_session(original: Callable[..., Lease], self: MemoryBackend, request: SessionRequest) -> Lease:
        with self._store.call(self._namespace) as space:
            old = space.sessions.get(request.supersedes or "")
        lease = original(self, request)
        with self._store.call(self._namespace) as space:
            session = space.sessions[request.incarnation]
            session.ttl = ttl(old.ttl if old else None, lease.ttl)
            session.deadline = self._store.clock.now() + session.ttl
        return lease

    patch.wrap(MemoryBackend, "open_session", open_session)


@mutant("saves-heartbeats", breaks=("BEAT-5", "BEAT-16", "LEAD-22"))
def saves_heartbeats(patch: Patch) -> None:
    """A heartbeat within a fifth of the TTL after the last renewal is answered, and renews nothing."""

    def heartbeat(original: Callable[..., Beat], self: MemoryBackend, lease: Lease, holdings: Holdings) -> Beat:
        with self._store.call(self._namespace) as space:
            session = space.live(lease)
            before = session.deadline
            spared = before - self._store.clock.now() > 0.8 * session.ttl
        beat = original(self, lease, holdings)
        if spared:
            with self._store.call(self._namespace):
                session.deadline = before
        return beat

    patch.wrap(MemoryBackend, "heartbeat", heartbeat)


@mutant("batches-heartbeats", breaks=("BEAT-5", "BEAT-16", "LEAD-22"))
def batches_heartbeats(patch: Patch) -> None:
    """From the second one on, heartbeats are sent on when the next is due: each renews from the one before."""
    last: dict[str, float] = {}

    def heartbeat(original: Callable[..., Beat], self: MemoryBackend, lease: Lease, holdings: Holdings) -> Beat:
        now = self._store.clock.now()
        beat = original(self, lease, holdings)
        before = last.get(lease.incarnation)
        last[lease.incarnation] = now
        if before is not None:
            with self._store.call(self._namespace) as space:
                space.sessions[lease.incarnation].deadline = max(now + 0.7 * lease.ttl, before + lease.ttl)
        return beat

    patch.wrap(MemoryBackend, "heartbeat", heartbeat)


@mutant("answers-heartbeats-with-no-member-id", breaks="BEAT-12")
def answers_heartbeats_with_no_member_id(patch: Patch) -> None:
    """The lease in the answer to a heartbeat has an empty member id."""

    def heartbeat(original: Callable[..., Beat], self: MemoryBackend, lease: Lease, holdings: Holdings) -> Beat:
        beat = original(self, lease, holdings)
        return replace(beat, lease=replace(beat.lease, member_id=""))

    patch.wrap(MemoryBackend, "heartbeat", heartbeat)


@mutant("refuses-the-limits-themselves", breaks="BEAT-35")
def refuses_the_limits_themselves(patch: Patch) -> None:
    """A TTL that is exactly at a stated limit is refused."""

    def open_session(original: Callable[..., Lease], self: MemoryBackend, request: SessionRequest) -> Lease:
        limits = self.describe_backend().limits
        if request.ttl in (limits.min_ttl, limits.max_ttl):
            raise ConfigurationError(f"a TTL of {request.ttl:g} s is outside: {limits.min_ttl:g} to {limits.max_ttl:g}")
        return original(self, request)

    patch.wrap(MemoryBackend, "open_session", open_session)


@mutant("supersedes-before-it-looks-at-the-ttl", breaks="BEAT-15")
def supersedes_before_it_looks_at_the_ttl(patch: Patch) -> None:
    """A request to open whose TTL is refused has ended the superseded session already."""

    def open_session(original: Callable[..., Lease], self: MemoryBackend, request: SessionRequest) -> Lease:
        if request.supersedes:
            with self._store.call(self._namespace) as space:
                space.end(request.supersedes)
        return original(self, request)

    patch.wrap(MemoryBackend, "open_session", open_session)


@mutant("replaces-before-it-looks-at-the-ttl", breaks="BEAT-15")
def replaces_before_it_looks_at_the_ttl(patch: Patch) -> None:
    """A request to replace whose TTL is refused has ended the live session already."""

    def open_session(original: Callable[..., Lease], self: MemoryBackend, request: SessionRequest) -> Lease:
        with self._store.call(self._namespace) as space:
            for one in list(space.sessions.values()):
                if request.replace and one.member_id == request.member_id and one.incarnation != request.incarnation:
                    space.end(one.incarnation)
        return original(self, request)

    patch.wrap(MemoryBackend, "open_session", open_session)


@mutant("reopens-with-twice-the-ttl", breaks="BEAT-12")
def reopens_with_twice_the_ttl(patch: Patch) -> None:
    """A session that reopens is given another TTL than the one that was asked for, as it could have been."""

    def open_session(original: Callable[..., Lease], self: MemoryBackend, request: SessionRequest) -> Lease:
        return original(self, replace(request, ttl=2 * request.ttl) if request.supersedes else request)

    patch.wrap(MemoryBackend, "open_session", open_session)


@mutant("conflicts-say-the-askers-ttl", breaks="BEAT-36")
def conflicts_say_the_askers_ttl(patch: Patch) -> None:
    """A conflict gives the asker's own TTL for the time in which the other session can lapse."""

    def open_session(original: Callable[..., Lease], self: MemoryBackend, request: SessionRequest) -> Lease:
        try:
            return original(self, request)
        except Conflict as error:
            raise Conflict(request.member_id, incarnation=error.incarnation, retry_after=request.ttl) from None

    patch.wrap(MemoryBackend, "open_session", open_session)


@mutant("retries-heartbeats-late", breaks="BEAT-28")
def retries_heartbeats_late(patch: Patch) -> None:
    """After a heartbeat that failed the next one is sent half a TTL later."""

    def failed(original: Callable[..., None], self: Keeper, incarnation: Incarnation, error: Exception) -> None:
        original(self, incarnation, error)
        incarnation.next_beat = self.clock.now() + incarnation.timing.ttl / 2

    patch.wrap(Keeper, "_beat_failed", failed)


@mutant("doubles-the-request-timeout", breaks="BEAT-37")
def doubles_the_request_timeout(patch: Patch) -> None:
    """Requests get twice the timeout that was set, for which the TTL has no room."""
    usual = Timing.plan

    def plan(**given: float | None) -> Timing:
        timing = usual(**given)  # type: ignore[arg-type]
        return replace(timing, request_timeout=2 * timing.request_timeout)

    patch(Timing, "plan", staticmethod(plan))


@mutant("stops-rejoining-at-the-first-failure", breaks="BEAT-38")
def stops_rejoining_at_the_first_failure(patch: Patch) -> None:
    """The first group that cannot be rejoined keeps those after it from being so, until it can."""

    def rejoin(self: Keeper, incarnation: Incarnation) -> None:
        if not incarnation.rejoin_due or not self._membership.acquire(blocking=False):
            return
        try:
            for group, value in self.wanted.items():
                if not incarnation.has_place(group):
                    self.join(incarnation, group, value, incarnation.timing.request_timeout)
            incarnation.rejoin_due = False
        finally:
            self._membership.release()

    patch(Keeper, "_rejoin", rejoin)


@mutant("forgets-what-was-updated-in-an-outage", breaks="BEAT-38")
def forgets_what_was_updated_in_an_outage(patch: Patch) -> None:
    """A group is rejoined without what was updated while the session was suspended."""

    def update(original: Callable[..., object], self: Group, metadata: object) -> object:
        before, state = self._keeper.wanted.get(self.name), self._keeper.state
        answer = original(self, metadata)
        if before is not None and state is State.SUSPENDED:
            self._keeper.wanted[self.name] = before
        return answer

    patch.wrap(Group, "update", update)


# Opening -----------------------------------------------------------------------------------------------------


@mutant("does-not-renew-at-a-repetition", breaks="BEAT-13")
def does_not_renew_at_a_repetition(patch: Patch) -> None:
    """A repeated request to open finds its session and returns the lease, without renewing it."""

    def open_session(original: Callable[..., Lease], self: MemoryBackend, request: SessionRequest) -> Lease:
        with self._store.call(self._namespace) as space:
            if request.incarnation in space.sessions:
                return Lease(request.incarnation, request.member_id, request.ttl)
        return original(self, request)

    patch.wrap(MemoryBackend, "open_session", open_session)


@mutant("lets-the-superseded-live", breaks="BEAT-14")
def lets_the_superseded_live(patch: Patch) -> None:
    """The session that is superseded is not in the way of the new one, but ends only with its lease."""

    def open_session(original: Callable[..., Lease], self: MemoryBackend, request: SessionRequest) -> Lease:
        if request.supersedes is None:
            return original(self, request)
        with self._store.call(self._namespace) as space:
            until = self._store.clock.now() + request.ttl
            space.sessions[request.incarnation] = _Session(request.incarnation, request.member_id, request.ttl, until)
            return Lease(request.incarnation, request.member_id, request.ttl)

    patch.wrap(MemoryBackend, "open_session", open_session)


# Ending ------------------------------------------------------------------------------------------------------


@mutant("a-heartbeat-revives-the-dead", breaks=("BEAT-2", "BEAT-4"), like="hazard: a key set by every heartbeat")
def a_heartbeat_revives_the_dead(patch: Patch) -> None:
    """A heartbeat writes the session's key whether or not it is there, so one that comes too late opens it anew."""

    def heartbeat(original: Callable[..., Beat], self: MemoryBackend, lease: Lease, holdings: Holdings) -> Beat:
        with self._store.call(self._namespace) as space:
            if lease.incarnation not in space.sessions:
                space.sessions[lease.incarnation] = _Session(
                    lease.incarnation, lease.member_id, lease.ttl, float("inf")
                )
        return original(self, lease, holdings)

    patch.wrap(MemoryBackend, "heartbeat", heartbeat)


@mutant("closes-with-the-lease", breaks=("BEAT-7", "BEAT-18"), like="hazard: a client that only disconnects")
def closes_with_the_lease(patch: Patch) -> None:
    """Closing a session disconnects, and leaves its end to the lease."""

    def close_session(self: MemoryBackend, lease: Lease) -> SessionClosed:
        with self._store.call(self._namespace) as space:
            return SessionClosed(lease.incarnation in space.sessions)

    patch(MemoryBackend, "close_session", close_session)


@mutant("closes-in-its-own-time", breaks="BEAT-7", like="peers 8")
def closes_in_its_own_time(patch: Patch) -> None:
    """The request that closes the session has a timeout of its own, whatever time was left for closing."""

    def release(original: Callable[..., None], self: Keeper, lease: Lease, *, timeout: float) -> None:
        original(self, lease, timeout=timeout + 6 * lease.ttl)

    patch.wrap(Keeper, "_release", release)


@mutant("leaves-its-candidates-behind", breaks="BEAT-20", like="hazard: an orphaned node in the queue")
def leaves_its_candidates_behind(patch: Patch) -> None:
    """A session that ends leaves its candidacies in the queue, where everybody behind them waits for ever."""

    def end(original: Callable[..., bool], self: _Space, incarnation: str) -> bool:
        queues = {name: list(place.queue) for name, place in self.elections.items()}
        ended = original(self, incarnation)
        for name, queue in queues.items():
            self.elections[name].queue = queue
        return ended

    def campaign(
        original: Callable[..., Won | Waiting], self: MemoryBackend, lease: Lease, *rest: object
    ) -> Won | Waiting:
        try:
            return original(self, lease, *rest)
        except KeyError:  # the one at the head has no session, and so no time left
            return Waiting(Vacant())

    patch.wrap(_Space, "end", end)
    patch.wrap(MemoryBackend, "campaign", campaign)


@mutant("asks-nobody-who-is-dead", breaks="BEAT-17", of="memory-cas")
def asks_nobody_who_is_dead(patch: Patch) -> None:
    """Joins, campaigns and updates do not look at the session's own record, which says that it is closed."""

    def is_live(self: Base, lease: Lease, found: Snapshot) -> bool:
        return lease.incarnation in self._own and bool(found.asked)

    patch(Base, "_is_live", is_live)


@mutant("says-twice-that-it-let-go", breaks="BEAT-22")
def says_twice_that_it_let_go(patch: Patch) -> None:
    """Dropping a session says each time that there was something to let go of."""

    def drop_session(original: Callable[..., SessionClosed], *arguments: object) -> SessionClosed:
        original(*arguments)
        return SessionClosed(was_open=True)

    patch.wrap(MemoryBackend, "drop_session", drop_session)


@mutant("a-child-ends-its-parent", breaks="BEAT-21", of="local", like="hazard: fork() and file locks")
def a_child_ends_its_parent(patch: Patch) -> None:
    """Whoever lets go of the lock file unlocks it first: in a forked child that is its parent's lock."""

    def close(original: Callable[..., None], self: LockFile) -> None:
        if self._fd >= 0:
            everything = _FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, 0, 0, 0)
            fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, everything)
        original(self)

    patch.wrap(LockFile, "close", close)


@mutant("reaps-by-member-id", breaks="BEAT-9")
def reaps_by_member_id(patch: Patch) -> None:
    """Reaping ends whatever session has the member id, be it a later one."""

    def reap_session(self: MemoryBackend, ticket: ReapTicket) -> Reaped:
        with self._store.call(self._namespace) as space:
            found = [one.incarnation for one in space.sessions.values() if one.member_id == ticket.member_id]
            return Reaped([space.end(incarnation) for incarnation in found] != [])

    patch(MemoryBackend, "reap_session", reap_session)


@mutant("reaps-the-seats-alone", breaks="BEAT-9")
def reaps_the_seats_alone(patch: Patch) -> None:
    """Reaping frees the seats, and leaves the memberships to the lease."""

    def reap_session(self: MemoryBackend, ticket: ReapTicket) -> Reaped:
        with self._store.call(self._namespace) as space:
            for election, place in space.elections.items():
                if place.holder is not None and place.holder.incarnation == ticket.incarnation:
                    space.forget(election, place.holder)
            return Reaped(ticket.incarnation in space.sessions)

    patch(MemoryBackend, "reap_session", reap_session)


# What a heartbeat says and does ------------------------------------------------------------------------------


def _wrap_beats(patch: Patch, around: Callable[[MemoryBackend, Lease, Holdings, Beat], Beat]) -> None:
    def heartbeat(original: Callable[..., Beat], self: MemoryBackend, lease: Lease, holdings: Holdings) -> Beat:
        return around(self, lease, holdings, original(self, lease, holdings))

    patch.wrap(MemoryBackend, "heartbeat", heartbeat)


@mutant("verifies-no-seats", breaks=("BEAT-10", "BEAT-23", "BEAT-24", "BEAT-26"), like="hazard: an evicted seat")
def verifies_no_seats(patch: Patch) -> None:
    """A heartbeat renews the session and looks at its memberships, and never at the seats."""

    def around(_self: MemoryBackend, _lease: Lease, _holdings: Holdings, beat: Beat) -> Beat:
        return replace(beat, lost=tuple(item for item in beat.lost if isinstance(item, Membership)))

    _wrap_beats(patch, around)


@mutant("verifies-the-first-page", breaks="BEAT-23")
def verifies_the_first_page(patch: Patch) -> None:
    """A heartbeat verifies the first few holdings of each kind, as many as fit into one request."""

    def around(_self: MemoryBackend, _lease: Lease, holdings: Holdings, beat: Beat) -> Beat:
        page = {*holdings.seats[:5], *holdings.memberships[:5]}
        return replace(beat, lost=tuple(item for item in beat.lost if item in page))

    _wrap_beats(patch, around)


@mutant("verifies-the-holder-alone", breaks="BEAT-24")
def verifies_the_holder_alone(patch: Patch) -> None:
    """A heartbeat takes a seat for held if the session has it, under whatever token."""

    def around(self: MemoryBackend, lease: Lease, _holdings: Holdings, beat: Beat) -> Beat:
        elections = self._store.spaces[self._namespace].elections
        holders = {name: place.holder.incarnation for name, place in elections.items() if place.holder is not None}
        lost = (
            item for item in beat.lost if not isinstance(item, Seat) or holders.get(item.election) != lease.incarnation
        )
        return replace(beat, lost=tuple(lost))

    _wrap_beats(patch, around)


@mutant("takes-the-newer-for-abandoned", breaks="BEAT-25")
def takes_the_newer_for_abandoned(patch: Patch) -> None:
    """A heartbeat removes all that it does not list, also what was asked for after it was sent."""

    def heartbeat(original: Callable[..., Beat], self: MemoryBackend, lease: Lease, holdings: Holdings) -> Beat:
        return original(self, lease, replace(holdings, newest_attempt=1 << 62))

    patch.wrap(MemoryBackend, "heartbeat", heartbeat)


@mutant("a-heartbeat-mends-memberships", breaks="BEAT-26")
def a_heartbeat_mends_memberships(patch: Patch) -> None:
    """A heartbeat puts back memberships that the store has lost, without the value that it does not know."""

    def around(self: MemoryBackend, lease: Lease, _holdings: Holdings, beat: Beat) -> Beat:
        space = self._store.spaces[self._namespace]
        for item in beat.lost:
            if isinstance(item, Membership):
                space.groups.setdefault(item.group, {})[lease.incarnation] = _Member(item.attempt, b"1{}")
        return beat

    _wrap_beats(patch, around)


@mutant("a-heartbeat-takes-free-seats", breaks="BEAT-26")
def a_heartbeat_takes_free_seats(patch: Patch) -> None:
    """A heartbeat lets a candidate have its seat where that is free."""

    def around(self: MemoryBackend, lease: Lease, holdings: Holdings, beat: Beat) -> Beat:
        for candidacy in holdings.candidacies:
            self.campaign(lease, candidacy.election, candidacy.attempt, b"")
        return beat

    _wrap_beats(patch, around)


# The core's part ---------------------------------------------------------------------------------------------


@mutant("keeps-seats-that-are-gone", breaks="BEAT-10")
def keeps_seats_that_are_gone(patch: Patch) -> None:
    """The core is told of lost seats, and forgets memberships alone."""

    def take_lost(
        original: Callable[..., list[object]], self: Incarnation, lost: tuple[Seat | Membership, ...]
    ) -> list[object]:
        return original(self, [item for item in lost if isinstance(item, Membership)])

    patch.wrap(Incarnation, "take_lost", take_lost)


@mutant("rejoins-as-at-first", breaks="BEAT-8")
def rejoins_as_at_first(patch: Patch) -> None:
    """A reopened session joins its groups with the metadata of their joins, and not with that of later updates."""

    def update(original: Callable[..., bool], self: Group, metadata: dict[str, object]) -> bool:
        before = self._keeper.wanted.get(self.name)
        updated = original(self, metadata)
        if before is not None:
            self._keeper.wanted[self.name] = before
        return updated

    patch.wrap(Group, "update", update)


@mutant("rejoins-what-it-left", breaks="BEAT-8")
def rejoins_what_it_left(patch: Patch) -> None:
    """A group that was left is still wanted, and joined again after a reopening."""

    def leave(original: Callable[..., bool], self: Group) -> bool:
        before = self._keeper.wanted.get(self.name)
        left = original(self)
        if before is not None:
            self._keeper.wanted[self.name] = before
        return left

    patch.wrap(Group, "leave", leave)


@mutant("watches-when-closed", breaks="BEAT-27")
def watches_when_closed(patch: Patch) -> None:
    """A watch of a closed session is silently empty, as if nothing ever changed."""

    def watch(self: Group) -> GroupWatch:
        return GroupWatch(self._keeper, self.name)

    patch(Group, "watch", watch)


@mutant("one-lost-answer-ends-all", breaks="BEAT-28", like="hazard: transient errors")
def one_lost_answer_ends_all(patch: Patch) -> None:
    """A heartbeat that failed once ends the session, however much of its lease is left."""

    def beat_failed(original: Callable[..., None], self: Keeper, incarnation: Incarnation, error: Exception) -> None:
        original(self, incarnation, error)
        self.lose(incarnation, str(error))

    patch.wrap(Keeper, "_beat_failed", beat_failed)


@mutant("shows-the-last-view", breaks="BEAT-29")
def shows_the_last_view(patch: Patch) -> None:
    """Where the server does not answer, the members are those that it named last."""

    def members(original: Callable[..., View], self: Group) -> View:
        try:
            views[self._keeper, self.name] = original(self)
        except Unavailable:
            if (self._keeper, self.name) not in views:
                raise
        return views[self._keeper, self.name]

    views: dict[tuple[Keeper, str], View] = {}
    patch.wrap(Group, "members", members)


@mutant("asks-for-each-seat", breaks="BEAT-30", like="hazard: tooz, a request for each lock")
def asks_for_each_seat(patch: Patch) -> None:
    """A heartbeat renews the session, and then asks for each seat by itself."""

    def beat(original: Callable[..., None], self: Keeper, incarnation: Incarnation) -> None:
        original(self, incarnation)
        for seat in incarnation.holdings().seats:
            self.backend.read_leader(incarnation.lease, seat.election, timeout=incarnation.timing.request_timeout)

    patch.wrap(Keeper, "_beat", beat)


@mutant("one-connection-for-all", breaks="BEAT-19", like="hazard: heartbeat thread starved")
def one_connection_for_all(patch: Patch) -> None:
    """All requests of a session share one connection, so that a heartbeat waits for the answer to a view."""

    def call(original: Callable[..., object], self: Backend, hook: str, /, **arguments: object) -> object:
        if hook not in {"heartbeat", "read_group"}:
            return original(self, hook, **arguments)
        with connections.setdefault(id(self), threading.Lock()):
            return original(self, hook, **arguments)

    connections: dict[int, threading.Lock] = {}
    patch.wrap(Backend, "_call", call)
