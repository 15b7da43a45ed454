"""Sessions over compare-and-set: a record for each member id, whose counter is raised by heartbeats."""

from __future__ import annotations

import uuid
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from drumbeat._cas.base import Own, garbage_after, what_became_of
from drumbeat._cas.call import Call, Snapshot
from drumbeat._cas.groups import Groups
from drumbeat._cas.records import Birth, Owner, Session, State
from drumbeat._cas.seats import Seats
from drumbeat._dispatcher import logger
from drumbeat._errors import BadData, ConfigurationError, Conflict, SessionLost, Unavailable
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
)

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterator, Sequence


class Sessions(Seats, Groups):
    """The hooks for heartbeats, and through its bases all the others."""

    @property
    def max_ttl(self) -> float:
        """The longest TTL in seconds that a session may ask for."""
        longest = self._store.limits.max_ttl
        return longest if self._trusting else min(longest, self._store.longest_ttl)

    def open_session(self, request: SessionRequest, timeout: float) -> Lease:
        """Take the member id's record: in two round trips, or more in a new store or after a race."""
        call = Call(timeout)
        self._check_ttl(request.ttl, longest=self.max_ttl)
        key = self._keys.session(request.member_id)
        while True:
            found = self._read(call, (self._keys.birth, key))
            birth = found.get(self._keys.birth, Birth) or self._create_birth(call, request.ttl, found)
            if birth is not None:
                self._check_ttl(request.ttl, longest=birth.longest_ttl)
                self._warn_of_wait(birth)
                record = self._succeed(request, found)
                version = self._write_session(call, request.member_id, record, found.version(key))
                if version is not None:
                    owner = Owner(request.member_id, request.incarnation, request.ttl)
                    self._own[request.incarnation] = Own(owner, birth.epoch, (record, version))
                    return Lease(request.incarnation, request.member_id, request.ttl)
            call.lost_race()

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

    def close_session(self, lease: Lease, timeout: float) -> SessionClosed:
        """Write that the session is closed, which frees all that it holds at once."""
        return SessionClosed(self._end(Call(timeout), lease.member_id, lease.incarnation, state="closed"))

    def drop_session(self, lease: Lease) -> SessionClosed:
        """Forget the session."""
        return SessionClosed(self._own.pop(lease.incarnation, None) is not None)

    def reap_session(self, ticket: ReapTicket, timeout: float) -> Reaped:
        """Mark exactly this incarnation dead."""
        return Reaped(self._end(Call(timeout), ticket.member_id, ticket.incarnation, state="dead"))

    # Opening and ending -------------------------------------------------------------------------------------

    def _check_ttl(self, ttl: float, *, longest: float) -> None:
        shortest = self._store.limits.min_ttl
        if not shortest <= ttl <= longest:
            raise ConfigurationError(
                f"a TTL of {ttl:g} s is outside what the namespace {self._keys.namespace!r} of this store allows: "
                f"{shortest:g} to {longest:g} s"
            )

    def _warn_of_wait(self, birth: Birth) -> None:
        left = self._observe_birth(birth, self._clock.now())
        if left > 0 and not birth.settled and not self._trusting:
            logger().warning(
                "the namespace %r is new in this store, or its data was lost: no seat is granted for up to %.1f s, "
                "since holders from before may still be at work; on_empty_store='trust' says that there are none",
                self._keys.namespace,
                left,
            )

    def _create_birth(self, call: Call, ttl: float, found: Snapshot) -> Birth | None:
        """Return the birth record that this call created, or None after a lost race."""
        birth = Birth(
            epoch=uuid.uuid4().hex,
            longest_ttl=max(self._store.longest_ttl, ttl),
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
                new, values = self._store.swap_and_read(
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
        self._observations.forget_older_than(garbage_after(self._store.longest_ttl))
