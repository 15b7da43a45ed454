"""A term says when it is over, in time: elections as programs use them."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

import drumbeat
from drumbeat import State, Term
from drumbeat._clock import Signal
from drumbeat.hookspecs import Waiting
from drumbeat.testing import Faults
from drumbeat_conformance.guarantee import guarantee
from drumbeat_conformance.guarantees._lasting import lasting_actor
from drumbeat_conformance.guarantees._witnesses import LONG, AnswersLate, Asked, wins_at_once

if TYPE_CHECKING:
    from drumbeat_conformance.arena import Arena


@guarantee("LEAD-6")
def a_dead_leader_is_replaced_within_the_bound(arena: Arena) -> None:
    """When a leader dies, a candidate that waits in `campaign()` wins within `failover_bound` of its last heartbeat."""
    faults = Faults(arena.clock)
    leader = arena.connect("leader", interceptors=[faults], heartbeat="manual")
    successor = arena.connect("successor")
    first = leader.election("e").campaign()
    waiting = arena.background(successor.election("e").campaign)
    arena.eventually(leader.election("e").leader, within=arena.ttl)
    leader.beat()
    beaten = arena.clock.now()
    with faults.failing():
        second = waiting.result(within=successor.failover_bound + 2 * arena.ttl)
        assert arena.clock.now() - beaten <= successor.failover_bound + 0.75 * arena.ttl
        assert not first.held
    assert second.token > first.token


@guarantee("LEAD-8")
def a_term_is_over_before_anyone_else_can_win(arena: Arena) -> None:
    """A term says that it is not held before anyone else can win. What counts is when the last heartbeat was sent: its
    answer, however late, does not make the term last longer than the server keeps it.
    """
    late = AnswersLate(arena.clock)
    leader = arena.connect("leader", interceptors=[late], heartbeat="manual")
    candidate = lasting_actor(arena, "candidate")
    term = leader.election("e").campaign()
    leader.beat()
    late.seconds = arena.ttl / 2
    beat = arena.background(leader.beat)
    held_at = asked = arena.clock.now()
    while isinstance(candidate.campaign("election/e"), Waiting):
        assert asked - late.sent <= 4 * arena.ttl, "the seat of a silent leader is not given to the candidate"
        arena.wait(arena.ttl / 50)
        asked = arena.clock.now()
        held_at = asked if term.held else held_at
    won_at = arena.clock.now()
    assert not term.held, "two hold the seat: the term still says that it is held when another one has won"
    assert term.deadline <= won_at
    assert held_at < late.sent + leader.lease_ttl
    # On a busy machine the answer may have come after the deadline, which is no news by then.
    with suppress(drumbeat.SessionLost):
        beat.result(within=arena.ttl)


@guarantee("LEAD-9")
def a_campaign_repeated_after_a_lost_reply_takes_one_seat(arena: Arena) -> None:
    """A campaign whose winning answer was lost asks again, and neither loses the seat nor takes two."""
    faults = Faults(arena.clock)
    session, other = arena.connect("one", interceptors=[faults]), arena.connect("two")
    with faults.dropping_replies("campaign"):
        waiting = arena.background(session.election("e").campaign)
        won = arena.eventually(other.election("e").leader, within=2 * arena.ttl)
        assert won is not None
    term = waiting.result(within=3 * arena.ttl)
    assert term.held
    assert won == other.election("e").leader()
    assert term.token == won.token
    assert term.resign() is True
    assert other.election("e").leader() is None


@guarantee("LEAD-11")
def a_lost_session_loses_all_its_terms_each_told_once(arena: Arena) -> None:
    """When a session is lost, all its terms are over together and stay so, and `on_lost` is called once for each; not
    for a term that was resigned.
    """
    faults = Faults(arena.clock)
    session = arena.connect("one", interceptors=[faults])
    told: list[Term] = []
    terms = [session.election(f"e{number}").campaign(on_lost=told.append) for number in range(3)]
    session.election("resigned").campaign(on_lost=told.append).resign()
    with faults.failing():
        arena.eventually(lambda: not any(term.held for term in terms), within=3 * arena.ttl)
        arena.eventually(lambda: len(told) >= 3, within=arena.ttl)
        assert all(term.lost.is_set() for term in terms)
    arena.eventually(lambda: session.state is State.CONNECTED, within=10 * arena.ttl)
    session.close()
    assert sorted(told, key=id) == sorted(terms, key=id)
    assert not any(term.held for term in terms)


@guarantee("LEAD-26")
def everybody_sees_who_leads_and_what_it_proclaims(arena: Arena) -> None:
    """`leader()` gives every session the member, incarnation, token and JSON value of who leads, as it was proclaimed
    last, and None where nobody leads.
    """
    one, two = arena.connect("one", lease_ttl=LONG), arena.connect("two", lease_ttl=LONG)
    assert two.election("e").leader() is None
    term = one.election("e").campaign({"address": "here:1"})
    assert term.held
    leader = drumbeat.Leader(
        member_id="one", incarnation=one.incarnation, token=term.token, value={"address": "here:1"}
    )
    assert leader == two.election("e").leader()
    term.proclaim({"address": ["there", 2]})
    changed = two.election("e").leader()
    assert changed is not None
    assert (term.token, {"address": ["there", 2]}) == (changed.token, changed.value)


@guarantee("LEAD-27")
def a_resign_ends_the_wait_of_a_candidate(arena: Arena) -> None:
    """A session that waits in `campaign()` wins right after a resign, with a higher token, long before the TTL."""
    asked = Asked()
    one, two = arena.connect("one", lease_ttl=LONG), arena.connect("two", lease_ttl=LONG, interceptors=[asked])
    term = one.election("e").campaign()
    waiting = arena.background(two.election("e").campaign)
    arena.eventually(lambda: asked.waits, within=arena.ttl)
    resigned_at = arena.clock.now()
    assert term.resign() is True
    successor = waiting.result(within=LONG / 2)
    assert arena.clock.now() - resigned_at <= two.backend.limits.poll_interval + 2 * arena.ttl
    assert successor.token > term.token
    assert not term.held
    assert term.resign() is False


@guarantee("LEAD-28")
def a_term_that_is_over_does_nothing_to_its_successor(arena: Arena) -> None:
    """Resign of a lost term says that it was not held, proclaim raises TermLost, and the successor is as it was."""
    faults = Faults(arena.clock)
    old, new = arena.connect("old", interceptors=[faults]), arena.connect("new")
    term = old.election("e").campaign("old")
    with faults.failing():
        successor = arena.run(lambda: new.election("e").campaign("new"), within=new.failover_bound + 2 * arena.ttl)
    assert not term.held
    assert term.resign() is False
    with pytest.raises(drumbeat.TermLost, match="is over"):
        term.proclaim("old again")
    leader = new.election("e").leader()
    assert leader is not None
    assert (leader.value, leader.token) == ("new", successor.token)
    assert successor.held


@guarantee("LEAD-29")
def a_campaign_can_be_withdrawn_while_it_waits(arena: Arena) -> None:
    """`withdraw()` ends the campaigns that wait in other threads with CampaignWithdrawn; when the holder leaves, the
    seat stays free for others.
    """
    asked = Asked()
    one, two = arena.connect("one", lease_ttl=LONG), arena.connect("two", lease_ttl=LONG, interceptors=[asked])
    term = one.election("e").campaign()
    election = two.election("e")
    waiting = arena.background(election.campaign)
    arena.eventually(lambda: asked.waits, within=2 * arena.ttl)
    assert election.withdraw() == 1
    with pytest.raises(drumbeat.CampaignWithdrawn):
        waiting.result(within=2 * arena.ttl)
    assert election.withdraw() == 0
    term.resign()
    assert two.election("e").leader() is None
    assert wins_at_once(one.election("e")), "the attempt that was withdrawn is in the way"


@guarantee("LEAD-30")
def a_campaign_gives_up_in_time(arena: Arena) -> None:
    """A campaign that has not won within its timeout raises Timeout, in time, also while the server does not answer; a
    timeout of 0 tries once. Its attempt is withdrawn, so that the seat stays free when its holder leaves.
    """
    faults = Faults(arena.clock)
    one, two = arena.connect("one", lease_ttl=LONG), arena.connect("two", interceptors=[faults], lease_ttl=LONG)
    election = two.election("e")
    term = one.election("e").campaign()
    for timeout in (arena.ttl / 10, 0):
        started = arena.clock.now()
        wait = arena.background(lambda timeout=timeout: election.campaign(timeout=timeout))  # type: ignore[misc]
        with pytest.raises(drumbeat.Timeout, match=re.escape(f"was not won within {timeout:g} s")):
            wait.result(within=timeout + 2 * arena.ttl)
        assert timeout <= arena.clock.now() - started
    with faults.failing("campaign"):
        wait = arena.background(lambda: election.campaign(timeout=arena.ttl / 10))
        with pytest.raises(drumbeat.Timeout):
            wait.result(within=2 * arena.ttl)
    term.resign()
    assert one.election("e").leader() is None
    assert wins_at_once(one.election("e")), "the attempt that was withdrawn is in the way"
    assert wins_at_once(election)


@guarantee("LEAD-31")
def a_win_that_nobody_waits_for_frees_its_seat(arena: Arena) -> None:
    """When a campaign has given up without knowing that it won, and could not withdraw, the session's next heartbeat
    frees the seat.
    """
    faults = Faults(arena.clock)
    session = arena.connect("one", interceptors=[faults], heartbeat="manual", lease_ttl=LONG)
    other = arena.connect("two", lease_ttl=LONG)
    with faults.dropping_replies("campaign"), faults.failing("withdraw"), pytest.raises(drumbeat.Timeout):
        session.election("e").campaign(timeout=0.0)
    assert other.election("e").leader() is not None
    session.beat()
    assert other.election("e").leader() is None


@guarantee("LEAD-32")
def a_campaign_goes_on_through_a_lost_session(arena: Arena) -> None:
    """A session that is LOST and opened again does not end its campaigns: they win with the next incarnation."""
    faults, asked = Faults(arena.clock), Asked()
    session, holder = arena.connect("one", interceptors=[faults, asked]), arena.connect("two")
    term = holder.election("e").campaign()
    waiting = arena.background(session.election("e").campaign)
    arena.eventually(lambda: asked.waits, within=2 * arena.ttl)
    before = session.incarnation
    with faults.failing():
        arena.eventually(lambda: session.state is State.LOST, within=3 * arena.ttl)
    arena.eventually(lambda: session.incarnation != before, within=10 * arena.ttl)
    assert waiting.running
    term.resign()
    won = waiting.result(within=5 * arena.ttl)
    assert won.held
    leader = holder.election("e").leader()
    assert leader is not None
    assert (session.incarnation, won.token) == (leader.incarnation, leader.token)


@guarantee("LEAD-33")
def the_next_win_waits_until_the_last_loss_is_told(arena: Arena) -> None:
    """`held` is False before `on_lost` runs, and this process wins the same election again only after it returned."""
    faults, release = Faults(arena.clock), Signal(arena.clock)
    session = arena.connect("one", interceptors=[faults])
    events: list[str] = []

    def on_lost(term: Term) -> None:
        events.append(f"told, held={term.held}")
        release.wait(20 * arena.ttl)
        events.append("returned")

    def lead_again() -> None:
        session.election("e").campaign()
        events.append("won")

    session.election("e").campaign(on_lost=on_lost)
    try:
        with faults.failing():
            arena.eventually(lambda: events, within=3 * arena.ttl)
        asked = faults.calls["campaign"]
        again = arena.background(lead_again)
        arena.eventually(lambda: faults.calls["campaign"] > asked, within=10 * arena.ttl)
        arena.wait(arena.ttl / 4)
    finally:
        release.set()
    again.result(within=5 * arena.ttl)
    assert events == ["told, held=False", "returned", "won"]


@guarantee("LEAD-34")
def a_blocked_callback_does_not_stop_the_deadline(arena: Arena) -> None:
    """A callback that blocks for longer than the TTL neither keeps a term held, nor the session from reopening."""
    faults, release = Faults(arena.clock), Signal(arena.clock)
    session = arena.connect("one", interceptors=[faults])
    blocked: list[State] = []

    def block(state: State) -> None:
        blocked.append(state)
        release.wait(20 * arena.ttl)

    session.on_state(block)
    term = session.election("e").campaign(on_lost=lambda _: None)
    try:
        with faults.failing():
            arena.eventually(lambda: blocked, within=3 * arena.ttl)
            arena.eventually(lambda: not term.held, within=3 * arena.ttl)
        arena.eventually(lambda: session.state is State.CONNECTED, within=10 * arena.ttl)
        assert blocked == [State.SUSPENDED]
    finally:
        release.set()


@guarantee("LEAD-35")
def ensure_wants_the_time_that_is_left(arena: Arena) -> None:
    """`ensure` returns while enough of the term is certain, and raises TermLost with the numbers otherwise; `remaining`
    is less than the TTL, and 0 once the term is over.
    """
    term = arena.connect("one", lease_ttl=LONG).election("e").campaign()
    assert LONG / 2 < term.remaining < LONG
    term.ensure(1.0)
    with pytest.raises(drumbeat.TermLost, match=r"is certain for [345][.\d]* s only, 100 s were asked for"):
        term.ensure(100.0)
    assert term.held
    term.resign()
    assert term.remaining == 0.0
    with pytest.raises(drumbeat.TermLost, match=r"is over \(resigned\)"):
        term.ensure()


@guarantee("LEAD-36")
def the_end_of_a_block_resigns(arena: Arena) -> None:
    """Leaving the `with` block of a term frees the seat, also when the block raises."""
    session = arena.connect("one", lease_ttl=LONG)
    with pytest.raises(ZeroDivisionError), session.election("e").campaign() as term:
        raise ZeroDivisionError
    assert not term.held
    assert session.election("e").leader() is None


@guarantee("LEAD-37")
def who_leads_is_never_answered_from_memory(arena: Arena) -> None:
    """Asking for the leader without an answer from the server raises Unavailable: old knowledge is not passed off as
    new.
    """
    faults = Faults(arena.clock)
    session = arena.connect("one", interceptors=[faults], lease_ttl=6 * arena.ttl)
    session.election("e").campaign()
    assert session.election("e").leader() is not None
    with faults.failing(), pytest.raises(drumbeat.Unavailable):
        session.election("e").leader()
    assert session.election("e").leader() is not None


@guarantee("LEAD-38")
def an_answer_after_the_deadline_revives_nothing(arena: Arena) -> None:
    """An answer to a heartbeat that comes after the term's deadline does not make it held again: a lost term stays
    lost, and its session is opened again.
    """
    late = AnswersLate(arena.clock)
    session = arena.connect("one", interceptors=[late], heartbeat="manual")
    before = session.incarnation
    term = session.election("e").campaign()
    late.seconds = 1.5 * arena.ttl
    beat = arena.background(session.beat)
    arena.eventually(lambda: not term.held, within=2 * arena.ttl)
    until = arena.clock.now() + arena.ttl
    while arena.clock.now() < until or beat.running:
        assert not term.held
        arena.wait(arena.ttl / 50)
    with pytest.raises(drumbeat.SessionLost):
        beat.result(within=arena.ttl)
    assert term.lost.is_set()
    arena.eventually(lambda: session.incarnation != before, within=10 * arena.ttl)
    assert not term.held
