"""Membership as users want it: what was asked for last holds, also where an answer was lost and many are in."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest

from drumbeat import Partition, State, Unavailable
from drumbeat.testing import Faults, lose
from drumbeat_conformance.actor import Actor
from drumbeat_conformance.guarantee import guarantee
from drumbeat_conformance.guarantees._lapse import long_ttl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drumbeat import Session
    from drumbeat_conformance.arena import Arena

#: More than a page, whatever a server takes for one; and how many threads bring them in.
_MANY: Final = 200
_THREADS: Final = 8


@guarantee("GROUP-27")
def a_leave_that_raised_is_final(arena: Arena) -> None:
    """A leave whose request or answer was lost is not undone: one heartbeat later the membership is gone, and neither
    later heartbeats nor a reopening bring it back.
    """
    faults = Faults(arena.clock)
    session = arena.connect("a", interceptors=[faults], heartbeat="manual", lease_ttl=long_ttl(arena))
    for disturb in (faults.failing, faults.dropping_replies):
        group = session.group("g")
        group.join()
        with disturb("leave_group"), pytest.raises(Unavailable):
            group.leave()
        for _ in range(2):
            session.beat()
            assert group.members().ids == ()
        assert group.update({"n": 1}) is False
    _reopen(arena, session)
    session.beat()
    assert session.groups() == ()


def _reopen(arena: Arena, session: Session) -> None:
    before = session.incarnation
    lose(session)
    arena.eventually(
        lambda: session.state is State.CONNECTED and session.incarnation != before,
        within=10 * arena.ttl,
    )


@guarantee("GROUP-29")
def a_join_that_failed_leaves_an_earlier_membership(arena: Arena) -> None:
    """A member whose second join was not sent is a member as before, without a gap; one whose second join lost its
    answer is in with the metadata from before, one heartbeat later.
    """
    faults = Faults(arena.clock)
    session = arena.connect("a", interceptors=[faults], heartbeat="manual", lease_ttl=long_ttl(arena))
    group = session.group("g")
    group.join({"n": 1})
    with faults.failing("join_group"):
        with pytest.raises(Unavailable):
            group.join({"n": 2})
        session.beat()
        assert [member.metadata for member in group.members()] == [{"n": 1}]
    with faults.dropping_replies("join_group"), pytest.raises(Unavailable):
        group.join({"n": 3})
    session.beat()
    assert [member.metadata for member in group.members()] == [{"n": 1}]
    with faults.failing("join_group"):
        session.beat()


@guarantee("GROUP-30", alone=True)
def two_hundred_members_are_all_shown(arena: Arena) -> None:
    """A view shows every member, however many, with its own metadata; all who look see the same ones in the same order,
    and share work out alike.
    """
    lease = long_ttl(arena)
    watcher, other = arena.connect("a-watcher", lease_ttl=lease), arena.connect("z-other", lease_ttl=lease)
    metadata: dict[str, dict[str, object]] = {f"m{number:03}": {"number": number} for number in range(_MANY)}
    _fill(arena, {name: f'1{{"number":{found["number"]}}}'.encode() for name, found in metadata.items()}, lease)
    views = [session.group("g").members() for session in (watcher, other)]
    assert views[0] == views[1]
    assert list(metadata.items()) == [(member.member_id, member.metadata) for member in views[0]]
    plans = [Partition.of(view) for view in views]
    assert plans[0] == plans[1]
    assert plans[0].weights == dict.fromkeys(metadata, 1.0)
    with other.group("g").watch() as changes:
        first = arena.run(partial(changes.next, lease), within=lease)
    assert first.view == views[0]


def _fill(arena: Arena, values: dict[str, bytes], lease: float) -> None:
    """Open a session for each member and join, in a few threads."""
    actors = [Actor(arena, name, backend=arena.backend()) for name in values]
    requests = {actor.member_id: replace(actor.request(), ttl=lease) for actor in actors}

    def bring_in(some: Sequence[Actor]) -> None:
        for actor in some:
            actor.open(requests[actor.member_id])
            actor.join("g", values[actor.member_id])

    for joins in [arena.background(partial(bring_in, actors[number::_THREADS])) for number in range(_THREADS)]:
        joins.result(within=lease)


@guarantee("GROUP-31")
def a_name_is_the_same_however_it_is_composed(arena: Arena) -> None:
    """A letter with its accent and the letter followed by its accent are one name: of groups, elections and members."""
    lease = long_ttl(arena)
    one, two = arena.connect("e\u0301", lease_ttl=lease), arena.connect("b", lease_ttl=lease)
    one.group("u\u0308").join()
    term = one.election("u\u0308").campaign()
    assert two.group("\u00fc").members().ids == ("\u00e9",)
    assert two.groups() == ("\u00fc",)
    leader = two.election("\u00fc").leader()
    assert leader is not None
    assert (leader.member_id, leader.token) == ("\u00e9", term.token)
