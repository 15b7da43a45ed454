"""What a session believes it holds, compared with the keys that hang on its lease."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from drumbeat.hookspecs import Membership

if TYPE_CHECKING:
    from collections.abc import Iterable

    from drumbeat.hookspecs import Holdings, Seat
    from drumbeat_etcd._records import Keys


@dataclass(frozen=True, slots=True)
class Held:
    """A key on a session's lease, taken apart."""

    key: str
    #: "session", "member", "candidate" or "leader".
    kind: str
    #: Group or election, encoded.
    name: str
    #: 0 where the key does not tell.
    attempt: int

    @classmethod
    def parse(cls, key: str) -> Held:
        """Take apart one of our keys."""
        _, kind, name, *rest = key.split("/")
        return cls(key, kind, name, int(rest[1]) if rest else 0)


@dataclass(frozen=True, slots=True)
class Claims:
    """The holdings of one session at one heartbeat, in terms of keys."""

    keys: Keys
    incarnation: str
    holdings: Holdings

    def proofs(self, one: Seat | Membership) -> set[str]:
        """Return the keys without which a holding is lost."""
        if isinstance(one, Membership):
            return {self.keys.place(one.group, self.incarnation, one.attempt)}
        return {self.keys.leader(one.election), self.keys.candidate(one.election, self.incarnation, one.attempt)}

    def lost(self, found: Iterable[str]) -> tuple[Seat | Membership, ...]:
        """Return the holdings that these keys do not prove."""
        held = {key: Held.parse(key) for key in found}
        newest = self.holdings.newest_attempt
        # A join that was sent after the holdings were listed has not lost the membership, but renewed it.
        renewed = {one.name for one in held.values() if one.kind == "member" and one.attempt > newest}
        seats = [seat for seat in self.holdings.seats if not self.proofs(seat) <= held.keys()]
        places = [
            place
            for place in self.holdings.memberships
            if not self.proofs(place) <= held.keys() and Held.parse(*self.proofs(place)).name not in renewed
        ]
        return *seats, *places

    def abandoned(self, found: Iterable[str]) -> list[Held]:
        """Return the memberships, candidates and seats that nobody wants any more.

        A seat is told by its candidate's key; it is listed here only if somebody has deleted that.
        """
        held = [Held.parse(key) for key in found]
        every: tuple[Seat | Membership, ...] = (*self.holdings.seats, *self.holdings.memberships)
        queued = self.holdings.candidacies
        wanted = {key for one in every for key in self.proofs(one)}
        wanted |= {self.keys.candidate(one.election, self.incarnation, one.attempt) for one in queued}
        told = {one.name for one in held if one.kind == "candidate"}
        return [
            one
            for one in held
            if one.key not in wanted
            and one.attempt <= self.holdings.newest_attempt
            and (one.kind in {"member", "candidate"} or (one.kind == "leader" and one.name not in told))
        ]
