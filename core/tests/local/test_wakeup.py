"""Hints: to those who wait and to nobody else, from a thread that costs nothing while nothing happens."""

from __future__ import annotations

import resource
import socket
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from local.actors import TIMEOUT, Actor, Process
from support import eventually

from drumbeat import Unavailable
from drumbeat.hookspecs import Seat
from drumbeat.local import _kernel
from drumbeat.local._call import address

MakeActor = Callable[..., Actor]
MakeProcess = Callable[..., Process]
#: Seconds in which a hint would have come: hints take about a millisecond.
SILENCE = 0.2


def test_every_change_of_a_group_is_hinted_to_all_its_watchers(actor: MakeActor) -> None:
    """Joins, updates, leaves, closings and replacements each wake everybody who watches, the session itself too."""
    one, two, member = actor("a"), actor("b"), actor("m")
    one.watch("group", "g")
    two.watch("group", "g")
    member.watch("group", "g")
    watchers = (one, two, member)

    def hinted() -> list[bool]:
        return [watcher.hint() for watcher in watchers]

    member.join("g")
    assert hinted() == [True, True, True]
    member.backend.update_member(member.lease, "g", value=b"new", timeout=TIMEOUT)
    assert hinted() == [True, True, True]
    member.leave("g")
    assert hinted() == [True, True, True]
    member.join("g")
    assert hinted() == [True, True, True]
    member.close()
    assert [one.hint(), two.hint()] == [True, True]
    assert one.members("g") == []


def test_every_change_of_a_leader_is_hinted_to_all_its_watchers(actor: MakeActor) -> None:
    """A win, a new value, a resignation and an end of the session wake everybody who watches the leader."""
    one, two, watcher = actor("a"), actor("b"), actor("w")
    watcher.watch("leader", "e")
    token = one.campaign("e")
    assert watcher.hint()
    one.backend.proclaim(one.lease, Seat("e", 1, token), value=b"x", timeout=TIMEOUT)
    assert watcher.hint()
    one.resign("e", 1, token)
    assert watcher.hint()
    two.campaign("e")
    assert watcher.hint()
    two.close()
    assert watcher.hint()


def test_only_the_next_candidate_is_hinted_when_a_seat_gets_free(actor: MakeActor) -> None:
    """A resignation wakes the oldest candidate and leaves the others asleep; it does not wake them for a win either."""
    leader, first, second = actor("a"), actor("b"), actor("c")
    token = leader.campaign("e")
    for one in (first, second):
        one.campaign("e")
        one.watch("candidacy", "e")
    leader.resign("e", 1, token)
    assert first.hint()
    won = first.campaign("e")
    assert won > token
    assert second.hint(within=SILENCE) is False
    first.resign("e", 1, won)
    assert second.hint()


def test_a_candidate_that_does_not_listen_is_passed_over(actor: MakeActor) -> None:
    """If the next candidate has no ear, as a dead one, the one after it is told and finds out."""
    leader, deaf, second = actor("a"), actor("b"), actor("c")
    token = leader.campaign("e")
    deaf.campaign("e")
    second.campaign("e")
    second.watch("candidacy", "e")
    leader.resign("e", 1, token)
    assert second.hint()
    assert second.campaign("e") == 0
    assert deaf.campaign("e") > token


def test_hints_stay_in_their_namespace_and_subject(actor: MakeActor) -> None:
    """What happens to another group, an election of the same name or another namespace wakes nobody."""
    one, stranger, watcher = actor("a"), actor("a", namespace="other"), actor("w")
    watcher.watch("group", "g")
    stranger.join("g")
    one.join("g2")
    one.campaign("g")
    assert watcher.hint(within=SILENCE) is False


def test_a_cancelled_watch_is_silent_and_forgotten(actor: MakeActor, path: Path) -> None:
    """After cancel no hint comes, a second cancel is harmless, and others stop sending."""
    one, watcher = actor("a"), actor("w")
    watcher.watch("group", "g")
    watcher.watch("leader", "g")
    cancel = watcher.cancels[0]
    watcher.cancel()
    cancel()
    one.join("g")
    assert watcher.hint(within=SILENCE) is False
    eventually(lambda: _watches(path) == [], within=TIMEOUT)
    watcher.watch("group", "g")
    one.leave("g")
    assert watcher.hint()


def test_one_of_two_watches_goes_on_when_the_other_is_cancelled(actor: MakeActor) -> None:
    """Two watches of one subject are independent."""
    one, watcher = actor("a"), actor("w")
    watcher.watch("group", "g")
    watcher.watch("group", "g")
    watcher.cancels.pop(0)()
    one.join("g")
    assert watcher.hint()


def test_a_cancel_after_the_end_is_harmless(actor: MakeActor) -> None:
    """Cancel may come after the session was dropped."""
    watcher = actor("w")
    watcher.watch("group", "g")
    watcher.drop()
    eventually(lambda: _threads_of(watcher) == [], within=TIMEOUT)
    watcher.cancel()


def test_the_thread_starts_with_the_first_watch_and_ends_with_the_session(actor: MakeActor) -> None:
    """Without a watch there is no thread; with any number there is one; dropping ends it."""
    watcher = actor("w")
    assert _threads_of(watcher) == []
    for number in range(5):
        watcher.watch("group", f"g{number}")
    assert _threads_of(watcher) == [f"drumbeat-local-{watcher.lease.incarnation}"]
    watcher.drop()
    eventually(lambda: _threads_of(watcher) == [], within=TIMEOUT)


def test_what_strangers_send_is_only_a_hint(actor: MakeActor) -> None:
    """Anybody on the host can send to the socket: rubbish is ignored, a forged hint causes one read, no more."""
    one, watcher = actor("a"), actor("w")
    watcher.watch("group", "g")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
        for rubbish in (b"", b"\xff\xfe", b"!", b"!leader x", b"?" + b"x" * 5000):
            stranger.sendto(rubbish, address(watcher.lease.incarnation))
        assert watcher.hint(within=SILENCE) is False
        stranger.sendto(b"!group ns/g", address(watcher.lease.incarnation))
    assert watcher.hint()
    one.join("g")
    assert watcher.hint()


def test_a_full_queue_of_hints_blocks_nobody(actor: MakeActor, process: MakeProcess) -> None:
    """A watcher that stands still does not delay who changes what it watches."""
    one, watcher = actor("a"), process("w")
    watcher.ask("watch", kind="group", name="g")
    watcher.freeze()
    before = time.monotonic()
    for number in range(1000):
        one.join("g", number + 1)
    assert time.monotonic() - before < TIMEOUT
    watcher.thaw()
    assert watcher.ask("hint") is True


def test_idle_sessions_cost_nothing(actor: MakeActor, process: MakeProcess) -> None:
    """A session that watches, with nothing happening, uses no processor time and never wakes."""
    holder, member, watcher = process("a"), process("b"), actor("w")
    holder.ask("campaign", election="e")
    for one in (holder, member):
        one.ask("join", group="g")
    watcher.campaign("e")
    watcher.watch("candidacy", "e")
    watcher.watch("group", "g")
    watcher.watch("leader", "e")
    eventually(lambda: len(watcher.opened.wakeups()._pidfds) == 2, within=TIMEOUT)
    threading.Event().wait(SILENCE)
    before = resource.getrusage(resource.RUSAGE_SELF)
    threading.Event().wait(5 * SILENCE)
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.02
    assert watcher.hinted.is_set() is False


def test_pidfds_are_closed_when_nobody_needs_them(actor: MakeActor, process: MakeProcess) -> None:
    """A process that does not matter any more is not watched any more."""
    holder, watcher = process("a"), actor("w")
    token = holder.number("campaign", election="e")
    watcher.campaign("e")
    watcher.watch("candidacy", "e")
    pidfds = watcher.opened.wakeups()._pidfds
    eventually(lambda: set(pidfds) == {holder.pid}, within=TIMEOUT)
    holder.ask("resign", election="e", attempt=1, token=token)
    eventually(lambda: not pidfds, within=TIMEOUT)
    assert watcher.campaign("e") > token


def test_without_pidfds_a_death_is_still_seen_by_reading(
    actor: MakeActor, process: MakeProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the kernel or a sandbox refuses pidfds, nothing wakes, and slow polling finds the same."""
    monkeypatch.setattr(_kernel, "open_pidfd", lambda _: None)
    holder, watcher = process("a"), actor("w")
    holder.ask("campaign", election="e")
    watcher.campaign("e")
    watcher.watch("candidacy", "e")
    holder.kill()
    assert watcher.leader("e") is None
    assert watcher.campaign("e") > 0


def test_a_death_that_cannot_be_written_down_still_wakes(
    actor: MakeActor, process: MakeProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the store cannot be written when a process dies, those who wait are woken to look for themselves."""
    holder, watcher = process("a"), actor("w")
    holder.ask("campaign", election="e")
    watcher.campaign("e")
    watcher.watch("candidacy", "e")
    wakeups = watcher.opened.wakeups()
    eventually(lambda: set(wakeups._pidfds) == {holder.pid}, within=TIMEOUT)

    def fail(_: float) -> None:
        raise Unavailable("no room")

    monkeypatch.setattr(wakeups, "_call", fail)
    holder.kill()
    assert watcher.hint()
    assert watcher.campaign("e") > 0


def _watches(path: Path) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(path, isolation_level=None, timeout=TIMEOUT)
    found = connection.execute("SELECT * FROM watches").fetchall()
    connection.close()
    return found


def _threads_of(actor: Actor) -> list[str]:
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name == f"drumbeat-local-{actor.lease.incarnation}"]
