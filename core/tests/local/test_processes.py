"""Real processes that are killed, frozen and forked."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from local.actors import Actor, Process, Refused
from support import eventually

from drumbeat import Unavailable
from drumbeat.hookspecs import Holdings
from drumbeat.local._wakeup import Wakeups

MakeActor = Callable[..., Actor]
MakeProcess = Callable[..., Process]
#: Seconds that a session lives where a test waits for its end.
SHORT = 0.6


def now() -> float:
    """Return the time on the clock that sessions are timed by."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def test_a_killed_process_is_dead_at_once_for_every_reader(actor: MakeActor, process: MakeProcess) -> None:
    """The kernel drops the lock of a killed process: the next read shows neither its memberships nor its seats."""
    one, two = process("a"), actor("b")
    one.ask("join", group="g")
    token = one.number("campaign", election="e")
    assert two.members("g") == ["a"]
    assert two.leader("e") == "a"
    one.kill()
    assert two.members("g") == []
    assert two.leader("e") is None
    assert two.campaign("e") > token


def test_a_killed_member_can_come_back_under_its_own_id(actor: MakeActor, process: MakeProcess) -> None:
    """A member id is free as soon as its process is gone."""
    process("a").kill()
    assert actor("a").beat() == []


def test_the_death_of_the_holder_wakes_the_next_candidate(actor: MakeActor, process: MakeProcess) -> None:
    """A waiting candidate gets a hint when the holder is killed, long before the lease is over, and wins."""
    holder, waiting = process("a"), actor("b")
    token = holder.number("campaign", election="e")
    assert waiting.campaign("e") == 0
    waiting.watch("candidacy", "e")
    holder.kill()
    assert waiting.hint()
    assert waiting.campaign("e") > token


def test_a_holder_that_won_later_is_watched_too(actor: MakeActor, process: MakeProcess) -> None:
    """When the seat has passed to another process, the death of that one is noticed."""
    first, second, waiting = process("a"), process("b"), actor("c")
    token = first.number("campaign", election="e")
    second.ask("campaign", election="e")
    waiting.campaign("e")
    waiting.watch("candidacy", "e")
    first.ask("resign", election="e", attempt=1, token=token)
    later = second.number("campaign", election="e")
    second.kill()
    assert waiting.hint()
    assert waiting.campaign("e") > later > token


def test_a_holder_whose_heir_withdrew_is_watched_by_the_next(actor: MakeActor, process: MakeProcess) -> None:
    """The candidate that moves up when another withdraws learns of the death of a holder that it never waited for."""
    first, second, heir, waiting = process("a"), process("b"), process("c"), actor("d")
    token = first.number("campaign", election="e")
    for one in (second, heir):
        one.ask("campaign", election="e")
        one.ask("watch", kind="candidacy", name="e")
    waiting.campaign("e")
    waiting.watch("candidacy", "e")
    heir.ask("withdraw", election="e")
    first.ask("resign", election="e", attempt=1, token=token)
    later = second.number("campaign", election="e")
    eventually(lambda: second.pid in _watched(waiting), within=5.0)
    second.kill()
    assert waiting.hint()
    assert waiting.campaign("e") > later


def test_the_death_of_the_candidate_ahead_is_noticed(actor: MakeActor, process: MakeProcess) -> None:
    """A candidate that was killed while it waited is not hinted in vain: the one behind it is."""
    holder, ahead, waiting = actor("a"), process("b"), actor("c")
    token = holder.campaign("e")
    ahead.ask("campaign", election="e")
    waiting.campaign("e")
    waiting.watch("candidacy", "e")
    ahead.kill()
    holder.resign("e", 1, token)
    assert waiting.hint()
    assert waiting.campaign("e") > token


def test_the_death_of_the_next_in_line_is_noticed_while_the_seat_is_free(
    actor: MakeActor, process: MakeProcess
) -> None:
    """If the candidate that was woken dies before it takes the seat, the one behind it is woken."""
    holder, heir, waiting = actor("a"), process("b"), actor("c")
    token = holder.campaign("e")
    heir.ask("campaign", election="e")
    heir.ask("watch", kind="candidacy", name="e")
    waiting.campaign("e")
    waiting.watch("candidacy", "e")
    eventually(lambda: heir.pid in _watched(waiting), within=5.0)
    holder.resign("e", 1, token)
    assert heir.ask("hint") is True
    assert waiting.campaign("e") == 0
    heir.kill()
    assert waiting.hint()
    assert waiting.campaign("e") > token


def test_the_death_of_a_member_wakes_every_watcher(actor: MakeActor, process: MakeProcess) -> None:
    """Whoever notices a death in the ring tells all that watch the group; nobody waits for the lease to end."""
    members = [process(name) for name in "abcd"]
    watchers = [actor(name) for name in "xyz"]
    for one in members:
        one.ask("join", group="g")
        one.ask("watch", kind="group", name="g")
    for watcher in watchers:
        watcher.watch("group", "g")
    eventually(lambda: all(len(_watched(watcher)) == 2 for watcher in watchers), within=5.0)
    left = ["a", "b", "c", "d"]
    for victim in (2, 0, 1):
        for watcher in watchers:
            watcher.hint(within=0.0)
        members[victim].kill()
        left.remove("abcd"[victim])
        assert [watcher.hint() for watcher in watchers] == [True, True, True]
        assert [watcher.members("g") for watcher in watchers] == [left, left, left]


def test_a_process_that_died_before_it_was_watched_is_noticed(actor: MakeActor, process: MakeProcess) -> None:
    """A watch that begins after the death wakes all the same."""
    holder, waiting = process("a"), actor("b")
    holder.ask("campaign", election="e")
    waiting.campaign("e")
    holder.kill()
    waiting.watch("candidacy", "e")
    assert waiting.hint()
    assert waiting.campaign("e") > 0


def test_the_death_of_a_leader_without_heir_wakes_who_watches_it(actor: MakeActor, process: MakeProcess) -> None:
    """An observer that is no candidate learns at once that there is no leader any more."""
    holder, observer = process("a"), actor("b")
    observer.watch("leader", "e")
    holder.ask("campaign", election="e")
    assert observer.hint()
    eventually(lambda: holder.pid in _watched(observer), within=5.0)
    holder.kill()
    assert observer.hint()
    assert observer.leader("e") is None


def test_a_frozen_process_is_dead_after_its_ttl_and_not_before(actor: MakeActor, process: MakeProcess) -> None:
    """A process that stands still keeps its seat until its deadline; when it wakes, its heartbeat is refused."""
    frozen, waiting = process(), actor("b")
    sent = now()
    frozen.ask("open", member_id="a", ttl=SHORT)
    frozen.ask("join", group="g")
    token = frozen.number("campaign", election="e")
    opened = now()
    frozen.freeze()
    won = eventually(lambda: waiting.campaign("e"), within=10 * SHORT)
    assert won > token
    assert now() - sent >= SHORT
    assert now() - opened < 3 * SHORT
    assert waiting.members("g") == []
    frozen.thaw()
    with pytest.raises(Refused, match="SessionLost"):
        frozen.ask("beat_for", seats=[["e", 1, token]], newest=1)
    assert frozen.ask("resign", election="e", attempt=1, token=token) is False
    assert waiting.leader("e") == "b"


def test_a_process_frozen_in_a_write_delays_others_no_longer_than_they_allow(
    actor: MakeActor, process: MakeProcess
) -> None:
    """While SQLite's write lock is held by a frozen process, calls say in time that they did nothing; then go on."""
    holder, one = process("a"), actor("b")
    holder.ask("hold_write_lock")
    holder.freeze()
    for call in (lambda: one.campaign("e", timeout=SHORT), _short_beat(one)):
        before = time.monotonic()
        with pytest.raises(Unavailable, match="kept SQLite's write lock") as caught:
            call()
        assert caught.value.outcome == "not_applied"
        assert SHORT / 2 <= time.monotonic() - before < 3 * SHORT
    assert one.members("g") == []
    holder.kill()
    assert one.campaign("e") > 0
    assert one.beat() == []


def test_a_forked_child_that_lives_on_keeps_the_parents_lock(
    actor: MakeActor, process: MakeProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a child has inherited the lock, the parent's session ends with its deadline, and nobody spins until then."""
    looked: list[int] = []
    bury = Wakeups._bury_process

    def note(self: Wakeups, pid: int) -> None:
        looked.append(pid)
        bury(self, pid)

    monkeypatch.setattr(Wakeups, "_bury_process", note)
    parent, waiting = process(), actor("b")
    sent = now()
    parent.ask("open", member_id="a", ttl=2 * SHORT)
    token = parent.number("campaign", election="e")
    child = parent.number("fork_sleeper")
    try:
        waiting.campaign("e")
        waiting.watch("candidacy", "e")
        eventually(lambda: parent.pid in _watched(waiting), within=5.0)
        # Not waited for, so that it stays as a zombie, whose pidfd is always ready.
        os.kill(parent.pid, signal.SIGKILL)
        eventually(lambda: looked, within=5.0)
        won = eventually(lambda: waiting.campaign("e"), within=10 * SHORT)
        assert won > token
        assert now() - sent >= 2 * SHORT
        assert looked == [parent.pid]
    finally:
        os.kill(child, signal.SIGKILL)


def test_reaping_by_another_process_wakes_the_next_candidate(actor: MakeActor, process: MakeProcess) -> None:
    """A session that is ended from elsewhere hands its seat on at once."""
    holder, waiting = actor("a"), process("b")
    token = holder.campaign("e")
    waiting.ask("campaign", election="e")
    waiting.tell("win_when_hinted", election="e")
    eventually(lambda: _threads(waiting) > 1, within=5.0)
    before = now()
    holder.close()
    won = waiting.answer()
    assert isinstance(won, list)
    assert isinstance(won[0], int)
    assert isinstance(won[1], float)
    assert won[0] > token
    assert won[1] - before < 5.0


def _short_beat(one: Actor) -> Callable[[], object]:
    return lambda: one.backend.heartbeat(one.lease, Holdings(), timeout=SHORT)


def _watched(actor: Actor) -> set[int]:
    """Return the pids of the processes that the session watches."""
    return set(actor.opened.wakeups()._pidfds)


def _threads(process: Process) -> int:
    return len(list(Path(f"/proc/{process.pid}/task").iterdir()))
