"""What the guarantees of the fault tier begin with: sessions and processes that record what happens to them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final, final

import drumbeat
from drumbeat import SessionLost, State, Unavailable
from drumbeat.history import find_overlaps, find_token_faults, read_history
from drumbeat.observers import HistoryObserver
from drumbeat_conformance.members import Member

if TYPE_CHECKING:
    from drumbeat import Session, Term
    from drumbeat.history import History
    from drumbeat_conformance.arena import Arena

__all__ = ["FOUND", "LONG", "Holder", "Scene", "answers", "beats"]

#: Seconds of a lease within which any server can be started again.
LONG: Final = 30.0
#: Seconds in which a server that has come back, or a link that is sound again, is found.
FOUND: Final = 30.0


@final
class Scene:
    """Sessions of this process, and processes, whose histories are judged together."""

    def __init__(self, arena: Arena) -> None:
        self.arena = arena
        self._folder = Path(arena.use(TemporaryDirectory(prefix="drumbeat-scene-")))
        self._files: list[Path] = []

    def connect(self, member_id: str, *, url: str | None = None, **options: object) -> Session:
        """Open a session of this process, which records what happens to it."""
        file = self._folder / f"{len(self._files)}.jsonl"
        self._files.append(file)
        given = options | {"observers": [HistoryObserver(file)]}
        return self.arena.connect(member_id, url=url, **given)  # type: ignore[arg-type]

    def member(self, member_id: str, *, ttl: float | None = None) -> Member:
        """Start a process with a session, which records what happens to it."""
        member = Member.start(self.arena, member_id, ttl=ttl)
        self._files.append(member.history)
        return member

    def hold(self, *, ttl: float | None = None, url: str | None = None, **options: object) -> Holder:
        """Return a session that is a member of `g` and leads `e`; `options` are those of `drumbeat.connect`."""
        lease_ttl = ttl or self.arena.ttl
        given: dict[str, object] = {"lease_ttl": lease_ttl, "heartbeat_interval": min(1.0, lease_ttl / 4)} | options
        return Holder(self.arena, self.connect("holder", url=url, **given))

    def history(self) -> History:
        """Return what all have recorded so far."""
        return read_history([file for file in self._files if file.exists()])

    def check(self) -> None:
        """Fail if two terms of a seat overlapped, or a token did not rise."""
        self.check_overlaps()
        faults = find_token_faults(self.history())
        assert faults == [], f"tokens did not rise: {faults}"

    def check_overlaps(self) -> None:
        """Fail if two terms of a seat overlapped."""
        overlaps = find_overlaps(self.history())
        assert overlaps == [], f"terms overlapped: {overlaps}"


def beats(session: Session) -> bool:
    """Send a heartbeat; tell whether it was answered."""
    with suppress(Unavailable, SessionLost):
        session.beat()
        return True
    return False


def answers(session: Session) -> bool:
    """Read a view; tell whether there was an answer."""
    with suppress(Unavailable, SessionLost):
        session.group("g").members()
        return True
    return False


@final
class Holder:
    """A session that is a member of `g` and leads `e`, and what becomes of it."""

    def __init__(self, arena: Arena, session: Session) -> None:
        self._arena = arena
        self.session = session
        arena.eventually(self._joins, within=FOUND)
        self.term: Term = arena.run(lambda: self.session.election("e").campaign(), within=FOUND)
        arena.eventually(self.beats, within=FOUND)
        self.incarnation = self.session.incarnation

    def beats(self) -> bool:
        """Send a heartbeat; tell whether it was answered."""
        return beats(self.session)

    def _joins(self) -> bool:
        # A busy machine may make it miss its server for a moment.
        with suppress(Unavailable):
            self.session.group("g").join({"n": 1})
            return True
        return False

    def is_member(self) -> bool:
        """Tell whether it is in `g` as it joined; not while the server cannot be asked."""
        try:
            members = self.session.group("g").members()
        except (Unavailable, SessionLost):
            return False
        return "holder" in members and members["holder"].metadata == {"n": 1}

    def ends_in_time(self) -> None:
        """Fail unless the term is over within its TTL, and then the session LOST, though nobody says so."""
        began = self._arena.clock.now()
        ttl = self.session.lease_ttl
        self._arena.eventually(lambda: not self.term.held, within=2 * ttl)
        assert self._arena.clock.now() - began <= ttl, "the term was held for longer than its TTL"
        self._arena.eventually(lambda: self.session.state is State.LOST, within=ttl)

    def keeps_all(self) -> None:
        """Fail unless the same session is well, with the same term, and a member as it joined."""
        assert self.session.wait_for(State.CONNECTED, timeout=FOUND)
        self._arena.eventually(self.is_member, within=FOUND)
        self._arena.eventually(self.beats, within=FOUND)
        assert self.session.incarnation == self.incarnation
        assert self.term.held

    def is_well_again(self) -> None:
        """Fail unless the session, be it the same or reopened, is well and a member by itself."""
        assert self.session.wait_for(State.CONNECTED, timeout=FOUND)
        self._arena.eventually(self.is_member, within=FOUND)
        assert self.session.state is State.CONNECTED

    def comes_back(self) -> None:
        """Fail unless the session reopens by itself as another one, and is a member again; the term stays lost."""
        self._arena.eventually(lambda: self.session.incarnation != self.incarnation, within=FOUND)
        self.is_well_again()
        assert not self.term.held

    def wins_again(self) -> drumbeat.Term:
        """Return a new term of the same seat."""
        return self._arena.run(lambda: self.session.election("e").campaign(timeout=FOUND), within=2 * FOUND)
