"""What sessions use of their own process they give back: leases, watches, threads and descriptors."""

from __future__ import annotations

import gc
import sqlite3
import threading
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, final

import drumbeat
from drumbeat import State
from drumbeat.hookspecs import Capability, GroupSubject, hookimpl
from drumbeat.testing import Faults, wait_until
from drumbeat_conformance.actor import TIMEOUT, Actor
from drumbeat_conformance.guarantee import guarantee
from drumbeat_conformance.guarantees._lasting import lasting_actor
from drumbeat_conformance.guarantees.local import file_of

if TYPE_CHECKING:
    from collections.abc import Generator

    from drumbeat.hookspecs import Cancel, Lease, SessionClosed
    from drumbeat_conformance.arena import Arena

#: How often something is done that must leave nothing behind, and how much of it may be left all the same.
_TIMES: Final = 30
_LEFT: Final = 10
#: Seconds of real time that threads and connections may take to end.
_ENDING: Final = 5.0
#: Where a process sees its open files.
_DESCRIPTORS: Final = (Path("/proc/self/fd"), Path("/dev/fd"))


@final
class _Books:
    """An interceptor that keeps books of leases and watches: what was opened, and what was let go."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.dropped: list[str] = []
        self.watches: Counter[str] = Counter()

    @hookimpl(wrapper=True)
    def open_session(self) -> Generator[None, Lease, Lease]:
        """Note a lease."""
        lease = yield
        self.opened.append(lease.incarnation)
        return lease

    @hookimpl(wrapper=True)
    def drop_session(self, lease: Lease) -> Generator[None, SessionClosed, SessionClosed]:
        """Note that a lease was let go."""
        self.dropped.append(lease.incarnation)
        return (yield)

    @hookimpl(wrapper=True)
    def watch(self) -> Generator[None, Cancel, Cancel]:
        """Note a watch, and that it was cancelled."""
        cancel = yield
        self.watches["begun"] += 1

        def noting() -> None:
            self.watches["ended"] += 1
            cancel()

        return noting


@guarantee("RES-1")
def every_lease_is_dropped_when_it_is_over(arena: Arena) -> None:
    """Each lease that a session had is let go at the backend, when it was lost, when the session is closed, and also
    when its close does not reach the server.
    """
    faults, books = Faults(arena.clock), _Books()
    session = arena.connect("a", interceptors=[faults, books])
    with faults.failing():
        arena.eventually(lambda: session.state is State.LOST, within=3 * arena.ttl)
        arena.eventually(lambda: books.opened == books.dropped, within=3 * arena.ttl)
    arena.eventually(lambda: session.state is State.CONNECTED, within=10 * arena.ttl)
    with faults.failing("close_session"):
        arena.run(lambda: session.close(timeout=arena.ttl / 4), within=3 * arena.ttl)
    closed = arena.connect("b", interceptors=[books])
    closed.close()
    assert len(books.opened) == 3
    assert set(books.opened) == set(books.dropped)


@guarantee("RES-2", level="should", claim=Capability.PUSH_WATCH)
def every_watch_is_cancelled_when_it_is_over(arena: Arena) -> None:
    """What watches at the backend is cancelled there, when a stream is closed, when a campaign has won or has given up,
    and when `wait_for` returns; a session that lives on is not hinted at for ever.
    """
    books = _Books()
    session, other = arena.connect("a", interceptors=[books]), arena.connect("b")
    for stream in (session.group("g").watch(), session.election("e").observe()):
        with stream:
            stream.next(timeout=TIMEOUT)
    assert books.watches == {"begun": 2, "ended": 2}
    term = other.election("e").campaign()
    with suppress(drumbeat.Timeout):
        arena.run(lambda: session.election("e").campaign(timeout=arena.ttl / 4), within=3 * arena.ttl)
    count = books.watches["begun"]
    winning = arena.background(lambda: session.election("e").campaign(timeout=10 * arena.ttl))
    arena.eventually(lambda: books.watches["begun"] > count, within=3 * arena.ttl)
    term.resign()
    assert winning.result(within=10 * arena.ttl).held
    with suppress(drumbeat.Timeout):
        arena.run(lambda: session.group("g").wait_for(bool, timeout=arena.ttl / 4), within=3 * arena.ttl)
    arena.eventually(lambda: books.watches["begun"] == books.watches["ended"], within=3 * arena.ttl)


def _in_use() -> dict[str, int]:
    """Return how many threads and descriptors this process has."""
    gc.collect()
    folder = next((folder for folder in _DESCRIPTORS if folder.is_dir()), None)
    return {"threads": threading.active_count(), "descriptors": len([*folder.iterdir()]) if folder else 0}


def _see_nothing_left(before: dict[str, int], what: str) -> None:
    """Fail unless as much is in use as before, about, within the time that ending takes."""
    with suppress(drumbeat.Timeout):
        wait_until(lambda: all(number <= before[kind] + _LEFT for kind, number in _in_use().items()), _ENDING)
    now = _in_use()
    left = {kind: number - before[kind] for kind, number in now.items() if number > before[kind] + _LEFT}
    assert not left, f"{_TIMES} {what} have left behind {left}"


@guarantee("RES-3", alone=True)
def calls_leave_nothing_open(arena: Arena) -> None:
    """However often a session reads, campaigns, beats and watches, it uses no more threads and descriptors."""
    actor = lasting_actor(arena, "a")

    def use(number: int) -> None:
        actor.join("g", f"{number}".encode())
        actor.members("g")
        actor.groups()
        actor.resign(actor.win("e"))
        actor.leader("e")
        if actor.backend.implements("watch"):
            actor.backend.watch(actor.lease, GroupSubject("g"), lambda: None, timeout=TIMEOUT)()
        actor.beat()

    use(-1)
    before = _in_use()
    for number in range(_TIMES):
        use(number)
    _see_nothing_left(before, "rounds of calls")


@guarantee("RES-4", alone=True)
def sessions_leave_nothing_open(arena: Arena) -> None:
    """A session that was closed and dropped, or dropped alone, leaves neither threads nor descriptors behind, its
    watches included; the same holds of whole sessions.
    """

    def use(number: int, *, close: bool) -> None:
        actor = Actor(arena, f"a{number}", backend=arena.backend())
        actor.open()
        if actor.backend.implements("watch"):
            actor.backend.watch(actor.lease, GroupSubject("g"), lambda: None, timeout=TIMEOUT)
        actor.members("g")
        if close:
            actor.close()
        actor.backend.drop_session(actor.lease)

    arena.connect("first").close()
    use(-1, close=True)
    before = _in_use()
    for number in range(_TIMES):
        use(number, close=bool(number % 2))
        if number % 3 == 0:
            session = arena.connect(f"session{number}")
            with session.group("g").watch() as changes:
                changes.next(timeout=TIMEOUT)
            session.close()
    _see_nothing_left(before, "sessions")


@guarantee("RES-5", instead={"local": "LOCAL-9"})
def dropping_sends_nothing(arena: Arena) -> None:
    """Dropping an open session tells the server nothing: what it held is held until its lease runs out."""
    actor, other = lasting_actor(arena, "a"), lasting_actor(arena, "b")
    actor.join("g")
    actor.win("e")
    actor.backend.drop_session(actor.lease)
    for _ in range(4):
        arena.wait(arena.ttl / 20)
        assert {"a"} == set(other.members("g"))
        other.wait_for("e")


@guarantee("LOCAL-9", scheme="local")
def dropping_writes_nothing(arena: Arena) -> None:
    """Dropping an open session writes nothing into the file; its kernel lock goes, as with its process, so that others
    see at once that it is over.
    """
    actor, other = lasting_actor(arena, "a"), lasting_actor(arena, "b")
    actor.join("g")
    seat = actor.win("e")
    before = _rows(file_of(arena))
    assert actor.backend.drop_session(actor.lease).was_open
    assert before == _rows(file_of(arena))
    assert other.members("g") == {}
    assert other.win("e").token > seat.token


def _rows(file: Path) -> list[str]:
    """Return all that a file of SQLite holds."""
    with closing(sqlite3.connect(file)) as store:
        return list(store.iterdump())
