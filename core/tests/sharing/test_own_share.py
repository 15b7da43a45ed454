"""Advisory partition: each member asks for its own items, and is told when nobody can know."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from support import TTL, Cluster, Tap, eventually

import drumbeat
from drumbeat import Group, State, hookimpl
from drumbeat.hookspecs import GroupRecord
from drumbeat.testing import FakeClock, freeze, lose, memory_session, memory_url

if TYPE_CHECKING:
    from collections.abc import Generator

ITEMS = [f"meter {number}" for number in range(200)]


def join(memory: Cluster, member_id: str, **metadata: object) -> Group:
    """Return the group, joined by a new session."""
    group = memory.connect(member_id).group("agents")
    group.join(metadata)
    return group


def test_the_dead_members_share_is_reassigned(memory: Cluster, tap: Tap) -> None:
    """PART-4: a member that stops beating has lost its share to the others once its lease is over."""
    dead = memory.connect("dead", interceptors=[tap]).group("agents")
    dead.join()
    heir = join(memory, "heir")
    assert len(heir.partition(ITEMS)) < len(ITEMS)
    with tap.cut():
        eventually(lambda: heir.partition(ITEMS) == tuple(ITEMS), within=TTL + 2.0)


def test_weights_come_from_the_metadata(memory: Cluster) -> None:
    """A member of weight 0 gets nothing, one of weight 3 more than one of 1, and a rule of one's own decides."""
    idle, strong, weak = join(memory, "idle", weight=0), join(memory, "strong", weight=3), join(memory, "weak")
    assert idle.partition(ITEMS) == ()
    assert len(strong.partition(ITEMS)) > 2 * len(weak.partition(ITEMS)) > 0
    assert idle.partition(ITEMS, weight=lambda member: float(member.member_id == "idle")) == tuple(ITEMS)


def test_bad_weights_in_metadata_are_told(memory: Cluster) -> None:
    """Metadata that is no weight counts as 1 for everybody, with a warning that names the member."""
    group = join(memory, "only", weight="heavy")
    with pytest.warns(drumbeat.DrumbeatWarning, match="member 'only' of group 'agents' has the weight 'heavy'"):
        assert group.partition(ITEMS) == tuple(ITEMS)


def test_who_has_not_joined_is_told(memory: Cluster) -> None:
    """A session that is no member has no share, and an error says what to do; after a leave too."""
    group = memory.connect("stranger").group("agents")
    join(memory, "member")
    with pytest.raises(drumbeat.ConfigurationError, match=r"not joined 'agents'.*call join\(\) first"):
        group.partition(ITEMS)
    group.join()
    group.partition(ITEMS)
    group.leave()
    with pytest.raises(drumbeat.ConfigurationError, match="not joined"):
        group.partition(ITEMS, on_outage="keep")


def test_a_silent_server_raises(memory: Cluster, tap: Tap) -> None:
    """Without an answer nobody knows what is whose: Unavailable, unless the last view is to be kept explicitly."""
    session = memory.connect("a", interceptors=[tap])
    group = session.group("agents")
    group.join()
    join(memory, "b")
    with tap.cut(), pytest.raises(drumbeat.Unavailable):
        group.partition(ITEMS, on_outage="keep")
    known = group.partition(ITEMS)
    with tap.cut():
        with pytest.raises(drumbeat.Unavailable):
            group.partition(ITEMS)
        assert group.partition(ITEMS, on_outage="keep") == known
        with pytest.raises(drumbeat.Unavailable):
            session.group("agents").partition(ITEMS, on_outage="keep")
        eventually(lambda: session.state is State.LOST, within=2 * TTL)
        with pytest.raises(drumbeat.Unavailable, match="LOST"):
            group.partition(ITEMS)
        assert group.partition(ITEMS, on_outage="keep") == known


def test_what_is_kept_ends_with_the_outage(memory: Cluster, tap: Tap) -> None:
    """With `keep` the share is up to date as long as the server answers."""
    group = memory.connect("a", interceptors=[tap]).group("agents")
    group.join()
    assert group.partition(ITEMS, on_outage="keep") == tuple(ITEMS)
    with tap.cut():
        assert group.partition(ITEMS, on_outage="keep") == tuple(ITEMS)
    join(memory, "b")
    assert 0 < len(group.partition(ITEMS, on_outage="keep")) < len(ITEMS)


def test_a_lost_session_is_answered_at_once() -> None:
    """While the session is LOST, `keep` answers without waiting for the request timeout."""
    clock = FakeClock()
    with memory_session(clock=clock, member_id="a") as session:
        group = session.group("agents")
        group.join()
        group.partition(ITEMS)
        with freeze(session):
            clock.advance(10.0)
            before = clock.now()
            assert group.partition(ITEMS, on_outage="keep") == tuple(ITEMS)
            assert clock.now() == before


def test_an_answer_that_comes_after_the_lease_does_not_count(tap: Tap) -> None:
    """A view that arrives when the session is LOST already is refused."""
    clock = FakeClock()
    with memory_session(clock=clock, member_id="a", heartbeat="manual", interceptors=[tap]) as session:
        group = session.group("agents")
        group.join()
        tap.after["read_group"] = lambda: lose(session)
        with pytest.raises(drumbeat.Unavailable, match="LOST while 'agents' was read"):
            group.partition(ITEMS)
        tap.after.clear()


def test_a_session_that_is_not_in_the_view_owns_nothing(tap: Tap) -> None:
    """After a reopening and before the rejoin a session has no share: the others have it."""
    url = memory_url()
    with memory_session(url, member_id="a", heartbeat="manual", interceptors=[tap]) as session:
        group = session.group("agents")
        group.join()
        assert group.partition(ITEMS) == tuple(ITEMS)
        lose(session)
        assert session.wait_for(State.CONNECTED, timeout=5.0)
        assert group.partition(ITEMS) == ()
        session.beat()
        assert group.partition(ITEMS) == tuple(ITEMS)


class Stale:
    """An interceptor: the members that are read are those of earlier incarnations."""

    @hookimpl(wrapper=True)
    def read_group(self) -> Generator[None, GroupRecord, GroupRecord]:
        record = yield
        return GroupRecord(tuple(replace(member, incarnation="earlier") for member in record.members))


def test_an_earlier_incarnation_does_not_count(memory: Cluster) -> None:
    """A view that still has the member's last life in it gives it nothing: it has not joined in this one."""
    group = memory.connect("a", interceptors=[Stale()]).group("agents")
    group.join()
    assert group.partition(ITEMS) == ()


def test_an_unknown_outage_policy_is_refused(memory: Cluster) -> None:
    """A misspelt policy is an error before anything is asked."""
    group = join(memory, "a")
    with pytest.raises(drumbeat.ConfigurationError, match="on_outage must be 'raise' or 'keep', not 'kep'"):
        group.partition(ITEMS, on_outage="kep")  # type: ignore[arg-type]


def test_a_closed_session_has_no_share(memory: Cluster) -> None:
    """After close nothing is kept either: Closed."""
    session = memory.connect("a")
    group = session.group("agents")
    group.join()
    group.partition(ITEMS)
    session.close()
    with pytest.raises(drumbeat.Closed):
        group.partition(ITEMS, on_outage="keep")
