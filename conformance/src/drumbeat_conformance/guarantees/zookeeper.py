"""What goes wrong with ZooKeeper, each provoked on a real server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from drumbeat import SessionLost, State, Unavailable, Vacant
from drumbeat.hookspecs import CandidacySubject, GroupSubject, Waiting
from drumbeat_conformance.actor import TIMEOUT, Actor
from drumbeat_conformance.guarantee import Needs, guarantee, untested
from drumbeat_conformance.guarantees._lasting import lasting_actor
from drumbeat_conformance.operators import ZooKeeperOperator

if TYPE_CHECKING:
    from drumbeat import Session
    from drumbeat_conformance.arena import Arena

#: How often a session is attached elsewhere.
_TIMES: Final = 3


@guarantee("ZOOKEEPER-1", tier="faults", scheme="zookeeper", needs=Needs.OPERATOR)
def a_session_that_moved_comes_back(arena: Arena) -> None:
    """A ZooKeeper session that is attached elsewhere, which ends its connection, goes on here and loses nothing."""
    operator, namespace = ZooKeeperOperator(arena.url), arena.namespace()
    session = arena.connect("a", lease_ttl=4 * arena.ttl)
    session.group("g").join()
    term, before = session.election("e").campaign(), session.incarnation
    for _ in range(_TIMES):
        operator.attach(namespace, "a", end=False)
        arena.eventually(lambda: _beats(session), within=4 * arena.ttl)
    assert (session.incarnation, session.state, term.held) == (before, State.CONNECTED, True)
    assert session.group("g").members().ids == ("a",)
    term.proclaim({"still": "here"})


@guarantee("ZOOKEEPER-2", tier="faults", scheme="zookeeper", needs=Needs.OPERATOR)
def a_session_that_the_server_ended_is_found_out(arena: Arena) -> None:
    """A ZooKeeper session that is ended at the server is LOST within a heartbeat, reopens, and rejoins its groups.

    A candidate that waited has won meanwhile, with a higher token; the old term stays lost.
    """
    operator, namespace = ZooKeeperOperator(arena.url), arena.namespace()
    session, other = (arena.connect(name) for name in "ab")
    session.group("g").join({"n": 1})
    term, before = session.election("e").campaign(), session.incarnation
    waiting = arena.background(lambda: other.election("e").campaign())
    operator.attach(namespace, "a", end=True)
    arena.eventually(lambda: not term.held, within=arena.ttl * 0.75)
    assert waiting.result(within=arena.ttl).token > term.token
    arena.eventually(lambda: session.incarnation != before and session.state is State.CONNECTED, within=5 * arena.ttl)
    arena.eventually(lambda: "a" in other.group("g").members(), within=5 * arena.ttl)
    assert not term.held


@guarantee("ZOOKEEPER-3", tier="faults", scheme="zookeeper", needs=Needs.OPERATOR)
def a_node_that_an_operator_deletes_is_lost_within_a_heartbeat(arena: Arena) -> None:
    """Whichever node of a seat, a membership or a session is deleted, the next heartbeat tells; other terms are kept.

    Nobody else wins the seat before that, and its next token is higher.
    """
    operator, namespace = ZooKeeperOperator(arena.url), arena.namespace()
    holder, other = lasting_actor(arena, "a"), lasting_actor(arena, "b")
    kept = holder.win("kept")
    for number, part in enumerate(("leaders", "elections")):
        election = f"e{number}"
        seat = holder.win(election)
        path = operator.path(namespace, f"{part}/{election}")
        (name,) = operator.children(path) or [""]
        operator.delete(f"{path}/{name}".rstrip("/"))
        assert isinstance(other.campaign(election), Waiting)
        assert holder.beat().lost == (seat,)
        del holder.seats[election]
        assert holder.beat().lost == ()
        assert other.win(election).token > seat.token
    holder.join("g")
    (place,) = holder.holdings().memberships
    path = operator.path(namespace, "groups/g")
    operator.delete(f"{path}/{operator.children(path)[0]}")
    assert holder.beat().lost == (place,)
    del holder.places["g"]
    assert holder.proclaim(kept, b"v")
    operator.delete(operator.path(namespace, "sessions/a"))
    with pytest.raises(SessionLost):
        holder.beat()


@guarantee("ZOOKEEPER-4", tier="faults", scheme="zookeeper", needs=Needs.OPERATOR)
def a_candidate_whose_node_is_deleted_queues_again(arena: Arena) -> None:
    """A candidate whose node is deleted does not win by it; it queues again, and is woken when it may win."""
    operator, namespace = ZooKeeperOperator(arena.url), arena.namespace()
    leader, second, third = (lasting_actor(arena, name) for name in "abc")
    seat = leader.win("e")
    second.wait_for("e")
    third.wait_for("e")
    path = operator.path(namespace, "elections/e")
    (node,) = (name for name in operator.children(path) if second.lease.incarnation in name)
    operator.delete(f"{path}/{node}")
    leader.resign(seat)
    second.wait_for("e")
    hints: list[int] = []
    subject = CandidacySubject("e", second.newest_attempt)
    second.backend.watch(second.lease, subject, lambda: hints.append(1), timeout=TIMEOUT)
    won = third.win("e")
    hints.clear()
    third.resign(won)
    arena.eventually(lambda: hints, within=2 * arena.ttl)
    assert second.win("e").token > won.token > seat.token


@guarantee("ZOOKEEPER-5", tier="faults", scheme="zookeeper", needs=(Needs.OPERATOR, Needs.LINK))
def a_lost_answer_leaves_no_node_behind(arena: Arena) -> None:
    """A join or campaign that was applied, and whose answer was lost, has left no node behind after a heartbeat."""
    operator, namespace, link = ZooKeeperOperator(arena.url), arena.namespace(), arena.link()
    actor = Actor(arena, "a", backend=arena.backend(url=link.url))
    actor.open()
    other = lasting_actor(arena, "b")
    # So that both folders are there, and one request is enough.
    other.join("g")
    seat = other.win("e")
    link.proxy.drop_replies()
    with pytest.raises(Unavailable):
        actor.backend.join_group(actor.lease, "g", attempt=actor.next_attempt(), value=b"", timeout=arena.ttl / 5)
    link.proxy.restore()
    arena.eventually(lambda: _answers(actor), within=arena.ttl * 0.75)
    assert {"b"} == set(other.members("g"))
    link.proxy.drop_replies()
    with pytest.raises(Unavailable):
        actor.backend.campaign(actor.lease, "e", attempt=actor.next_attempt(), value=b"", timeout=arena.ttl / 5)
    link.proxy.restore()
    arena.eventually(lambda: _answers(actor), within=arena.ttl * 0.75)
    (left,) = operator.children(operator.path(namespace, "elections/e"))
    assert other.lease.incarnation in left
    assert other.proclaim(seat, b"v")


@guarantee("ZOOKEEPER-6", tier="faults", scheme="zookeeper", needs=Needs.OPERATOR)
def reading_and_watching_keep_nobody_alive(arena: Arena) -> None:
    """A session that stops beating ends in time, though its client library lives on, and its program reads and watches.

    Its node is gone from the server, and the library opens no session of its own.
    """
    operator, namespace = ZooKeeperOperator(arena.url), arena.namespace()
    silent, other = arena.actor("a"), arena.actor("b")
    silent.join("g")
    silent.win("e")
    silent.backend.watch(silent.lease, GroupSubject("g"), lambda: None, timeout=TIMEOUT)
    silent.beat()
    last = arena.clock.now()
    bound = arena.profile.eviction.seconds(arena.ttl) + arena.ttl / 2
    while "a" in _members(silent):
        assert arena.clock.now() - last <= bound
        other.beat()
        arena.wait(arena.ttl / 20)
    assert other.leader("e") == Vacant()
    with pytest.raises(SessionLost):
        silent.beat()
    assert operator.children(operator.path(namespace, "sessions")) == ["b"]


untested(
    "ZOOKEEPER-7",
    "When the server's wall clock steps, back and forth, no session is lost, no term overlaps, and tokens rise.",
    why="a Java machine under libfaketime takes half a minute to start and answers too late. ZooKeeper counts sessions "
    "by a clock that no step touches, and tokens are zxids",
)


def _members(actor: Actor) -> dict[str, bytes]:
    try:
        return actor.members("g")
    except SessionLost:
        return {}


def _beats(session: Session) -> bool:
    try:
        session.beat()
    except Unavailable:
        return False
    return True


def _answers(actor: Actor) -> bool:
    try:
        actor.beat()
    except Unavailable:
        return False
    return True
