"""At most one leads, somebody leads, and everybody knows when a term is over."""

from __future__ import annotations

import re
import threading
import time
from typing import TYPE_CHECKING

import pytest
from support import Background, Tap, eventually

import drumbeat
from drumbeat import Capability, Term, Vacant

if TYPE_CHECKING:
    from support import Cluster


def waits(session: drumbeat.Session) -> bool:
    """Tell whether the session has a candidate that has not won."""
    incarnation = session._keeper.incarnation
    return incarnation is not None and bool(incarnation.holdings().candidacies)


def test_one_leads_and_the_other_waits(cluster: Cluster) -> None:
    """LEAD-1, 2 and 7: the first candidate wins, the second waits, and everybody sees who leads and why."""
    one, two = cluster.connect("one"), cluster.connect("two")
    assert two.election("e").leader() is None
    term = one.election("e").campaign({"address": "here:1"})
    assert term.held
    with pytest.raises(drumbeat.Timeout, match=re.escape(f"was not won within {cluster.ttl / 10:g} s")):
        two.election("e").campaign(timeout=cluster.ttl / 10)
    leader = two.election("e").leader()
    assert leader == drumbeat.Leader(
        member_id="one", incarnation=one.incarnation, token=term.token, value={"address": "here:1"}
    )
    term.proclaim({"address": "there:2"})
    changed = two.election("e").leader()
    assert changed is not None
    assert changed.value == {"address": "there:2"}


def test_resign_hands_over_at_once(cluster: Cluster) -> None:
    """LEAD-3 and 5: a waiting candidate wins right after a resign, with a higher token, long before the cluster.ttl."""
    one = cluster.connect("one", lease_ttl=60.0)
    two = cluster.connect("two", lease_ttl=60.0)
    term = one.election("e").campaign()
    waiting = Background(lambda: two.election("e").campaign())
    eventually(lambda: waits(two), within=5 * cluster.ttl)
    assert term.resign() is True
    successor = waiting.result(within=10.0)
    assert isinstance(successor, Term)
    assert successor.token > term.token
    assert not term.held
    assert term.resign() is False


def test_tokens_rise_for_the_same_member_too(cluster: Cluster) -> None:
    """LEAD-3: every later term of an election has a greater token, whoever wins it."""
    session = cluster.connect("one")
    tokens = []
    for _ in range(5):
        with session.election("e").campaign() as term:
            tokens.append(term.token)
    assert tokens == sorted(set(tokens))
    assert 0 < tokens[0] < tokens[-1] < 2**63


def test_a_deposed_leader_does_nothing_to_its_successor(cluster: Cluster, tap: Tap) -> None:
    """LEAD-4: resign and proclaim of a term that is over leave the new holder as it is."""
    old, new = cluster.connect("old", interceptors=[tap]), cluster.connect("new")
    term = old.election("e").campaign("old")
    with tap.cut():
        successor = new.election("e").campaign("new", timeout=20 * cluster.ttl)
    assert not term.held
    assert term.resign() is False
    with pytest.raises(drumbeat.TermLost, match="is over"):
        term.proclaim("old again")
    leader = new.election("e").leader()
    assert leader is not None
    assert (leader.value, leader.token) == ("new", successor.token)
    assert successor.held


def test_a_withdrawn_candidate_never_wins(cluster: Cluster) -> None:
    """LEAD-10: after a withdraw, and after a timeout, the seat stays free when its holder leaves."""
    one, two = cluster.connect("one"), cluster.connect("two")
    term = one.election("e").campaign()
    election = two.election("e")
    waiting = Background(election.campaign)
    eventually(lambda: waits(two), within=5 * cluster.ttl)
    assert election.withdraw() == 1
    with pytest.raises(drumbeat.CampaignWithdrawn):
        waiting.result()
    with pytest.raises(drumbeat.Timeout):
        election.campaign(timeout=0)
    term.resign()
    assert one.election("e").leader() is None
    assert not waits(two)


def test_candidates_win_in_the_order_in_which_they_came(cluster: Cluster) -> None:
    """LEAD-12: a backend that claims it serves first who came first; the others serve everybody."""
    holder = cluster.connect("holder", lease_ttl=60.0)
    term = holder.election("e").campaign()
    order: list[int] = []
    queued: set[int] = set()

    def take_turn(number: int) -> None:
        tap = Tap()
        tap.after["campaign"] = lambda: queued.add(number)
        session = cluster.connect(f"c{number}", lease_ttl=60.0, interceptors=[tap])
        with session.election("e").campaign():
            order.append(number)

    turns = []
    for number in range(4):
        turns.append(Background(lambda number=number: take_turn(number)))  # type: ignore[misc]
        eventually(lambda number=number: number in queued, within=10.0)  # type: ignore[misc]
    term.resign()
    for turn in turns:
        turn.result(within=20.0)
    first_come = Capability.FIFO_CANDIDATES in holder.backend.capabilities
    assert (order if first_come else sorted(order)) == [0, 1, 2, 3]


def test_a_repeated_campaign_takes_one_seat(cluster: Cluster, tap: Tap) -> None:
    """LEAD-9: when the answer to a win is lost, the repetition finds the seat, once."""
    session = cluster.connect("one", interceptors=[tap])

    def lose_once() -> None:
        del tap.after["campaign"]
        raise drumbeat.Unavailable("the answer was lost")

    tap.after["campaign"] = lose_once
    term = session.election("e").campaign(timeout=10 * cluster.ttl)
    leader = session.election("e").leader()
    assert leader is not None
    assert leader.token == term.token
    assert term.resign() is True
    assert session.election("e").leader() is None


def test_an_abandoned_win_frees_its_seat_at_the_next_heartbeat(cluster: Cluster, tap: Tap) -> None:
    """LEAD-15: a win that nobody waits for any more is given up within one heartbeat."""
    session = cluster.connect("one", interceptors=[tap], heartbeat="manual", lease_ttl=60.0)
    other = cluster.connect("two", lease_ttl=60.0)

    def lose() -> None:
        raise drumbeat.Unavailable("the answer was lost")

    tap.after["campaign"] = tap.before["withdraw"] = lose
    with pytest.raises(drumbeat.Timeout):
        session.election("e").campaign(timeout=0.0)
    assert other.election("e").leader() is not None
    session.beat()
    assert other.election("e").leader() is None


def test_a_lost_session_loses_all_terms_once(cluster: Cluster, tap: Tap) -> None:
    """LEAD-11: all terms of a session are over together, and each `on_lost` is called once."""
    session = cluster.connect("one", interceptors=[tap])
    told: list[Term] = []
    terms = [session.election(f"e{n}").campaign(on_lost=told.append) for n in range(3)]
    resigned = session.election("r").campaign(on_lost=told.append)
    resigned.resign()
    with tap.cut():
        eventually(lambda: not any(term.held for term in terms), within=3 * cluster.ttl)
        eventually(lambda: len(told) == 3, within=cluster.ttl)
        assert all(term.lost.is_set() for term in terms)
    session.wait_for(drumbeat.State.CONNECTED, timeout=10 * cluster.ttl)
    assert sorted(told, key=id) == sorted(terms, key=id)
    assert not any(term.held for term in terms)


def test_a_campaign_goes_on_through_a_lost_session(cluster: Cluster, tap: Tap) -> None:
    """A LOST session does not end a campaign: it wins with the next incarnation."""
    session = cluster.connect("one", interceptors=[tap])
    holder = cluster.connect("two")
    term = holder.election("e").campaign()
    waiting = Background(session.election("e").campaign)
    before = session.incarnation
    with tap.cut():
        eventually(lambda: session.state is drumbeat.State.LOST, within=3 * cluster.ttl)
    eventually(lambda: session.incarnation != before, within=10 * cluster.ttl)
    term.resign()
    won = waiting.result()
    assert isinstance(won, Term)
    assert won.held


def test_the_next_win_waits_for_the_last_loss_to_be_told(cluster: Cluster, tap: Tap) -> None:
    """`held` is False before `on_lost` runs, and this process wins again only after `on_lost` returned."""
    session = cluster.connect("one", interceptors=[tap])
    events: list[str] = []
    release = threading.Event()

    def on_lost(term: Term) -> None:
        events.append(f"told, held={term.held}")
        release.wait(cluster.ttl / 4)
        events.append("returned")

    session.election("e").campaign(on_lost=on_lost)
    with tap.cut():
        eventually(lambda: bool(events), within=3 * cluster.ttl)
    again = session.election("e").campaign(timeout=20 * cluster.ttl)
    events.append("won")
    assert again.held
    assert events == ["told, held=False", "returned", "won"]


def test_a_blocked_callback_does_not_stop_the_deadline(cluster: Cluster, tap: Tap) -> None:
    """A callback that blocks for longer than the cluster.ttl neither keeps a term held nor stops the reopening."""
    session = cluster.connect("one", interceptors=[tap])
    blocked, release = threading.Event(), threading.Event()

    def block(_: drumbeat.State) -> None:
        blocked.set()
        release.wait(20 * cluster.ttl)

    session.on_state(block)
    term = session.election("e").campaign(on_lost=lambda term: None)
    with tap.cut():
        assert blocked.wait(3 * cluster.ttl)
        eventually(lambda: not term.held, within=3 * cluster.ttl)
    assert session.wait_for(drumbeat.State.CONNECTED, timeout=10 * cluster.ttl)
    release.set()


def test_a_callback_that_raises_stops_nothing(cluster: Cluster, tap: Tap, caplog: pytest.LogCaptureFixture) -> None:
    """WATCH-3: what a callback raises is logged, and later callbacks still come."""
    session = cluster.connect("one", interceptors=[tap])
    states: list[drumbeat.State] = []

    def fail(_: object) -> None:
        raise drumbeat.TermLost("on purpose")

    session.on_state(fail)
    session.on_state(states.append)
    session.election("e").campaign(on_lost=fail)
    with tap.cut():
        eventually(lambda: drumbeat.State.LOST in states, within=3 * cluster.ttl)
    eventually(lambda: drumbeat.State.CONNECTED in states, within=10 * cluster.ttl)
    assert "on purpose" in caplog.text


def test_observers_of_an_election_see_who_leads(cluster: Cluster) -> None:
    """`observe` starts with who leads now and then gives each change."""
    one, two = cluster.connect("one"), cluster.connect("two")
    with two.election("e").observe() as leaders:
        assert next(leaders) == Vacant()
        term = one.election("e").campaign("first")
        seen = leaders.next(10 * cluster.ttl)
        assert isinstance(seen, drumbeat.Leader)
        assert (seen.member_id, seen.token, seen.value) == ("one", term.token, "first")
        term.proclaim("second")
        changed = leaders.next(10 * cluster.ttl)
        assert isinstance(changed, drumbeat.Leader)
        assert changed.value == "second"
        term.resign()
        assert leaders.next(10 * cluster.ttl) == Vacant()


def test_ensure_wants_the_time_that_is_left(cluster: Cluster) -> None:
    """`ensure` returns while enough of the term is certain, and raises TermLost with the numbers otherwise."""
    term = cluster.connect("one", lease_ttl=60.0).election("e").campaign()
    assert 50 < term.remaining < 60
    term.ensure(1.0)
    with pytest.raises(drumbeat.TermLost, match=r"is certain for 5.* s only, 100 s were asked for"):
        term.ensure(100.0)
    assert term.held
    term.resign()
    assert term.remaining == 0.0
    with pytest.raises(drumbeat.TermLost, match=r"is over \(resigned\)"):
        term.ensure()


def test_the_end_of_a_block_resigns(cluster: Cluster) -> None:
    """Leaving the `with` block of a term frees the seat, also when the block raises."""
    session = cluster.connect("one")
    with pytest.raises(ZeroDivisionError), session.election("e").campaign() as term:
        raise ZeroDivisionError
    assert not term.held
    assert session.election("e").leader() is None


def test_a_lock_excludes_processes_and_threads(cluster: Cluster) -> None:
    """LOCK-1 and 3: two threads of one session and another session lose no increment of an unguarded counter."""
    sessions = [cluster.connect("one", lease_ttl=60.0), cluster.connect("two", lease_ttl=60.0)]
    counter = [0]

    def increment(session: drumbeat.Session) -> None:
        for _ in range(5):
            with session.lock("counter").acquire():
                before = counter[0]
                time.sleep(0.002)
                counter[0] = before + 1

    workers = [Background(lambda s=session: increment(s)) for session in [*sessions, sessions[0]]]  # type: ignore[misc]
    for worker in workers:
        worker.result(within=50.0)
    assert counter == [15]


def test_a_lock_is_not_re_entrant(cluster: Cluster) -> None:
    """LOCK-2 and 3: a second acquire of the same thread times out, in time, and its holder is known."""
    session = cluster.connect("one")
    with session.lock("l").acquire() as term:
        started = time.monotonic()
        with pytest.raises(drumbeat.Timeout):
            session.lock("l").acquire(timeout=cluster.ttl / 4)
        assert cluster.ttl / 4 <= time.monotonic() - started < 3 * cluster.ttl
        holder = session.lock("l").holder()
        assert holder is not None
        assert holder.token == term.token
    assert session.lock("l").holder() is None


def test_a_lock_and_an_election_of_one_name_do_not_meet(cluster: Cluster) -> None:
    """GROUP-8: a lock, an election and a group of the same name are three things."""
    session = cluster.connect("one")
    session.group("x").join()
    with session.lock("x").acquire(timeout=5 * cluster.ttl), session.election("x").campaign(timeout=5 * cluster.ttl):
        assert session.group("x").members().ids == ("one",)


def test_what_is_read_while_suspended_is_an_error(cluster: Cluster, tap: Tap) -> None:
    """Asking for the leader without an answer from the server raises Unavailable."""
    session = cluster.connect("one", interceptors=[tap], lease_ttl=6 * cluster.ttl)
    session.election("e").campaign()
    with tap.cut(), pytest.raises(drumbeat.Unavailable):
        session.election("e").leader()
