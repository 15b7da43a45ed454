"""What a session believes it holds, compared with the keys that hang on its lease."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from drumbeat.hookspecs import Membership, encode_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from drumbeat.hookspecs import Holdings, Seat
    from drumbeat_etcd._records import Keys

ATTEMPT: Final = re.compile("[0-9]{1,16}")


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
    def parse(cls, key: str, *, root: str, owner: str) -> Held | None:
        """Take apart a key below `root`; None for one that no session of `owner` would make."""
        if not key.startswith(root):
            return None
        match key.removeprefix(root).split("/"):
            case ["session" | "leader" as kind, name]:
                return cls(key, kind, name, 0)
            case ["member" | "candidate" as kind, name, incarnation, attempt] if (
                incarnation == owner and ATTEMPT.fullmatch(attempt)
            ):
                return cls(key, kind, name, int(attempt))
            case _:
                return None


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
        held = self._parse(found)
        newest = self.holdings.newest_attempt
        # A join that was sent after the holdings were listed has not lost the membership, but renewed it.
        renewed = {one.name for one in held if one.kind == "member" and one.attempt > newest}
        keys = {one.key for one in held}
        seats = [seat for seat in self.holdings.seats if not self.proofs(seat) <= keys]
        places = [
            place
            for place in self.holdings.memberships
            if not self.proofs(place) <= keys and encode_key(place.group) not in renewed
        ]
        return *seats, *places

    def abandoned(self, found: Iterable[str]) -> list[Held]:
        """Return the memberships, candidates and seats that nobody wants any more.

        A seat is told by its candidate's key; it is listed here only if somebody has deleted that.
        """
        held = self._parse(found)
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

    def _parse(self, found: Iterable[str]) -> list[Held]:
        """Take apart the keys on our lease; an operator may have put others there, which are not our concern."""
        parsed = (Held.parse(key, root=self.keys.root, owner=encode_key(self.incarnation)) for key in found)
        return [one for one in parsed if one is not None]
