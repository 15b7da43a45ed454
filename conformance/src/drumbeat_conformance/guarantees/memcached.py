"""What goes wrong with memcached, each provoked on a real server; what is missing is not trusted to be free."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from drumbeat import SessionLost, State, Unavailable
from drumbeat_conformance.guarantee import Needs, guarantee
from drumbeat_conformance.guarantees._lasting import lasting_actor
from drumbeat_conformance.guarantees._succession import succeed
from drumbeat_conformance.operators import MemcachedOperator

if TYPE_CHECKING:
    from drumbeat import Session, Term
    from drumbeat_conformance.arena import Arena

#: TTLs: what a session waits for at the most in a store that may have forgotten others.
_FORGOTTEN: Final = 2
#: Bytes of a value that puts its record into a size of items of its own.
_LARGE: Final = 30_000
#: TTLs in which a server's memory can be filled.
_EVICTING: Final = 5.0


def open_session(arena: Arena, member_id: str, *, heartbeat: str = "auto", ttls: float = 1.0) -> Session:
    """Open a session as this backend does by itself, for some TTLs, in a store whose longest TTL is twice that."""
    separator = "&" if "?" in arena.url else "?"
    return arena.connect(
        member_id,
        url=f"{arena.url}{separator}longest_ttl={_FORGOTTEN * ttls * arena.ttl:g}",
        lease_ttl=ttls * arena.ttl,
        on_empty_store="wait",
        heartbeat=heartbeat,
    )


def lead(arena: Arena, session: Session) -> Term:
    """Win `e`, once nobody can hold it from before."""
    return arena.run(lambda: session.election("e").campaign(), within=30 * arena.ttl)


def lead_by_hand(arena: Arena, session: Session) -> Term:
    """Win `e` with a session that beats only when it is told to; leave it with a fresh lease."""
    waiting = arena.background(lambda: session.election("e").campaign())
    while waiting.running:
        session.beat()
        arena.wait(arena.ttl / 10)
    term = waiting.result(within=arena.ttl)
    session.beat()
    return term


@guarantee("MEMCACHED-1", tier="faults", scheme="memcached", needs=Needs.SERVER)
def an_emptied_server_makes_no_second_leader(arena: Arena) -> None:
    """After flush_all the leader is told within a heartbeat and rejoins; nobody leads before its term is over."""
    leader, other = open_session(arena, "a"), open_session(arena, "b")
    leader.group("g").join({"n": 1})
    term, before = lead(arena, leader), leader.incarnation
    MemcachedOperator(arena.url).flush()
    arena.eventually(lambda: not term.held, within=arena.ttl * 0.75)
    succeed(arena, other, term)
    arena.eventually(lambda: leader.incarnation != before and leader.state is State.CONNECTED, within=20 * arena.ttl)
    arena.eventually(lambda: "a" in _ids(other), within=20 * arena.ttl)


@guarantee("MEMCACHED-2", tier="faults", scheme="memcached", needs=Needs.SERVER)
def a_silent_leader_keeps_its_term_over_a_flush(arena: Arena) -> None:
    """After flush_all a leader that does not look has its term to itself until its own deadline has passed."""
    leader, other = open_session(arena, "a", heartbeat="manual"), open_session(arena, "b")
    term = lead_by_hand(arena, leader)
    MemcachedOperator(arena.url).flush()
    succeed(arena, other, term)


@guarantee("MEMCACHED-3", tier="faults", scheme="memcached", needs=Needs.SERVER)
def an_evicted_seat_is_not_taken_for_free(arena: Arena) -> None:
    """A seat that the server evicts for want of memory goes to nobody else before its holder's term is over."""
    operator = MemcachedOperator(arena.url)
    leader = open_session(arena, "a", heartbeat="manual", ttls=_EVICTING)
    other = open_session(arena, "b", ttls=_EVICTING)
    term = lead_by_hand(arena, leader)
    term.proclaim({"for a size of its own": "v" * _LARGE})
    leader.beat()
    assert operator.evict(operator.keys(leader.namespace).seat("election/e"))
    assert term.held, "evicting took so long that this shows nothing"
    succeed(arena, other, term)


@guarantee("MEMCACHED-4", tier="faults", scheme="memcached", needs=Needs.OPERATOR)
def a_missing_seat_is_noticed_and_not_taken_for_free(arena: Arena) -> None:
    """A seat that is deleted is told to its holder by the next heartbeat; until then, nobody else wins it.

    The session goes on, and its next token is higher.
    """
    operator = MemcachedOperator(arena.url)
    leader, other = open_session(arena, "a", heartbeat="manual"), open_session(arena, "b")
    term = lead_by_hand(arena, leader)
    assert operator.delete(operator.keys(leader.namespace).seat("election/e"))
    succeed(arena, other, term).resign()
    session = open_session(arena, "c")
    term = lead(arena, session)
    assert operator.delete(operator.keys(session.namespace).seat("election/e"))
    arena.eventually(lambda: not term.held, within=arena.ttl * 0.75)
    assert session.state is State.CONNECTED
    assert lead(arena, session).token > term.token


@guarantee("MEMCACHED-5", tier="faults", scheme="memcached", needs=Needs.OPERATOR)
def a_missing_session_is_lost_within_a_heartbeat(arena: Arena) -> None:
    """A session whose record alone is gone is LOST by the next heartbeat, which does not bring it back to life."""
    operator = MemcachedOperator(arena.url)
    actor = arena.actor("a")
    key = operator.keys(arena.namespace()).session("a")
    assert operator.delete(key)
    with pytest.raises(SessionLost):
        actor.beat()
    assert operator.read(key) is None


@guarantee("MEMCACHED-6", tier="faults", scheme="memcached", needs=Needs.SERVER)
def a_cas_number_of_another_start_is_never_taken_for_ones_own(arena: Arena) -> None:
    """CAS numbers count from 1 again after a restart; a session from before never writes over one from after.

    Also where both have the same member id, and the record of the second has the number that the first one knows.
    """
    operator = MemcachedOperator(arena.url)
    key = operator.keys(arena.namespace()).session("a")
    before = lasting_actor(arena, "a")
    found = operator.find(key)
    arena.server.kill()
    arena.server.start()
    after = lasting_actor(arena, "a")
    again = operator.find(key)
    assert found is not None
    assert again is not None
    assert found.cas == again.cas, "the numbers differ, so that this shows nothing"
    with pytest.raises((SessionLost, Unavailable)):
        before.beat()
    with pytest.raises(SessionLost):
        before.beat()
    assert after.beat().lost == ()


@guarantee("MEMCACHED-7", tier="faults", scheme="memcached", needs=Needs.OPERATOR)
def only_sessions_expire(arena: Arena) -> None:
    """Nothing but the records of sessions has a time to live, and theirs is more than a minute longer than a lease.

    The server ends what lives for a second after any part of that second, so nothing may rest on it.
    """
    operator, namespace = MemcachedOperator(arena.url), arena.namespace()
    actor = arena.actor("a")
    actor.join("g")
    actor.win("e")
    keys = operator.keys(namespace)
    kept = (keys.birth, keys.groups, keys.roster("g"), keys.value("g", "a"), keys.seat("e"))
    answers = operator.ask("".join(f"mg {key} t\r\n" for key in kept).encode()).splitlines()
    assert set(answers) == {b"HD t-1"}
    (left,) = operator.ask(f"mg {keys.session('a')} t\r\n".encode()).splitlines()
    assert int(left.split()[1][1:]) > arena.ttl + 60


def _ids(session: Session) -> tuple[str, ...]:
    try:
        return session.group("g").members().ids
    except (Unavailable, SessionLost):
        return ()
