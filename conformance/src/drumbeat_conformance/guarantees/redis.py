"""What goes wrong with Redis, each provoked on a real server."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import pytest

from drumbeat import SessionLost, State, Unavailable
from drumbeat.hookspecs import GroupSubject, Seat, Vacant
from drumbeat_conformance.guarantee import Needs, guarantee
from drumbeat_conformance.guarantees._witnesses import Recorder
from drumbeat_conformance.operators import RedisOperator
from drumbeat_conformance.target import ClockedServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from drumbeat import Session, Term
    from drumbeat_conformance.arena import Arena

#: Seconds by which a server's wall clock is stepped.
_HOUR: Final = 3600.0
#: More than the integers that a float holds, less what a term adds.
_LARGE: Final = 2**53 - 3
#: Seconds between two disturbances.
_OFTEN: Final = 0.02
#: Candidates that sleep.
_CANDIDATES: Final = 4
#: Keys of others that expire while a leader's lease does: the server looks at twenty at a time.
_OTHERS: Final = 20_000


@contextmanager
def again_and_again(disturb: Callable[[], object]) -> Iterator[None]:
    """Disturb a server for as long as the block runs."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(_OFTEN):
            disturb()

    thread = threading.Thread(target=run, name="drumbeat-disturbance", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@guarantee("REDIS-1", tier="faults", scheme="redis", needs=Needs.SERVER)
def a_lost_script_costs_nobody_anything(arena: Arena) -> None:
    """Scripts that the server forgets (SCRIPT FLUSH, as after a failover) fail no call, however often it happens."""
    operator = RedisOperator(arena.url)
    actor = arena.actor("a")
    seat = actor.win("e")
    with again_and_again(lambda: operator.ask("SCRIPT", "FLUSH")):
        until = arena.clock.now() + 2 * arena.ttl
        while arena.clock.now() < until:
            actor.join("g")
            assert actor.beat().lost == ()
            assert set(actor.members("g")) == {"a"}
            assert actor.proclaim(seat, b"v")


@guarantee("REDIS-2", tier="faults", scheme="redis", needs=Needs.SERVER)
def killed_connections_cost_nobody_anything(arena: Arena) -> None:
    """When all connections are killed (CLIENT KILL), the next calls succeed on new ones, and nothing was lost."""
    operator = RedisOperator(arena.url)
    actor = arena.actor("a")
    seat = actor.win("e")
    for _ in range(3):
        actor.join("g")
        operator.kill_clients()
        # For the end of a connection to travel.
        arena.wait(arena.ttl / 5)
        assert actor.beat().lost == ()
        assert actor.proclaim(seat, b"v")
        assert set(actor.members("g")) == {"a"}


@guarantee("REDIS-3", tier="faults", scheme="redis", needs=Needs.SERVER)
def an_emptied_server_is_found_out_within_a_heartbeat(arena: Arena) -> None:
    """After FLUSHALL every session is LOST within a heartbeat, rejoins its groups, and tokens rise above those lost."""
    operator = RedisOperator(arena.url)
    session, other = (arena.connect(name) for name in "ab")
    session.group("g").join({"n": 1})
    term, before = session.election("e").campaign(), session.incarnation
    operator.ask("FLUSHALL")
    arena.eventually(lambda: not term.held, within=arena.ttl * 0.75)
    arena.eventually(lambda: session.incarnation != before and session.state is State.CONNECTED, within=5 * arena.ttl)
    arena.eventually(lambda: "a" in _ids(other), within=5 * arena.ttl)
    assert other.election("e").campaign(timeout=5 * arena.ttl).token > term.token


@guarantee("REDIS-4", tier="faults", scheme="redis", needs=Needs.SERVER)
def a_candidate_wins_though_expiry_is_late(arena: Arena) -> None:
    """A candidate sleeps until the leader's lease is over, and wins then, also where no event tells of the expiry.

    Redis removes what has expired when it comes across it: among many keys that expire, long after.
    """
    operator = RedisOperator(arena.url)
    operator.ask("CONFIG", "SET", "hz", 1)
    operator.ask("EVAL", "for i = 1, ARGV[1] do redis.call('SET', 'other' .. i, '', 'PX', 60000) end", 0, _OTHERS)
    leader, successor = arena.actor("a"), arena.connect("b")
    waiting = []
    # At moments of their own, so that of those who poll one comes late.
    for number in range(_CANDIDATES):
        leader.win(f"election/e{number}")
        waiting.append(arena.background(lambda number=number: _when_won(arena, successor, f"e{number}")))  # type: ignore[misc]
        arena.wait(arena.profile.limits.poll_interval / _CANDIDATES)
        leader.beat()
    beaten = arena.clock.now()
    latest = max(one.result(within=5 * arena.ttl) for one in waiting)
    assert latest - beaten <= arena.ttl + arena.profile.limits.poll_interval / 2


def _when_won(arena: Arena, session: Session, election: str) -> float:
    session.election(election).campaign()
    return arena.clock.now()


@guarantee("REDIS-5", tier="faults", scheme="redis", needs=Needs.SERVER)
def a_killed_subscription_comes_back(arena: Arena) -> None:
    """A subscription that is killed is made again, and everybody whom it served is told, since something may be missed.

    What happens afterwards is pushed as before.
    """
    operator = RedisOperator(arena.url)
    watcher, other = arena.actor("a"), arena.actor("b")
    hints: list[float] = []
    watcher.backend.watch(watcher.lease, GroupSubject("g"), lambda: hints.append(arena.clock.now()), timeout=5.0)
    for _ in range(2):
        count = len(hints)
        operator.kill_clients(["pubsub"])
        arena.eventually(lambda count=count: len(hints) > count, within=5 * arena.ttl)  # type: ignore[misc]
        other.open(other.request(replace=True))
        count = len(hints)
        other.join("g")
        arena.eventually(lambda count=count: len(hints) > count, within=5 * arena.ttl)  # type: ignore[misc]


@guarantee("REDIS-6", tier="faults", scheme="redis", needs=Needs.OPERATOR)
def what_is_evicted_is_lost_within_a_heartbeat(arena: Arena) -> None:
    """A seat, a group or a session whose key alone is gone (evicted, or deleted) is told by the next heartbeat.

    The session goes on without what is gone, and the seat's next token is higher.
    """
    operator, namespace = RedisOperator(arena.url), arena.namespace()
    actor = arena.actor("a")
    kept, seat = actor.win("kept"), actor.win("e")
    actor.join("g")
    (place,) = actor.holdings().memberships
    operator.ask("DEL", operator.key(namespace, "seat:e"), operator.key(namespace, "group:g"))
    assert set(actor.beat().lost) == {seat, place}
    del actor.seats["e"], actor.places["g"]
    assert actor.beat().lost == ()
    assert actor.proclaim(kept, b"v")
    assert actor.win("e").token > seat.token
    operator.ask("DEL", operator.key(namespace, "session:a"))
    with pytest.raises(SessionLost):
        actor.beat()
    assert f"session:{actor.member_id}" not in operator.keys(namespace)


@guarantee("REDIS-7", tier="faults", scheme="redis", needs=Needs.WALL_CLOCK)
def tokens_rise_over_a_step_of_the_servers_clock(arena: Arena) -> None:
    """When the server's wall clock steps back, terms do not overlap; whichever way it steps, tokens rise.

    A step forward ends every lease at once: each holder is told within a heartbeat, and its session opens anew.
    """
    assert isinstance(arena.server, ClockedServer)
    recorder = Recorder()
    session = arena.connect("a", observers=[recorder])
    terms = [session.election("e").campaign()]
    arena.server.step_clock(-_HOUR)
    arena.wait(2 * arena.ttl)
    assert terms[-1].held
    terms[-1].resign()
    terms.append(session.election("e").campaign(timeout=5 * arena.ttl))
    before = session.incarnation
    arena.server.step_clock(_HOUR)
    arena.eventually(lambda: not terms[-1].held, within=arena.ttl * 0.75)
    arena.eventually(lambda: session.incarnation != before and session.state is State.CONNECTED, within=5 * arena.ttl)
    terms.append(session.election("e").campaign(timeout=5 * arena.ttl))
    _resign_and_step(arena, terms[-1], session, terms)
    assert [term.token for term in terms] == sorted({term.token for term in terms})
    assert (recorder.overlaps(), recorder.token_faults()) == ([], [])


def _resign_and_step(arena: Arena, term: Term, session: Session, terms: list[Term]) -> None:
    assert isinstance(arena.server, ClockedServer)
    term.resign()
    arena.server.step_clock(0.0)
    terms.append(session.election("e").campaign(timeout=5 * arena.ttl))


@guarantee("REDIS-8", tier="faults", scheme="redis", needs=Needs.OPERATOR)
def tokens_keep_every_digit(arena: Arena) -> None:
    """A token is greater than the last one by one where the clock is behind, to the last of its sixteen digits."""
    operator, namespace = RedisOperator(arena.url), arena.namespace()
    actor, reader = arena.actor("a"), arena.actor("b")
    actor.resign(actor.win("e"))
    operator.ask("HSET", operator.key(namespace, "seat:e"), "token", _LARGE)
    seat = actor.win("e")
    assert seat.token == _LARGE + 1
    assert seat.token == getattr(reader.leader("e"), "token", None)
    assert actor.beat().lost == ()
    assert actor.resign(Seat("e", seat.attempt, seat.token))
    assert reader.leader("e") == Vacant()


@guarantee("REDIS-9", tier="faults", scheme="redis", needs=Needs.SERVER)
def a_full_server_keeps_what_it_has(arena: Arena) -> None:
    """A server out of memory refuses what grows, as Unavailable, and does none of it; sessions and terms are kept."""
    operator = RedisOperator(arena.url)
    actor = arena.actor("a")
    seat = actor.win("e")
    operator.ask("CONFIG", "SET", "maxmemory", "1mb")
    with pytest.raises(Unavailable):
        actor.join("g")
    del actor.places["g"]
    for _ in range(8):
        arena.wait(arena.ttl / 4)
        assert actor.beat().lost == ()
    assert actor.resign(seat)
    operator.ask("CONFIG", "SET", "maxmemory", "0")
    assert actor.members("g") == {}
    actor.join("g")
    assert set(actor.members("g")) == {"a"}


@guarantee("REDIS-10", tier="faults", scheme="redis", needs=Needs.SERVER)
def a_demoted_primary_has_done_nothing(arena: Arena) -> None:
    """A server that becomes a replica is Unavailable, nothing was applied, and all goes on once it is primary again."""
    operator = RedisOperator(arena.url)
    actor = arena.actor("a")
    actor.join("g", b"1")
    operator.ask("REPLICAOF", "127.0.0.1", "1")
    for call in (actor.beat, lambda: actor.update("g", b"2"), lambda: actor.win("e")):
        with pytest.raises(Unavailable) as failure:
            call()
        assert failure.value.outcome == "not_applied"
    operator.ask("REPLICAOF", "NO", "ONE")
    actor.candidacies.clear()
    assert actor.beat().lost == ()
    assert actor.members("g") == {"a": b"1"}
    assert actor.leader("e") == Vacant()


def _ids(session: Session) -> tuple[str, ...]:
    try:
        return session.group("g").members().ids
    except (Unavailable, SessionLost):
        return ()
