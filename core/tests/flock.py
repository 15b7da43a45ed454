"""Sessions that share shards on one clock that a test moves, and what they were called for."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

from support import Background

from drumbeat import Clock, Event, Session, Shards, Signal, Term, hookimpl
from drumbeat.testing import FakeClock, memory_session, memory_url

if TYPE_CHECKING:
    from collections.abc import Callable

    from drumbeat import Group

#: Seconds; the unit of all bounds. The failover bound of the memory store is half a second more.
TTL = 10.0
GRACE = TTL + 0.5
#: Seconds in which everything that needs no lease to run out has happened: two polls, and some coalescing.
SOON = 2.5


@dataclass(frozen=True, slots=True)
class Called:
    """A callback: when, of whom, for what."""

    at: float
    who: str
    what: str
    number: int
    held: bool


class Recorder:
    """An observer that keeps warnings and ends of terms."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    @hookimpl
    def on_event(self, event: Event) -> None:
        self.events.append(event)

    def warnings(self) -> list[str]:
        """Return the reasons of the warnings."""
        return [event.reason or "" for event in self.events if event.kind == "warning"]


@dataclass(slots=True)
class Bird:
    """One member: its session, its group, its shards, and what observers were told of it."""

    session: Session
    group: Group
    shards: Shards
    seen: Recorder

    @property
    def numbers(self) -> set[int]:
        """The shards that it owns."""
        return set(self.shards.owned)


class Flock:
    """Members of one group on one fake clock."""

    def __init__(self, count: int = 12) -> None:
        self.clock = FakeClock()
        self.url = memory_url()
        self.count = count
        self.birds: dict[str, Bird] = {}
        self.calls: list[Called] = []
        self.others: list[Session] = []
        #: Members whose sessions were closed.
        self.flown: list[Bird] = []

    def session(self, name: str, **options: object) -> Session:
        """Open a session."""
        return memory_session(self.url, member_id=name, lease_ttl=TTL, clock=self.clock, **options)  # type: ignore[arg-type]

    def add(self, name: str, metadata: dict[str, object] | None = None, **options: object) -> Bird:
        """Join one more member that shares shards; `options` go to `Group.shards`."""
        seen = Recorder()
        session = self.session(name, observers=[seen], interceptors=options.pop("interceptors", ()))
        group = session.group("flock")
        group.join(metadata)
        given = {what: self.noting(name, what) for what in ("on_gained", "drain", "on_lost")} | options
        bird = Bird(session, group, group.shards(self.count, **given), seen)  # type: ignore[arg-type]
        self.birds[name] = bird
        return bird

    def noting(self, who: str, what: str, then: Callable[[], None] = lambda: None) -> Callable[[int, Term], None]:
        """Return a callback that is noted, then does something."""

        def note(number: int, term: Term) -> None:
            self.calls.append(Called(self.clock.now(), who, what, number, term.held))
            then()

        return note

    def called(self, who: str, what: str) -> list[int]:
        """Return the shards that a member was called for, in order."""
        return [call.number for call in self.calls if (call.who, call.what) == (who, what)]

    def holders(self) -> Counter[int]:
        """Count who holds each shard now, drained or not."""
        held = (number for bird in self.birds.values() for number in (*bird.shards.owned, *bird.shards.draining))
        return Counter(held)

    def is_shared(self) -> bool:
        """Tell whether every shard has one holder, and no more."""
        return self.holders() == Counter(range(self.count))

    def overlaps(self) -> list[str]:
        """Judge all terms so far, from what observers were told: name those that began before an older one ended."""
        events = [event for bird in self.flown + list(self.birds.values()) for event in bird.seen.events]
        ends = {(e.subject, e.token): e.at for e in events if e.kind in {"resigned", "term_lost"}}
        won = sorted((e.subject or "", e.token or 0, e.at, e.member_id) for e in events if e.kind == "won")
        found = []
        for older, newer in pairwise(won):
            until = ends.get(older[:2], float("inf"))
            if older[0] == newer[0] and until > newer[2]:
                found.append(f"{newer} began while {older} was held until {until}")
        return found

    def close(self) -> None:
        """End all sessions."""
        for session in (*self.others, *(bird.session for bird in self.birds.values())):
            closing = Background(partial(session.close, timeout=1.0))
            while closing.running:
                self.clock.advance(1.0)


class Gate:
    """What a callback waits at until the test opens it, without keeping the clock from being moved."""

    def __init__(self, clock: Clock) -> None:
        self._open = Signal(clock)

    def __call__(self) -> None:
        self._open.wait()

    def open(self) -> None:
        """Let through who waits, and whoever comes."""
        self._open.set()
