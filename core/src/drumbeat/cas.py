"""A complete backend from a store that can compare and set.

Give `CompareAndSetBackend` two methods, `read_many` and `compare_and_set`, and it keeps every promise of
`drumbeat.hookspecs`; `examples/cas_backend.py` does so in forty lines. `MemoryCasBackend` is its first user.

**Observation leases.** No clock but the session's own is used. A session raises a counter in its record at every
heartbeat. Another session that has seen the counter unchanged for the whole TTL that is written beside it (counted
from when its own read had returned, and 0.1 % more for clocks that run at different speeds) marks it dead, by
compare-and-set on the very version that it watched. Only then are its seats free: the heartbeat of a session that was
marked dead fails, since it expects the version before the mark. At each heartbeat, in the same round trip, a session
reads the records of those it shares a group with, of the groups and elections that it looked at last, and of all
that it holds itself.

**Empty stores.** A namespace has one birth record. Where it is missing, the store is new or has lost everything.
With `on_empty_store="wait"`, the default where Capability.VOLATILE is claimed, sessions are opened then and groups
joined, but no seat is granted until `longest_ttl` has passed; with "trust" seats are granted at once. A session that
finds another birth record than the one it was opened under is lost.
"""

from __future__ import annotations

import os
import threading
import uuid
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING, Final

from drumbeat._cas.base import CasBase, Own, garbage_after, what_became_of
from drumbeat._cas.call import Call, Snapshot
from drumbeat._cas.groups import Groups
from drumbeat._cas.records import Birth, Owner, Session, State
from drumbeat._cas.seats import Seats
from drumbeat._errors import BadData, ConfigurationError, Conflict, SessionLost, Unavailable
from drumbeat.hookspecs import (
    BackendProfile,
    Beat,
    Bound,
    Capability,
    Holdings,
    Lease,
    Membership,
    Reaped,
    ReapTicket,
    Seat,
    SessionClosed,
    SessionRequest,
    hookimpl,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence

    from drumbeat.hookspecs import BackendConfig

__all__ = ["CompareAndSetBackend", "MemoryCasBackend"]

CAPABILITIES: Final = frozenset(
    {Capability.REAPING, Capability.TOKENS_SURVIVE_RESTART, Capability.TOKENS_SURVIVE_DATA_LOSS}
)


class CompareAndSetBackend(Seats, Groups, CasBase):
    """The base of a backend over a store that has `read_many` and `compare_and_set`.

    A subclass must define these two, may define `swap_and_read`, `delete` and `loss_mark`, and sets `server`,
    `limits`, `extra_capabilities`, `longest_ttl` and, for URL options of its own, `options`. The methods are called
    from several threads at once, each with the seconds that it has; they raise Unavailable, never an error of a
    client library. Keys are ASCII without spaces, of at most 200 characters; values are ASCII without line breaks.

    It brings reaping and tokens that outlive the store's data (as long as the wall clocks of the sessions do not
    step back). It does not push and keeps no queue of candidates.
    """

    @hookimpl
    def describe_backend(self) -> BackendProfile:
        """Return what the store and this class claim together, without asking a server."""
        longest = self.limits.max_ttl if self._trusting else min(self.limits.max_ttl, self.longest_ttl)
        return BackendProfile(
            server=self.server,
            capabilities=CAPABILITIES | self.extra_capabilities,
            limits=replace(self.limits, max_ttl=longest),
            # A waiting candidate looks every poll_interval, so it has seen the dead leader's last counter one look
            # after it was written; 1.001 TTL later its next look marks it dead and wins. Each look is a request
            # or two, for which there are 5 % and a second.
            failover=Bound(1.05, 1.0 + 2 * self.limits.poll_interval),
            # With the default interval some session that beats sees a dead member's last counter at most TTL/4
            # after it was written, and its first heartbeat that comes 1.001 TTL later, again at most TTL/4, marks
            # it dead for everybody: 1.501. The rest is for requests. TTL is the longest one in the group.
            eviction=Bound(1.6, 1.0),
        )

    @hookimpl
    def open_session(self, request: SessionRequest, timeout: float) -> Lease:
        """Take the member id's record: in two round trips, or more in a new store or after a race."""
        call = Call(timeout)
        self._check_ttl(request.ttl, longest=self.limits.max_ttl)
        key = self._keys.session(request.member_id)
        while True:
            found = self._read(call, (self._keys.birth, key))
            birth = found.get(self._keys.birth, Birth) or self._create_birth(call, request.ttl, found)
            if birth is not None:
                self._check_ttl(request.ttl, longest=birth.longest_ttl)
                self._observe_birth(birth, self._clock.now())
                record = self._succeed(request, found)
                version = self._write_session(call, request.member_id, record, found.version(key))
                if version is not None:
                    owner = Owner(request.member_id, request.incarnation, request.ttl)
                    self._own[request.incarnation] = Own(owner, birth.epoch, (record, version))
                    return Lease(request.incarnation, request.member_id, request.ttl)
            call.lost_race()

    @hookimpl
    def heartbeat(self, lease: Lease, holdings: Holdings, timeout: float) -> Beat:
        """Raise the counter and read all that matters to the session; more only if something is to be removed."""
        call = Call(timeout)
        others = {owner for owner in self._groups.owners() | self._elections.owners() if owner != Owner.of(lease)}
        keys = (*self._keys_of_interest(lease, holdings), *(self._keys.session(other.member_id) for other in others))
        found = self._raise_counter(call, lease, keys)
        lost: list[Seat | Membership] = [*self._lost_seats(lease, holdings, found)]
        lost += self._lost_places(lease, holdings, found)
        # The heartbeat has succeeded; what cannot be tidied up now is tidied up at the next one.
        with suppress(Unavailable, BadData):
            self._vacate_abandoned(call, lease, holdings)
        with suppress(Unavailable, BadData):
            self._strike_abandoned(call, lease, holdings)
        with suppress(Unavailable):
            self._observe_others(call, others, found)
            self._look_at_rosters(call, holdings, found)
        return Beat(lease, tuple(lost))

    @hookimpl
    def close_session(self, lease: Lease, timeout: float) -> SessionClosed:
        """Write that the session is closed, which frees all that it holds at once."""
        return SessionClosed(self._end(Call(timeout), lease.member_id, lease.incarnation, state="closed"))

    @hookimpl
    def drop_session(self, lease: Lease, forked: bool) -> SessionClosed:  # noqa: ARG002 - nothing is shared here
        """Forget the session; a subclass whose client renews or shares something overrides this."""
        return SessionClosed(self._own.pop(lease.incarnation, None) is not None)

    @hookimpl
    def reap_session(self, ticket: ReapTicket, timeout: float) -> Reaped:
        """Mark exactly this incarnation dead."""
        return Reaped(self._end(Call(timeout), ticket.member_id, ticket.incarnation, state="dead"))

    # Opening and ending -------------------------------------------------------------------------------------

    def _check_ttl(self, ttl: float, *, longest: float) -> None:
        shortest = self.limits.min_ttl
        if not shortest <= ttl <= longest:
            raise ConfigurationError(
                f"a TTL of {ttl:g} s is outside what the namespace {self._keys.namespace!r} of this store allows: "
                f"{shortest:g} to {longest:g} s"
            )

    def _create_birth(self, call: Call, ttl: float, found: Snapshot) -> Birth | None:
        """Return the birth record that this call created, or None after a lost race."""
        if not self._trusting:
            self._check_ttl(ttl, longest=self.longest_ttl)
        birth = Birth(
            epoch=uuid.uuid4().hex,
            longest_ttl=max(self.longest_ttl, ttl),
            born=self._wall_micros(),
            settled=self._trusting,
            loss_mark=self._loss_mark(call),
        )
        written = self._write(call, self._keys.birth, birth, found.version(self._keys.birth))
        return None if written is None else birth

    def _succeed(self, request: SessionRequest, found: Snapshot) -> Session:
        """Return the record for a new session, or raise Conflict if the member id's old one may still live."""
        key = self._keys.session(request.member_id)
        old = found.get(key, Session)
        if old is None:
            return Session(incarnation=request.incarnation, ttl=request.ttl, previous=request.supersedes)
        if old.incarnation == request.incarnation:
            return replace(old, state="alive", beat=old.beat + 1)
        if old.state == "alive" and old.incarnation != request.supersedes and not request.replace:
            left = self._observations.time_left((key, old.incarnation), old.beat, needed=old.ttl, read_at=found.read_at)
            if left > 0:
                raise Conflict(request.member_id, incarnation=old.incarnation, retry_after=left)
        return Session(incarnation=request.incarnation, ttl=request.ttl, previous=old.incarnation)

    def _end(self, call: Call, member_id: str, incarnation: str, *, state: State) -> bool:
        key = self._keys.session(member_id)
        while True:
            found = self._read(call, (key,))
            record = found.get(key, Session)
            if record is None or not record.is_live(incarnation):
                return False
            ended = replace(record, state=state)
            if self._write_session(call, member_id, ended, found.version(key)) is not None:
                return True
            call.lost_race()

    # Heartbeats ---------------------------------------------------------------------------------------------

    def _keys_of_interest(self, lease: Lease, holdings: Holdings) -> Iterator[str]:
        yield from (self._keys.birth, self._keys.session(lease.member_id), self._keys.groups)
        yield from (self._keys.seat(seat.election) for seat in holdings.seats)
        for place in holdings.memberships:
            yield self._keys.value(place.group, lease.member_id)
            yield self._keys.roster(place.group)
        yield from (self._keys.roster(group) for group in self._groups.names())

    def _raise_counter(self, call: Call, lease: Lease, keys: Sequence[str]) -> Snapshot:
        """Renew the lease and read `keys`; raise SessionLost if the store does not know the session any more."""
        own = self._mine(lease)
        key = self._keys.session(lease.member_id)
        wanted = tuple(dict.fromkeys(keys))
        while True:
            old, version = own.known
            record = replace(old, beat=old.beat + 1)
            with call.requesting(writes=True) as timeout:
                new, values = self.swap_and_read(
                    key, record.encode(), version, wanted, expire=garbage_after(lease.ttl), timeout=timeout
                )
            found = Snapshot(values, self._clock.now(), frozenset(wanted))
            if new is not None:
                own.known = (record, new)
                self._require_epoch(own, found)
                return found
            own.known = self._recover(lease, found)
            call.lost_race()

    def _recover(self, lease: Lease, found: Snapshot) -> tuple[Session, Hashable]:
        """Return the own record as a heartbeat left it whose answer was lost."""
        key = self._keys.session(lease.member_id)
        record, version = found.get(key, Session), found.version(key)
        if record is None or version is None or not record.is_live(lease.incarnation):
            raise SessionLost(what_became_of(lease, record))
        return record, version

    def _observe_others(self, call: Call, others: Collection[Owner], found: Snapshot) -> None:
        """Look at the sessions behind all groups and seats of interest, so that silence is noticed in time."""
        for other in others:
            with suppress(BadData):
                self._until_gone(call, other, found)
        self._observations.forget_older_than(garbage_after(self.longest_ttl))


@dataclass(slots=True)
class _MemoryStore:
    values: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    versions: Iterator[int] = field(default_factory=count)
    lock: threading.Lock = field(default_factory=threading.Lock)


#: By process id and name, like the stores of `drumbeat.memory`.
_stores: dict[tuple[int, str], _MemoryStore] = {}


class MemoryCasBackend(CompareAndSetBackend):
    """`memory-cas://NAME`: a compare-and-set store in this process's memory, for tests of the class above."""

    server = "compare-and-set memory"

    def __init__(self, config: BackendConfig) -> None:
        super().__init__(config)
        self._name = config.url.hosts[0][0] if config.url.hosts else "default"
        self._store = _stores.setdefault((os.getpid(), self._name), _MemoryStore())

    @classmethod
    def wipe(cls, name: str = "default") -> None:
        """Empty the store under the feet of its sessions, as a restart of a volatile server does."""
        store = _stores.setdefault((os.getpid(), name), _MemoryStore())
        with store.lock:
            store.values.clear()

    def read_many(
        self,
        keys: Sequence[str],
        timeout: float,  # noqa: ARG002 - nothing here takes time
    ) -> Mapping[str, tuple[bytes, Hashable]]:
        """Return copies of what is there."""
        with self._store.lock:
            return {key: self._store.values[key] for key in keys if key in self._store.values}

    def compare_and_set(
        self,
        key: str,
        value: bytes,
        version: Hashable | None,
        *,
        expire: float | None = None,  # noqa: ARG002 - nothing here expires
        timeout: float,  # noqa: ARG002 - nothing here takes time
    ) -> Hashable | None:
        """Write if the version is still the expected one."""
        with self._store.lock:
            found = self._store.values.get(key)
            if (None if found is None else found[1]) != version:
                return None
            new = next(self._store.versions)
            self._store.values[key] = (value, new)
            return new

    def delete(
        self,
        key: str,
        version: Hashable,
        timeout: float,  # noqa: ARG002 - nothing here takes time
    ) -> bool:
        """Remove the key if the version is still the expected one."""
        with self._store.lock:
            found = self._store.values.get(key)
            if found is None or found[1] != version:
                return False
            del self._store.values[key]
            return True
