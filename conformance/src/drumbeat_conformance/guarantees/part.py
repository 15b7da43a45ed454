"""Work is shared out: everything, nothing twice, and the share of the dead goes to the living."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from drumbeat import State
from drumbeat._partition import seats
from drumbeat.testing import Faults
from drumbeat_conformance.guarantee import guarantee
from drumbeat_conformance.guarantees._witnesses import LONG, Recorder

if TYPE_CHECKING:
    from collections.abc import Callable

    from drumbeat import Group, Session, Shards
    from drumbeat_conformance.arena import Arena

_ITEMS: Final = [f"meter {number}" for number in range(200)]
#: How many shards there are.
_COUNT: Final = 12


def _join(arena: Arena, member_id: str) -> Group:
    """Return the group, joined by a new session."""
    group = arena.connect(member_id, lease_ttl=LONG).group("agents")
    group.join()
    return group


def _shares(*groups: Group) -> list[set[str]]:
    return [set(group.partition(_ITEMS)) for group in groups]


def _share(session: Session) -> Shards:
    """Join the group, and take part in its shards."""
    group = session.group("g")
    group.join()
    return group.shards(_COUNT)


def _by_right(*names: str) -> dict[int, str]:
    """Return who should hold each shard among equal members."""
    plan = seats(dict.fromkeys(names, 1.0), _COUNT, names[0]) or []
    return {number: owner for number, (owner, _) in enumerate(plan)}


def _have(**members: Shards) -> Callable[[], bool]:
    """Return a condition: the members hold the shards that are theirs by right, and so all of them."""
    expected = sorted(_by_right(*members).items())
    return lambda: expected == sorted((number, name) for name, shards in members.items() for number in shards.owned)


@guarantee("PART-1")
def shares_of_a_stable_view_are_disjoint_and_complete(arena: Arena) -> None:
    """With a stable view, what the members of a group get is everything, and nothing twice."""
    groups = [_join(arena, name) for name in ("a", "b", "c")]
    shares = [group.partition(_ITEMS) for group in groups]
    assert sorted(_ITEMS) == sorted(item for share in shares for item in share)
    assert all(shares)


@guarantee("PART-2")
def a_join_or_leave_moves_only_what_must_move(arena: Arena) -> None:
    """A leave moves the items of the leaver alone, and a join moves items to who has joined alone."""
    one, two, three = (_join(arena, name) for name in ("a", "b", "c"))
    before = _shares(two, three)
    one.leave()
    alone = _shares(two, three)
    assert all(had < has for had, has in zip(before, alone, strict=True))
    assert set(_ITEMS) == alone[0] | alone[1]
    four = _join(arena, "d")
    after = _shares(two, three, four)
    assert all(has <= had for has, had in zip(after, alone, strict=False))
    assert set(_ITEMS) == after[0] | after[1] | after[2]


@guarantee("PART-3")
def a_shard_never_has_two_owners(arena: Arena) -> None:
    """An exclusive shard never has two owners, while members join, leave, fall silent and come back; and its tokens
    rise from each owner to the next.
    """
    recorder, faults = Recorder(), Faults(arena.clock)
    silent = arena.connect("silent", interceptors=[faults], observers=[recorder])
    others = {name: arena.connect(name, observers=[recorder]) for name in ("b", "c", "d")}
    first = _share(silent)
    shards = {name: _share(others[name]) for name in ("b", "c")}
    arena.eventually(lambda: first.owned and shards["b"].owned, within=5 * arena.ttl)
    with faults.failing():
        arena.wait(arena.ttl / 2)
        shards["d"] = _share(others["d"])
        others["b"].group("g").leave()
        arena.eventually(lambda: silent.state is State.LOST, within=2 * arena.ttl)
        arena.wait(arena.ttl / 2)
    shards["b"].close()
    del shards["b"]
    arena.eventually(_have(silent=first, **shards), within=10 * arena.ttl)
    for session in (silent, *others.values()):
        session.close()
    assert recorder.overlaps() == []
    assert recorder.token_faults() == []


@guarantee("PART-4")
def the_share_of_a_dead_member_is_reassigned_within_the_bound(arena: Arena) -> None:
    """A member that falls silent holds nothing after its deadline, and within `failover_bound`, and the time in which
    a dead member leaves every view, the others hold all that was its; when it is back it gets its share again.
    """
    faults = Faults(arena.clock)
    silent, session = arena.connect("dead", interceptors=[faults]), arena.connect("heir")
    dead, heir = _share(silent), _share(session)
    arena.eventually(_have(dead=dead, heir=heir), within=10 * arena.ttl)
    profile = session.backend
    bound = max(profile.failover.seconds(session.lease_ttl), profile.eviction.seconds(session.lease_ttl))
    with faults.failing():
        arena.eventually(_have(heir=heir), within=bound + arena.ttl)
        assert dead.owned == {}
    arena.eventually(_have(dead=dead, heir=heir), within=10 * arena.ttl)


@guarantee("PART-5")
def sessions_share_and_hand_over(arena: Arena) -> None:
    """The members of a stable group hold exactly the shards that are theirs by right, also after a join and a leave,
    which move no other shard; who closes its shards holds none.
    """
    staying, leaver, coming = (arena.connect(name, lease_ttl=LONG) for name in "acb")
    a, c = _share(staying), _share(leaver)
    arena.eventually(_have(a=a, c=c), within=10 * arena.ttl)
    b = _share(coming)
    arena.eventually(_have(a=a, b=b, c=c), within=10 * arena.ttl)
    kept = dict(a.owned)
    c.close()
    assert c.owned == {}
    leaver.close()
    arena.eventually(_have(a=a, b=b), within=10 * arena.ttl)
    assert kept.items() <= a.owned.items()
