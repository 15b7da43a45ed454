"""Sessions live while they beat, and no longer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from drumbeat import SessionLost, State, Vacant
from drumbeat.testing import Faults
from drumbeat_conformance.actor import leader_id
from drumbeat_conformance.guarantee import guarantee

if TYPE_CHECKING:
    from drumbeat_conformance.arena import Arena


@guarantee("BEAT-1")
def a_session_that_beats_lives_on(arena: Arena) -> None:
    """A session that keeps beating stays alive for many TTLs, with all that it holds."""
    actor, other = arena.actor("a"), arena.actor("b")
    actor.join("g")
    seat = actor.win("e")
    for _ in range(8):
        arena.pass_time(1, actor, other)
        assert {"a"} == set(other.members("g"))
        assert seat.token == getattr(other.leader("e"), "token", None)


@guarantee("BEAT-2")
def a_silent_session_is_gone_within_the_bound(arena: Arena) -> None:
    """A session that stops beating is gone for every other session within the stated bound."""
    silent, reader, beater = arena.actor("a"), arena.actor("b"), arena.actor("c")
    silent.join("g")
    silent.win("e")
    assert {"a"} == set(reader.members("g"))
    assert leader_id(reader.leader("e")) == "a"
    beater.join("g")
    beater.beat()
    silent.beat()
    last = arena.clock.now()
    bound = arena.profile.eviction.seconds(arena.ttl)
    while arena.clock.now() < last + bound - arena.ttl / 4:
        arena.pass_time(0.25, reader, beater)
    arena.wait(max(0.0, last + bound - arena.clock.now()))
    assert {"c"} == set(reader.members("g"))
    assert {"c"} == set(beater.members("g"))
    assert reader.leader("e") == Vacant()
    with pytest.raises(SessionLost):
        silent.beat()


@guarantee("BEAT-8")
def a_lost_session_reopens_and_rejoins(arena: Arena) -> None:
    """A session that was LOST reopens with a new incarnation and rejoins its groups; its old terms stay lost."""
    faults = Faults(arena.clock)
    session = arena.connect("a", interceptors=[faults])
    session.group("g").join({"n": 1})
    session.group("g").update({"n": 2})
    session.group("h").join()
    session.group("h").leave()
    term = session.election("e").campaign()
    before = session.incarnation
    with faults.failing():
        arena.eventually(lambda: session.state is State.LOST, within=3 * arena.ttl)
        assert not term.held
    arena.eventually(lambda: session.state is State.CONNECTED, within=10 * arena.ttl)
    arena.eventually(lambda: "a" in session.group("g").members(), within=5 * arena.ttl)
    assert session.incarnation != before
    assert session.group("g").members()["a"].metadata == {"n": 2}
    assert session.group("h").members().ids == ()
    assert not term.held
    assert term.lost.is_set()


@guarantee("LEAD-6")
def a_silent_leader_is_replaced_within_the_bound(arena: Arena) -> None:
    """When a leader dies, a waiting candidate wins within `failover_bound` of its last heartbeat."""
    faults = Faults(arena.clock)
    leader = arena.connect("leader", interceptors=[faults], heartbeat="manual")
    successor = arena.connect("successor")
    first = leader.election("e").campaign()
    waiting = arena.background(lambda: successor.election("e").campaign())
    arena.eventually(lambda: leader.election("e").leader(), within=arena.ttl)
    leader.beat()
    beaten = arena.clock.now()
    with faults.failing():
        second = waiting.result(within=successor.failover_bound + 2 * arena.ttl)
        assert arena.clock.now() - beaten <= successor.failover_bound + arena.ttl
        assert not first.held
    assert second.token > first.token
