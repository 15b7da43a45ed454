"""What happens to the command when its term runs out: it is dead before anybody else can have the seat."""

from __future__ import annotations

import fcntl
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from cli.running import PATIENCE, TTL, Ticker, is_running, kill_group, now
from support import eventually

from drumbeat._timing import Timing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cli.running import Desk, Drumbeat

#: Seconds after the last answered heartbeat was sent for which a term may be believed in.
CERTAIN = Timing(ttl=TTL, heartbeat_interval=TTL / 4, request_timeout=TTL / 5, early_expiry=0.0).usable


@contextmanager
def blocked(store: Path) -> Iterator[float]:
    """Let nothing be written to the store, so that no heartbeat is answered; give the time at which that began."""
    with closing(sqlite3.connect(store, isolation_level=None, timeout=PATIENCE)) as blocker:
        blocker.execute("BEGIN IMMEDIATE")
        yield now()
        blocker.execute("ROLLBACK")


def exits_of(leaders: list[Drumbeat]) -> int:
    """Return how many commands of some leaders have ended so far."""
    return sum(len(leader.events("exited")) for leader in leaders)


def any_exit_beyond(number: int, leaders: list[Drumbeat]) -> bool:
    """Return whether more commands than that have ended."""
    return exits_of(leaders) > number


@pytest.mark.parametrize("manners", ["polite", "stubborn"])
def test_the_command_is_dead_before_the_deadline(desk: Desk, tmp_path: Path, manners: str) -> None:
    """When no heartbeat is answered the command is told to stop, and is dead before its term could be another's."""
    ticker = Ticker(tmp_path, manners=manners)
    led = desk.lead("e", ticker.command)
    token = ticker.wait_for_token(1, within=PATIENCE)
    with blocked(desk.store) as since:
        led.wait_for_event("exited", within=5 * TTL)
    assert ticker.last(token) < since + CERTAIN
    assert len(led.events("stopping")) == 1
    told = [what for _, _, what, _ in ticker.ticks()].count("told")
    assert told == (manners == "polite")


def test_its_children_are_dead_before_the_deadline(desk: Desk, tmp_path: Path) -> None:
    """The whole process group is stopped in time, not only the process that was started."""
    ticker = Ticker(tmp_path, manners="stubborn")
    led = desk.lead("e", ["sh", "-c", '"$@" & wait', "sh", *ticker.command], "--once")
    token = ticker.wait_for_token(1, within=PATIENCE)
    (_, _, _, child), *_ = ticker.ticks()
    with blocked(desk.store) as since:
        led.wait_for_event("exited", within=5 * TTL)
    assert not is_running(child)
    assert ticker.last(token) < since + CERTAIN


def test_a_suspended_command_is_dead_before_the_deadline(desk: Desk, tmp_path: Path) -> None:
    """A command that was stopped by somebody does not sleep through the end of its term."""
    led = desk.lead("e", ["sleep", "60"], "--once")
    pid = int(str(led.wait_for_event("started")["pid"]))
    os.kill(pid, signal.SIGSTOP)
    with blocked(desk.store) as since:
        eventually(lambda: not is_running(pid), within=5 * TTL)
        assert now() < since + CERTAIN
    assert led.status() == 75


def test_a_reader_that_does_not_read_delays_nothing(desk: Desk, tmp_path: Path) -> None:
    """With a full pipe for standard error the command is dead before the deadline all the same."""
    ticker = Ticker(tmp_path, manners="stubborn")
    reader, writer = os.pipe()
    room = fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.write(writer, b"-" * room)
    arguments = ["lead", "e", "--json", "--once", "--ttl", str(TTL), "--url", desk.url, "--", *ticker.command]
    led = subprocess.Popen([sys.executable, "-m", "drumbeat.cli", *arguments], stderr=writer)
    try:
        token = ticker.wait_for_token(1, within=PATIENCE)
        with blocked(desk.store) as since:
            assert led.wait(PATIENCE) == 75
        assert ticker.last(token) < since + CERTAIN
    finally:
        led.kill()
        led.wait()
        kill_group(ticker.ticks()[0][3])
        os.close(reader)
        os.close(writer)


def test_leading_goes_on_after_a_loss(desk: Desk, tmp_path: Path) -> None:
    """When the store answers again the command is started again, under a greater token, and never beside itself."""
    ticker = Ticker(tmp_path)
    led = desk.lead("e", ticker.command)
    first = ticker.wait_for_token(1, within=PATIENCE)
    with blocked(desk.store):
        led.wait_for_event("exited", within=5 * TTL)
    second = ticker.wait_for_token(2, within=10 * TTL)
    assert first < second
    assert ticker.last(first) < min(at for token, at, *_ in ticker.ticks() if token == second)
    assert led.process.poll() is None


def test_two_leaders_in_turn_never_run_together(desk: Desk, tmp_path: Path) -> None:
    """Through outages and changes of leader, no two of the commands run at the same moment."""
    ticker = Ticker(tmp_path, manners="stubborn")
    leaders = [desk.lead("e", ticker.command) for _ in range(2)]
    for number in (1, 2, 3):
        ticker.wait_for_token(number, within=PATIENCE)
        exits = exits_of(leaders)
        with blocked(desk.store):
            eventually(partial(any_exit_beyond, exits, leaders), within=5 * TTL)
    ticker.wait_for_token(4, within=PATIENCE)
    spans = [
        (token, min(times), max(times))
        for token in ticker.tokens()
        if (times := [at for other, at, *_ in ticker.ticks() if other == token])
    ]
    assert spans == sorted(spans)
    assert all(end < start for (_, _, end), (_, start, _) in pairwise(spans))


@pytest.mark.parametrize("kind", ["lead", "lock"])
def test_a_loss_is_reported_where_the_command_is_not_started_again(desk: Desk, tmp_path: Path, kind: str) -> None:
    """With --once, and always for a lock, a command that the end of the term stopped gives 75, whatever its status."""
    ticker = Ticker(tmp_path)
    led = desk.lead("e", ticker.command, "--once") if kind == "lead" else desk.lock("e", ticker.command)
    ticker.wait_for_token(1, within=PATIENCE)
    with blocked(desk.store):
        led.wait_for_event("exited", within=5 * TTL)
    assert [event["status"] for event in led.events("exited")] == [0]
    assert led.status() == 75
    assert len(ticker.tokens()) == 1


def test_somebody_who_asked_it_to_end_is_not_ignored(desk: Desk, tmp_path: Path) -> None:
    """A command that was asked to end, but was stopped by the end of its term, is not started again."""
    ticker = Ticker(tmp_path, manners="stubborn")
    led = desk.lead("e", ticker.command)
    ticker.wait_for_token(1, within=PATIENCE)
    led.signal(signal.SIGTERM)
    with blocked(desk.store):
        led.wait_for_event("exited", within=5 * TTL)
    assert led.status() == 75
    assert len(ticker.tokens()) == 1


def test_a_seat_that_is_gone_kills_at_once(desk: Desk, tmp_path: Path) -> None:
    """When the store itself says that the term is over there is no time for SIGTERM: somebody else may have it."""
    ticker = Ticker(tmp_path)
    led = desk.lock("l", ticker.command)
    token = ticker.wait_for_token(1, within=PATIENCE)
    for file in tmp_path.glob("store.db*"):
        file.unlink()
    gone = now()
    assert led.status() == 75
    assert ticker.last(token) < gone + TTL / 2
    assert [what for _, _, what, _ in ticker.ticks()].count("told") == 0
    assert len(led.events("lost")) == 1


def test_a_command_that_ended_while_this_process_slept_has_its_status(desk: Desk, tmp_path: Path) -> None:
    """What the command did is told by its status, and that it may have done it too late is told beside."""
    mark = tmp_path / "mark"
    first = desk.lock("l", ["sh", "-c", f"until test -e {mark}; do sleep 0.01; done; exit 3"])
    pid = int(str(first.wait_for_event("started")["pid"]))
    first.signal(signal.SIGSTOP)
    second = desk.lock("l", ["true"])
    assert second.status() == 0
    mark.touch()
    eventually(lambda: not is_running(pid), within=PATIENCE)
    first.signal(signal.SIGCONT)
    assert first.status(within=PATIENCE) == 3
    assert len(first.events("late")) == 1
    assert first.events("lost") == []


def test_a_process_that_slept_kills_its_command_when_it_wakes(desk: Desk, tmp_path: Path) -> None:
    """A leader that was frozen for longer than its TTL kills its command at once on waking, and campaigns again.

    While it is frozen nobody stops its command, which runs beside its successor's until then.
    """
    ticker, successor = Ticker(tmp_path, manners="stubborn"), Ticker(tmp_path)
    first = desk.lead("e", ticker.command)
    token = ticker.wait_for_token(1, within=PATIENCE)
    second = desk.lead("e", successor.command)
    second.wait_for_event("waiting")
    first.signal(signal.SIGSTOP)
    successor.wait_for_token(1, within=10 * TTL)
    first.signal(signal.SIGCONT)
    woken = now()
    first.wait_for_event("exited", within=5 * TTL)
    assert ticker.last(token) < woken + TTL / 2
    assert first.events("stopping") == []
    assert first.wait_for_event("waiting", within=5 * TTL)["election"] == "e"
    assert ticker.tokens() == [token]
