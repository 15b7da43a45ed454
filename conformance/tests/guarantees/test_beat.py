"""Sessions live while they beat, and no longer."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from support import Background, eventually

import drumbeat
from drumbeat import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from support import Cluster, Tap


def test_a_beating_session_stays_alive_for_many_ttls(cluster: Cluster) -> None:
    """BEAT-1: after five TTLs the session is the same incarnation, and it is still a member."""
    session = cluster.connect("a")
    group = session.group("g")
    group.join()
    incarnation = session.incarnation
    until = time.monotonic() + 5 * cluster.ttl
    while time.monotonic() < until:
        assert session.state is State.CONNECTED
        time.sleep(cluster.ttl / 10)
    assert session.incarnation == incarnation
    assert group.members().ids == ("a",)


def test_a_silent_session_is_gone_in_time_and_not_before(cluster: Cluster, tap: Tap) -> None:
    """BEAT-2 and BEAT-3: a silent member is seen until its cluster.ttl has passed, and no longer than the bound."""
    watcher = cluster.connect("watcher")
    silent = cluster.connect("silent", interceptors=[tap], heartbeat="manual")
    silent.group("g").join()
    view = watcher.group("g")
    view.join()
    with tap.cut():
        earliest = time.monotonic()
        assert "silent" in view.members()
        gone = eventually(
            lambda: "silent" not in view.members() and time.monotonic(),
            within=watcher.backend.eviction.seconds(cluster.ttl) + cluster.ttl,
        )
    connected_before = earliest - cluster.ttl / 2
    assert gone - connected_before >= cluster.ttl * 0.999


def test_a_silent_leader_is_replaced_within_the_bound(cluster: Cluster, tap: Tap) -> None:
    """LEAD-6: a waiting candidate wins within `failover_bound` of the dead leader's last heartbeat."""
    leader = cluster.connect("leader", interceptors=[tap], heartbeat="manual")
    successor = cluster.connect("successor")
    first = leader.election("e").campaign()
    waiting = Background(lambda: successor.election("e").campaign())
    eventually(lambda: successor._keeper.incarnation.holdings().candidacies, within=cluster.ttl)  # type: ignore[union-attr]
    leader.beat()
    beaten = time.monotonic()
    with tap.cut():
        second = waiting.result(within=successor.failover_bound + 2 * cluster.ttl)
        assert isinstance(second, drumbeat.Term)
        assert time.monotonic() - beaten <= successor.failover_bound + cluster.ttl
        assert not first.held
    assert second.token > first.token


def test_close_releases_everything_at_once(cluster: Cluster) -> None:
    """BEAT-7: a closed session leaves its groups, frees its seats, and may be closed twice."""
    session, other = cluster.connect("a"), cluster.connect("b", lease_ttl=60.0, request_timeout=2.0)
    session.group("g").join()
    term = session.election("e").campaign()
    waiting = Background(lambda: other.election("e").campaign(timeout=20 * cluster.ttl))
    session.close()
    assert not term.held
    assert session.state is State.CLOSED
    assert other.group("g").members().ids == ()
    assert isinstance(waiting.result(), drumbeat.Term)
    session.close()


USES: dict[str, Callable[[drumbeat.Session], object]] = {
    "join": lambda session: session.group("g").join(),
    "members": lambda session: session.group("g").members(),
    "watch": lambda session: session.group("g").watch(),
    "campaign": lambda session: session.election("e").campaign(),
    "leader": lambda session: session.election("e").leader(),
    "acquire": lambda session: session.lock("l").acquire(),
    "groups": lambda session: session.groups(),
    "beat": lambda session: session.beat(),
}


@pytest.mark.parametrize("use", USES)
def test_a_closed_session_says_so(cluster: Cluster, use: str) -> None:
    """Use after close raises Closed, which says to connect again."""
    session = cluster.connect("a")
    session.close()
    with pytest.raises(drumbeat.Closed, match="connect again"):
        USES[use](session)


def test_close_is_bounded_when_the_server_is_down(cluster: Cluster, tap: Tap) -> None:
    """FAULT-9: with a server that does not answer, close returns within its timeout and the term is over."""
    session = cluster.connect("a", interceptors=[tap])
    term = session.election("e").campaign()
    with tap.cut():
        started = time.monotonic()
        session.close(timeout=cluster.ttl)
        assert time.monotonic() - started < 3 * cluster.ttl
    assert not term.held


def test_a_lost_session_reopens_and_rejoins(cluster: Cluster, tap: Tap) -> None:
    """BEAT-8: after LOST comes a new incarnation in the same groups; the old terms stay lost."""
    session = cluster.connect("a", interceptors=[tap])
    session.group("g").join({"n": 1})
    session.group("g").update({"n": 2})
    session.group("h").join()
    session.group("h").leave()
    term = session.election("e").campaign()
    before = session.incarnation
    with tap.cut():
        eventually(lambda: session.state is State.LOST, within=3 * cluster.ttl)
        assert not term.held
    assert session.wait_for(State.CONNECTED, timeout=10 * cluster.ttl)
    eventually(lambda: "a" in session.group("g").members(), within=5 * cluster.ttl)
    assert session.incarnation != before
    assert session.group("g").members()["a"].metadata == {"n": 2}
    assert session.group("h").members().ids == ()
    assert not term.held
    assert term.lost.is_set()


def test_a_short_silence_loses_nothing(cluster: Cluster, tap: Tap) -> None:
    """An outage shorter than the cluster.ttl suspends the session and takes nothing from it."""
    session = cluster.connect("a", interceptors=[tap], lease_ttl=6 * cluster.ttl)
    term = session.election("e").campaign()
    states: list[State] = []
    session.on_state(states.append)
    with tap.cut():
        eventually(lambda: session.state is State.SUSPENDED, within=6 * cluster.ttl)
        assert term.held
    assert session.wait_for(State.CONNECTED, timeout=3 * cluster.ttl)
    assert term.held
    eventually(lambda: states == [State.SUSPENDED, State.CONNECTED], within=cluster.ttl)


def test_a_call_while_suspended_is_unavailable(cluster: Cluster, tap: Tap) -> None:
    """An old view is never passed off as a new one: without an answer there is none."""
    session = cluster.connect("a", interceptors=[tap], lease_ttl=6 * cluster.ttl)
    session.group("g").join()
    with tap.cut(), pytest.raises(drumbeat.Unavailable, match="nothing was changed"):
        session.group("g").members()


def test_one_heartbeat_is_one_call_whatever_is_held(cluster: Cluster, tap: Tap) -> None:
    """BEAT-6: with 50 groups and 50 terms a heartbeat is still one hook call."""
    session = cluster.connect("a", interceptors=[tap], heartbeat="manual", lease_ttl=60.0)
    for number in range(50):
        session.group(f"g{number}").join()
        session.election(f"e{number}").campaign()
    tap.calls.clear()
    session.beat()
    assert tap.calls == {"heartbeat": 1}


def test_a_seat_that_vanished_is_noticed_by_the_next_heartbeat(cluster: Cluster) -> None:
    """BEAT-10: a seat that the store alone has lost is lost for its holder after one heartbeat."""
    session = cluster.connect("a", heartbeat="manual", lease_ttl=60.0)
    gone, kept = session.election("gone").campaign(), session.election("kept").campaign()
    keeper = session._keeper
    assert keeper.incarnation is not None
    keeper.backend.resign(keeper.incarnation.lease, gone._seat, timeout=5.0)
    assert gone.held
    session.beat()
    assert not gone.held
    assert kept.held


def test_a_membership_that_vanished_is_joined_again(cluster: Cluster) -> None:
    """A membership that the store alone has lost is back after one heartbeat, with its metadata."""
    session = cluster.connect("a", heartbeat="manual", lease_ttl=60.0)
    group = session.group("g")
    group.join({"n": 1})
    keeper = session._keeper
    assert keeper.incarnation is not None
    keeper.backend.leave_group(keeper.incarnation.lease, "g", timeout=5.0)
    assert group.members().ids == ()
    session.beat()
    assert group.members()["a"].metadata == {"n": 1}


def test_a_slow_view_delays_no_heartbeat(cluster: Cluster, tap: Tap) -> None:
    """BEAT-11: while a read takes three TTLs, the session stays alive."""
    session = cluster.connect("a", interceptors=[tap])
    before = session.incarnation
    tap.before["read_group"] = lambda: time.sleep(3 * cluster.ttl)
    session.group("g").members()
    assert session.incarnation == before
    assert session.state is State.CONNECTED


def test_a_second_live_session_is_refused_by_name(cluster: Cluster) -> None:
    """GROUP-5: with on_conflict="refuse" a live member id is a Conflict that names it, at once."""
    cluster.connect("a")
    with pytest.raises(drumbeat.Conflict, match="member id 'a' is held by the live session"):
        cluster.connect("a", on_conflict="refuse")


def test_a_second_live_session_waits_for_the_bound(cluster: Cluster) -> None:
    """GROUP-5: with on_conflict="wait" a live member id is a Conflict once the other one cannot be dead."""
    first = cluster.connect("a")
    started = time.monotonic()
    with pytest.raises(drumbeat.Conflict):
        cluster.connect("a", on_conflict="wait")
    assert time.monotonic() - started >= cluster.ttl / 2
    assert first.state is State.CONNECTED


def test_a_second_live_session_can_replace_the_first(cluster: Cluster) -> None:
    """GROUP-5: with on_conflict="replace" the first session is LOST with its terms, and does not fight back."""
    first = cluster.connect("a")
    term = first.election("e").campaign()
    second = cluster.connect("a", on_conflict="replace")
    eventually(lambda: first.state is State.LOST, within=3 * cluster.ttl)
    assert not term.held
    assert isinstance(second.election("e").campaign(timeout=5 * cluster.ttl), drumbeat.Term)
    time.sleep(cluster.ttl)
    assert second.state is State.CONNECTED


def test_a_dead_member_comes_back_under_its_own_id(cluster: Cluster, tap: Tap) -> None:
    """GROUP-9: a restarted process gets in under its old id once the old session has lapsed."""
    old = cluster.connect("a", interceptors=[tap])
    old.group("g").join()
    with tap.cut():
        session = cluster.connect("a")
        session.group("g").join()
        assert session.group("g").members()["a"].incarnation == session.incarnation
        old.close(timeout=0.1)
