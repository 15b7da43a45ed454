"""Work is shared out: everything, nothing twice, and the share of the dead goes to the living."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support import eventually

from drumbeat._partition import seats

if TYPE_CHECKING:
    from collections.abc import Callable

    from support import Cluster, Tap

    from drumbeat import Group, Session, Shards

ITEMS = [f"meter {number}" for number in range(200)]
COUNT = 12


def join(cluster: Cluster, member_id: str) -> Group:
    """Return the group, joined by a new session."""
    group = cluster.connect(member_id).group("agents")
    group.join()
    return group


def test_shares_of_one_view_are_disjoint_and_complete(cluster: Cluster) -> None:
    """PART-1: what the members of a stable group get is everything, and nothing twice."""
    groups = [join(cluster, name) for name in ("a", "b", "c")]
    shares = [group.partition(ITEMS) for group in groups]
    assert sorted(item for share in shares for item in share) == sorted(ITEMS)
    assert all(shares)


def test_a_leave_moves_only_the_leavers_items(cluster: Cluster) -> None:
    """PART-2: after a leave the others keep what they had and share the rest."""
    one, two, three = (join(cluster, name) for name in ("a", "b", "c"))
    before = {"b": set(two.partition(ITEMS)), "c": set(three.partition(ITEMS))}
    one.leave()
    after = {"b": set(two.partition(ITEMS)), "c": set(three.partition(ITEMS))}
    assert before["b"] < after["b"]
    assert before["c"] < after["c"]
    assert after["b"] | after["c"] == set(ITEMS)


def by_right(*names: str) -> dict[int, str]:
    """Return who should hold each shard among equal members."""
    plan = seats(dict.fromkeys(names, 1.0), COUNT, names[0]) if names else None
    return {number: owner for number, (owner, _) in enumerate(plan or [])}


def has(*members: tuple[str, Shards]) -> Callable[[], bool]:
    """Return a condition: the members hold the shards that are theirs by right, and so all of them."""
    expected = by_right(*(name for name, _ in members))
    return lambda: {number: name for name, shards in members for number in shards.owned} == expected


def share(session: Session) -> Shards:
    """Join the group, and share its shards."""
    group = session.group("g")
    group.join()
    return group.shards(COUNT)


def test_sessions_share_and_hand_over(cluster: Cluster) -> None:
    """PART-1 to 3 on every backend: a stable group has its own shards, also after a join and a leave."""
    a, b, c = (share(cluster.connect(name)) for name in "abc")
    eventually(has(("a", a), ("b", b), ("c", c)), within=10 * cluster.ttl)
    kept = dict(a.owned)
    c.close()
    cluster.sessions[2].close()
    eventually(has(("a", a), ("b", b)), within=10 * cluster.ttl)
    assert kept.items() <= a.owned.items()
    b.close()
    assert b.owned == {}


def test_a_dead_sessions_shards_are_reassigned(cluster: Cluster, tap: Tap) -> None:
    """PART-4: a session that falls silent holds nothing after its deadline, and the others everything in time."""
    dead = share(cluster.connect("dead", interceptors=[tap]))
    session = cluster.connect("heir")
    heir = share(session)
    eventually(has(("dead", dead), ("heir", heir)), within=10 * cluster.ttl)
    profile = session.backend
    bound = max(profile.failover.seconds(cluster.ttl), profile.eviction.seconds(cluster.ttl))
    with tap.cut():
        eventually(has(("heir", heir)), within=bound + cluster.ttl)
        assert dead.owned == {}
    eventually(has(("dead", dead), ("heir", heir)), within=20 * cluster.ttl)
