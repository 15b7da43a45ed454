"""A term says when it is over, in time: elections as programs use them."""

from __future__ import annotations

import re
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest

import drumbeat
from drumbeat import State, Term, Vacant
from drumbeat._clock import Signal
from drumbeat.hookspecs import Waiting
from drumbeat.testing import Faults, lose
from drumbeat_conformance.actor import TIMEOUT
from drumbeat_conformance.guarantee import guarantee
from drumbeat_conformance.guarantees._lasting import lasting_actor
from drumbeat_conformance.guarantees._witnesses import LONG, AnswersLate, Asked, wins_at_once

if TYPE_CHECKING:
    from drumbeat import Election, Session
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
    """When a session is lost, all its terms, of elections and locks, are over together and stay so, and `on_lost` is
    called once for each; not for a term that was given up, be it by a resign or by the session's close.
    """
    faults = Faults(arena.clock)
    session = arena.connect("one", interceptors=[faults])
    told: list[Term] = []
    terms = [session.election(f"e{number}").campaign(on_lost=told.append) for number in range(3)]
    terms.append(session.lock("e0").acquire(on_lost=told.append))
    session.election("resigned").campaign(on_lost=told.append).resign()
    with faults.failing():
        arena.eventually(lambda: not any(term.held for term in terms), within=3 * arena.ttl)
        arena.eventually(lambda: len(told) >= len(terms), within=arena.ttl)
        assert all(term.lost.is_set() for term in terms)
    arena.eventually(lambda: session.state is State.CONNECTED, within=10 * arena.ttl)
    last = session.election("closed").campaign(on_lost=told.append)
    session.close()
    assert sorted(told, key=id) == sorted(terms, key=id)
    assert not any(term.held for term in (*terms, last))


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
    """`withdraw()` ends every campaign of its election that waits in another thread, with CampaignWithdrawn. It touches
    neither a term that is held nor what waits elsewhere, and when the holder leaves, the seat stays free for others.
    """
    asked = Asked()
    one, two = arena.connect("one", lease_ttl=LONG), arena.connect("two", lease_ttl=LONG, interceptors=[asked])
    leading, election, elsewhere = one.election("e"), two.election("e"), two.election("f")
    term, other = leading.campaign(), one.election("f").campaign()
    waiting = [arena.background(election.campaign) for _ in range(3)]
    unharmed = arena.background(elsewhere.campaign)
    arena.eventually(lambda: len(asked.waiting) == 4, within=2 * arena.ttl)
    assert election.withdraw() == 3
    for campaign in waiting:
        with pytest.raises(drumbeat.CampaignWithdrawn):
            campaign.result(within=2 * arena.ttl)
    assert election.withdraw() == 0
    assert leading.withdraw() == 0
    assert term.held
    term.resign()
    assert election.leader() is None
    assert wins_at_once(leading), "an attempt that was withdrawn is in the way"
    assert wins_at_once(election), "a later campaign is taken for withdrawn"
    assert unharmed.running
    other.resign()
    assert unharmed.result(within=LONG / 2).held


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
    is less than the TTL, counts down to `deadline`, begins anew with a heartbeat, and is 0 once the term is over.
    """
    session = arena.connect("one", lease_ttl=LONG, heartbeat="manual")
    term = session.election("e").campaign()
    before = term.remaining
    arena.wait(arena.ttl / 4)
    after = term.remaining
    assert after <= before - arena.ttl / 4
    assert after == pytest.approx(term.deadline - arena.clock.now(), abs=arena.ttl)
    with pytest.raises(drumbeat.TermLost, match="is certain for"):
        term.ensure(before)
    session.beat()
    assert term.remaining > after
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
    """Leaving the `with` block of a term frees the seat, also when the block raises. The signal `lost` goes up with the
    end of every term, so that who waits for it stops: with a resign as with the session's close.
    """
    session = arena.connect("one", lease_ttl=LONG)
    with pytest.raises(ZeroDivisionError), session.election("e").campaign() as term:
        raise ZeroDivisionError
    assert not term.held
    assert session.election("e").leader() is None
    for end in (Term.resign, lambda _: session.close()):
        last = session.election("e").campaign()
        waiting = arena.background(last.lost.wait)
        assert not last.lost.is_set()
        end(last)
        assert last.lost.is_set()
        assert waiting.result(within=arena.ttl)


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


@guarantee("LEAD-46")
def closing_a_session_ends_its_campaigns(arena: Arena) -> None:
    """A campaign that waits when its session is closed raises Closed at once, and stands in nobody's way."""
    asked = Asked()
    one, two = arena.connect("one", lease_ttl=LONG), arena.connect("two", lease_ttl=LONG, interceptors=[asked])
    term = one.election("e").campaign()
    waiting = arena.background(two.election("e").campaign)
    arena.eventually(lambda: asked.waits, within=2 * arena.ttl)
    # Time to ask for what will wake it.
    arena.wait(arena.ttl / 10)
    two.close()
    with pytest.raises(drumbeat.Closed):
        waiting.result(within=2 * arena.ttl)
    term.resign()
    assert one.election("e").leader() is None
    assert wins_at_once(one.election("e")), "the candidate of a closed session is in the way"


@guarantee("LEAD-47")
def who_acts_on_a_seat_that_is_gone_is_told_so(arena: Arena) -> None:
    """A holder whose seat has vanished from the store learns so from its own proclaim, which raises TermLost and ends
    the term, or from its resign, which says that nothing was held; `on_lost` tells of the one that was lost.
    """
    session = arena.connect("one", heartbeat="manual", lease_ttl=LONG)
    told: list[Term] = []
    term = _lose_seat(session, session.election("e").campaign("mine", on_lost=told.append))
    assert term.held
    with pytest.raises(drumbeat.TermLost, match="is over"):
        term.proclaim("still mine")
    assert not term.held
    assert session.election("e").leader() is None
    assert _lose_seat(session, session.election("f").campaign(on_lost=told.append)).resign() is False
    session.close()
    assert told == [term]


def _lose_seat(session: Session, term: Term) -> Term:
    keeper = session._keeper  # noqa: SLF001 - the store is changed behind the session's back
    assert keeper.incarnation is not None
    assert keeper.backend.resign(keeper.incarnation.lease, term._seat, timeout=TIMEOUT).was_held  # noqa: SLF001 - as above
    return term


@guarantee("LEAD-48")
def a_leaders_value_at_the_limit_works_and_above_it_writes_nothing(arena: Arena) -> None:
    """A leader's value at the stated limit comes back. One above it, or one that is no JSON, is an error before
    anything is sent: the value and the term stay as they were.
    """
    faults = Faults(arena.clock)
    session = arena.connect("a", lease_ttl=LONG, interceptors=[faults])
    election, limit = session.election("e"), session.backend.limits.value_bytes
    full, other = ("x" * (limit - len(b'1""')), "y" * (limit - len(b'1""')))
    term = election.campaign(full)
    assert _value(election) == full
    term.proclaim(other)
    sent = faults.calls["proclaim"], faults.calls["campaign"]
    for bad in (other + "z", {1, 2}, float("nan"), 2**60):
        for write in (term.proclaim, session.election("f").campaign):
            with pytest.raises(drumbeat.ConfigurationError):
                write(bad)
    assert (faults.calls["proclaim"], faults.calls["campaign"]) == sent
    assert _value(election) == other
    odd: tuple[object, ...] = (None, "", 0, [], {}, "ä\n\x00☃")
    for value in odd:
        term.proclaim(value)
        assert _value(election) == value
    assert term.held


def _value(election: Election) -> object:
    leader = election.leader()
    assert leader is not None
    return leader.value


@guarantee("LEAD-49")
def who_observes_sees_each_term_that_lasts(arena: Arena) -> None:
    """Who observes an election is given the new term when the same member has lost and won it again meanwhile. What is
    given last is what `leader()` gives, and nothing is given twice.
    """
    one, two = arena.connect("one", lease_ttl=LONG), arena.connect("two", lease_ttl=LONG)
    with two.election("e").observe() as leaders:
        for _ in range(3):
            term = one.election("e").campaign("same")
            seen: drumbeat.Leader | Vacant | None = None
            while not isinstance(seen, drumbeat.Leader) or seen.token != term.token:
                seen = arena.run(partial(leaders.next, 8 * arena.ttl), within=10 * arena.ttl)
            assert seen == two.election("e").leader()
            still = arena.background(partial(leaders.next, arena.ttl / 10))
            with pytest.raises(drumbeat.Timeout):
                still.result(within=3 * arena.ttl)
            term.resign()


#: Pairs that a store, or who writes to it, may take for one another.
_ALIKE: Final = (
    ("e", "E"),
    ("fi", "\N{LATIN SMALL LIGATURE FI}"),
    ("ss", "ß"),
    ("x", "x "),
    ("x.", " x"),
    ("1", "①"),
    ("a/b", "a%2Fb"),
    ("a:b", "a\\b"),
    ("%s", "{0}"),
    ("*", "?"),
    ("x" * 99 + "a", "x" * 99 + "b"),
    ("鍵" * 33, "鍵" * 32),
)


@guarantee("LEAD-50")
def a_seat_of_any_name_lives_a_whole_life(arena: Arena) -> None:
    """Elections and locks of names that look alike are held at the same time; each is proclaimed to, resigned,
    withdrawn from and won again by its own name, and none touches another.
    """
    session, other = arena.connect("a", lease_ttl=LONG), arena.connect("b", lease_ttl=LONG)
    held: list[Term] = []
    for pair in _ALIKE:
        terms = [arena.run(partial(session.election(name).campaign, name), within=5 * arena.ttl) for name in pair]
        locks = [arena.run(session.lock(name).acquire, within=5 * arena.ttl) for name in pair]
        assert pair == tuple(_value(other.election(name)) for name in pair)
        with pytest.raises(drumbeat.Timeout):
            other.election(pair[1]).campaign(timeout=0.0)
        terms[1].proclaim("changed")
        assert (pair[0], "changed") == tuple(_value(other.election(name)) for name in pair)
        assert terms[0].resign()
        assert locks[1].resign()
        assert other.election(pair[0]).leader() is None
        assert _value(other.election(pair[1])) == "changed"
        assert other.lock(pair[1]).holder() is None
        assert wins_at_once(other.election(pair[0]))
        held += [terms[1], locks[0]]
    session.beat()
    assert all(term.held for term in held)


@guarantee("LEAD-51")
def a_resign_that_got_no_answer_is_made_good(arena: Arena) -> None:
    """A resign that cannot reach the server raises Unavailable and ends the term all the same; the session's next
    heartbeat frees the seat. One that was applied, and whose answer was lost, does nothing to the next term.
    """
    faults = Faults(arena.clock)
    session = arena.connect("one", interceptors=[faults], heartbeat="manual", lease_ttl=LONG)
    other = arena.connect("two", lease_ttl=LONG).election("e")
    term = session.election("e").campaign()
    with faults.failing("resign"), pytest.raises(drumbeat.Unavailable):
        term.resign()
    assert not term.held
    assert other.leader() is not None
    session.beat()
    assert other.leader() is None
    term = session.election("e").campaign()
    with faults.dropping_replies("resign"), pytest.raises(drumbeat.Unavailable):
        term.resign()
    later = other.campaign()
    session.beat()
    leader = other.leader()
    assert leader is not None
    assert later.token == leader.token
    assert term.resign() is False
    assert later.held


@guarantee("LEAD-52")
def a_deadline_never_goes_back(arena: Arena) -> None:
    """The late answer to an earlier heartbeat takes nothing from the time that a later one has won."""
    late = AnswersLate(arena.clock)
    session = arena.connect("one", interceptors=[late], heartbeat="manual", lease_ttl=LONG)
    term = session.election("e").campaign()
    late.seconds = arena.ttl
    first = arena.background(session.beat)
    arena.eventually(lambda: late.answered, within=2 * arena.ttl)
    arena.wait(arena.ttl / 10)
    late.seconds = 0.0
    session.beat()
    deadline = term.deadline
    first.result(within=3 * arena.ttl)
    assert term.deadline == deadline


@guarantee("LEAD-54")
def a_timeout_counts_through_a_lost_session(arena: Arena) -> None:
    """The time that a campaign was given goes on while its session is lost and opened again: it does not begin anew."""
    asked = Asked()
    session, holder = arena.connect("one", interceptors=[asked]), arena.connect("two", lease_ttl=LONG)
    holder.election("e").campaign()
    timeout, began = 2 * arena.ttl, arena.clock.now()
    waiting = arena.background(lambda: session.election("e").campaign(timeout=timeout))
    arena.eventually(lambda: asked.waits, within=arena.ttl)
    arena.wait(began + 1.5 * arena.ttl - arena.clock.now())
    lose(session)
    with pytest.raises(drumbeat.Timeout, match=re.escape(f"within {timeout:g} s")):
        waiting.result(within=4 * arena.ttl)
    # The machine may be busy.
    assert timeout <= arena.clock.now() - began <= timeout + 1.25 * arena.ttl
