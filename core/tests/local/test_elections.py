"""Elections: at most one holds a seat, in the order in which they came, with tokens that rise."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from local.actors import TIMEOUT, Actor, backend_for
from support import eventually

from drumbeat import Unavailable
from drumbeat.hookspecs import LeaderRecord, Seat, SessionRequest, Vacant, Waiting, Won
from drumbeat.local import _sql
from drumbeat.local._store import Link, Value
from drumbeat.testing import FakeClock

Make = Callable[..., Actor]
#: Seconds that a session lives where a test waits for its end.
SHORT = 0.3


def test_one_wins_and_the_others_are_told_who(actor: Make) -> None:
    """The first candidate wins; others learn the holder, its token and value, and when it can lapse at the earliest."""
    one, two = actor("a", ttl=30.0), actor("b")
    won = one.backend.campaign(one.lease, "e", attempt=1, value=b"here", timeout=TIMEOUT)
    assert isinstance(won, Won)
    waiting = two.backend.campaign(two.lease, "e", attempt=1, value=b"there", timeout=TIMEOUT)
    assert isinstance(waiting, Waiting)
    expected = LeaderRecord(member_id="a", incarnation=one.lease.incarnation, token=won.seat.token, value=b"here")
    assert waiting.holder == expected
    assert waiting.retry_after is not None
    assert 20.0 < waiting.retry_after <= 30.0
    assert two.backend.read_leader(two.lease, "e", timeout=TIMEOUT) == expected


def test_an_attempt_that_won_is_told_so_again(actor: Make) -> None:
    """Repeating a campaign, as after a lost answer, gives the same token, and the value of the win stays."""
    one = actor("a")
    answers = [
        one.backend.campaign(one.lease, "e", attempt=1, value=value, timeout=TIMEOUT) for value in (b"win", b"later")
    ]
    assert answers[0] == answers[1]
    leader = one.backend.read_leader(one.lease, "e", timeout=TIMEOUT)
    assert isinstance(leader, LeaderRecord)
    assert leader.value == b"win"


def test_two_attempts_of_a_session_are_two_candidates(actor: Make) -> None:
    """A session does not win again what it holds already; its second attempt waits for the first."""
    one = actor("a")
    token = one.campaign("e", 1)
    assert one.campaign("e", 2) == 0
    assert one.resign("e", 1, token) is True
    assert one.campaign("e", 2) > token


def test_candidates_win_in_the_order_in_which_they_came(actor: Make) -> None:
    """A free seat goes to the oldest candidate, however often the younger ones try."""
    leader, *waiting = (actor(name) for name in "abcde")
    token = leader.campaign("e")
    assert [one.campaign("e") for one in waiting] == [0, 0, 0, 0]
    leader.resign("e", 1, token)
    for index, winner in enumerate(waiting):
        assert [one.campaign("e") for one in waiting[index + 1 :]] == [0] * (3 - index)
        following = winner.campaign("e")
        assert following > token
        token = following
        winner.resign("e", 1, token)


def test_a_candidate_behind_another_is_told_when_that_one_can_lapse(actor: Make) -> None:
    """While an older candidate has not taken the free seat, the wait is bounded by that one's lease."""
    leader, older, younger = actor("a"), actor("b", ttl=20.0), actor("c")
    token = leader.campaign("e")
    older.campaign("e")
    younger.campaign("e")
    leader.resign("e", 1, token)
    answer = younger.backend.campaign(younger.lease, "e", attempt=1, value=b"", timeout=TIMEOUT)
    assert isinstance(answer, Waiting)
    assert answer.holder == Vacant()
    assert answer.retry_after is not None
    assert 10.0 < answer.retry_after <= 20.0


def test_a_dead_candidate_is_no_obstacle(actor: Make) -> None:
    """A free seat goes past candidates that have died while they waited."""
    leader, dead, gone, living = (actor(name) for name in "abcd")
    token = leader.campaign("e")
    assert [one.campaign("e") for one in (dead, gone, living)] == [0, 0, 0]
    dead.drop()
    gone.close()
    leader.drop()
    assert living.campaign("e") > token


def test_tokens_rise_also_when_the_clock_steps_back(path: Path) -> None:
    """Every later term has a greater token, whatever the wall clock does."""
    clock = FakeClock()
    backend = backend_for(path, clock=clock)
    lease = backend.open_session(SessionRequest(incarnation="i", member_id="a", ttl=60.0), timeout=TIMEOUT)
    tokens = []
    for attempt in range(1, 6):
        won = backend.campaign(lease, "e", attempt=attempt, value=b"", timeout=TIMEOUT)
        assert isinstance(won, Won)
        tokens.append(won.seat.token)
        backend.resign(lease, won.seat, timeout=TIMEOUT)
        clock.step_wall(-1000.0)
    assert tokens == [tokens[0] + step for step in range(5)]
    assert tokens[0] >= 1_700_000_000_000_000
    backend.drop_session(lease)


def test_tokens_rise_when_the_file_is_lost(actor: Make, path: Path) -> None:
    """A new file gives tokens that are greater than all of the old one's."""
    one = actor("a")
    token = one.campaign("e")
    one.close()
    one.drop()
    for file in path.parent.iterdir():
        file.unlink()
    assert actor("a").campaign("e") > token


def test_a_deposed_leader_does_nothing_to_its_successor(actor: Make) -> None:
    """Resign, proclaim and withdraw of a term that is over leave the successor's as it is."""
    one, two = actor("a"), actor("b")
    token = one.campaign("e")
    one.resign("e", 1, token)
    successor = two.campaign("e")
    old = Seat("e", 1, token)
    assert one.resign("e", 1, token) is False
    assert one.resign("e", 1, successor) is False
    assert one.withdraw("e") is False
    assert one.backend.proclaim(one.lease, old, value=b"x", timeout=TIMEOUT).was_held is False
    forged = Seat("e", 1, successor)
    assert one.backend.proclaim(one.lease, forged, value=b"x", timeout=TIMEOUT).was_held is False
    leader = two.backend.read_leader(two.lease, "e", timeout=TIMEOUT)
    assert leader == LeaderRecord(member_id="b", incarnation=two.lease.incarnation, token=successor, value=b"")


def test_an_older_term_of_the_same_session_does_nothing_to_its_newer_one(actor: Make) -> None:
    """The token decides, not the session: an old term's resign leaves the new term of the same attempt number."""
    one = actor("a")
    token = one.campaign("e")
    one.resign("e", 1, token)
    newer = one.campaign("e")
    assert one.resign("e", 1, token) is False
    assert one.backend.proclaim(one.lease, Seat("e", 1, token), value=b"x", timeout=TIMEOUT).was_held is False
    assert one.resign("e", 1, newer) is True


def test_proclaim_replaces_the_value(actor: Make) -> None:
    """The holder's new value is in the next read of another session."""
    one, two = actor("a"), actor("b")
    seat = Seat("e", 1, one.campaign("e"))
    assert one.backend.proclaim(one.lease, seat, value=b"new", timeout=TIMEOUT).was_held is True
    leader = two.backend.read_leader(two.lease, "e", timeout=TIMEOUT)
    assert isinstance(leader, LeaderRecord)
    assert leader.value == b"new"


def test_a_withdrawn_candidate_never_wins(actor: Make) -> None:
    """Withdrawing forgets a candidate, or frees the seat if it has won meanwhile; then the next one wins."""
    one, two, three = actor("a"), actor("b"), actor("c")
    one.campaign("e")
    two.campaign("e")
    assert two.withdraw("e") is True
    assert two.withdraw("e") is False
    assert one.withdraw("e") is True
    assert three.campaign("e") > 0
    assert two.leader("e") == "c"


def test_a_win_that_comes_late_is_refused_by_the_store(actor: Make) -> None:
    """The store itself refuses a win if there is a holder, an older candidate, no candidacy or no live session."""
    holder, older, late = actor("a"), actor("b"), actor("c", ttl=SHORT)

    def win(election: str) -> bool:
        call = late.opened.call(TIMEOUT)
        return call.write(_sql.WIN, place=f"ns/{election}", attempt=1, value=b"", token=time.time_ns())

    token = holder.campaign("held")
    late.campaign("held")
    assert win("held") is False
    assert holder.resign("held", 1, token) is True
    token = holder.campaign("older")
    for one in (older, late):
        one.campaign("older")
    holder.resign("older", 1, token)
    assert win("older") is False
    assert win("none") is False
    deadline = time.clock_gettime(time.CLOCK_BOOTTIME) + SHORT
    eventually(lambda: time.clock_gettime(time.CLOCK_BOOTTIME) > deadline, within=10 * SHORT)
    assert win("held") is False
    late.open("c", supersedes=late.lease.incarnation)
    assert win("held") is False
    assert [holder.leader(election) for election in ("held", "older", "none")] == [None, None, None]


def test_a_win_has_reached_the_disk_and_nothing_else_waits_for_it(actor: Make) -> None:
    """Grants are synced, so that no power failure takes a token back; heartbeats and the rest are not."""
    one = actor("a")
    one.join("g")
    one.beat()
    levels: dict[str, str] = {}
    for link in (one.opened.store.work, one.opened.store.beats):
        level = ["NORMAL"]

        def note(statement: str, level: list[str] = level) -> None:
            words = statement.split()
            if words[:2] == ["PRAGMA", "synchronous"]:
                level[0] = words[-1]
            elif words[0] in {"INSERT", "UPDATE", "DELETE"}:
                levels[" ".join(words[:3])] = level[0]

        assert link._connection is not None
        link._connection.set_trace_callback(note)
    token = one.campaign("e")
    one.resign("e", 1, token)
    one.join("g")
    one.beat()
    assert levels == {
        "INSERT INTO candidacies": "NORMAL",
        "INSERT INTO seats": "FULL",
        "UPDATE seats SET": "NORMAL",
        "INSERT INTO members": "NORMAL",
        "UPDATE sessions AS": "NORMAL",
    }


def test_a_call_that_failed_halfway_says_that_it_may_have_been_applied(
    actor: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trouble after an earlier statement of the same call has written is "unknown", before it "not_applied"."""
    one = actor("a")
    write = Link.write

    def fail(self: Link, sql: str, parameters: Mapping[str, Value], *, until: float, synced: bool) -> int:
        if sql == _sql.WIN:
            raise Unavailable("no room", outcome="not_applied")
        return write(self, sql, parameters, until=until, synced=synced)

    monkeypatch.setattr(Link, "write", fail)
    outcomes = []
    for _ in range(2):
        with pytest.raises(Unavailable) as caught:
            one.campaign("e")
        outcomes.append(caught.value.outcome)
    assert outcomes == ["unknown", "not_applied"]


def test_no_write_stays_open_while_python_runs() -> None:
    """No statement returns rows from a write: its transaction would last until Python has fetched them."""
    statements = [
        text for name in dir(_sql) if isinstance(text := getattr(_sql, name), str) and not name.startswith("__")
    ]
    assert len(statements) > 30
    assert [text for text in statements if "RETURNING" in text] == []


def test_a_burial_that_comes_late_is_refused_by_the_store(actor: Make) -> None:
    """A session that was seen to be silent, and beats before its burial, is not buried."""
    one, two = actor("a"), actor("b")
    one.join("g")
    call = two.opened.call(TIMEOUT)
    (silent,) = [row for row in call.rows(_sql.EVERYBODY) if row["member_id"] == "a"]
    call.reap([silent])
    assert two.members("g") == ["a"]
    assert one.beat() == []


def test_a_lock_on_another_lock_file_says_nothing(actor: Make, path: Path) -> None:
    """A session whose slot is in another lock file is judged by its deadline alone."""
    one, two = actor("a"), actor("b")
    token = one.campaign("e")
    _change(path, "UPDATE sessions SET lock_file = '0:0' WHERE member_id = 'a'")
    one.drop()
    assert two.leader("e") == "a"
    _change(path, "UPDATE sessions SET deadline = 0 WHERE member_id = 'a'")
    assert two.leader("e") is None
    assert two.campaign("e") > token


def test_a_seat_whose_holder_is_missing_can_be_won(actor: Make, path: Path) -> None:
    """A seat that points at a session which is not there, as after an operator's deletion, is free."""
    one, two = actor("a"), actor("b")
    token = one.campaign("e")
    _change(path, "DELETE FROM sessions WHERE member_id = 'a'")
    assert two.leader("e") is None
    assert two.campaign("e") > token


def _change(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None, timeout=TIMEOUT)
    connection.execute(statement)
    connection.close()
