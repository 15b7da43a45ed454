"""The contract of `drumbeat.hookspecs`, hook by hook, on every embedded backend and the example."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import replace
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING

import pytest
from harness import TIMEOUT, leader_id

from drumbeat._errors import ConfigurationError, Conflict, NotSupported, SessionLost
from drumbeat.hookspecs import (
    Candidacy,
    CandidacySubject,
    Capability,
    GroupSubject,
    Holdings,
    LeaderRecord,
    LeaderSubject,
    Lease,
    Membership,
    ReapTicket,
    Seat,
    Vacant,
    Waiting,
    Won,
)

if TYPE_CHECKING:
    from harness import Actor, World

    from drumbeat.hookspecs import Subject

# Sessions ---------------------------------------------------------------------------------------------------


def test_open_session_grants_the_ttl_that_was_asked_for(world: World) -> None:
    """A lease names the incarnation, the member and the TTL that the server will enforce."""
    actor = world.actor("a")
    assert Lease(actor.lease.incarnation, "a", world.ttl) == actor.lease


def test_open_session_repeated_is_the_same_session_with_a_fresh_lease(world: World) -> None:
    """A request whose answer was lost may be repeated: same session, and its TTL counts from the repetition."""
    watcher = world.actor("watcher")
    actor = world.actor("a")
    request = replace(actor.request(), incarnation=actor.lease.incarnation)
    actor.join("g")
    assert {"a"} == set(watcher.members("g"))
    world.pass_time(0.75, watcher)
    assert actor.lease == actor.backend.open_session(request, timeout=TIMEOUT)
    world.pass_time(0.75, watcher)
    assert {"a"} == set(watcher.members("g"))
    assert actor.beat().lost == ()


def test_open_session_refuses_a_member_id_that_lives(world: World) -> None:
    """GROUP-5: a second session with a live member id is refused, by the name of the first, which stays."""
    first = world.actor("a")
    seat = first.win("e")
    with pytest.raises(Conflict) as refusal:
        world.actor("a")
    assert ("a", first.lease.incarnation) == (refusal.value.member_id, refusal.value.incarnation)
    assert refusal.value.retry_after is not None
    assert 0 < refusal.value.retry_after <= 1.01 * world.ttl
    assert first.beat().lost == ()
    assert first.proclaim(seat, b"still here")


def test_open_session_never_ends_a_session_that_beats(world: World) -> None:
    """GROUP-5: however long a second session insists, one that beats keeps its member id."""
    first = world.actor("a")
    second = world.backend()
    for _ in range(12):
        world.pass_time(0.25, first)
        with pytest.raises(Conflict):
            second.open_session(first.request(), timeout=TIMEOUT)


def test_a_restarted_process_gets_its_member_id_back(world: World) -> None:
    """GROUP-9: under the id of a dead process one gets in within the bound, and not before the TTL."""
    dead = world.actor("a")
    dead.join("g")
    seat = dead.win("e")
    reborn = type(dead)(world, "a", backend=world.backend())
    waited = reborn.open_when_possible()
    assert 0.99 * world.ttl <= waited <= world.profile().failover.seconds(world.ttl)
    assert reborn.members("g") == {}
    assert reborn.leader("e") == Vacant()
    assert reborn.win("e").token > seat.token


def test_replace_ends_the_live_session_of_another_process(world: World) -> None:
    """GROUP-5: with `replace` the other session ends with all that it held, and is told at its next heartbeat."""
    first = world.actor("a")
    first.join("g")
    first.win("e")
    second = type(first)(world, "a", backend=world.backend())
    second.open(second.request(replace=True))
    assert second.members("g") == {}
    assert second.leader("e") == Vacant()
    with pytest.raises(SessionLost):
        first.beat()
    with pytest.raises(SessionLost):
        first.join("g")


def test_supersedes_ends_the_own_earlier_incarnation_at_once(world: World) -> None:
    """BEAT-8: a reopened session does not wait for its own old lease, whose seats and memberships are gone."""
    other = world.actor("other")
    actor = world.actor("a")
    actor.join("g")
    seat = actor.win("e")
    old = actor.lease
    actor.open(actor.request(supersedes=old.incarnation))
    assert other.members("g") == {}
    assert other.win("e").token > seat.token
    with pytest.raises(SessionLost):
        actor.backend.heartbeat(old, Holdings(), timeout=TIMEOUT)


def test_a_ttl_outside_the_limits_is_refused_with_the_numbers(world: World) -> None:
    """A TTL that the server cannot grant is a ConfigurationError with the limit, and opens nothing."""
    limits = world.profile().limits
    actor = world.actor("a")
    for ttl, limit in ((limits.min_ttl / 2, limits.min_ttl), (limits.max_ttl * 2, limits.max_ttl)):
        backend = world.backend()
        wish = replace(actor.request(), member_id="b", ttl=ttl)
        with pytest.raises(ConfigurationError, match=f"{limit:g}"):
            backend.open_session(wish, timeout=TIMEOUT)
    world.actor("b")


def test_a_session_that_beats_lives_on(world: World) -> None:
    """BEAT-1: with a heartbeat every quarter of a TTL a session keeps all that it holds for many TTLs."""
    actor, other = world.actor("a"), world.actor("b")
    actor.join("g")
    seat = actor.win("e")
    for _ in range(8):
        world.pass_time(1, actor, other)
        assert {"a"} == set(other.members("g"))
        assert seat.token == getattr(other.leader("e"), "token", None)


def test_a_silent_session_is_gone_within_the_bound(world: World) -> None:
    """BEAT-2: a session that stops beating is gone for every session that was there, also for one that only beats."""
    silent, reader, beater = world.actor("a"), world.actor("b"), world.actor("c")
    silent.join("g")
    silent.win("e")
    assert {"a"} == set(reader.members("g"))
    assert leader_id(reader.leader("e")) == "a"
    beater.join("g")
    beater.beat()
    silent.beat()
    last = world.clock.now()
    bound = world.profile().eviction.seconds(world.ttl)
    while world.clock.now() < last + bound - world.ttl / 4:
        world.pass_time(0.25, reader, beater)
    world.wait(max(0.0, last + bound - world.clock.now()))
    assert {"c"} == set(reader.members("g"))
    assert {"c"} == set(beater.members("g"))
    assert reader.leader("e") == Vacant()
    with pytest.raises(SessionLost):
        silent.beat()


def test_nobody_is_dead_before_its_ttl(world: World) -> None:
    """BEAT-3 and 5: until a TTL has passed since its last heartbeat, a session is seen alive and may beat again."""
    silent, other = world.actor("a"), world.actor("b")
    silent.join("g")
    seat = silent.win("e")
    for _ in range(3):
        silent.beat()
        world.pass_time(0.9, other)
        assert {"a"} == set(other.members("g"))
        assert isinstance(other.campaign("e"), Waiting)
        assert leader_id(other.leader("e")) == "a"
    assert silent.beat().lost == ()
    assert silent.proclaim(seat, b"alive")


def test_a_heartbeat_after_the_end_is_refused_and_creates_nothing(world: World) -> None:
    """BEAT-4: the heartbeat of a dead session raises SessionLost, and no trace of it comes back."""
    dead, other = world.actor("a"), world.actor("b")
    dead.join("g")
    dead.win("e")
    other.members("g")
    other.leader("e")
    world.pass_time(2, other)
    assert other.members("g") == {}
    for _ in range(2):
        with pytest.raises(SessionLost):
            dead.beat()
    assert other.members("g") == {}
    assert other.leader("e") == Vacant()
    world.actor("a")


def test_a_dead_session_can_do_nothing(world: World) -> None:
    """A session that is gone neither joins nor campaigns, and what else it asks for changes nothing."""
    dead, other = world.actor("a"), world.actor("b")
    dead.join("g")
    seat = dead.win("e")
    dead.close()
    with pytest.raises(SessionLost):
        dead.join("g")
    with pytest.raises(SessionLost):
        dead.campaign("f")
    assert not dead.update("g", b"ghost")
    assert not dead.leave("g")
    assert not dead.proclaim(seat, b"ghost")
    assert not dead.resign(seat)
    assert not dead.withdraw("e", seat.attempt)
    assert other.members("g") == {}
    assert (other.leader("e"), other.leader("f")) == (Vacant(), Vacant())


def test_close_releases_everything_at_once(world: World) -> None:
    """BEAT-7: close ends memberships, seats and candidacies before it returns; a second one is harmless."""
    actor, other = world.actor("a"), world.actor("b")
    actor.join("g")
    seat = actor.win("e")
    other.wait_for("e")
    assert actor.close()
    assert not actor.close()
    assert other.members("g") == {}
    assert other.win("e").token > seat.token
    world.actor("a")


def test_close_of_a_candidate_takes_it_out_of_the_way(world: World) -> None:
    """BEAT-7: a candidate that closed its session never wins, and nobody waits for it."""
    leader, gone, other = world.actor("a"), world.actor("b"), world.actor("c")
    seat = leader.win("e")
    gone.wait_for("e")
    other.wait_for("e")
    gone.close()
    leader.resign(seat)
    other.win("e")


def test_a_forked_child_that_drops_the_session_ends_nothing(world: World) -> None:
    """FAULT-8: a forked child lets go of the session without ending it, or freeing anything that it holds."""
    actor, other = world.actor("a"), world.actor("b")
    actor.join("g")
    seat = actor.win("e")
    child = os.fork()
    if child == 0:
        signal.alarm(int(TIMEOUT))
        actor.backend.drop_session(actor.lease, forked=True)
        os._exit(0)
    assert os.waitpid(child, 0) == (child, 0)
    assert {"a"} == set(other.members("g"))
    assert leader_id(other.leader("e")) == "a"
    assert actor.beat().lost == ()
    assert actor.proclaim(seat, b"mine")


def test_what_was_dropped_is_let_go_once(world: World) -> None:
    """Dropping a session that is closed is harmless, and there is nothing left to let go of the second time."""
    actor = world.actor("a")
    actor.close()
    actor.backend.drop_session(actor.lease)
    assert actor.backend.drop_session(actor.lease).was_open is False
    with pytest.raises(SessionLost):
        actor.beat()


def test_reaping_ends_one_incarnation_and_no_other(world: World) -> None:
    """BEAT-9: a ticket frees all that its incarnation held, at once; a later incarnation is left alone."""
    actor, other = world.actor("a"), world.actor("b")
    actor.join("g")
    actor.win("e")
    ticket = ReapTicket(actor.lease.incarnation, "a")
    assert other.backend.reap_session(ticket, timeout=TIMEOUT).was_open
    assert other.members("g") == {}
    assert other.leader("e") == Vacant()
    with pytest.raises(SessionLost):
        actor.beat()
    reborn = world.actor("a")
    reborn.join("g")
    assert not other.backend.reap_session(ticket, timeout=TIMEOUT).was_open
    assert reborn.beat().lost == ()
    assert {"a"} == set(other.members("g"))


def test_claims_and_hooks_go_together(world: World) -> None:
    """A capability that has a hook is claimed if and only if the hook is there; the other hooks all are."""
    backend = world.backend()
    backend.require_all()
    claimed = backend.describe(timeout=TIMEOUT).capabilities
    assert world.kind.claims <= claimed
    assert (Capability.PUSH_WATCH in claimed) == backend.implements("watch")
    assert (Capability.REAPING in claimed) == backend.implements("reap_session")


# Heartbeats -------------------------------------------------------------------------------------------------


def test_a_heartbeat_verifies_fifty_groups_and_fifty_seats(world: World) -> None:
    """BEAT-6 and 10: all holdings are confirmed together, and exactly those that are gone come back as lost."""
    actor = world.actor("a")
    for number in range(50):
        actor.join(f"g{number}")
        actor.win(f"e{number}")
    assert actor.beat().lost == ()
    gone = (actor.seats["e7"], Membership("g9", actor.places["g9"]))
    holdings = actor.holdings()
    actor.resign(actor.seats["e7"])
    actor.leave("g9")
    assert set(gone) == set(actor.backend.heartbeat(actor.lease, holdings, timeout=TIMEOUT).lost)
    assert actor.beat().lost == ()


def test_a_seat_taken_by_another_is_lost_at_the_next_heartbeat(world: World) -> None:
    """BEAT-10: a holder is told of a seat that has a new term, also if the new term is its own session's."""
    actor = world.actor("a")
    old = actor.win("e")
    actor.resign(old)
    new = actor.win("e")
    holdings = replace(actor.holdings(), seats=(old, new))
    assert actor.backend.heartbeat(actor.lease, holdings, timeout=TIMEOUT).lost == (old,)


def test_an_abandoned_win_is_freed_by_the_heartbeat(world: World) -> None:
    """LEAD-15: a seat won by an attempt that the session has given up is free after its next heartbeat."""
    actor, other = world.actor("a"), world.actor("b")
    actor.win("e")
    actor.seats.clear()
    other.wait_for("e")
    actor.beat()
    other.win("e")
    assert actor.beat().lost == ()


def test_an_abandoned_join_is_removed_by_the_heartbeat(world: World) -> None:
    """FAULT-7: a membership under an attempt that the session has given up is gone after its next heartbeat."""
    actor, other = world.actor("a"), world.actor("b")
    actor.join("g")
    actor.join("h")
    actor.places.pop("g")
    actor.beat()
    assert other.members("g") == {}
    assert {"a"} == set(other.members("h"))


def test_a_heartbeat_leaves_newer_attempts_alone(world: World) -> None:
    """What was won or joined after the holdings were listed is neither lost nor abandoned."""
    actor, other = world.actor("a"), world.actor("b")
    actor.join("g")
    before = actor.holdings()
    actor.join("g", b"again")
    actor.win("e")
    assert actor.backend.heartbeat(actor.lease, before, timeout=TIMEOUT).lost == ()
    assert other.members("g") == {"a": b"again"}
    assert leader_id(other.leader("e")) == "a"
    assert actor.beat().lost == ()


def test_a_win_whose_answer_was_lost_is_kept_for_the_repetition(world: World) -> None:
    """LEAD-9: an attempt that is listed as a candidacy keeps the seat that it has won unknowingly."""
    actor = world.actor("a")
    seat = actor.win("e")
    actor.seats.clear()
    actor.candidacies["e"] = seat.attempt
    assert actor.beat().lost == ()
    assert seat == actor.win("e")


# Groups -----------------------------------------------------------------------------------------------------


def test_a_join_is_visible_to_everybody(world: World) -> None:
    """GROUP-1: once a join has returned, every read shows the member with its value."""
    one, two = world.actor("a"), world.actor("b")
    assert one.join("g", b"1") is False
    assert two.join("g", b"2") is False
    assert {"a": b"1", "b": b"2"} == one.members("g") == two.members("g")
    record = two.backend.read_group(two.lease, "g", timeout=TIMEOUT)
    assert {one.lease.incarnation, two.lease.incarnation} == {member.incarnation for member in record.members}


def test_a_leave_is_visible_to_everybody(world: World) -> None:
    """GROUP-2: once a leave has returned, no read shows the member; others stay."""
    one, two = world.actor("a"), world.actor("b")
    one.join("g")
    two.join("g")
    assert one.leave("g") is True
    assert {"b"} == set(two.members("g"))
    assert {"b"} == set(one.members("g"))


def test_joining_again_replaces_the_value(world: World) -> None:
    """GROUP-4: a second join says that there was a membership, and replaces its value and attempt."""
    actor = world.actor("a")
    assert [actor.join("g", b"1"), actor.join("g", b"2")] == [False, True]
    assert actor.members("g") == {"a": b"2"}
    assert actor.beat().lost == ()


def test_leaving_and_joining_again_makes_a_member(world: World) -> None:
    """GROUP-2 and 3: after a leave a join starts anew, with the new value."""
    one, two = world.actor("a"), world.actor("b")
    one.join("g", b"1")
    one.leave("g")
    assert one.join("g", b"2") is False
    assert two.members("g") == {"a": b"2"}


def test_an_update_is_visible_to_everybody(world: World) -> None:
    """GROUP-3: once an update has returned, every read shows the new value, and the membership is the same."""
    one, two = world.actor("a"), world.actor("b")
    one.join("g", b"1")
    for value in (b"2", b"2", b"1"):
        assert one.update("g", value) is True
        assert two.members("g") == {"a": value}
    assert one.beat().lost == ()


def test_what_is_not_there_is_said_so(world: World) -> None:
    """GROUP-4: updating or leaving without having joined does nothing, and an unknown group has no members."""
    actor, member = world.actor("a"), world.actor("b")
    member.join("g", b"b")
    assert actor.update("g", b"a") is False
    assert actor.leave("g") is False
    assert actor.members("g") == {"b": b"b"}
    assert actor.members("unknown") == {}
    assert actor.groups() == {"g"}


def test_groups_are_listed_while_somebody_is_in_them(world: World) -> None:
    """A group is listed from the first join on, while it has live members, and again after a new join."""
    one, two = world.actor("a"), world.actor("b")
    assert two.groups() == set()
    one.join("g")
    one.join("h")
    assert two.groups() == {"g", "h"}
    one.leave("g")
    assert two.groups() == {"h"}
    assert two.groups() == {"h"}
    one.join("g")
    assert two.groups() == {"g", "h"}
    one.close()
    assert two.groups() == set()


def test_values_come_back_byte_for_byte(world: World) -> None:
    """GROUP-3 and 10: any bytes, up to the limit that the backend states, are stored and returned unchanged."""
    limit = world.profile().limits.value_bytes
    value = (bytes(range(256)) * (limit // 256 + 1))[:limit]
    one, two = world.actor("a"), world.actor("b")
    one.join("g", value)
    one.win("e", value)
    two.join("g", b"")
    assert {"a": value, "b": b""} == two.members("g")
    leader = two.leader("e")
    assert isinstance(leader, LeaderRecord)
    assert value == leader.value


NAMES = (
    "plain",
    "a/b",
    "a:b",
    "a%2Fb",
    "ä ö",
    "日本",
    ".",
    "..",
    "~",
    "x" * 100,
    "é" * 50,
    "%" * 99 + "a",
    "%" * 99 + "b",
)


def test_any_name_works_and_none_is_taken_for_another(world: World) -> None:
    """GROUP-7: names of every alphabet and length are apart from each other, as members, groups and elections."""
    one, two = world.actor("reader"), world.actor("é" * 50)
    for number, name in enumerate(NAMES):
        two.join(name, str(number).encode())
        two.win(name, str(number).encode())
    for number, name in enumerate(NAMES):
        assert one.members(name) == {"é" * 50: str(number).encode()}
        leader = one.leader(name)
        assert isinstance(leader, LeaderRecord)
        assert str(number).encode() == leader.value
    assert set(NAMES) == one.groups()
    assert two.beat().lost == ()


def test_names_that_meet_at_their_seams_stay_apart(world: World) -> None:
    """GROUP-8: group "a:b" with member "c" is not group "a" with member "b:c"."""
    one, two = world.actor("c"), world.actor("b:c")
    one.join("a:b", b"1")
    two.join("a", b"2")
    assert one.members("a:b") == {"c": b"1"}
    assert one.members("a") == {"b:c": b"2"}


def test_groups_elections_and_namespaces_do_not_leak(world: World) -> None:
    """GROUP-8: a name means something else as a group, as an election, and in another namespace."""
    one, other = world.actor("a"), world.actor("a", namespace="other")
    one.join("x", b"member")
    assert one.leader("x") == Vacant()
    assert one.members("y") == {}
    one.win("y", b"leader")
    assert one.members("y") == {}
    assert one.groups() == {"x"}
    assert other.members("x") == {}
    assert other.leader("y") == Vacant()
    assert other.groups() == set()
    other.win("y")
    assert leader_id(one.leader("y")) == "a"
    assert one.beat().lost == ()


def test_many_members_joining_at_once_all_appear(world: World) -> None:
    """GROUP-6: none of thirty members that join at the same moment is lost, whoever looks."""
    # Nobody beats here, and thirty sessions may take a while.
    world.ttl = 30.0
    actors = [world.actor(f"member-{number}") for number in range(30)]
    start = threading.Barrier(len(actors))
    failures: list[BaseException] = []

    def join(actor: object) -> None:
        try:
            start.wait()
            actors[actors.index(actor)].join("g")  # type: ignore[arg-type]
        except BaseException as error:  # noqa: BLE001 - looked at below
            failures.append(error)

    threads = [threading.Thread(target=join, args=(actor,)) for actor in actors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    everybody = {actor.member_id for actor in actors}
    assert all(everybody == set(actor.members("g")) for actor in actors)
    assert all(actor.beat().lost == () for actor in actors)


# Leaders ----------------------------------------------------------------------------------------------------


def test_one_wins_and_the_others_wait(world: World) -> None:
    """LEAD-1, 2 and 7: the first candidate wins; the others are told who leads, and when it can lapse at most."""
    one, two = world.actor("a"), world.actor("b")
    assert two.leader("e") == Vacant()
    seat = one.win("e", b"here")
    waiting = two.wait_for("e")
    leader = LeaderRecord(member_id="a", incarnation=one.lease.incarnation, token=seat.token, value=b"here")
    assert leader == waiting.holder == one.leader("e") == two.leader("e")
    assert waiting.retry_after is not None
    assert 0 < waiting.retry_after <= 1.01 * world.ttl


def test_a_repeated_campaign_is_one_campaign(world: World) -> None:
    """LEAD-9: an attempt that holds the seat is told so again, with the same token and its first value."""
    actor = world.actor("a")
    seat = actor.win("e", b"first")
    again = actor.backend.campaign(actor.lease, "e", attempt=seat.attempt, value=b"second", timeout=TIMEOUT)
    assert Won(seat) == again
    leader = actor.leader("e")
    assert isinstance(leader, LeaderRecord)
    assert leader.value == b"first"


def test_two_attempts_of_one_session_exclude_each_other(world: World) -> None:
    """LOCK-3: a session that holds a seat is in its own way like any other."""
    actor = world.actor("a")
    first = actor.win("e")
    second = actor.wait_for("e")
    assert leader_id(second.holder) == "a"
    actor.resign(first)
    assert actor.win("e").token > first.token


def test_tokens_rise_with_every_term(world: World) -> None:
    """LEAD-3: the token of each term is above all before it, for the same and for another member, and fits 63 bits."""
    one, two = world.actor("a"), world.actor("b")
    tokens = []
    for winner in (one, one, two, one, two):
        seat = winner.win("e")
        tokens.append(seat.token)
        winner.resign(seat)
    two.close()
    tokens.append(world.actor("b").win("e").token)
    assert tokens == sorted(set(tokens))
    assert tokens[0] > 0
    assert tokens[-1] < 2**63


def test_resign_hands_over_at_once(world: World) -> None:
    """LEAD-5: after a resign the next candidate wins without waiting; a second resign does nothing."""
    one, two = world.actor("a"), world.actor("b")
    seat = one.win("e")
    two.wait_for("e")
    assert one.resign(seat) is True
    assert one.resign(seat) is False
    assert one.leader("e") == Vacant()
    two.win("e")


def test_a_deposed_leader_cannot_touch_its_successor(world: World) -> None:
    """LEAD-4: resign, proclaim and withdraw of an earlier term do nothing, for another's term and one's own."""
    old, other = world.actor("a"), world.actor("b")
    stale = old.win("e")
    old.resign(stale)
    for successor in (other, old):
        seat = successor.win("e", b"mine")
        before = other.leader("e")
        assert old.resign(stale) is False
        assert old.proclaim(stale, b"ghost") is False
        assert old.withdraw("e", stale.attempt) is False
        wrong = replace(seat, token=seat.token - 1)
        assert successor.resign(wrong) is False
        assert successor.proclaim(wrong, b"ghost") is False
        assert before == other.leader("e")
        successor.resign(seat)


def test_a_dead_leader_cannot_touch_its_successor(world: World) -> None:
    """LEAD-4: a leader that wakes after its lease finds its resign and proclaim without effect."""
    dead, other = world.actor("a"), world.actor("b")
    stale = dead.win("e")
    other.wait_for("e")
    world.pass_time(2, other)
    seat = other.win("e", b"mine")
    assert dead.resign(stale) is False
    assert dead.proclaim(stale, b"ghost") is False
    leader = other.leader("e")
    assert isinstance(leader, LeaderRecord)
    assert (seat.token, b"mine") == (leader.token, leader.value)


def test_proclaim_replaces_the_value(world: World) -> None:
    """LEAD-7: what a leader proclaims is what everybody reads, with the same token."""
    one, two = world.actor("a"), world.actor("b")
    seat = one.win("e", b"1")
    for value in (b"2", b"2", b"1"):
        assert one.proclaim(seat, value) is True
        leader = two.leader("e")
        assert isinstance(leader, LeaderRecord)
        assert (seat.token, value) == (leader.token, leader.value)
    assert one.beat().lost == ()


def test_a_waiting_candidate_wins_when_the_leader_dies(world: World) -> None:
    """LEAD-6: within the bound after a dead leader's last heartbeat a waiting candidate wins, never before its TTL."""
    leader, candidate = world.actor("a"), world.actor("b")
    seat = leader.win("e")
    leader.beat()
    last = world.clock.now()
    bound = world.profile().failover.seconds(world.ttl)
    pause = min(world.profile().limits.poll_interval, world.ttl / 100)
    beats = 0
    while isinstance(candidate.campaign("e"), Waiting):
        world.wait(pause)
        beats += 1
        if beats % 10 == 0:
            candidate.beat()
        assert world.clock.now() - last <= bound
    assert world.clock.now() - last >= 0.99 * world.ttl
    assert candidate.seats["e"].token > seat.token
    with pytest.raises(SessionLost):
        leader.beat()


def test_a_withdrawn_candidate_never_wins(world: World) -> None:
    """LEAD-10: whoever withdraws while it waits is not elected by anything that happens later."""
    leader, gone, other = world.actor("a"), world.actor("b"), world.actor("c")
    seat = leader.win("e")
    gone.wait_for("e")
    gone.withdraw("e", gone.newest_attempt)
    leader.resign(seat)
    assert gone.beat().lost == ()
    assert other.leader("e") == Vacant()
    other.win("e")


def test_withdraw_frees_a_seat_that_was_won_meanwhile(world: World) -> None:
    """LEAD-10: an attempt that is withdrawn after it has won, unknowingly, leaves the seat free."""
    actor, other = world.actor("a"), world.actor("b")
    seat = actor.win("e")
    actor.seats.clear()
    assert actor.withdraw("e", seat.attempt) is True
    assert actor.withdraw("e", seat.attempt) is False
    assert other.win("e").token > seat.token


def test_withdrawing_an_unknown_candidate_does_nothing(world: World) -> None:
    """LEAD-10: to withdraw what never campaigned, or another attempt than the holder, is harmless."""
    actor = world.actor("a")
    assert actor.withdraw("unknown", 1) is False
    seat = actor.win("e")
    assert actor.withdraw("e", seat.attempt + 1) is False
    assert leader_id(actor.leader("e")) == "a"
    assert actor.leader("unknown") == Vacant()


def test_candidates_win_in_the_order_in_which_they_came(queueing_world: World) -> None:
    """LEAD-12: the seat goes to who has waited longest, whoever asks first after it is free."""
    leader, second, third = (queueing_world.actor(name) for name in "abc")
    seat = leader.win("e")
    second.wait_for("e")
    third.wait_for("e")
    leader.resign(seat)
    assert third.wait_for("e").holder == Vacant()
    second.win("e")


def test_a_withdrawn_candidate_loses_its_place_in_the_queue(queueing_world: World) -> None:
    """LEAD-10 and 12: the store knows a waiting candidate until it withdraws, then the next one is first."""
    leader, second, third = (queueing_world.actor(name) for name in "abc")
    seat = leader.win("e")
    second.wait_for("e")
    third.wait_for("e")
    leader.resign(seat)
    assert second.withdraw("e", second.newest_attempt) is True
    third.win("e")


def test_an_abandoned_candidate_loses_its_place_at_the_heartbeat(queueing_world: World) -> None:
    """LEAD-15: a candidate that its session does not list any more stands in nobody's way; a listed one stays."""
    leader, second, third = (queueing_world.actor(name) for name in "abc")
    seat = leader.win("e")
    second.wait_for("e")
    third.wait_for("e")
    leader.resign(seat)
    second.beat()
    third.wait_for("e")
    second.candidacies.clear()
    second.beat()
    third.win("e")


# Watches ----------------------------------------------------------------------------------------------------


class Hints:
    """Counts hints, which may come late, on any thread, and more often than needed."""

    def __init__(self, actor: Actor, subject: Subject) -> None:
        self.count = 0
        self._cancel = actor.backend.watch(actor.lease, subject, self._hint, timeout=TIMEOUT)

    def came_since(self, count: int) -> bool:
        """Return whether a hint comes within the time that a push may take."""
        until = time.monotonic() + TIMEOUT
        while self.count == count and time.monotonic() < until:
            time.sleep(0.001)
        return self.count > count

    def cancel(self) -> None:
        """End the watch."""
        self._cancel()

    def _hint(self) -> None:
        self.count += 1


def test_every_change_of_a_group_is_told(pushing_world: World) -> None:
    """WATCH-4: join, update, leave and close of a member each cause a hint."""
    one, two = pushing_world.actor("a"), pushing_world.actor("b")
    hints = Hints(two, GroupSubject("g"))
    again = partial(one.join, "g")
    for change in (again, partial(one.update, "g", b"2"), partial(one.leave, "g"), again, one.close):
        count = hints.count
        change()
        assert hints.came_since(count)


def test_every_change_of_a_leader_is_told(pushing_world: World) -> None:
    """WATCH-4: a win, a proclaimed value, a resign and a close each cause a hint."""
    one, two = pushing_world.actor("a"), pushing_world.actor("b")
    hints = Hints(two, LeaderSubject("e"))
    assert two.leader("e") == Vacant()
    for change in (
        lambda: one.win("e"),
        lambda: one.proclaim(one.seats["e"], b"2"),
        lambda: one.resign(one.seats["e"]),
        lambda: one.win("e"),
        one.close,
    ):
        count = hints.count
        change()
        assert hints.came_since(count)


def test_a_candidate_is_woken_when_it_may_win(pushing_world: World) -> None:
    """WATCH-4: the candidate whose turn it is gets a hint, by resign and by withdrawal of the one before it."""
    leader, second, third = (pushing_world.actor(name) for name in "abc")
    seat = leader.win("e")
    hints = {}
    for candidate in (second, third):
        candidate.wait_for("e")
        hints[candidate.member_id] = Hints(candidate, CandidacySubject("e", candidate.newest_attempt))
    counts = {name: hint.count for name, hint in hints.items()}
    leader.resign(seat)
    assert hints["b"].came_since(counts["b"])
    counts["c"] = hints["c"].count
    second.withdraw("e", second.newest_attempt)
    assert hints["c"].came_since(counts["c"])


def test_a_hint_may_read_at_once(pushing_world: World) -> None:
    """A watcher that calls the backend from inside the hint sees the change, and nothing blocks."""
    one, two = pushing_world.actor("a"), pushing_world.actor("b")
    seen: SimpleQueue[dict[str, bytes]] = SimpleQueue()
    two.backend.watch(two.lease, GroupSubject("g"), lambda: seen.put(two.members("g")), timeout=TIMEOUT)
    one.join("g", b"1")
    assert seen.get(timeout=TIMEOUT) == {"a": b"1"}


def test_a_watch_ends_when_it_is_cancelled_or_its_session_ends(pushing_world: World) -> None:
    """A cancelled watch, one of a dropped and one of a closed session give no more hints; cancelling twice is fine."""
    one, cancelling, dropping, closing, staying = (pushing_world.actor(name) for name in "abcde")
    ended = [Hints(actor, GroupSubject("g")) for actor in (cancelling, dropping, closing)]
    lasting = Hints(staying, GroupSubject("g"))
    one.join("g")
    assert all(hints.came_since(0) for hints in (*ended, lasting))
    ended[0].cancel()
    ended[0].cancel()
    assert dropping.backend.drop_session(dropping.lease).was_open
    closing.close()
    # What was under way when a watch ended has come by the time that a later change is told.
    count = lasting.count
    one.update("g", b"2")
    assert lasting.came_since(count)
    counts, count = [hints.count for hints in ended], lasting.count
    one.leave("g")
    assert lasting.came_since(count)
    assert counts == [hints.count for hints in ended]
    ended[2].cancel()
    with pytest.raises(SessionLost):
        Hints(closing, GroupSubject("g"))


def test_what_is_not_claimed_says_so(world: World) -> None:
    """A backend without push raises NotSupported at once when it is asked to watch."""
    actor = world.actor("a")
    if Capability.PUSH_WATCH in world.profile().capabilities:
        actor.backend.watch(actor.lease, GroupSubject("g"), lambda: None, timeout=TIMEOUT)()
    else:
        with pytest.raises(NotSupported, match="watch"):
            actor.backend.watch(actor.lease, GroupSubject("g"), lambda: None, timeout=TIMEOUT)


def test_holdings_that_were_never_held_are_lost(world: World) -> None:
    """A heartbeat creates none of what it is asked about: unknown seats and memberships come back as lost."""
    actor = world.actor("a")
    invented = Holdings(
        memberships=(Membership("g", 1),),
        candidacies=(Candidacy("f", 2),),
        seats=(Seat("e", 3, 12345),),
        newest_attempt=3,
    )
    lost = actor.backend.heartbeat(actor.lease, invented, timeout=TIMEOUT).lost
    assert {Membership("g", 1), Seat("e", 3, 12345)} == set(lost)
    assert (actor.members("g"), actor.leader("e"), actor.groups()) == ({}, Vacant(), set())
