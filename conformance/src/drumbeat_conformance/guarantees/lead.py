"""At most one leads, somebody leads, and nobody touches the seat of another: as the store must see it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pytest

from drumbeat import SessionLost, Vacant
from drumbeat.hookspecs import Capability, LeaderRecord, Waiting, Won
from drumbeat.testing import Faults
from drumbeat_conformance.actor import TIMEOUT, leader_id
from drumbeat_conformance.guarantee import guarantee
from drumbeat_conformance.guarantees._lasting import lasting_actor
from drumbeat_conformance.guarantees._witnesses import LONG, Asked, Recorder

if TYPE_CHECKING:
    from drumbeat import Session
    from drumbeat_conformance.arena import Arena


def _lead_in_turns(session: Session, pause: float) -> None:
    for _ in range(4):
        term = session.election("e").campaign()
        term.lost.wait(pause)
        term.resign()


@guarantee("LEAD-1")
def at_most_one_holds_a_term_at_any_moment(arena: Arena) -> None:
    """At most one candidate holds a term of an election at any moment, also while a session that leads is cut off."""
    recorder, faults = Recorder(), Faults(arena.clock)
    cut = arena.connect("cut", interceptors=[faults], observers=[recorder])
    others = [arena.connect(name, observers=[recorder]) for name in ("one", "two")]
    first = cut.election("e").campaign()
    turns = [arena.background(partial(_lead_in_turns, session, arena.ttl / 10)) for session in others]
    with faults.failing():
        arena.eventually(lambda: not first.held, within=2 * arena.ttl)
        arena.eventually(lambda: others[0].election("e").leader(), within=cut.failover_bound + 2 * arena.ttl)
    turns.append(arena.background(partial(_lead_in_turns, cut, arena.ttl / 10)))
    for turn in turns:
        turn.result(within=20 * arena.ttl)
    for session in (cut, *others):
        session.close()
    assert recorder.overlaps() == []
    assert sum(record.kind == "won" for record in recorder.history) == 13


@guarantee("LEAD-2")
def while_someone_campaigns_someone_wins(arena: Arena) -> None:
    """While someone campaigns, someone wins: candidates that withdrew or died before stand in nobody's way."""
    leader, gone, patient, late = (lasting_actor(arena, name) for name in ("leader", "gone", "patient", "late"))
    seat = leader.win("e")
    for candidate in (gone, arena.actor("dead"), patient):
        candidate.wait_for("e")
    gone.withdraw("e", gone.newest_attempt)
    leader.resign(seat)
    bound = arena.profile.failover.seconds(arena.ttl)
    until = arena.clock.now() + bound + arena.ttl
    while isinstance(patient.campaign("e"), Waiting):
        assert arena.clock.now() < until, "the seat stays vacant, although one campaigns for it"
        arena.pass_time(0.25)
    late.wait_for("e")
    patient.close()
    late.win("e")


@guarantee("LEAD-3")
def tokens_rise_with_every_term(arena: Arena) -> None:
    """Tokens are positive, fit 63 bits, and rise with every term: for the same member, for another one, and after a
    holder has closed its session, or has died.
    """
    one, two = lasting_actor(arena, "a"), lasting_actor(arena, "b")
    tokens = []
    for winner in (one, one, two, one):
        seat = winner.win("e")
        tokens.append(seat.token)
        winner.resign(seat)
    tokens.append(two.win("e").token)
    two.close()
    reborn = arena.actor("b")
    tokens.append(reborn.win("e").token)
    one.wait_for("e")
    until = arena.clock.now() + arena.profile.failover.seconds(arena.ttl) + arena.ttl
    while isinstance(answer := one.campaign("e"), Waiting):
        assert arena.clock.now() < until
        arena.pass_time(0.25)
    tokens.append(answer.seat.token)
    assert tokens == sorted(set(tokens))
    assert 0 < tokens[0] < tokens[-1] < 2**63


@guarantee("LEAD-4")
def a_deposed_leader_cannot_touch_its_successor(arena: Arena) -> None:
    """Resign, proclaim and withdraw of an earlier term do nothing to a later one, neither to another's term nor to
    one's own, and nobody can do so in a holder's place.
    """
    old, other = lasting_actor(arena, "a"), lasting_actor(arena, "b")
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
        successor.seats["e"] = seat
        assert successor.proclaim(wrong, b"ghost") is False
        assert before == other.leader("e")
        assert successor.beat().lost == ()
        assert successor.resign(seat) is True


@guarantee("LEAD-5")
def resign_hands_over_at_once(arena: Arena) -> None:
    """After a resign nobody leads and the next candidate wins without waiting; a second resign does nothing."""
    one, two = lasting_actor(arena, "a"), lasting_actor(arena, "b")
    seat = one.win("e")
    two.wait_for("e")
    assert one.resign(seat) is True
    assert one.resign(seat) is False
    assert one.leader("e") == Vacant()
    two.win("e")


@guarantee("LEAD-7")
def asking_for_the_leader_gives_holder_token_and_value(arena: Arena) -> None:
    """Whoever asks for the leader is given holder, token and value, or nobody; a candidate that has to wait is told
    the same, and within how many seconds at most the holder can lapse.
    """
    one, two = lasting_actor(arena, "a"), lasting_actor(arena, "b")
    assert two.leader("e") == Vacant()
    seat = one.win("e", b"here")
    waiting = two.wait_for("e")
    leader = LeaderRecord(member_id="a", incarnation=one.lease.incarnation, token=seat.token, value=b"here")
    assert leader == waiting.holder == one.leader("e") == two.leader("e")
    assert waiting.retry_after is not None
    assert 0 < waiting.retry_after <= 1.01 * one.lease.ttl
    one.resign(seat)
    assert two.leader("e") == Vacant()


@guarantee("LEAD-10")
def a_withdrawn_candidate_never_wins(arena: Arena) -> None:
    """A candidate that withdraws while it waits is not elected by anything that happens later."""
    leader, gone, other = lasting_actor(arena, "a"), lasting_actor(arena, "b"), lasting_actor(arena, "c")
    seat = leader.win("e")
    gone.wait_for("e")
    gone.withdraw("e", gone.newest_attempt)
    leader.resign(seat)
    assert other.leader("e") == Vacant()
    other.win("e")
    assert gone.beat().lost == ()
    assert leader_id(other.leader("e")) == "c"


@guarantee("LEAD-12", level="should", claim=Capability.FIFO_CANDIDATES)
def candidates_win_in_the_order_in_which_they_came(arena: Arena) -> None:
    """The seat goes to the candidate that has waited longest, whoever asks first after it is free."""
    leader, second, third = (lasting_actor(arena, name) for name in "abc")
    seat = leader.win("e")
    second.wait_for("e")
    third.wait_for("e")
    leader.resign(seat)
    assert third.wait_for("e").holder == Vacant()
    second.win("e")


@guarantee("LEAD-15")
def an_abandoned_win_is_freed_by_the_next_heartbeat(arena: Arena) -> None:
    """A seat won by an attempt that its session has given up, and whose request was applied late, is free after the
    session's next heartbeat.
    """
    actor, other = lasting_actor(arena, "a"), lasting_actor(arena, "b")
    actor.win("e")
    actor.seats.clear()
    other.wait_for("e")
    actor.beat()
    other.win("e")
    assert actor.beat().lost == ()


@guarantee("LEAD-16")
def a_leader_that_died_cannot_touch_its_successor(arena: Arena) -> None:
    """A leader that wakes after its lease finds its resign and proclaim without effect, and keeps nobody out."""
    other, dead = lasting_actor(arena, "b"), arena.actor("a")
    stale = dead.win("e")
    other.wait_for("e")
    until = arena.clock.now() + arena.profile.failover.seconds(arena.ttl) + arena.ttl
    while isinstance(other.campaign("e", b"mine"), Waiting):
        assert arena.clock.now() < until
        arena.pass_time(0.25)
    assert dead.resign(stale) is False
    assert dead.proclaim(stale, b"ghost") is False
    with pytest.raises(SessionLost):
        dead.beat()
    leader = other.leader("e")
    assert isinstance(leader, LeaderRecord)
    assert (other.seats["e"].token, b"mine") == (leader.token, leader.value)


@guarantee("LEAD-17")
def a_repeated_campaign_is_one_campaign(arena: Arena) -> None:
    """An attempt that holds the seat and asks again is told so, with the same token and the value of its win."""
    actor = lasting_actor(arena, "a")
    seat = actor.win("e", b"first")
    again = actor.backend.campaign(actor.lease, "e", attempt=seat.attempt, value=b"second", timeout=TIMEOUT)
    assert Won(seat) == again
    leader = actor.leader("e")
    assert isinstance(leader, LeaderRecord)
    assert leader.value == b"first"


@guarantee("LEAD-18")
def a_win_whose_answer_was_lost_is_kept_for_the_repetition(arena: Arena) -> None:
    """A heartbeat that lists an attempt as a candidacy leaves it the seat that it has won without knowing."""
    actor = lasting_actor(arena, "a")
    seat = actor.win("e")
    actor.seats.clear()
    actor.candidacies["e"] = seat.attempt
    assert actor.beat().lost == ()
    assert seat == actor.win("e")


@guarantee("LEAD-19")
def what_a_leader_proclaims_is_what_everybody_reads(arena: Arena) -> None:
    """Once a proclaim has returned, every read of the leader gives the new value, with the same token."""
    one, two = lasting_actor(arena, "a"), lasting_actor(arena, "b")
    seat = one.win("e", b"1")
    for value in (b"2", b"2", b"1"):
        assert one.proclaim(seat, value) is True
        leader = two.leader("e")
        assert isinstance(leader, LeaderRecord)
        assert (seat.token, value) == (leader.token, leader.value)
    assert one.beat().lost == ()


@guarantee("LEAD-20")
def withdraw_frees_a_seat_that_was_won_meanwhile(arena: Arena) -> None:
    """An attempt that is withdrawn after it has won without knowing leaves the seat free, and says so once."""
    actor, other = lasting_actor(arena, "a"), lasting_actor(arena, "b")
    seat = actor.win("e")
    actor.seats.clear()
    assert actor.withdraw("e", seat.attempt) is True
    assert actor.withdraw("e", seat.attempt) is False
    assert other.win("e").token > seat.token


@guarantee("LEAD-21")
def withdrawing_an_unknown_candidate_does_nothing(arena: Arena) -> None:
    """To withdraw what never campaigned, or another attempt than the holder's, changes nothing."""
    actor, other = lasting_actor(arena, "a"), lasting_actor(arena, "b")
    assert actor.withdraw("unknown", 1) is False
    seat = actor.win("e")
    assert actor.withdraw("e", seat.attempt + 1) is False
    assert other.withdraw("e", seat.attempt) is False
    assert leader_id(actor.leader("e")) == "a"
    assert actor.leader("unknown") == Vacant()


@guarantee("LEAD-22")
def a_candidate_wins_within_the_bound_and_not_before_the_ttl(arena: Arena) -> None:
    """A candidate that asks again and again wins within `failover_bound` of a silent leader's last heartbeat, and never
    before the leader's TTL has passed since then.
    """
    candidate, leader = lasting_actor(arena, "b"), arena.actor("a")
    seat = leader.win("e")
    sent = arena.clock.now()
    leader.beat()
    answered = arena.clock.now()
    bound = arena.profile.failover.seconds(arena.ttl)
    asked = arena.clock.now()
    while isinstance(candidate.campaign("e"), Waiting):
        assert asked - answered <= bound, "the seat of a silent leader is not given to the candidate"
        arena.wait(min(arena.profile.limits.poll_interval, arena.ttl / 50))
        asked = arena.clock.now()
    assert arena.clock.now() - sent >= 0.99 * arena.ttl
    assert candidate.seats["e"].token > seat.token
    with pytest.raises(SessionLost):
        leader.beat()


@guarantee("LEAD-23", level="should", claim=Capability.FIFO_CANDIDATES)
def a_withdrawn_candidate_loses_its_place_in_the_queue(arena: Arena) -> None:
    """The store knows a waiting candidate until it withdraws; then the one after it is first."""
    leader, second, third = (lasting_actor(arena, name) for name in "abc")
    seat = leader.win("e")
    second.wait_for("e")
    third.wait_for("e")
    leader.resign(seat)
    assert second.withdraw("e", second.newest_attempt) is True
    third.win("e")


@guarantee("LEAD-24", level="should", claim=Capability.FIFO_CANDIDATES)
def an_abandoned_candidate_loses_its_place_at_the_heartbeat(arena: Arena) -> None:
    """A candidate that its session lists keeps its place through a heartbeat; one that it lists no more loses it."""
    leader, second, third = (lasting_actor(arena, name) for name in "abc")
    seat = leader.win("e")
    second.wait_for("e")
    third.wait_for("e")
    leader.resign(seat)
    second.beat()
    third.wait_for("e")
    second.candidacies.clear()
    second.beat()
    third.win("e")


@guarantee("LEAD-25", level="should", claim=Capability.FIFO_CANDIDATES)
def waiting_sessions_lead_in_the_order_in_which_they_came(arena: Arena) -> None:
    """Sessions that wait in `campaign()` lead one after the other, in the order in which they came."""
    term = arena.connect("holder", lease_ttl=LONG).election("e").campaign()
    order: list[int] = []
    turns = []

    def take_turn(session: Session, number: int) -> None:
        with session.election("e").campaign():
            order.append(number)

    for number in range(4):
        asked = Asked()
        session = arena.connect(f"candidate {number}", lease_ttl=LONG, interceptors=[asked])
        turns.append(arena.background(partial(take_turn, session, number)))
        arena.eventually(partial(getattr, asked, "waits"), within=5 * arena.ttl)
    term.resign()
    for turn in turns:
        turn.result(within=5 * arena.ttl)
    assert order == [0, 1, 2, 3]
