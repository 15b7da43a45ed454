"""A real Arena: one slot, whoever has it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
import redis.crc

from drumbeat import Unavailable
from drumbeat.hookspecs import GroupSubject
from drumbeat_conformance.servers import RedisCluster, Server, start_redis_cluster
from drumbeat_conformance.waiting import eventually

if TYPE_CHECKING:
    from drumbeat_conformance.actor import Actor
    from drumbeat_conformance.arena import Arena

Peek = Callable[..., Callable[..., object]]


@pytest.fixture(scope="module")
def nodes() -> Iterator[RedisCluster]:
    """Three nodes that share out all slots."""
    with start_redis_cluster() as cluster:
        yield cluster


def slot_of(actor: Actor) -> int:
    """Return the slot of an actor's namespace."""
    return redis.crc.key_slot(f"{{{actor.stage.namespace()}}}".encode())


def owner_of(slot: int, cluster: RedisCluster, peek: Peek) -> Server:
    """Return the node that has a slot and its keys."""
    return next(node for node in cluster.nodes if _has(peek(node.port), slot))


def _has(ask: Callable[..., object], slot: int) -> bool:
    count = ask("CLUSTER", "COUNTKEYSINSLOT", slot)
    return isinstance(count, int) and count > 0


def play(one: Actor, two: Actor) -> None:
    """Do something of everything."""
    one.join("{g}", b"1")
    seat = one.win("e}")
    two.wait_for("e}")
    assert two.members("{g}") == {one.member_id: b"1"}
    assert one.beat().lost == ()
    one.resign(seat)
    assert two.win("e}").token > seat.token


@pytest.mark.parametrize("namespace", ["plain", "a{b}c", "}{", "über raum*"])
def test_a_namespace_is_one_slot(nodes: RedisCluster, arena_on: Callable[..., Arena], namespace: str) -> None:
    """GROUP-7: everything works on a cluster, whatever braces are in names: the server refuses a second slot."""
    arena = arena_on(nodes.url, ttl=30.0)
    play(arena.actor("a", namespace=namespace), arena.actor("{b}", namespace=namespace))


def test_namespaces_are_spread(nodes: RedisCluster, arena_on: Callable[..., Arena], peek: Peek) -> None:
    """Several namespaces are served by several nodes."""
    actors = [arena_on(nodes.url, ttl=30.0).actor("a") for _ in range(12)]
    assert len({owner_of(slot_of(actor), nodes, peek).port for actor in actors}) > 1


def test_a_hint_comes_from_the_node_with_the_slot(nodes: RedisCluster, arena_on: Callable[..., Arena]) -> None:
    """Push works on a cluster."""
    arena = arena_on(nodes.url, ttl=30.0)
    one, two = arena.actor("a"), arena.actor("b")
    hints: list[None] = []
    one.backend.watch(one.lease, GroupSubject("g"), lambda: hints.append(None), timeout=5.0)
    two.join("g")
    eventually(lambda: hints, within=5.0)


def test_a_slot_that_has_moved_is_followed(nodes: RedisCluster, arena_on: Callable[..., Arena], peek: Peek) -> None:
    """MOVED: after a slot has moved to another node with its keys, the next calls of all kinds succeed."""
    arena = arena_on(nodes.url, ttl=10.0)
    one, two = arena.actor("a"), arena.actor("b")
    seat = one.win("e")
    hints: list[None] = []
    two.backend.watch(two.lease, GroupSubject("g"), lambda: hints.append(None), timeout=5.0)
    slot = slot_of(one)
    old = owner_of(slot, nodes, peek)
    new = next(node for node in nodes.nodes if node is not old)
    move(slot, peek(old.port), peek(new.port), to=new)
    assert one.beat().lost == ()
    assert one.proclaim(seat, b"moved")
    one.join("g")
    assert two.members("g") == {"a": b"value"}
    assert owner_of(slot, nodes, peek) is new


def move(slot: int, old: Callable[..., object], new: Callable[..., object], *, to: Server) -> None:
    """Move a slot as an operator does (https://redis.io/docs/latest/commands/cluster-setslot/)."""
    target, source = new("CLUSTER", "MYID"), old("CLUSTER", "MYID")
    new("CLUSTER", "SETSLOT", slot, "IMPORTING", str(source))
    old("CLUSTER", "SETSLOT", slot, "MIGRATING", str(target))
    keys = old("CLUSTER", "GETKEYSINSLOT", slot, 100)
    assert isinstance(keys, list)
    old("MIGRATE", "127.0.0.1", to.port, "", 0, 5000, "KEYS", *keys)
    for ask in (new, old):
        ask("CLUSTER", "SETSLOT", slot, "NODE", str(target))


def test_a_dead_node_of_another_slot_matters_to_nobody(
    start_redis_cluster: Callable[..., RedisCluster], arena_on: Callable[..., Arena], peek: Peek
) -> None:
    """With cluster-require-full-coverage no, a session does not notice the death of a node that has not its slot."""
    cluster = start_redis_cluster()
    for node in cluster.nodes:
        peek(node.port)("CONFIG", "SET", "cluster-require-full-coverage", "no")
    actor = arena_on(cluster.url, ttl=10.0).actor("a")
    seat = actor.win("e")
    owner = owner_of(slot_of(actor), cluster, peek)
    next(node for node in cluster.nodes if node is not owner).kill()
    eventually(lambda: "fail" in str(peek(owner.port)("CLUSTER", "NODES")), within=15.0)
    actor.backend.drop_session(actor.lease)
    fresh = actor.stage.actor("b")
    fresh.wait_for("e")
    assert seat.token == getattr(fresh.leader("e"), "token", None)


def test_a_dead_owner_is_unavailable_until_it_is_back(
    start_redis_cluster: Callable[..., RedisCluster], arena_on: Callable[..., Arena], peek: Peek
) -> None:
    """The node with the slot dies, with no replica to take over: nothing was changed, and all goes on at its return."""
    cluster = start_redis_cluster()
    actor = arena_on(cluster.url, ttl=30.0).actor("a")
    seat = actor.win("e")
    owner = owner_of(slot_of(actor), cluster, peek)
    owner.kill()
    with pytest.raises(Unavailable):
        actor.beat()
    owner.start()
    eventually(lambda: _beats(actor), within=15.0)
    assert seat.token == getattr(actor.leader("e"), "token", None)


def _beats(actor: Actor) -> bool:
    try:
        return actor.beat().lost == ()
    except Unavailable:
        return False
