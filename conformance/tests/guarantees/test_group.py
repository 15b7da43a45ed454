"""Groups show who is in them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from support import Background, eventually

import drumbeat

if TYPE_CHECKING:
    from support import Cluster, Tap


def test_joins_updates_and_leaves_are_visible_to_every_later_read(cluster: Cluster) -> None:
    """GROUP-1, 2 and 3: what returned is seen by anyone, metadata as it was given."""
    one, two = cluster.connect("one"), cluster.connect("two")
    metadata = {"text": "ä\n☃", "list": [1, 2.5, None, True], "deep": {"a": {"b": []}}, "big": 2**53}
    one.group("g").join(metadata)
    assert two.group("g").members()["one"].metadata == metadata
    assert one.group("g").update({"n": 1}) is True
    assert two.group("g").members()["one"].metadata == {"n": 1}
    assert one.group("g").leave() is True
    assert two.group("g").members().ids == ()


def test_the_corner_cases_have_one_outcome_everywhere(cluster: Cluster) -> None:
    """GROUP-4: joining twice replaces, leaving or updating without joining changes nothing, no group is empty."""
    session = cluster.connect("a")
    group = session.group("g")
    assert group.members() == drumbeat.View("g")
    assert group.leave() is False
    assert group.update({"n": 1}) is False
    group.join({"n": 1})
    group.join({"n": 2})
    assert [member.metadata for member in group.members()] == [{"n": 2}]
    assert group.leave() is True
    assert group.leave() is False


def test_names_of_any_script_work_and_do_not_meet(cluster: Cluster) -> None:
    """GROUP-7 and 8: printable names of any kind are groups of their own."""
    session = cluster.connect("member ✓ /:%\\")
    names = ["g", "G", "g/h", "g%2Fh", "a b", "..", ".", "ключ", "鍵" * 33, "x" * 100, "election/g", "-", "*", "'\";--"]
    for name in names:
        session.group(name).join({"name": name})
    assert session.groups() == tuple(sorted(names))
    for name in names:
        assert [member.metadata for member in session.group(name).members()] == [{"name": name}]


def test_elections_and_namespaces_do_not_leak_into_groups(cluster: Cluster) -> None:
    """GROUP-8: an election is no group, a leader no member, and another namespace sees nothing."""
    session = cluster.connect("a")
    other = cluster.connect("a", namespace="other")
    session.election("g").campaign()
    session.lock("g").acquire()
    assert session.groups() == ()
    session.group("g").join()
    assert session.group("g").members().ids == ("a",)
    assert other.groups() == ()
    assert other.group("g").members().ids == ()
    assert other.election("g").leader() is None
    assert other.election("g").campaign(timeout=5 * cluster.ttl).held


def test_metadata_at_the_limit_works_and_above_it_writes_nothing(cluster: Cluster) -> None:
    """GROUP-10: the stated limit holds; above it a clear error leaves what was there."""
    session = cluster.connect("a", lease_ttl=60.0)
    limit = session.backend.limits.value_bytes
    room = limit - len(b'1{"t":""}')
    group = session.group("g")
    group.join({"t": "x" * room})
    assert group.members()["a"].metadata == {"t": "x" * room}
    with pytest.raises(drumbeat.ConfigurationError, match=f"this backend allows {limit}"):
        group.update({"t": "x" * (room + 1)})
    assert group.members()["a"].metadata == {"t": "x" * room}


def test_a_join_whose_answer_is_lost_is_undone(cluster: Cluster, tap: Tap) -> None:
    """A join that raised does not linger: one heartbeat later nobody is a member."""
    session = cluster.connect("a", interceptors=[tap], heartbeat="manual", lease_ttl=60.0)

    def lose() -> None:
        raise drumbeat.Unavailable("the answer was lost")

    tap.after["join_group"] = lose
    with pytest.raises(drumbeat.Unavailable, match="may have been applied"):
        session.group("g").join()
    session.beat()
    assert session.group("g").members().ids == ()


def test_the_first_change_is_the_whole_view(cluster: Cluster) -> None:
    """WATCH-1: the first item carries everybody, also where there is nobody."""
    one, two = cluster.connect("one"), cluster.connect("two")
    with two.group("g").watch() as empty:
        assert next(empty) == drumbeat.Change(view=drumbeat.View("g"))
    one.group("g").join({"n": 1})
    with two.group("g").watch() as changes:
        first = next(changes)
        assert [member.member_id for member in first.joined] == ["one"]
        assert first.view == two.group("g").members()
        one.group("g").update({"n": 2})
        assert [member.metadata for member in changes.next(10 * cluster.ttl).updated] == [{"n": 2}]
        one.group("g").leave()
        assert [member.member_id for member in changes.next(10 * cluster.ttl).left] == ["one"]


def test_a_quick_restart_shows_as_left_and_joined(cluster: Cluster) -> None:
    """WATCH-1: identity is member id and incarnation, so a restart between two reads is not missed."""
    watcher, member = cluster.connect("w"), cluster.connect("m")
    member.group("g").join()
    with watcher.group("g").watch() as changes:
        first = next(changes)
        member.close()
        cluster.connect("m").group("g").join()
        joined: list[drumbeat.Member] = []
        left: list[drumbeat.Member] = []
        while not joined:
            change = changes.next(10 * cluster.ttl)
            joined += change.joined
            left += change.left
    assert [m.member_id for m in joined] == ["m"]
    assert [m.identity for m in left] == [m.identity for m in first.joined]


def test_a_watch_converges_after_any_sequence(cluster: Cluster) -> None:
    """WATCH-2: after joins, leaves, updates and closes at random, the watched view equals the server's."""
    draw = random.Random(7)
    watcher = cluster.connect("w")
    sessions = [cluster.connect(f"m{number}") for number in range(4)]
    with watcher.group("g").watch() as changes:
        latest = next(changes).view
        for step in range(40):
            group = draw.choice(sessions).group("g")
            act = draw.choice(["join", "leave", "update"])
            if act == "leave":
                group.leave()
            else:
                getattr(group, act)({"n": step})
        sessions.pop().close()
        wanted = watcher.group("g").members()
        while latest != wanted:
            latest = changes.next(10 * cluster.ttl).view


def test_wait_for_returns_the_first_fitting_view(cluster: Cluster) -> None:
    """`wait_for` waits until the group is as wanted, and no longer than its timeout."""
    one, two = cluster.connect("one"), cluster.connect("two")
    waiting = Background(lambda: one.group("g").wait_for(lambda view: "two" in view, timeout=20 * cluster.ttl))
    two.group("g").join()
    view = waiting.result()
    assert isinstance(view, drumbeat.View)
    assert view.ids == ("two",)
    with pytest.raises(drumbeat.Timeout):
        one.group("g").wait_for(lambda view: len(view) == 5, timeout=cluster.ttl / 10)


def test_a_watch_ends_with_its_session(cluster: Cluster) -> None:
    """Iterating a watch stops, without an error, when the session or the watch is closed."""
    session = cluster.connect("a")
    by_session = Background(lambda: list(session.group("g").watch()))
    changes = session.group("g").watch()
    by_close = Background(lambda: list(changes))
    eventually(lambda: by_session.running and by_close.running, within=cluster.ttl)
    changes.close()
    assert isinstance(by_close.result(), list)
    session.close()
    assert isinstance(by_session.result(), list)


def test_a_watch_outlives_a_lost_session(cluster: Cluster, tap: Tap) -> None:
    """A watch waits a LOST session out and then shows the changes again."""
    watcher = cluster.connect("w", interceptors=[tap])
    other = cluster.connect("o")
    with watcher.group("g").watch() as changes:
        next(changes)
        with tap.cut():
            eventually(lambda: watcher.state is drumbeat.State.LOST, within=3 * cluster.ttl)
            other.group("g").join()
        assert [member.member_id for member in changes.next(20 * cluster.ttl).joined] == ["o"]


@pytest.mark.parametrize("count", [30])
def test_a_crowd_that_joins_at_once_is_all_in(cluster: Cluster, count: int) -> None:
    """GROUP-6: members who join at the same time all appear, and all agree afterwards."""
    sessions = [cluster.connect(f"m{number:03}", lease_ttl=30.0, request_timeout=6.0) for number in range(count)]
    joins = [Background(session.group("g").join) for session in sessions]
    for join in joins:
        join.result(within=60.0)
    views = {session.group("g").members().ids for session in sessions}
    assert views == {tuple(f"m{number:03}" for number in range(count))}
