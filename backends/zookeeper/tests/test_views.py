"""Reading much at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from drumbeat.hookspecs import Membership
from drumbeat_conformance.actor import plugin_of
from drumbeat_zookeeper import ZooKeeperBackend
from drumbeat_zookeeper._layout import Record

if TYPE_CHECKING:
    from collections.abc import Callable

    from kazoo.client import KazooClient  # type: ignore[import-untyped]

    from drumbeat_conformance.actor import Actor
    from drumbeat_conformance.arena import Arena
    from drumbeat_conformance.proxy import Proxy
    from drumbeat_conformance.servers import Server
    from drumbeat_zookeeper._session import Session

MEMBERS = 1000


def fill(client: KazooClient, made: Arena, members: range) -> None:
    """Put members into the group as sessions would."""
    for number in members:
        record = Record(incarnation=f"i{number}", member_id=f"m{number}", ttl=30.0, value=b"%d" % number)
        client.create_async(f"/{made._prefix}tests/groups/g/i{number}-1", record.pack(), ephemeral=True)
    client.sync("/")


def test_a_view_is_two_round_trips_however_many_members(
    proxy: Proxy, zookeeper_server: Server, arena_on: Callable[..., Arena], operator: Callable[..., KazooClient]
) -> None:
    """A view of 1000 members with their values is complete, and as many turns on the wire as one of 10."""
    made = arena_on(f"zookeeper://{proxy.address}", ttl=30.0)
    actor = made.actor("a")
    actor.join("g", b"a")
    reads = proxy.connections[-2]
    client = operator(zookeeper_server.address)
    there = 0
    for members in (10, MEMBERS):
        fill(client, made, range(there, members))
        there = members
        before = reads.turns
        view = actor.members("g")
        assert view == {"a": b"a"} | {f"m{number}": b"%d" % number for number in range(members)}
        assert reads.turns - before == 2


def test_a_view_in_flight_delays_no_heartbeat(
    proxy: Proxy, zookeeper_server: Server, arena_on: Callable[..., Arena], operator: Callable[..., KazooClient]
) -> None:
    """BEAT-11: while views of 1000 members are being read, heartbeats are answered as if there were none."""
    made = arena_on(f"zookeeper://{proxy.address}", ttl=30.0)
    actor = made.actor("a")
    actor.join("g", b"a")
    fill(operator(zookeeper_server.address), made, range(MEMBERS))
    session = _session(actor)
    with ThreadPoolExecutor(4) as pool:
        views = [pool.submit(actor.members, "g") for _ in range(20)]
        beats = 0
        while not all(view.done() for view in views):
            assert actor.beat().lost == ()
            beats += 1
        assert all(len(view.result()) == MEMBERS + 1 for view in views)
    assert beats >= 20
    assert session.owner is not session.reader


def test_a_heartbeat_takes_no_values_along(proxy: Proxy, arena_on: Callable[..., Arena]) -> None:
    """BEAT-6: a heartbeat over fifty values of the largest size stays small."""
    actor = arena_on(f"zookeeper://{proxy.address}", ttl=30.0).actor("a")
    limit = 65_536
    for number in range(50):
        actor.join(f"g{number}", bytes(limit))
    beats = proxy.connections[-1]
    before = beats.bytes_from_server
    assert actor.beat().lost == ()
    assert beats.bytes_from_server - before < limit


def test_a_membership_of_an_earlier_attempt_is_seen_once(
    zookeeper_server: Server, arena_on: Callable[..., Arena]
) -> None:
    """GROUP-4: while a member joins again it stands in the group at least once, and is shown at most once."""
    made = arena_on(zookeeper_server.url, ttl=30.0)
    actor, other = made.actor("a"), made.actor("b")
    actor.join("g", b"old")
    session = _session(actor)
    old = Membership("g", actor.newest_attempt)
    session._made.discard(old)
    actor.join("g", b"new")
    assert other.members("g") == {"a": b"new"}
    session._made.add(old)
    assert actor.beat().lost == ()
    assert other.members("g") == {"a": b"new"}


def _session(actor: Actor) -> Session:
    backend = plugin_of(actor.backend)
    assert isinstance(backend, ZooKeeperBackend)
    return backend._sessions[actor.lease.incarnation]
