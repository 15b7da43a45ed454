"""At most one leads, somebody leads, and nobody touches the seat of another: as the store must see it."""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest

from drumbeat import SessionLost, Vacant
from drumbeat.hookspecs import CandidacySubject, Capability, LeaderRecord, ReapTicket, Waiting, Won
from drumbeat.testing import Faults
from drumbeat_conformance.actor import TIMEOUT, Actor, leader_id
from drumbeat_conformance.guarantee import guarantee
from drumbeat_conformance.guarantees._lasting import lasting_actor
from drumbeat_conformance.guarantees._witnesses import LONG, Asked, Recorder

if TYPE_CHECKING:
    from collections.abc import Callable

    from drumbeat import Session
    from drumbeat_conformance.arena import Arena


#: Seconds.
_DAY: Final = 86_400.0
#: How many wait in a long queue.
_MANY: Final = 30


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
    """Tokens are positive, fit 63 bits, and rise with every term: for the same member, for another one, after a
    heartbeat has freed an abandoned seat, after a holder has closed its session, has been reaped or has died, and after
    a long time in which nobody was there at all.
    """
    one, two = lasting_actor(arena, "a"), lasting_actor(arena, "b")
    tokens = []
    for winner in (one, one, two, one):
        seat = winner.win("e")
        tokens.append(seat.token)
        winner.resign(seat)
    tokens.append(one.win("e").token)
    one.seats.clear()
    one.beat()
    if Capability.REAPING in arena.profile.capabilities:
        reaped = lasting_actor(arena, "reaped")
        tokens.append(reaped.win("e").token)
        one.backend.reap_session(ReapTicket(reaped.lease.incarnation, "reaped"), timeout=TIMEOUT)
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
    one.close()
    arena.wait(_DAY if arena.target.fake_time else arena.profile.failover.seconds(arena.ttl) + 2 * arena.ttl)
    tokens.append(arena.actor("c").win("e").token)
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
    """After a resign nobody leads and the next candidate wins without waiting; a second resign does nothing. An attempt
    that has resigned holds nothing: should its request come once more, it is never told of the term that is over.
    """
    one, two = lasting_actor(arena, "a"), lasting_actor(arena, "b")
    seat = one.win("e")
    two.wait_for("e")
    assert one.resign(seat) is True
    assert one.resign(seat) is False
    assert one.leader("e") == Vacant()
    later = two.win("e")
    late = partial(one.backend.campaign, one.lease, "e", attempt=seat.attempt, value=b"", timeout=TIMEOUT)
    assert isinstance(late(), Waiting)
    two.resign(later)
    again = late()
    assert isinstance(again, Waiting) or again.seat.token > later.token


@guarantee("LEAD-7")
def asking_for_the_leader_gives_holder_token_and_value(arena: Arena) -> None:
    """Whoever asks for the leader is given holder, token and value, or nobody; a candidate that has to wait is told
    the same, and in how many seconds the holder can lapse, whose TTL is not the candidate's.
    """
    one, two = lasting_actor(arena, "a"), Actor(arena, "b", backend=arena.backend())
    two.open(replace(two.request(), ttl=one.lease.ttl / 2))
    assert two.leader("e") == Vacant()
    seat = one.win("e", b"here")
    waiting = two.wait_for("e")
    leader = LeaderRecord(member_id="a", incarnation=one.lease.incarnation, token=seat.token, value=b"here")
    assert leader == waiting.holder == one.leader("e") == two.leader("e")
    assert waiting.retry_after is not None
    assert 0.8 * one.lease.ttl <= waiting.retry_after <= 1.01 * one.lease.ttl
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
    """Every seat won by an attempt that its session has given up, and whose request was applied late, is free after the
    session's next heartbeat, however many there are and whatever numbers they have.
    """
    actor, other = lasting_actor(arena, "a"), lasting_actor(arena, "b")
    for newest in (0, 8, 98):
        actor.newest_attempt = newest
        for election in "efg":
            actor.win(election)
            other.wait_for(election)
        actor.seats.clear()
        actor.next_attempt()
        assert actor.beat().lost == ()
        for election in "efg":
            other.resign(other.win(election))


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
    """Once a proclaim has returned, every read of the leader gives the new value byte for byte, with the same token."""
    one, two = lasting_actor(arena, "a"), lasting_actor(arena, "b")
    seat = one.win("e", b"1")
    limit = arena.profile.limits.value_bytes
    largest = (bytes(range(256)) * (limit // 256 + 1))[:limit]
    for value in (b"2", b"2", b"1", b"", b"\x00", largest):
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
    arena.pass_time(1, leader)
    arena.wait(arena.ttl / 10)
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


def _ask(actor: Actor, attempt: int) -> Won | Waiting:
    return actor.backend.campaign(actor.lease, "e", attempt=attempt, value=b"", timeout=TIMEOUT)


@guarantee("LEAD-43", level="should", claim=Capability.FIFO_CANDIDATES)
def a_long_queue_keeps_its_order(arena: Arena) -> None:
    """However many candidates wait, and however often each asks, none is forgotten and none overtakes: they win in the
    order in which they came.
    """
    actors = [lasting_actor(arena, name) for name in "abc"]
    seat = actors[0].win("e")
    holder = actors[0]
    queue = [(actor, actor.next_attempt()) for _ in range(_MANY // 3) for actor in actors]
    for candidate in queue:
        assert isinstance(_ask(*candidate), Waiting)
    for place, (actor, attempt) in enumerate(queue):
        assert isinstance(_ask(actor, attempt), Waiting)
        assert holder.resign(seat)
        if place + 1 < len(queue):
            assert isinstance(_ask(*queue[-1]), Waiting), f"the last of {len(queue)} wins as number {place + 1}"
        answer = _ask(actor, attempt)
        assert isinstance(answer, Won), f"number {place + 1} of {len(queue)} is not the next: {answer}"
        assert answer.seat.token > seat.token
        holder, seat = actor, answer.seat


@guarantee("LEAD-44", level="should", claim=Capability.FIFO_CANDIDATES)
def an_attempt_that_ends_takes_no_other_with_it(arena: Arena) -> None:
    """When one attempt of a session is withdrawn, abandoned or resigned, its session's other attempts in the same
    election keep their places in the queue.
    """
    leader, actor, other, last = (lasting_actor(arena, name) for name in "abcd")
    seat = leader.win("e")
    actor.wait_for("e")
    abandoned, kept = actor.next_attempt(), actor.next_attempt()
    assert isinstance(_ask(actor, abandoned), Waiting)
    assert isinstance(_ask(actor, kept), Waiting)
    other.wait_for("e")
    actor.withdraw("e", actor.newest_attempt - 2)
    actor.candidacies["e"] = kept
    actor.beat()
    leader.resign(seat)
    other.wait_for("e")
    seat = actor.win("e")
    assert seat.attempt == kept
    third = actor.next_attempt()
    assert isinstance(_ask(actor, third), Waiting)
    last.wait_for("e")
    actor.resign(seat)
    other.resign(other.win("e"))
    last.wait_for("e")
    assert isinstance(_ask(actor, third), Won)


@guarantee("LEAD-45")
def an_earlier_incarnation_touches_nothing_of_a_later_one(arena: Arena) -> None:
    """What a session asks for that was replaced by another one of its member id does nothing to the seat of that one,
    though both have won it under the same number of an attempt.
    """
    old, other = lasting_actor(arena, "a"), lasting_actor(arena, "b")
    stale = old.win("e", b"old")
    new = Actor(arena, "a", backend=arena.backend())
    new.open(replace(new.request(replace=True), ttl=old.lease.ttl))
    seat = new.win("e", b"new")
    assert stale.attempt == seat.attempt
    before = other.leader("e")
    for mine in (stale, seat):
        assert old.proclaim(mine, b"ghost") is False
        assert old.resign(mine) is False
    assert old.withdraw("e", seat.attempt) is False
    assert old.close() is False
    assert before == other.leader("e")
    assert new.beat().lost == ()
    assert new.resign(seat) is True


@guarantee("LEAD-55")
def attempts_whose_numbers_are_far_apart_are_two(arena: Arena) -> None:
    """Attempts are told apart by their whole number, however large: another attempt than the holder's waits, and what
    is asked in its name leaves the seat alone.
    """
    actor = lasting_actor(arena, "a")
    for bits in (8, 16, 32):
        election = f"e{bits}"
        seat = actor.win(election)
        other = seat.attempt + 2**bits
        actor.newest_attempt = other
        assert actor.withdraw(election, other) is False
        answer = actor.backend.campaign(actor.lease, election, attempt=other, value=b"", timeout=TIMEOUT)
        assert isinstance(answer, Waiting)
        actor.withdraw(election, other)
        assert actor.beat().lost == ()
        assert leader_id(actor.leader(election)) == "a"


@guarantee("LEAD-53", level="should", claim=Capability.PUSH_WATCH)
def a_candidate_is_hinted_at_however_the_seat_is_freed(arena: Arena) -> None:
    """The candidate whose turn it is gets a hint when the holder's attempt is withdrawn, when a heartbeat frees it as
    abandoned, when its session is replaced, and when its session is closed.
    """
    holder, candidate = lasting_actor(arena, "a"), lasting_actor(arena, "b")

    def abandon() -> None:
        holder.seats.clear()
        holder.beat()

    ways: tuple[tuple[str, Callable[[], object]], ...] = (
        ("a withdrawal", lambda: holder.withdraw("e", holder.newest_attempt)),
        ("an abandoning", abandon),
        ("a replacement", lambda: holder.open(replace(holder.request(replace=True), ttl=holder.lease.ttl))),
        ("a close", holder.close),
    )
    for what, free in ways:
        holder.win("e")
        candidate.wait_for("e")
        hinted = threading.Event()
        subject = CandidacySubject("e", candidate.newest_attempt)
        cancel = candidate.backend.watch(candidate.lease, subject, hinted.set, timeout=TIMEOUT)
        candidate.wait_for("e")
        hinted.clear()
        free()
        _see(arena, hinted, what)
        cancel()
        candidate.resign(candidate.win("e"))


def _see(arena: Arena, hinted: threading.Event, what: str) -> None:
    until = arena.clock.now() + TIMEOUT
    while not hinted.is_set():
        assert arena.clock.now() < until, f"no hint was given of {what}"
        arena.wait(0.002)
