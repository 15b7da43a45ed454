"""The two sides of a comparison, and what they must agree on."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import drumbeat
from drumbeat.hookspecs import (
    Beat,
    Candidacy,
    GroupRecord,
    Holdings,
    LeaderRecord,
    Lease,
    Membership,
    Seat,
    Waiting,
    Won,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from drumbeat._facade import Backend


class Tokens:
    """The fencing tokens of one side. The sides agree on their order, so a token is compared by its rank."""

    def __init__(self) -> None:
        self._minted: defaultdict[str, list[int]] = defaultdict(list)

    def mint(self, seat: Seat) -> None:
        """Take note of a win; a token that is new must be greater than all before it."""
        minted = self._minted[seat.election]
        if seat.token not in minted:
            assert seat.token > max(minted, default=0), f"{seat} was won after {minted}"
            minted.append(seat.token)

    def rank(self, election: str, token: int) -> int:
        """Return the number of a token's term."""
        minted = self._minted[election]
        assert token in minted, f"nobody has won {election!r} with {token}, but with {minted}"
        return minted.index(token)

    def token(self, election: str, rank: int) -> int:
        """Return the token of a term by its number."""
        return self._minted[election][rank]


@dataclass(eq=False, slots=True)
class Half:
    """What a process, or a session, has on one side."""

    backend: Backend
    tokens: Tokens
    lease: Lease = field(default=Lease("", "", 0.0))

    def seat(self, plain: Seat) -> Seat:
        """Return a seat, given with its rank, as this side knows it."""
        return replace(plain, token=self.tokens.token(plain.election, plain.token))

    def holdings(self, plain: Holdings) -> Holdings:
        """Return holdings, whose seats are given with their ranks, as this side knows them."""
        return replace(plain, seats=tuple(self.seat(seat) for seat in plain.seats))

    def answer(self, ask: Callable[[Half], object]) -> object:
        """Return what this side says; an error that a hook may raise is an answer."""
        try:
            answer = ask(self)
        except (drumbeat.Conflict, drumbeat.SessionLost) as error:
            return error
        if isinstance(answer, Won):
            self.tokens.mint(answer.seat)
        return answer

    def ranked(self, seat: Seat) -> Seat:
        """Return a seat of this side with its rank."""
        return replace(seat, token=self.tokens.rank(seat.election, seat.token))

    def plain(self, answer: object, *, election: str = "") -> object:  # noqa: C901, PLR0911 - one line an answer
        """Return what both sides must agree on: ranks for tokens, sets where the order is free."""
        match answer:
            case Seat():
                return self.ranked(answer)
            case LeaderRecord():
                return replace(answer, token=self.tokens.rank(election, answer.token))
            case Won(seat):
                return "won", self.plain(seat)
            case Waiting(holder):
                return "waiting", self.plain(holder, election=election)
            case Beat(lease, lost):
                return "renewed", lease.incarnation, frozenset(self.plain(item) for item in lost)
            case Lease(incarnation, member_id):
                return "opened", incarnation, member_id
            case GroupRecord(members):
                return frozenset(members)
            case tuple():
                return frozenset(answer)
            case drumbeat.Conflict():
                return "in the way", answer.member_id, answer.incarnation
            case drumbeat.SessionLost():
                return "lost"
        return answer


@dataclass(eq=False, slots=True)
class Process:
    """A process with its backend object on both sides, and the session that it has opened."""

    real: Half
    model: Half
    member_id: str
    opened: Opened | None = None


@dataclass(eq=False, slots=True)
class Opened:
    """One incarnation on both sides, and what it believes to hold; its seats have ranks in the place of tokens."""

    process: Process
    real: Half
    model: Half
    incarnation: str
    member_id: str
    ttl: float
    #: When the last heartbeat that was answered was sent.
    renewed: float
    #: Whether some answer has said that the session is over.
    over: bool = False
    newest: int = 0
    memberships: dict[str, int] = field(default_factory=dict)
    candidacies: list[Candidacy] = field(default_factory=list)
    seats: list[Seat] = field(default_factory=list)
    #: All seats that it has ever won, and its holdings as they were listed at earlier heartbeats.
    won: list[Seat] = field(default_factory=list)
    earlier: list[Holdings] = field(default_factory=list)

    def attempt(self) -> int:
        """Return the next attempt's number."""
        self.newest += 1
        return self.newest

    def attempts(self) -> list[Candidacy]:
        """Return the attempts that wait, and those that have won."""
        return [*self.candidacies, *(Candidacy(seat.election, seat.attempt) for seat in self.seats)]

    def holdings(self) -> Holdings:
        """Return what the session believes."""
        return Holdings(
            memberships=tuple(Membership(group, attempt) for group, attempt in self.memberships.items()),
            candidacies=tuple(self.candidacies),
            seats=tuple(self.seats),
            newest_attempt=self.newest,
        )

    def win(self, candidacy: Candidacy, seat: Seat) -> None:
        """Believe in a seat."""
        self.candidacies = [other for other in self.candidacies if other != candidacy]
        if seat not in self.seats:
            self.seats.append(seat)
            self.won.append(seat)

    def lose(self, lost: Collection[object]) -> None:
        """Stop believing in what a heartbeat's answer says is lost."""
        self.seats = [seat for seat in self.seats if seat not in lost]
        self.memberships = {
            group: attempt for group, attempt in self.memberships.items() if Membership(group, attempt) not in lost
        }

    def give_up(self, candidacy: Candidacy) -> None:
        """Stop believing in an attempt."""
        self.candidacies = [other for other in self.candidacies if other != candidacy]
        self.seats = [seat for seat in self.seats if Candidacy(seat.election, seat.attempt) != candidacy]
