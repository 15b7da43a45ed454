"""Opening, keeping and ending a session."""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from local.actors import TIMEOUT, Actor, backend_for, candidacies
from support import eventually

from drumbeat import Capability, ConfigurationError, Conflict, SessionLost, Unavailable
from drumbeat.hookspecs import Holdings, Membership, ReapTicket, Seat, SessionRequest
from drumbeat.local._call import Call
from drumbeat.local._opened import Opened
from drumbeat.local._store import Link, Value
from drumbeat.testing import FakeClock

Make = Callable[..., Actor]
#: Seconds that a session lives where a test waits for its end.
SHORT = 0.3


def test_the_profile_says_what_is_kept(path: Path) -> None:
    """The backend names SQLite with its version, claims what its tests prove, and makes no file to say so."""
    profile = backend_for(path).describe(timeout=TIMEOUT)
    assert profile.server == f"SQLite {sqlite3.sqlite_version}"
    assert profile.capabilities == frozenset(Capability) - {Capability.VOLATILE}
    assert profile.failover.seconds(10.0) < profile.eviction.seconds(10.0) <= 12.0
    assert not path.parent.joinpath("test.db").exists()


def test_a_lease_is_what_was_asked_for(path: Path) -> None:
    """The granted TTL is the one that was asked for, and the lease carries the client's incarnation."""
    actor = Actor(path)
    assert actor.open("a", ttl=7.0, incarnation="one") == "one"
    assert actor.lease.ttl == 7.0
    assert actor.lease.member_id == "a"
    actor.drop()


def test_opening_twice_gives_the_same_session(actor: Make) -> None:
    """A repeated request, as after a lost answer, keeps the session and what it holds."""
    one = actor("a")
    one.join("g")
    again = one.lease
    one.open("a", incarnation=again.incarnation)
    assert one.lease == again
    assert one.members("g") == ["a"]


def test_a_request_that_failed_halfway_can_be_repeated(actor: Make, path: Path) -> None:
    """If opening was applied but its end failed, the same request opens the session all the same."""
    one = actor("a")
    incarnation = one.lease.incarnation
    one.drop()
    assert one.open("a", incarnation=incarnation) == incarnation
    assert one.beat() == []


def test_an_opening_that_fails_leaves_nothing_that_is_alive(
    actor: Make, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the opening was applied but reported as failed, the session is dead for everybody at once."""
    enter = Opened.enter

    def fail(self: Opened, request: SessionRequest, call: Call) -> None:
        enter(self, request, call)
        raise Unavailable("the answer was lost")

    monkeypatch.setattr(Opened, "enter", fail)
    with pytest.raises(Unavailable):
        Actor(path).open("a")
    monkeypatch.undo()
    assert _query(path, "SELECT member_id FROM sessions") == [("a",)]
    assert actor("a").beat() == []


def test_a_live_member_id_is_a_conflict(actor: Make, path: Path) -> None:
    """A second session with a live member id is refused, told who has it and for how long at most."""
    one = actor("a", ttl=30.0)
    with pytest.raises(Conflict) as caught:
        Actor(path).open("a")
    assert caught.value.incarnation == one.lease.incarnation
    assert caught.value.retry_after is not None
    assert 20.0 < caught.value.retry_after <= 30.0
    assert one.beat() == []


def test_a_member_id_is_free_in_another_namespace(actor: Make) -> None:
    """Member ids, groups and elections of one namespace mean nothing in another."""
    one, two = actor("a"), actor("a", namespace="other")
    one.join("g")
    token = one.campaign("e")
    assert two.members("g") == []
    assert two.leader("e") is None
    assert two.campaign("e") > 0
    assert token > 0
    assert two.backend.list_groups(two.lease, timeout=TIMEOUT) == ()
    assert one.backend.list_groups(one.lease, timeout=TIMEOUT) == ("g",)


def test_a_namespace_that_begins_like_another_sees_none_of_it(actor: Make) -> None:
    """A namespace is kept apart from one whose name begins with it and a slash."""
    one, two = actor("a", namespace="ns"), actor("b", namespace="ns/x")
    two.join("g")
    one.join("x/g")
    assert one.members("x/g") == ["a"]
    assert two.members("g") == ["b"]
    assert one.backend.list_groups(one.lease, timeout=TIMEOUT) == ("x/g",)
    assert two.backend.list_groups(two.lease, timeout=TIMEOUT) == ("g",)


def test_replace_ends_the_other_session(actor: Make, path: Path) -> None:
    """With replace the live session goes with all that it held, and its owner's next heartbeat says so."""
    one, two = actor("a"), actor("b")
    one.join("g")
    one.campaign("e")
    new = Actor(path)
    new.open("a", replace=True)
    assert two.members("g") == []
    assert two.leader("e") is None
    with pytest.raises(SessionLost, match="was replaced"):
        one.beat()
    assert new.beat() == []
    new.drop()


def test_superseding_ends_ones_own_earlier_session(actor: Make) -> None:
    """A reopening ends the incarnation before it, with all that it held."""
    one, two = actor("a"), actor("b")
    one.join("g")
    one.campaign("e")
    earlier = one.lease
    one.open("a", supersedes=earlier.incarnation)
    assert two.members("g") == []
    assert two.leader("e") is None
    with pytest.raises(SessionLost):
        one.backend.heartbeat(earlier, Holdings(), timeout=TIMEOUT)
    one.backend.drop_session(earlier)


def test_a_dropped_session_is_dead_at_once(actor: Make) -> None:
    """Dropping lets the kernel lock fall: for everybody else the session is dead, though nothing was written."""
    one, two = actor("a"), actor("b")
    one.join("g")
    one.campaign("e")
    assert one.drop() is True
    assert one.drop() is False
    assert two.members("g") == []
    assert two.leader("e") is None
    assert two.campaign("e") > 0
    for call in (one.beat, one.close, lambda: one.members("g"), lambda: one.watch("group", "g")):
        with pytest.raises(SessionLost, match="dropped"):
            call()


def test_close_ends_everything_at_once_and_twice_is_harmless(actor: Make) -> None:
    """Closing releases members, candidacies and seats at once; a second time it says that nothing was there."""
    one, two = actor("a"), actor("b")
    one.join("g")
    one.campaign("e")
    two.campaign("f")
    one.campaign("f")
    assert one.close() is True
    assert one.close() is False
    assert two.members("g") == []
    assert two.leader("e") is None
    assert two.withdraw("f") is True


def test_nobody_is_dead_before_its_ttl_and_everybody_after_it(actor: Make) -> None:
    """A silent session whose process lives is there for its whole TTL, and gone at its end."""
    two = actor("b")
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    one = actor("a", ttl=SHORT)
    one.join("g")
    one.campaign("e")
    while two.members("g") == ["a"] and two.leader("e") == "a":
        time.sleep(0.001)
    lived = time.clock_gettime(time.CLOCK_BOOTTIME) - before
    assert SHORT <= lived < 2 * SHORT
    assert two.members("g") == []
    assert two.leader("e") is None


def test_a_heartbeat_after_the_deadline_is_refused_and_creates_nothing(actor: Make, path: Path) -> None:
    """A session whose TTL has passed cannot be renewed, even if nobody has noticed its death yet."""
    one = actor("a", ttl=SHORT)
    one.join("g")
    deadline = _deadline(path, "a")
    eventually(lambda: time.clock_gettime(time.CLOCK_BOOTTIME) > deadline, within=10 * SHORT)
    with pytest.raises(SessionLost, match=r"silent for longer than its 0.3 s"):
        one.beat()
    assert _deadline(path, "a") == deadline
    with pytest.raises(SessionLost):
        one.join("h")
    with pytest.raises(SessionLost):
        one.campaign("e")
    with pytest.raises(SessionLost):
        one.watch("group", "g")
    with pytest.raises(SessionLost):
        one.watch("candidacy", "e")
    assert one.backend.update_member(one.lease, "g", value=b"x", timeout=TIMEOUT).was_member is False


def test_heartbeats_keep_a_session_for_many_ttls(actor: Make) -> None:
    """A session that keeps beating lives on."""
    ttl = 4 * SHORT
    one, two = actor("a", ttl=ttl), actor("b")
    one.join("g")
    until = time.monotonic() + 3 * ttl
    while time.monotonic() < until:
        assert one.beat(Holdings(memberships=(Membership("g", 1),), newest_attempt=1)) == []
        assert two.members("g") == ["a"]
        time.sleep(ttl / 40)


def test_a_restart_of_the_host_ends_every_session(actor: Make, path: Path) -> None:
    """A session of another boot is dead, whatever its deadline says, and never stands in the way."""
    one = actor("a")
    one.join("g")
    token = one.campaign("e")
    _change(path, "UPDATE sessions SET boot = 'another'")
    with pytest.raises(SessionLost):
        one.beat()
    two = actor("a")
    assert two.members("g") == []
    assert two.campaign("e") > token


def test_opening_clears_away_the_dead(actor: Make, path: Path) -> None:
    """Sessions whose deadline has passed do not pile up in the file."""
    actor("a", ttl=SHORT)
    deadline = _deadline(path, "a")
    eventually(lambda: time.clock_gettime(time.CLOCK_BOOTTIME) > deadline, within=10 * SHORT)
    actor("b")
    assert _query(path, "SELECT member_id FROM sessions") == [("b",)]


@pytest.mark.parametrize("ttl", [0.1, 3600.1])
def test_a_ttl_outside_the_limits_is_refused(path: Path, ttl: float) -> None:
    """A TTL that the backend does not grant is an error with the limits, and nothing is made."""
    with pytest.raises(ConfigurationError, match=r"outside what local:// grants: 0.2 to 3600 s"):
        Actor(path).open("a", ttl=ttl)
    assert not path.exists()


def test_a_ttl_above_the_namespaces_own_limit_is_refused(actor: Make, path: Path) -> None:
    """The longest TTL in the birth record counts for everybody."""
    actor("a")
    _change(path, "UPDATE births SET longest_ttl = 20")
    with pytest.raises(ConfigurationError, match=r"ttl 30 s is more than namespace 'ns' .* allows \(20 s\)"):
        Actor(path).open("b", ttl=30.0)
    assert _query(path, "SELECT member_id FROM sessions") == [("a",)]


def test_a_heartbeat_tells_what_is_lost(actor: Make, path: Path) -> None:
    """Seats and memberships that the store does not hold for us come back; the others stay."""
    one = actor("a")
    one.join("g", 1)
    one.join("gone", 2)
    held, gone = one.campaign("e", 3), one.campaign("f", 4)
    _change(path, "DELETE FROM members WHERE place = 'ns/gone'", "UPDATE seats SET holder = NULL WHERE place = 'ns/f'")
    seats = (Seat("e", 3, held), Seat("f", 4, gone), Seat("e", 3, held - 1), Seat("never", 5, 1))
    memberships = (Membership("g", 1), Membership("gone", 2), Membership("never", 6))
    lost = one.beat(Holdings(memberships=memberships, seats=seats, newest_attempt=6))
    assert set(lost) == {*seats[1:], *memberships[1:]}
    assert one.members("g") == ["a"]
    assert one.leader("e") == "a"


def test_a_session_that_ends_while_it_beats_is_lost_as_a_whole(
    actor: Make, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the process stands still in the middle of a heartbeat until its session is over, that is what it is told."""
    one = actor("a")
    held = Seat("e", 1, one.campaign("e"))
    write = Link.write

    def late(self: Link, sql: str, parameters: Mapping[str, Value], *, until: float, synced: bool) -> int:
        changed = write(self, sql, parameters, until=until, synced=synced)
        _change(path, "DELETE FROM sessions")
        return changed

    monkeypatch.setattr(Link, "write", late)
    with pytest.raises(SessionLost):
        one.beat(Holdings(seats=(held,), newest_attempt=1))


def test_a_heartbeat_removes_what_was_abandoned(actor: Make) -> None:
    """What the store holds under an attempt that is over and not listed goes within one heartbeat."""
    one, two = actor("a"), actor("b")
    one.join("abandoned", 1)
    one.join("kept", 2)
    one.campaign("abandoned", 3)
    one.campaign("kept", 4)
    two.campaign("busy")
    one.campaign("busy", 5)
    one.campaign("busy", 6)
    holdings = Holdings(
        memberships=(Membership("kept", 2),), candidacies=candidacies(("kept", 4), ("busy", 6)), newest_attempt=6
    )
    assert one.beat(holdings) == []
    assert two.members("abandoned") == []
    assert two.members("kept") == ["a"]
    assert two.leader("abandoned") is None
    assert two.leader("kept") == "a"
    assert one.withdraw("busy", 5) is False
    assert one.withdraw("busy", 6) is True


def test_a_heartbeat_leaves_alone_what_is_newer_than_its_list(actor: Make) -> None:
    """What was begun after the list was written is neither lost nor abandoned."""
    one = actor("a")
    one.join("g", 7)
    token = one.campaign("e", 8)
    one.join("again", 3)
    one.join("again", 9)
    holdings = Holdings(memberships=(Membership("again", 3),), newest_attempt=6)
    assert one.beat(holdings) == []
    assert one.members("g") == ["a"]
    assert one.members("again") == ["a"]
    assert one.resign("e", 8, token) is True


def test_many_holdings_take_as_many_statements_as_one(actor: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much a session holds, a heartbeat is one write and one read."""
    one = actor("a")
    memberships = tuple(Membership(f"g{number}", number) for number in range(1, 51))
    for membership in memberships:
        one.join(membership.group, membership.attempt)
    counted: list[str] = []
    run = Link._run

    def count(self: Link, sql: str, *arguments: object, **options: object) -> object:
        counted.append(sql.split(maxsplit=1)[0])
        return run(self, sql, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Link, "_run", count)
    assert one.beat(Holdings(memberships=memberships, newest_attempt=50)) == []
    assert counted == ["UPDATE", "SELECT"]


def test_reaping_ends_one_incarnation_and_nothing_else(actor: Make, path: Path) -> None:
    """A ticket ends exactly its incarnation, with all that it held; a later one of the same member stays."""
    one, two = actor("a"), actor("b")
    one.join("g")
    one.campaign("e")
    two.join("g")
    reaper = backend_for(path)
    ticket = ReapTicket(one.lease.incarnation, "a")
    assert reaper.reap_session(ticket, timeout=TIMEOUT).was_open is True
    assert two.members("g") == ["b"]
    assert two.leader("e") is None
    later = actor("a")
    later.join("g")
    assert reaper.reap_session(ticket, timeout=TIMEOUT).was_open is False
    assert two.members("g") == ["a", "b"]


def test_reaping_in_a_file_that_does_not_exist_makes_none(path: Path) -> None:
    """A ticket for a file that is gone ends nothing and makes nothing."""
    ticket = ReapTicket(uuid.uuid4().hex, "a")
    assert backend_for(path).reap_session(ticket, timeout=TIMEOUT).was_open is False
    assert list(path.parent.iterdir()) == []


def test_a_slot_taken_twice_is_passed_over(actor: Make, path: Path) -> None:
    """Two sessions that ask for one slot get two, however alike their clocks are."""
    clock = FakeClock()
    backends = [backend_for(path, namespace="clock", clock=clock) for _ in range(3)]
    leases = [
        backend.open_session(SessionRequest(incarnation=uuid.uuid4().hex, member_id=str(n), ttl=60.0), timeout=TIMEOUT)
        for n, backend in enumerate(backends)
    ]
    slots = [slot for (slot,) in _query(path, "SELECT slot FROM sessions WHERE namespace = 'clock'")]
    assert len(set(slots)) == 3
    for backend, lease in zip(backends, leases, strict=True):
        backend.drop_session(lease)


def _change(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None, timeout=TIMEOUT)
    for statement in statements:
        connection.execute(statement)
    connection.close()


def _query(path: Path, statement: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(path, isolation_level=None, timeout=TIMEOUT)
    found = connection.execute(statement).fetchall()
    connection.close()
    return found


def _deadline(path: Path, member_id: str) -> float:
    found = [
        deadline for name, deadline in _query(path, "SELECT member_id, deadline FROM sessions") if name == member_id
    ]
    assert isinstance(found[0], float)
    return found[0]
