"""A lock excludes processes and threads, and its tokens exclude those that come too late."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest

import drumbeat
from drumbeat.testing import Faults, lose
from drumbeat_conformance.actor import TIMEOUT, leader_id
from drumbeat_conformance.guarantee import guarantee
from drumbeat_conformance.guarantees._lasting import lasting_actor
from drumbeat_conformance.guarantees._witnesses import LONG, Recorder, wins_at_once

if TYPE_CHECKING:
    from collections.abc import Callable

    from drumbeat import Session, Term
    from drumbeat_conformance.arena import Arena

#: More than a listing gives at once, or a script does in one go.
_MANY: Final = 120


@dataclass(slots=True)
class _Counter:
    """What is not safe to increment from two threads: a read, a pause, a write."""

    value: int = 0

    def increment(self, term: Term, pause: float) -> None:
        before = self.value
        term.lost.wait(pause)
        self.value = before + 1


@dataclass(slots=True)
class _Register:
    """A resource that is fenced: it refuses a token that is lower than the highest it has seen."""

    highest: int = 0
    writes: list[str] = field(default_factory=list)

    def write(self, token: int, value: str) -> bool:
        if token < self.highest:
            return False
        self.highest = token
        self.writes.append(value)
        return True


@guarantee("LOCK-1")
def no_increment_under_a_lock_is_lost(arena: Arena) -> None:
    """Several sessions, and several threads of one, that increment an unguarded counter under a lock lose none of the
    increments, and no two of them ever hold the lock at once.
    """
    recorder, counter = Recorder(), _Counter()
    sessions = [arena.connect(name, lease_ttl=LONG, observers=[recorder]) for name in ("one", "two", "three")]

    def increment(session: Session) -> None:
        for _ in range(5):
            with session.lock("counter").acquire() as term:
                counter.increment(term, arena.ttl / 200)

    workers = [arena.background(partial(increment, session)) for session in (*sessions, sessions[0])]
    for worker in workers:
        worker.result(within=20 * arena.ttl)
    for session in sessions:
        session.close()
    assert 5 * len(workers) == counter.value
    assert recorder.overlaps() == []
    assert 5 * len(workers) == sum(record.kind == "won" for record in recorder.history)


@guarantee("LOCK-2")
def acquire_with_a_timeout_returns_in_time(arena: Arena) -> None:
    """`acquire(timeout=...)` raises Timeout, neither before that time nor more than two requests later: if another
    session holds the lock, if the own thread does, and if the server does not answer. A timeout of 0 tries once.
    """
    faults = Faults(arena.clock)
    one, two = arena.connect("one", lease_ttl=LONG), arena.connect("two", lease_ttl=LONG, interceptors=[faults])
    free, held = two.lock("free"), two.lock("held")
    with one.lock("held").acquire() as term:
        for timeout in (0.0, arena.ttl / 4):
            _expect_timeout(arena, partial(held.acquire, timeout=timeout), timeout)
            _expect_timeout(arena, partial(one.lock("held").acquire, timeout=timeout), timeout)
        with faults.failing("campaign"):
            _expect_timeout(arena, partial(free.acquire, timeout=arena.ttl / 4), arena.ttl / 4)
        assert term.held
    with free.acquire(timeout=0.0), held.acquire(timeout=0.0):
        assert {"two"} == {holder.member_id for lock in (free, held) if (holder := lock.holder())}


def _expect_timeout(arena: Arena, acquire: Callable[[], Term], timeout: float) -> None:
    def measure() -> float:
        started = arena.clock.now()
        with pytest.raises(drumbeat.Timeout, match="was not won within"):
            acquire()
        return arena.clock.now() - started

    took = arena.run(measure, within=timeout + 3 * arena.ttl)
    # The machine may be busy.
    assert timeout <= took <= timeout + 1.5 * arena.ttl


@guarantee("LOCK-3")
def a_lock_is_not_re_entrant_and_its_holder_alone_releases_it(arena: Arena) -> None:
    """A lock is not re-entrant: the thread that holds it cannot have it again, nor can another thread of the session.
    Who holds it is known, and only the term that holds it releases it.
    """
    session = arena.connect("one", lease_ttl=LONG)
    lock = session.lock("l")
    with lock.acquire() as term:
        with pytest.raises(drumbeat.Timeout):
            lock.acquire(timeout=0.0)
        with pytest.raises(drumbeat.Timeout):
            arena.run(partial(session.lock("l").acquire, timeout=arena.ttl / 10), within=2 * arena.ttl)
        holder = lock.holder()
        assert holder is not None
        assert (holder.member_id, holder.token) == ("one", term.token)
    assert lock.holder() is None
    with lock.acquire() as later:
        assert term.resign() is False
        holder = session.lock("l").holder()
        assert holder is not None
        assert later.token == holder.token
        assert later.held


@guarantee("LOCK-4")
def a_fenced_register_never_takes_a_write_of_a_deposed_holder(arena: Arena) -> None:
    """A register that refuses a token lower than the highest it has seen takes every write of who holds the lock, and
    never one of an earlier holder, however it was deposed and however late it writes.
    """
    faults = Faults(arena.clock)
    sessions = [arena.connect("cut", interceptors=[faults]), arena.connect("b"), arena.connect("c")]
    register = _Register()
    deposed: list[Term] = []

    def hold(session: Session) -> Term:
        term = arena.run(session.lock("l").acquire, within=session.failover_bound + 3 * arena.ttl)
        assert register.write(term.token, session.member_id), "a write of the holder was refused"
        for old in deposed:
            assert not register.write(old.token, "late"), "a write of a deposed holder was taken"
        deposed.append(term)
        return term

    for session in (*sessions, sessions[1]):
        lose(hold(session))
    last = hold(sessions[0])
    with faults.failing():
        hold(sessions[1])
        assert not last.held
    assert register.writes == ["cut", "b", "c", "b", "cut", "b"]


@guarantee("LOCK-5")
def two_attempts_of_one_session_exclude_each_other(arena: Arena) -> None:
    """A session that holds a seat stands in its own way as in anybody's: another attempt of it waits."""
    actor = lasting_actor(arena, "a")
    first = actor.win("e")
    second = actor.wait_for("e")
    assert leader_id(second.holder) == "a"
    actor.resign(first)
    assert actor.win("e").token > first.token


@guarantee("LOCK-6")
def nobody_releases_the_seat_of_another(arena: Arena) -> None:
    """Who knows all about another session's seat, its attempt and its token, still cannot resign, withdraw or change
    it.
    """
    holder, thief = lasting_actor(arena, "a"), lasting_actor(arena, "b")
    seat = holder.win("e", b"mine")
    before = thief.leader("e")
    assert thief.backend.resign(thief.lease, seat, timeout=TIMEOUT).was_held is False
    assert thief.backend.proclaim(thief.lease, seat, value=b"ghost", timeout=TIMEOUT).was_held is False
    assert thief.backend.withdraw(thief.lease, "e", attempt=seat.attempt, timeout=TIMEOUT).was_candidate is False
    assert before == thief.leader("e")
    assert holder.beat().lost == ()


@guarantee("LOCK-7")
def a_lock_and_an_election_of_one_name_do_not_meet(arena: Arena) -> None:
    """A lock, an election and a group of the same name are three things."""
    session = arena.connect("one", lease_ttl=LONG)
    session.group("x").join()
    with session.lock("x").acquire():
        assert wins_at_once(session.election("x")), "the lock of that name is in the way of the election"
        assert session.group("x").members().ids == ("one",)
    with session.election("x").campaign():
        assert wins_at_once(session.lock("x")), "the election of that name is in the way of the lock"
    with session.lock("x").acquire() as lock, session.election("x").campaign("election") as term:
        lock.proclaim("lock")
        term.proclaim("election 2")
        found = session.lock("x").holder(), session.election("x").leader()
        assert [holder and holder.value for holder in found] == ["lock", "election 2"]


@guarantee("LOCK-8")
def a_session_that_ends_frees_all_its_locks(arena: Arena) -> None:
    """However many locks a session holds, a heartbeat verifies each of them, and its close frees all at once."""
    holder, other = lasting_actor(arena, "a"), lasting_actor(arena, "b")
    names = [f"lock/{number}" for number in range(_MANY)]
    for name in names:
        holder.win(name)
    assert holder.beat().lost == ()
    holdings, gone = holder.holdings(), (holder.seats[names[-1]], holder.seats[names[-2]])
    for seat in gone:
        assert holder.resign(seat)
    assert set(gone) == set(holder.backend.heartbeat(holder.lease, holdings, timeout=TIMEOUT).lost)
    assert holder.close()
    for name in names:
        other.win(name)
    assert other.beat().lost == ()
