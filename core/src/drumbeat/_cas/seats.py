"""Elections over compare-and-set: one record for each seat, taken, changed and vacated by its version."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from drumbeat._cas.base import Base
from drumbeat._cas.call import Call, Snapshot
from drumbeat._cas.records import Birth, Owner, SeatRecord, Session
from drumbeat.hookspecs import (
    Holdings,
    LeaderRecord,
    Lease,
    Proclaimed,
    Resigned,
    Seat,
    Vacant,
    Waiting,
    Withdrawn,
    Won,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


class Seats(Base):
    """The hooks for leaders."""

    def campaign(self, lease: Lease, election: str, attempt: int, *, value: bytes, timeout: float) -> Won | Waiting:
        """Take the seat if nobody living has it: one read, and one write to win."""
        call = Call(timeout)
        key = self._keys.seat(election)
        while True:
            found = self._read_live(call, lease, (key, *self._session_keys(election)))
            seat = found.get(key, SeatRecord)
            if seat is not None and seat.is_held_by(Owner.of(lease), attempt):
                return Won(Seat(election, attempt, seat.token))
            found = self._look_at_holder(call, election, seat, found)
            seat = seat or self._blank_seat(call, found)
            left = self._until_free(call, election, seat, found)
            if left > 0:
                return Waiting(seat.holder() or Vacant(), left)
            token = max(seat.token + 1, self._wall_micros())
            won = seat.won_by(Owner.of(lease), attempt, value=value, token=token)
            if self._try_to_win(call, lease, election, won, found):
                if not self._trusting:
                    # Had the store been emptied since the read above, somebody might have won before that.
                    self._read_live(call, lease, ())
                return Won(Seat(election, attempt, token))
            call.lost_race()

    def withdraw(self, lease: Lease, election: str, attempt: int, timeout: float) -> Withdrawn:
        """Vacate the seat if the attempt has it, and see to it that no write of the attempt is applied later."""
        return Withdrawn(self._vacate(Call(timeout), lease, election, attempt=attempt))

    def resign(self, lease: Lease, seat: Seat, timeout: float) -> Resigned:
        """Vacate the seat if it is still this term's."""
        return Resigned(self._vacate(Call(timeout), lease, seat.election, attempt=seat.attempt, token=seat.token))

    def proclaim(self, lease: Lease, seat: Seat, *, value: bytes, timeout: float) -> Proclaimed:
        """Replace the seat's value if it is still this term's, and the session lives."""
        call = Call(timeout)
        key = self._keys.seat(seat.election)
        while True:
            found = self._read(call, (self._keys.session(lease.member_id), key))
            record = found.get(key, SeatRecord)
            if record is None or not _is_term(record, lease, seat) or not self._is_live(lease, found):
                return Proclaimed(was_held=False)
            if self._write(call, key, record.with_value(value), found.version(key)) is not None:
                return Proclaimed(was_held=True)
            call.lost_race()

    def read_leader(self, election: str, timeout: float) -> LeaderRecord | Vacant:
        """Return the holder, unless its session is gone."""
        call = Call(timeout)
        key = self._keys.seat(election)
        found = self._read(call, (key, *self._session_keys(election)))
        seat = found.get(key, SeatRecord)
        found = self._look_at_holder(call, election, seat, found)
        if seat is None or seat.owner is None or self._until_gone(call, seat.owner, found) <= 0:
            return Vacant()
        return seat.holder() or Vacant()

    # Winning ------------------------------------------------------------------------------------------------

    def _session_keys(self, election: str) -> Iterator[str]:
        """Return the key of who held the seat when it was last seen, to save a second round trip."""
        return (self._keys.session(owner.member_id) for owner in self._elections.owners(election))

    def _look_at_holder(self, call: Call, election: str, seat: SeatRecord | None, found: Snapshot) -> Snapshot:
        """Return a snapshot with the record of the holder's session.

        What was read together need not be of one moment: the session of a holder that has just come back may have
        been read before, and the seat after it won. So only a living session is believed without a second look.
        """
        owner = None if seat is None else seat.owner
        self._elections.update(election, () if owner is None else (owner,))
        if owner is None:
            return found
        key = self._keys.session(owner.member_id)
        record = found.get(key, Session)
        if record is not None and record.is_live(owner.incarnation):
            return found
        return found.merged(self._read(call, (key,)))

    def _blank_seat(self, call: Call, found: Snapshot) -> SeatRecord:
        """Return what an absent seat stands for: one that was never held, if the store cannot have lost it."""
        if self._trusting:
            return SeatRecord()
        birth = found.get(self._keys.birth, Birth)
        mark = self._loss_mark(call)
        proven = birth is not None and mark is not None and mark == birth.loss_mark
        return SeatRecord(token=self._wall_micros(), proven=proven)

    def _until_free(self, call: Call, election: str, seat: SeatRecord, found: Snapshot) -> float:
        """Return the seconds until the seat may be taken if nothing changes; 0 if it may be now."""
        settled = self._until_settled(call, found)
        if not seat.proven:
            return max(settled, self._until_proven(call, election, seat, found))
        return settled if seat.owner is None else max(settled, self._until_gone(call, seat.owner, found))

    def _until_settled(self, call: Call, found: Snapshot) -> float:
        """Return the seconds until every session from before the store's birth is over."""
        birth = found.get(self._keys.birth, Birth)
        if birth is None or birth.settled:
            return 0.0
        left = 0.0 if self._trusting else self._observe_birth(birth, found.read_at)
        if left > 0:
            return left
        settled = replace(birth, settled=True)
        written = self._write(call, self._keys.birth, settled, found.version(self._keys.birth))
        return self._store.limits.poll_interval if written is None else 0.0

    def _until_proven(self, call: Call, election: str, seat: SeatRecord, found: Snapshot) -> float:
        """Return the seconds until a term that the store has forgotten must be over.

        Absence cannot be watched, since a seat might come and go between two looks; a record can.
        """
        birth = found.get(self._keys.birth, Birth)
        key = self._keys.seat(election)
        if found.version(key) is None and self._write(call, key, seat, None) is None:
            return self._store.limits.poll_interval
        return self._observations.time_left(
            key,
            seat.token,
            needed=self._store.longest_ttl if birth is None else birth.longest_ttl,
            read_at=self._clock.now(),
        )

    def _observe_birth(self, birth: Birth, read_at: float) -> float:
        return self._observations.time_left("birth", birth.epoch, needed=birth.longest_ttl, read_at=read_at)

    def _loss_mark(self, call: Call) -> str | None:
        with call.requesting(writes=False) as timeout:
            return self._store.loss_mark(timeout)

    def _wall_micros(self) -> int:
        return int(self._clock.wall() * 1_000_000)

    def _try_to_win(self, call: Call, lease: Lease, election: str, won: SeatRecord, found: Snapshot) -> bool:
        own = self._mine(lease)
        key = self._keys.seat(election)
        own.wins[election, won.attempt] = found.version(key)
        if self._write(call, key, won, found.version(key)) is not None:
            return True
        own.wins.pop((election, won.attempt), None)
        return False

    # Giving up ----------------------------------------------------------------------------------------------

    def _vacate(self, call: Call, lease: Lease, election: str, *, attempt: int, token: int | None = None) -> bool:
        """Free a seat from an attempt, now and for writes that may yet be applied; return whether it was held."""
        key = self._keys.seat(election)
        while True:
            found = self._read(call, (self._keys.session(lease.member_id), key))
            seat = found.get(key, SeatRecord)
            ours = seat is not None and seat.is_held_by(Owner.of(lease), attempt) and token in {None, seat.token}
            if not ours and not self._may_yet_win(lease, election, attempt, found):
                self._forget_win(lease, election, attempt)
                return False
            blank = seat or SeatRecord(token=self._wall_micros(), proven=self._trusting)
            changed = blank.vacated() if ours else blank.touched()
            if self._write(call, key, changed, found.version(key)) is not None:
                self._forget_win(lease, election, attempt)
                return ours and self._is_live(lease, found)
            call.lost_race()

    def _may_yet_win(self, lease: Lease, election: str, attempt: int, found: Snapshot) -> bool:
        own = self._own.get(lease.incarnation)
        if own is None or (election, attempt) not in own.wins:
            return False
        return own.wins[election, attempt] == found.version(self._keys.seat(election))

    def _forget_win(self, lease: Lease, election: str, attempt: int) -> None:
        own = self._own.get(lease.incarnation)
        if own is not None:
            own.wins.pop((election, attempt), None)

    # Heartbeats ---------------------------------------------------------------------------------------------

    def _lost_seats(self, lease: Lease, holdings: Holdings, found: Snapshot) -> Iterator[Seat]:
        for seat in holdings.seats:
            record = found.legible(self._keys.seat(seat.election), SeatRecord)
            if record is None or not _is_term(record, lease, seat):
                yield seat

    def _vacate_abandoned(self, call: Call, lease: Lease, holdings: Holdings) -> None:
        wanted = {(seat.election, seat.attempt) for seat in holdings.seats}
        wanted |= {(candidacy.election, candidacy.attempt) for candidacy in holdings.candidacies}
        for election, attempt in list(self._mine(lease).wins):
            if attempt <= holdings.newest_attempt and (election, attempt) not in wanted:
                self._vacate(call, lease, election, attempt=attempt)


def _is_term(record: SeatRecord, lease: Lease, seat: Seat) -> bool:
    return record.is_held_by(Owner.of(lease), seat.attempt) and record.token == seat.token
