"""What goes wrong with etcd, each provoked on a real server."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from drumbeat import Conflict, SessionLost, State, Unavailable
from drumbeat.hookspecs import CandidacySubject, GroupSubject, LeaderSubject, Membership, Subject, Waiting
from drumbeat_conformance.actor import TIMEOUT, Actor
from drumbeat_conformance.guarantee import Needs, guarantee
from drumbeat_conformance.guarantees._lasting import lasting_actor
from drumbeat_conformance.operators import EtcdOperator

if TYPE_CHECKING:
    from drumbeat_conformance.arena import Arena

#: Attempts that fail, and writes of others.
_ATTEMPTS: Final = 5
_WRITES: Final = 50


@guarantee("ETCD-1", tier="faults", scheme="etcd", needs=Needs.OPERATOR)
def a_revoked_lease_is_found_out_within_a_heartbeat(arena: Arena) -> None:
    """When a session's lease is revoked, it is LOST within a heartbeat, reopens on a new one, and rejoins its groups.

    A candidate that waited has won meanwhile, with a higher token; a heartbeat on the old lease creates nothing.
    """
    operator, namespace = EtcdOperator(arena.url), arena.namespace()
    silent = arena.actor("silent")
    session, other = (arena.connect(name) for name in "ab")
    session.group("g").join({"n": 1})
    term, before = session.election("e").campaign(), session.incarnation
    waiting = arena.background(lambda: other.election("e").campaign())
    for name in ("a", "silent"):
        operator.revoke(operator.lease_of(operator.key(namespace, f"session/{name}")))
    arena.eventually(lambda: not term.held, within=arena.ttl * 0.75)
    assert waiting.result(within=arena.ttl).token > term.token
    arena.eventually(lambda: session.incarnation != before and session.state is State.CONNECTED, within=5 * arena.ttl)
    arena.eventually(lambda: "a" in other.group("g").members(), within=5 * arena.ttl)
    with pytest.raises(SessionLost):
        silent.beat()
    assert "session/silent" not in operator.keys(namespace)


@guarantee("ETCD-2", tier="faults", scheme="etcd", needs=(Needs.SERVER, Needs.LINK))
def watches_outlive_a_compaction(arena: Arena) -> None:
    """Watches of every kind go on when the history in which they began is compacted, also while they were cut off.

    What happened meanwhile is told once the link is back, and what happens later as before.
    """
    operator, link = EtcdOperator(arena.url), arena.link()
    leader = lasting_actor(arena, "a")
    watcher = lasting_actor(arena, "b", url=link.url)
    seat = leader.win("e")
    watcher.wait_for("e")
    hints = [0, 0, 0]
    subjects: tuple[Subject, ...] = (
        GroupSubject("g"),
        LeaderSubject("e"),
        CandidacySubject("e", watcher.newest_attempt),
    )
    for number, subject in enumerate(subjects):
        _count(watcher, subject, hints, number)
    operator.compact()
    leader.join("g")
    arena.eventually(lambda: hints[0], within=2 * arena.ttl)
    before = list(hints)
    link.proxy.cut()
    leader.leave("g")
    leader.resign(seat)
    for number in range(_WRITES):
        operator.write("elsewhere", str(number).encode())
    operator.compact()
    link.proxy.restore()
    arena.eventually(lambda: all(now > then for now, then in zip(hints, before, strict=True)), within=5 * arena.ttl)
    before = list(hints)
    leader.join("g")
    arena.eventually(lambda: hints[0] > before[0], within=2 * arena.ttl)


@guarantee("ETCD-3", tier="faults", scheme="etcd", needs=Needs.OPERATOR)
def a_key_that_an_operator_deletes_is_lost_within_a_heartbeat(arena: Arena) -> None:
    """Whichever key of a seat, a membership or a session is deleted, the next heartbeat tells; other terms are kept.

    Nobody else wins the seat before that, and its next token is higher.
    """
    operator, namespace = EtcdOperator(arena.url), arena.namespace()
    holder, other = lasting_actor(arena, "a"), lasting_actor(arena, "b")
    kept = holder.win("kept")
    for election, part in (("e", "leader"), ("f", "candidate")):
        seat = holder.win(election)
        other.wait_for(election)
        own = f"/{holder.lease.incarnation}/{seat.attempt}" if part == "candidate" else ""
        assert operator.delete(operator.key(namespace, f"{part}/{election}{own}"))
        assert isinstance(other.campaign(election), Waiting)
        assert holder.beat().lost == (seat,)
        del holder.seats[election]
        assert holder.beat().lost == ()
        assert other.win(election).token > seat.token
    holder.join("g")
    (key,) = (key for key in operator.keys(namespace) if key.startswith("member/g/"))
    assert operator.delete(operator.key(namespace, key))
    assert holder.beat().lost == (Membership("g", holder.places.pop("g")),)
    assert holder.proclaim(kept, b"v")
    assert operator.delete(operator.key(namespace, "session/a"))
    with pytest.raises(SessionLost):
        holder.beat()


@guarantee("ETCD-4", tier="faults", scheme="etcd", needs=Needs.OPERATOR)
def a_candidate_whose_key_is_gone_does_not_win(arena: Arena) -> None:
    """A candidate whose key is deleted does not win when its predecessor goes; it queues again, behind who came."""
    operator, namespace = EtcdOperator(arena.url), arena.namespace()
    leader, second, third = (lasting_actor(arena, name) for name in "abc")
    seat = leader.win("e")
    second.wait_for("e")
    third.wait_for("e")
    mine = f"candidate/e/{second.lease.incarnation}/{second.candidacies['e']}"
    assert operator.delete(operator.key(namespace, mine))
    leader.resign(seat)
    second.wait_for("e")
    won = third.win("e")
    second.wait_for("e")
    third.resign(won)
    assert second.win("e").token > won.token > seat.token
    assert second.beat().lost == ()


@guarantee("ETCD-5", tier="faults", scheme="etcd", needs=Needs.SERVER)
def a_full_server_keeps_what_it_has(arena: Arena) -> None:
    """A server whose space is exceeded refuses what grows, as Unavailable, and does none of it; terms are kept."""
    operator = EtcdOperator(arena.url)
    actor = arena.actor("a")
    seat = actor.win("e")
    operator.raise_alarm(active=True)
    with pytest.raises(Unavailable) as failure:
        actor.join("g")
    assert failure.value.outcome == "not_applied"
    del actor.places["g"]
    for _ in range(6):
        arena.wait(arena.ttl / 4)
        assert actor.beat().lost == ()
    assert getattr(actor.leader("e"), "token", None) == seat.token
    operator.raise_alarm(active=False)
    assert actor.members("g") == {}
    actor.join("g")
    assert set(actor.members("g")) == {"a"}
    assert actor.resign(seat)


@guarantee("ETCD-6", tier="faults", scheme="etcd", needs=Needs.SERVER)
def there_is_one_lease_for_each_session(arena: Arena) -> None:
    """Neither refused openings nor any number of campaigns leave a lease behind: there is one for each session."""
    operator = EtcdOperator(arena.url)
    leader, candidate = lasting_actor(arena, "a"), lasting_actor(arena, "b")
    leader.win("e")
    for _ in range(_ATTEMPTS):
        with pytest.raises(Conflict):
            arena.actor("a")
        candidate.wait_for("e")
        candidate.withdraw("e", candidate.newest_attempt)
    assert operator.count_leases() == 2
    candidate.close()
    assert operator.count_leases() == 1


@guarantee("ETCD-7", tier="faults", scheme="etcd", needs=Needs.OPERATOR)
def the_granted_ttl_is_the_one_that_counts(arena: Arena) -> None:
    """A lease says what the server granted, in whole seconds and never less than was asked for, at each heartbeat."""
    actor = Actor(arena, "a", backend=arena.backend())
    lease = actor.open(replace(actor.request(), ttl=arena.ttl + 0.5))
    assert lease.ttl == int(lease.ttl) >= arena.ttl + 0.5
    assert actor.beat().lease.ttl == lease.ttl


def _count(actor: Actor, subject: Subject, hints: list[int], number: int) -> None:
    def hint() -> None:
        hints[number] += 1

    actor.backend.watch(actor.lease, subject, hint, timeout=TIMEOUT)
