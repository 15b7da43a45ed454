"""A session that is played hook by hook, so that a test decides what is sent, and when."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Final, Protocol

from drumbeat import Conflict
from drumbeat.hookspecs import (
    Beat,
    Candidacy,
    Holdings,
    LeaderRecord,
    Lease,
    Membership,
    Seat,
    SessionRequest,
    Vacant,
    Waiting,
    Won,
)

if TYPE_CHECKING:
    from drumbeat._clock import Clock
    from drumbeat._facade import Backend

__all__ = ["TIMEOUT", "Actor", "Stage", "leader_id", "plugin_of"]

#: Seconds of real time that a hook gets.
TIMEOUT: Final = 5.0

#: Guarantees that need no disturbance run side by side, and two threads cannot be inside one generator.
_numbers = count(1)


class Stage(Protocol):
    """What an actor needs to know of the place where it plays."""

    ttl: float

    @property
    def clock(self) -> Clock:
        """The clock of its backends."""
        ...

    def namespace(self) -> str:
        """Return the namespace that actors are in where nothing else is said."""
        ...

    def actor(self, member_id: str) -> Actor:
        """Return another actor, which has opened its session."""
        ...

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        ...

    def enter(self, actor: Actor) -> None:
        """Let go of what the actor opens when the play is over."""
        ...


class Actor:
    """A session that does only what a test says, and remembers what it holds as the core would."""

    def __init__(self, stage: Stage, member_id: str, *, backend: Backend) -> None:
        self.stage = stage
        self.member_id = member_id
        self.backend = backend
        self.lease = Lease("", member_id, stage.ttl)
        self._opened: list[Lease] = []
        self.newest_attempt = 0
        self.places: dict[str, int] = {}
        self.candidacies: dict[str, int] = {}
        self.seats: dict[str, Seat] = {}
        stage.enter(self)

    def request(self, *, supersedes: str | None = None, replace: bool = False) -> SessionRequest:
        """Return the wish for a new incarnation."""
        return SessionRequest(
            incarnation=f"incarnation-{next(_numbers)}",
            member_id=self.member_id,
            ttl=self.stage.ttl,
            supersedes=supersedes,
            replace=replace,
        )

    def open(self, request: SessionRequest | None = None) -> Lease:
        """Open a new incarnation, which holds nothing."""
        self.lease = self.backend.open_session(request or self.request(), timeout=TIMEOUT)
        self._opened.append(self.lease)
        self.places, self.candidacies, self.seats = {}, {}, {}
        return self.lease

    def let_go(self) -> None:
        """Let go of every incarnation that it has opened, so that no client library keeps one alive."""
        for lease in self._opened:
            self.backend.drop_session(lease)

    def open_when_possible(self) -> float:
        """Open as a restarted process does, until the old one with its member id is dead; return the seconds."""
        started = self.stage.clock.now()
        request = self.request()
        while True:
            try:
                self.open(request)
            except Conflict:
                self.stage.wait(self.stage.ttl / 20)
            else:
                return self.stage.clock.now() - started

    def holdings(self) -> Holdings:
        """Return what the session believes it holds."""
        return Holdings(
            memberships=tuple(Membership(group, attempt) for group, attempt in self.places.items()),
            candidacies=tuple(Candidacy(election, attempt) for election, attempt in self.candidacies.items()),
            seats=tuple(self.seats.values()),
            newest_attempt=self.newest_attempt,
        )

    def beat(self) -> Beat:
        """Send a heartbeat."""
        return self.backend.heartbeat(self.lease, self.holdings(), timeout=TIMEOUT)

    def next_attempt(self) -> int:
        """Return a new attempt's number."""
        self.newest_attempt += 1
        return self.newest_attempt

    def join(self, group: str, value: bytes = b"value") -> bool:
        """Join a group; return whether the session had been a member."""
        self.places[group] = self.next_attempt()
        answer = self.backend.join_group(self.lease, group, attempt=self.places[group], value=value, timeout=TIMEOUT)
        return answer.was_member

    def update(self, group: str, value: bytes) -> bool:
        """Replace the own value; return whether the session is a member."""
        return self.backend.update_member(self.lease, group, value=value, timeout=TIMEOUT).was_member

    def leave(self, group: str) -> bool:
        """Leave a group; return whether the session was a member."""
        self.places.pop(group, None)
        return self.backend.leave_group(self.lease, group, timeout=TIMEOUT).was_member

    def members(self, group: str) -> dict[str, bytes]:
        """Return the members of a group with their values."""
        record = self.backend.read_group(self.lease, group, timeout=TIMEOUT)
        found = {member.member_id: member.value for member in record.members}
        assert len(found) == len(record.members)
        return found

    def groups(self) -> set[str]:
        """Return the names of the groups."""
        return set(self.backend.list_groups(self.lease, timeout=TIMEOUT))

    def campaign(self, election: str, value: bytes = b"") -> Won | Waiting:
        """Try once, with the attempt that waits already if there is one."""
        attempt = self.candidacies.setdefault(election, 0) or self.next_attempt()
        self.candidacies[election] = attempt
        answer = self.backend.campaign(self.lease, election, attempt=attempt, value=value, timeout=TIMEOUT)
        if isinstance(answer, Won):
            self.seats[election] = answer.seat
            del self.candidacies[election]
        return answer

    def win(self, election: str, value: bytes = b"") -> Seat:
        """Win, or fail the test."""
        answer = self.campaign(election, value)
        assert isinstance(answer, Won), answer
        return answer.seat

    def wait_for(self, election: str) -> Waiting:
        """Campaign and not win, or fail the test."""
        answer = self.campaign(election)
        assert isinstance(answer, Waiting), answer
        return answer

    def resign(self, seat: Seat) -> bool:
        """Give up a seat; return whether it was held."""
        self.seats.pop(seat.election, None)
        return self.backend.resign(self.lease, seat, timeout=TIMEOUT).was_held

    def proclaim(self, seat: Seat, value: bytes) -> bool:
        """Replace a seat's value; return whether it is held."""
        return self.backend.proclaim(self.lease, seat, value=value, timeout=TIMEOUT).was_held

    def withdraw(self, election: str, attempt: int) -> bool:
        """Give up an attempt; return whether the store knew it."""
        self.candidacies.pop(election, None)
        return self.backend.withdraw(self.lease, election, attempt=attempt, timeout=TIMEOUT).was_candidate

    def leader(self, election: str) -> LeaderRecord | Vacant:
        """Return who leads."""
        return self.backend.read_leader(self.lease, election, timeout=TIMEOUT)

    def close(self) -> bool:
        """Close the session; return whether it was open."""
        return self.backend.close_session(self.lease, timeout=TIMEOUT).was_open


def leader_id(found: LeaderRecord | Vacant) -> str | None:
    """Return the member id of a leader, or None."""
    return found.member_id if isinstance(found, LeaderRecord) else None


def plugin_of(backend: Backend) -> object:
    """Return the object of a backend's own class behind what the core calls, to look inside."""
    (implementation,) = backend._hooks.heartbeat.get_hookimpls()  # noqa: SLF001 - the look behind the facade
    plugin: object = implementation.plugin
    return plugin
