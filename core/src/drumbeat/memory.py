"""`memory://NAME`: a store inside this process, and the reference model of the contract.

It is written to be obviously right rather than fast: plain dicts under one lock, and an oracle for randomised tests.
Sessions of one process meet in the store that their URLs name (`memory://` names the one called "default"). The
clock of the sessions is the server's clock, so a test that moves it by hand decides when a lease runs out.
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING, ClassVar, Final

from drumbeat._clock import SystemClock
from drumbeat._errors import ConfigurationError, Conflict, SessionLost
from drumbeat.hookspecs import (
    BackendConfig,
    BackendProfile,
    Beat,
    Bound,
    Cancel,
    CandidacySubject,
    Capability,
    GroupRecord,
    GroupSubject,
    Holdings,
    Joined,
    LeaderRecord,
    LeaderSubject,
    Lease,
    Left,
    Limits,
    MemberRecord,
    Membership,
    Notify,
    Proclaimed,
    Reaped,
    ReapTicket,
    Resigned,
    Seat,
    SessionClosed,
    SessionRequest,
    Subject,
    Updated,
    Vacant,
    Waiting,
    Withdrawn,
    Won,
    hookimpl,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from drumbeat._clock import Clock

__all__ = ["MemoryBackend"]

DEFAULT_NAME: Final = "default"

PROFILE: Final = BackendProfile(
    server="memory",
    capabilities=frozenset({Capability.PUSH_WATCH, Capability.FIFO_CANDIDATES, Capability.REAPING}),
    limits=Limits(min_ttl=0.01, max_ttl=86_400.0, value_bytes=1 << 20, poll_interval=1.0),
    # A lease ends exactly one TTL after the last heartbeat, and a waiting candidate sleeps until that moment; the
    # constant is for a busy machine.
    failover=Bound(1.0, 0.5),
    # Nobody reads a dead member after one TTL. A watcher in a store in which nobody calls polls once a second.
    eviction=Bound(1.0, 1.5),
)


@dataclass(slots=True)
class _Session:
    incarnation: str
    member_id: str
    ttl: float
    deadline: float


@dataclass(frozen=True, slots=True)
class _Candidate:
    incarnation: str
    attempt: int


@dataclass(slots=True)
class _Election:
    #: Who wants the seat, in the order in which they came; the holder is not among them.
    queue: list[_Candidate] = field(default_factory=list)
    holder: _Candidate | None = None
    value: bytes = b""
    #: The token of the newest term; it stays when the term is over.
    token: int = 0

    def may_win(self, candidate: _Candidate) -> bool:
        return self.holder is None and (not self.queue or self.queue[0] == candidate)

    def forget(self, candidate: _Candidate) -> bool:
        known = candidate == self.holder or candidate in self.queue
        self.queue = [other for other in self.queue if other != candidate]
        self.holder = None if candidate == self.holder else self.holder
        return known

    def holds(self, lease: Lease, seat: Seat) -> bool:
        return (_Candidate(lease.incarnation, seat.attempt), seat.token) == (self.holder, self.token)


@dataclass(frozen=True, slots=True)
class _Member:
    attempt: int
    value: bytes


@dataclass(frozen=True, slots=True)
class _Watch:
    incarnation: str
    subject: Subject
    notify: Notify


@dataclass(slots=True)
class _Space:
    """All that one namespace holds."""

    sessions: dict[str, _Session] = field(default_factory=dict)
    groups: dict[str, dict[str, _Member]] = field(default_factory=dict)
    elections: dict[str, _Election] = field(default_factory=dict)
    watches: dict[int, _Watch] = field(default_factory=dict)
    changed: set[GroupSubject | LeaderSubject] = field(default_factory=set)

    def live(self, lease: Lease) -> _Session:
        session = self.sessions.get(lease.incarnation)
        if session is None:
            raise SessionLost(f"the memory store has no session {lease.incarnation} of {lease.member_id!r}")
        return session

    def sweep(self, now: float) -> None:
        """End the sessions whose TTL has passed since their last heartbeat."""
        for session in [session for session in self.sessions.values() if session.deadline <= now]:
            self.end(session.incarnation)

    def end(self, incarnation: str) -> bool:
        """End a session with all that it holds; return whether there was one."""
        if self.sessions.pop(incarnation, None) is None:
            return False
        for group in list(self.groups):
            self.remove_member(group, incarnation)
        for election, place in self.elections.items():
            for candidate in [*place.queue, place.holder]:
                if candidate is not None and candidate.incarnation == incarnation:
                    self.forget(election, candidate)
        for number, watch in list(self.watches.items()):
            if watch.incarnation == incarnation:
                self.watches.pop(number, None)
        return True

    def remove_member(self, group: str, incarnation: str) -> bool:
        members = self.groups.get(group, {})
        if members.pop(incarnation, None) is None:
            return False
        if not members:
            del self.groups[group]
        self.changed.add(GroupSubject(group))
        return True

    def forget(self, election: str, candidate: _Candidate) -> bool:
        place = self.elections.get(election)
        if place is None or not place.forget(candidate):
            return False
        self.changed.add(LeaderSubject(election))
        return True

    def take_hints(self) -> list[Notify]:
        """Return whom to tell of the changes since the last time."""
        changed, self.changed = self.changed, set()
        return [watch.notify for watch in list(self.watches.values()) if self._concerns(watch, changed)]

    def _concerns(self, watch: _Watch, changed: set[GroupSubject | LeaderSubject]) -> bool:
        subject = watch.subject
        if not isinstance(subject, CandidacySubject):
            return subject in changed
        if LeaderSubject(subject.election) not in changed:
            return False
        return self.elections[subject.election].may_win(_Candidate(watch.incarnation, subject.attempt))


@dataclass(slots=True)
class _Store:
    """One simulated server."""

    clock: Clock
    spaces: dict[str, _Space] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    watch_numbers: Iterator[int] = field(default_factory=count)

    @contextmanager
    def call(self, namespace: str) -> Iterator[_Space]:
        """Give a namespace to one caller, without the sessions that are over; tell watchers afterwards."""
        hints: list[Notify] = []
        try:
            with self.lock:
                space = self.spaces.setdefault(namespace, _Space())
                space.sweep(self.clock.now())
                try:
                    yield space
                finally:
                    hints = space.take_hints()
        finally:
            for notify in hints:
                notify()


#: By process id and name: a forked child starts with empty stores, and never waits for a lock that was held
#: while it was made.
_stores: dict[tuple[int, str], _Store] = {}


class MemoryBackend:
    """A store in this process's memory, shared by every session whose URL has the same name.

    It keeps every promise of `drumbeat.hookspecs`, is lost with the process, and has nothing that can fail. A
    session that is over is noticed when the next call arrives, of whichever session; nothing runs in between.
    """

    spec_version: ClassVar[int] = 1
    options: ClassVar[Mapping[str, str]] = {}

    def __init__(self, config: BackendConfig) -> None:
        self._name = _store_name(config)
        self._namespace = config.namespace
        self._store = _stores.setdefault((os.getpid(), self._name), _Store(config.clock))
        self._require_clock(config.clock)

    @classmethod
    def forget_store(cls, name: str = DEFAULT_NAME) -> bool:
        """Empty the store `memory://NAME` for sessions that are yet to come; return whether there was one.

        For tests. Sessions that are connected already keep the old store among themselves.
        """
        return _stores.pop((os.getpid(), name), None) is not None

    def _require_clock(self, clock: Clock) -> None:
        shared = self._store.clock
        if clock is shared or (isinstance(clock, SystemClock) and isinstance(shared, SystemClock)):
            return
        raise ConfigurationError(
            f"memory://{self._name} already runs on another clock, and one store has one time; give every session "
            "the same clock, use another name, or call MemoryBackend.forget_store(name) between tests"
        )

    @hookimpl
    def describe_backend(self) -> BackendProfile:
        """Return what this store claims."""
        return replace(PROFILE, server=f"memory store {self._name!r} of process {os.getpid()}")

    @hookimpl
    def open_session(self, request: SessionRequest) -> Lease:
        """Open the session, or renew it if the request is repeated."""
        limits = PROFILE.limits
        if not limits.min_ttl <= request.ttl <= limits.max_ttl:
            raise ConfigurationError(
                f"a TTL of {request.ttl:g} s is outside what memory:// grants: "
                f"{limits.min_ttl:g} to {limits.max_ttl:g} s"
            )
        with self._store.call(self._namespace) as space:
            now = self._store.clock.now()
            if request.supersedes is not None:
                space.end(request.supersedes)
            for other in list(space.sessions.values()):
                if other.member_id != request.member_id or other.incarnation == request.incarnation:
                    continue
                if not request.replace:
                    left = other.deadline - now
                    raise Conflict(request.member_id, incarnation=other.incarnation, retry_after=left)
                space.end(other.incarnation)
            space.sessions[request.incarnation] = _Session(
                request.incarnation, request.member_id, request.ttl, now + request.ttl
            )
            return Lease(request.incarnation, request.member_id, request.ttl)

    @hookimpl
    def heartbeat(self, lease: Lease, holdings: Holdings) -> Beat:
        """Renew the lease, and compare what the session believes with what the store holds."""
        with self._store.call(self._namespace) as space:
            session = space.live(lease)
            session.deadline = self._store.clock.now() + session.ttl
            lost_seats = [seat for seat in holdings.seats if not _holds(space, lease, seat)]
            lost_places = [place for place in holdings.memberships if not _is_member(space, lease, place, holdings)]
            _remove_abandoned(space, lease, holdings)
            return Beat(lease, (*lost_seats, *lost_places))

    @hookimpl
    def close_session(self, lease: Lease) -> SessionClosed:
        """End the session and wake who waited for it."""
        with self._store.call(self._namespace) as space:
            return SessionClosed(space.end(lease.incarnation))

    @hookimpl
    def drop_session(self, lease: Lease, forked: bool) -> SessionClosed:
        """Forget the session's watches; takes no lock, since a fork may have frozen it."""
        if forked:
            return SessionClosed(was_open=False)
        watches = self._store.spaces.setdefault(self._namespace, _Space()).watches
        numbers = [number for number, watch in list(watches.items()) if watch.incarnation == lease.incarnation]
        for number in numbers:
            watches.pop(number, None)
        return SessionClosed(bool(numbers))

    @hookimpl
    def reap_session(self, ticket: ReapTicket) -> Reaped:
        """End exactly the incarnation of the ticket."""
        with self._store.call(self._namespace) as space:
            return Reaped(space.end(ticket.incarnation))

    @hookimpl
    def join_group(self, lease: Lease, group: str, attempt: int, value: bytes) -> Joined:
        """Add the session to the group, or replace its value and attempt."""
        with self._store.call(self._namespace) as space:
            space.live(lease)
            members = space.groups.setdefault(group, {})
            was_member = lease.incarnation in members
            members[lease.incarnation] = _Member(attempt, value)
            space.changed.add(GroupSubject(group))
            return Joined(was_member)

    @hookimpl
    def update_member(self, lease: Lease, group: str, value: bytes) -> Updated:
        """Replace the value of a member."""
        with self._store.call(self._namespace) as space:
            members = space.groups.get(group, {})
            member = members.get(lease.incarnation)
            if member is None:
                return Updated(was_member=False)
            members[lease.incarnation] = replace(member, value=value)
            space.changed.add(GroupSubject(group))
            return Updated(was_member=True)

    @hookimpl
    def leave_group(self, lease: Lease, group: str) -> Left:
        """Remove the session from the group."""
        with self._store.call(self._namespace) as space:
            return Left(space.remove_member(group, lease.incarnation))

    @hookimpl
    def read_group(self, group: str) -> GroupRecord:
        """Return the members of the group."""
        with self._store.call(self._namespace) as space:
            members = space.groups.get(group, {}).items()
            return GroupRecord(
                tuple(
                    MemberRecord(space.sessions[incarnation].member_id, incarnation, member.value)
                    for incarnation, member in members
                )
            )

    @hookimpl
    def list_groups(self) -> tuple[str, ...]:
        """Return the names of the groups that have members."""
        with self._store.call(self._namespace) as space:
            return tuple(space.groups)

    @hookimpl
    def campaign(self, lease: Lease, election: str, attempt: int, value: bytes) -> Won | Waiting:
        """Queue the attempt, and let it win if it stands first and the seat is free."""
        with self._store.call(self._namespace) as space:
            space.live(lease)
            place = space.elections.setdefault(election, _Election())
            me = _Candidate(lease.incarnation, attempt)
            if place.holder == me:
                return Won(Seat(election, attempt, place.token))
            if not place.may_win(me):
                if me not in place.queue:
                    place.queue.append(me)
                ahead = place.holder or place.queue[0]
                left = space.sessions[ahead.incarnation].deadline - self._store.clock.now()
                return Waiting(_leader(space, place), left)
            place.queue = place.queue[1:]
            place.holder, place.value, place.token = me, value, place.token + 1
            space.changed.add(LeaderSubject(election))
            return Won(Seat(election, attempt, place.token))

    @hookimpl
    def withdraw(self, lease: Lease, election: str, attempt: int) -> Withdrawn:
        """Take the attempt out of the queue or off the seat."""
        with self._store.call(self._namespace) as space:
            return Withdrawn(space.forget(election, _Candidate(lease.incarnation, attempt)))

    @hookimpl
    def resign(self, lease: Lease, seat: Seat) -> Resigned:
        """Free the seat if it is still this term's."""
        with self._store.call(self._namespace) as space:
            if not _holds(space, lease, seat):
                return Resigned(was_held=False)
            return Resigned(space.forget(seat.election, _Candidate(lease.incarnation, seat.attempt)))

    @hookimpl
    def proclaim(self, lease: Lease, seat: Seat, value: bytes) -> Proclaimed:
        """Replace the seat's value if it is still this term's."""
        with self._store.call(self._namespace) as space:
            if not _holds(space, lease, seat):
                return Proclaimed(was_held=False)
            space.elections[seat.election].value = value
            space.changed.add(LeaderSubject(seat.election))
            return Proclaimed(was_held=True)

    @hookimpl
    def read_leader(self, election: str) -> LeaderRecord | Vacant:
        """Return who holds the seat."""
        with self._store.call(self._namespace) as space:
            return _leader(space, space.elections.get(election, _Election()))

    @hookimpl
    def watch(self, lease: Lease, subject: Subject, notify: Notify) -> Cancel:
        """Remember whom to call; hints come on the thread that made the change, after its lock is released."""
        with self._store.call(self._namespace) as space:
            space.live(lease)
            number = next(self._store.watch_numbers)
            space.watches[number] = _Watch(lease.incarnation, subject, notify)

        def cancel() -> None:
            space.watches.pop(number, None)

        return cancel


def _store_name(config: BackendConfig) -> str:
    url = config.url
    plain = len(url.hosts) <= 1 and url.path in {"", "/"} and url.username is None and url.password is None
    name, port = url.hosts[0] if url.hosts else (DEFAULT_NAME, None)
    if not plain or port is not None:
        raise ConfigurationError(f"{url} is not a memory URL; write memory:// or memory://NAME")
    return name


def _holds(space: _Space, lease: Lease, seat: Seat) -> bool:
    return space.elections.get(seat.election, _Election()).holds(lease, seat)


def _is_member(space: _Space, lease: Lease, place: Membership, holdings: Holdings) -> bool:
    member = space.groups.get(place.group, {}).get(lease.incarnation)
    # A join that was sent after the holdings were listed has not lost the membership, but renewed it.
    return member is not None and (member.attempt == place.attempt or member.attempt > holdings.newest_attempt)


def _remove_abandoned(space: _Space, lease: Lease, holdings: Holdings) -> None:
    places = {(place.group, place.attempt) for place in holdings.memberships}
    for group, members in list(space.groups.items()):
        member = members.get(lease.incarnation)
        if member is not None and member.attempt <= holdings.newest_attempt and (group, member.attempt) not in places:
            space.remove_member(group, lease.incarnation)
    wanted = {(seat.election, seat.attempt) for seat in holdings.seats}
    wanted |= {(candidacy.election, candidacy.attempt) for candidacy in holdings.candidacies}
    for election, place in space.elections.items():
        for candidate in [*place.queue, place.holder]:
            if candidate is None or candidate.incarnation != lease.incarnation:
                continue
            if candidate.attempt <= holdings.newest_attempt and (election, candidate.attempt) not in wanted:
                space.forget(election, candidate)


def _leader(space: _Space, place: _Election) -> LeaderRecord | Vacant:
    if place.holder is None:
        return Vacant()
    holder = space.sessions[place.holder.incarnation]
    return LeaderRecord(
        member_id=holder.member_id,
        incarnation=holder.incarnation,
        token=place.token,
        value=place.value,
    )
