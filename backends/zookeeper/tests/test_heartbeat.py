"""The heartbeat: one round trip, nothing else renews, and what happens when it gets no answer."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from kazoo.protocol.connection import ConnectionHandler  # type: ignore[import-untyped]

from drumbeat import SessionLost, State, Unavailable
from drumbeat.hookspecs import GroupSubject, Holdings, Seat, Vacant
from drumbeat_conformance.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from kazoo.client import KazooClient  # type: ignore[import-untyped]

    from drumbeat_conformance.actor import Actor
    from drumbeat_conformance.arena import Arena
    from drumbeat_conformance.proxy import Proxy
    from drumbeat_conformance.servers import Server
    from drumbeat_zookeeper._link import Link

    OwnerOf = Callable[[Actor], Link]

#: Seconds; ten ticks of the servers of these tests.
TTL = 1.0


def test_a_heartbeat_is_one_round_trip_on_a_connection_of_its_own(proxy: Proxy, arena_on: Callable[..., Arena]) -> None:
    """BEAT-6 and 11: with 1 and with 50 groups and seats one turn on one connection, and none where views travel."""
    actor = arena_on(f"zookeeper://{proxy.address}", ttl=30.0).actor("a")
    reads, beats = proxy.connections[-2:]
    for holdings in (1, 50):
        for number in range(len(actor.seats), holdings):
            actor.join(f"g{number}")
            actor.win(f"e{number}")
        before = (reads.turns, beats.turns)
        assert actor.beat().lost == ()
        assert (before[0], before[1] + 1) == (reads.turns, beats.turns)


def test_what_belongs_together_is_one_write(
    zookeeper_server: Server, arena_on: Callable[..., Arena], monkeypatch: pytest.MonkeyPatch
) -> None:
    """BEAT-6: however many requests a heartbeat is made of, they leave in one piece, with no answer in between."""
    actor = arena_on(zookeeper_server.url, ttl=30.0).actor("a")
    writes: list[int] = []
    write = ConnectionHandler._write

    def counting(connection: object, message: bytes, timeout: float) -> None:
        writes.append(len(message))
        write(connection, message, timeout)

    monkeypatch.setattr(ConnectionHandler, "_write", counting)
    for seats in (0, 1, 500):
        invented = Holdings(seats=tuple(Seat(f"e{number}", 1, 1) for number in range(seats)), newest_attempt=1)
        writes.clear()
        assert len(actor.backend.heartbeat(actor.lease, invented, timeout=10.0).lost) == seats
        assert len(writes) == 1


def test_a_session_whose_node_is_gone_is_lost(
    zookeeper_server: Server, arena_on: Callable[..., Arena], operator: Callable[..., KazooClient]
) -> None:
    """BEAT-10: when the node is deleted that keeps its member id, the session is told, before another takes the id."""
    made = arena_on(zookeeper_server.url, ttl=30.0)
    actor = made.actor("a")
    operator(zookeeper_server.address).delete(f"/{made._prefix}tests/sessions/a")
    with pytest.raises(SessionLost):
        actor.beat()


def test_a_dead_link_is_left_for_another_host(
    proxy: Proxy, zookeeper_server: Server, arena_on: Callable[..., Arena], owner_of: OwnerOf
) -> None:
    """FAULT-6: a session whose link dies without a word goes on by the next host in time, though it sends no pings."""
    made = arena_on(f"zookeeper://{proxy.address},{zookeeper_server.address}", ttl=4 * TTL)
    actors = [made.actor(f"m{number}") for number in range(12)]
    (actor, *_) = [one for one in actors if owner_of(one)._connection._socket.getpeername()[1] == proxy.port]
    actor.beat()
    last = time.monotonic()
    proxy.black_hole()
    with pytest.raises(Unavailable):
        actor.backend.heartbeat(actor.lease, actor.holdings(), timeout=TTL / 2)

    def beats() -> bool:
        try:
            return actor.backend.heartbeat(actor.lease, actor.holdings(), timeout=TTL / 2).lost == ()
        except Unavailable:
            return False

    eventually(beats, within=4 * TTL)
    assert time.monotonic() - last < 4 * TTL


def test_reading_and_watching_keep_nobody_alive(zookeeper_server: Server, arena_on: Callable[..., Arena]) -> None:
    """BEAT-2: a session that stops beating ends although its client library lives on and its program reads."""
    made = arena_on(zookeeper_server.url)
    silent, other = made.actor("a"), made.actor("b")
    silent.join("g")
    silent.win("e")
    last = time.monotonic()
    silent.backend.watch(silent.lease, GroupSubject("g"), lambda: None, timeout=5.0)
    bound = made.profile.failover.seconds(TTL)
    while silent.members("g"):
        assert time.monotonic() - last <= bound
        other.beat()
        made.wait(TTL / 20)
    assert time.monotonic() - last >= 0.99 * TTL
    assert other.leader("e") == Vacant()
    with pytest.raises(SessionLost):
        silent.beat()


def test_no_session_is_opened_that_nobody_asked_for(
    zookeeper_server: Server, arena_on: Callable[..., Arena], owner_of: OwnerOf
) -> None:
    """After an expiry the client library does not go on with a session of its own making."""
    made = arena_on(zookeeper_server.url)
    dead = made.actor("a")
    owner = owner_of(dead)
    made.wait(2 * TTL)
    eventually(lambda: owner.over, within=5 * TTL)
    assert owner._connection.connection_stopped.wait(5 * TTL)
    assert not owner._client.connected


def test_a_frozen_server_holds_up_nobody(
    start_zookeeper: Callable[..., Server], arena_on: Callable[..., Arena]
) -> None:
    """FAULT-3: the server freezes for five TTLs; the term says so in time, and the session comes back by itself."""
    server = start_zookeeper()
    session = arena_on(server.url).connect("a")
    session.group("g").join({"n": 1})
    term = session.election("e").campaign(timeout=5 * TTL)
    first = session.incarnation
    server.pause()
    frozen = time.monotonic()
    try:
        eventually(lambda: not term.held, within=1.5 * TTL)
        assert time.monotonic() - frozen <= 1.5 * TTL
        eventually(lambda: session.state is State.LOST, within=TTL)
        time.sleep(max(0.0, frozen + 5 * TTL - time.monotonic()))
    finally:
        server.resume()
    eventually(lambda: session.state is State.CONNECTED, within=20 * TTL)
    assert session.incarnation != first
    assert session.election("e").campaign(timeout=10 * TTL).token > term.token
    eventually(lambda: {"a"} == {member.member_id for member in session.group("g").members()}, within=10 * TTL)
    assert not term.held


def test_a_black_hole_shorter_than_the_ttl_loses_nothing(proxy: Proxy, arena_on: Callable[..., Arena]) -> None:
    """FAULT-6: a link that swallows everything for half a TTL and is then well again keeps the session and its term."""
    session = arena_on(f"zookeeper://{proxy.address}").connect("a", lease_ttl=4 * TTL)
    term = session.election("e").campaign(timeout=5 * TTL)
    first = session.incarnation
    proxy.black_hole()
    eventually(lambda: session.state is State.SUSPENDED, within=4 * TTL)
    proxy.restore()
    eventually(lambda: session.state is State.CONNECTED, within=2 * TTL)
    assert (session.incarnation, term.held) == (first, True)


def test_a_black_hole_longer_than_the_ttl_is_survived(proxy: Proxy, arena_on: Callable[..., Arena]) -> None:
    """FAULT-6 and BEAT-8: behind a dead link the session is LOST in time; once the link is well it is a new one."""
    both = arena_on(f"zookeeper://{proxy.address}")
    session = both.connect("a")
    term = session.election("e").campaign(timeout=5 * TTL)
    first = session.incarnation
    proxy.black_hole()
    eventually(lambda: not term.held, within=1.5 * TTL)
    time.sleep(TTL)
    proxy.restore()
    eventually(lambda: session.state is State.CONNECTED, within=20 * TTL)
    assert session.incarnation != first
    assert session.election("e").campaign(timeout=10 * TTL).token > term.token


def test_a_call_without_a_connection_changes_nothing(
    proxy: Proxy, arena_on: Callable[..., Arena], owner_of: OwnerOf
) -> None:
    """Behind a cut link a call raises Unavailable in its time, and says that it was not even sent."""
    actor = arena_on(f"zookeeper://{proxy.address}", ttl=30.0).actor("a")
    proxy.cut()
    eventually(lambda: not owner_of(actor)._client.connected, within=5 * TTL)
    started = time.monotonic()
    with pytest.raises(Unavailable) as failure:
        actor.backend.heartbeat(actor.lease, Holdings(), timeout=TTL / 4)
    assert failure.value.outcome == "not_applied"
    assert time.monotonic() - started <= 2 * TTL
    proxy.restore()
    eventually(lambda: owner_of(actor)._client.connected, within=10 * TTL)
    assert actor.beat().lost == ()


def test_close_is_bounded_when_the_server_is_silent(
    proxy: Proxy, arena_on: Callable[..., Arena], owner_of: OwnerOf
) -> None:
    """BEAT-7: close returns in its time from behind a dead link, says that it knows nothing, and leaves no thread."""
    made = arena_on(f"zookeeper://{proxy.address}")
    actor = made.actor("a")
    owner = owner_of(actor)
    proxy.black_hole()
    started = time.monotonic()
    with pytest.raises(Unavailable):
        actor.backend.close_session(actor.lease, timeout=TTL / 4)
    assert time.monotonic() - started <= 2 * TTL
    eventually(owner._connection.connection_closed.is_set, within=10 * TTL)
    with pytest.raises(SessionLost):
        actor.beat()
