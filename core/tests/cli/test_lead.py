"""`drumbeat lead` runs a command while this process leads, and only then."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import pytest
from cli.running import PATIENCE, TTL, Ticker, is_running, now
from support import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from cli.running import Desk

#: Says that it is ready, waits for any of the forwarded signals, and prints its name.
WAITER = """
import signal
wanted = {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2,
    signal.SIGWINCH, signal.SIGCONT}
signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
print("ready", flush=True)
print(signal.sigwait(wanted).name, flush=True)
"""


@pytest.mark.parametrize("status", [0, 7, 255])
def test_the_status_is_the_commands(desk: Desk, status: int) -> None:
    """A command that ends by itself decides the exit status."""
    led = desk.lead("e", ["sh", "-c", f"exit {status}"])
    assert led.status() == status
    assert [event["status"] for event in led.events("exited")] == [status]


def test_a_command_that_dies_by_a_signal_counts_as_in_a_shell(desk: Desk) -> None:
    """A command that signal N ended gives 128 + N."""
    assert desk.lead("e", ["sh", "-c", "kill -9 $$"]).status() == 128 + signal.SIGKILL


def test_the_command_finds_its_token_and_the_name(desk: Desk) -> None:
    """DRUMBEAT_TOKEN is the term's fencing token, and DRUMBEAT_ELECTION the name; nothing says it of a lock."""
    code = 'echo "$DRUMBEAT_TOKEN,$DRUMBEAT_ELECTION,$DRUMBEAT_LOCK"'
    led = desk.lead("the election", ["sh", "-c", code], DRUMBEAT_LOCK="of an outer command")
    assert led.status() == 0
    (won,) = led.events("won")
    assert led.out == [f"{won['token']},the election,\n"]


def test_the_command_does_not_inherit_the_member_id(desk: Desk) -> None:
    """The id from the environment is this process's own: a command that connects would be refused under it."""
    led = desk.lead("e", ["sh", "-c", 'echo "id=$DRUMBEAT_MEMBER_ID"; sleep 60'], DRUMBEAT_MEMBER_ID="agent-1")
    eventually(lambda: led.out == ["id=\n"], within=PATIENCE)
    (found,) = desk.start("leader", "e", "--json").answers()
    leader = found["leader"]
    assert isinstance(leader, dict)
    assert leader["member_id"] == "agent-1"


def test_the_standard_streams_are_the_commands(desk: Desk) -> None:
    """What comes in goes to the command, and what the command writes goes out."""
    led = desk.lead("e", ["sh", "-c", "cat; echo complaint >&2"])
    led.type("through and through")
    assert led.process.stdin is not None
    led.process.stdin.close()
    assert led.status() == 0
    assert led.out == ["through and through"]
    assert "complaint\n" in led.err


@pytest.mark.usefixtures("default_hangup")
@pytest.mark.parametrize("name", ["HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "WINCH", "CONT"])
def test_signals_are_forwarded(desk: Desk, name: str) -> None:
    """A signal to this process reaches the command, which decides what it means."""
    led = desk.lead("e", [sys.executable, "-ISc", WAITER])
    eventually(lambda: "ready\n" in led.out, within=PATIENCE)
    led.signal(signal.Signals[f"SIG{name}"])
    assert led.status() == 0
    assert led.out == ["ready\n", f"SIG{name}\n"]


def test_a_command_that_a_forwarded_signal_ends_is_not_started_again(desk: Desk) -> None:
    """SIGTERM ends the command, and this process with it."""
    led = desk.lead("e", ["sleep", "60"])
    led.wait_for_event("started")
    led.signal(signal.SIGTERM)
    assert led.status() == 128 + signal.SIGTERM
    assert len(led.events("started")) == 1


def test_a_signal_that_was_ignored_stays_ignored(desk: Desk, tmp_path: Path) -> None:
    """Under nohup a hang-up ends neither this process nor the command."""
    ticker = Ticker(tmp_path)
    arguments = ("lead", "e", "--json", "--", *ticker.command)
    led = desk.start(*arguments, prefix=["sh", "-c", 'trap "" HUP; exec "$@"', "sh"])
    token = ticker.wait_for_token(1, within=PATIENCE)
    led.signal(signal.SIGHUP)
    seen = now()
    eventually(lambda: ticker.last(token) > seen + TTL, within=PATIENCE)
    assert led.process.poll() is None


def test_an_attempt_to_suspend_it_is_ignored(desk: Desk, tmp_path: Path) -> None:
    """SIGTSTP does not put this process to sleep, because it could not stop the command in time then."""
    ticker = Ticker(tmp_path)
    led = desk.lead("e", ticker.command)
    token = ticker.wait_for_token(1, within=PATIENCE)
    led.signal(signal.SIGTSTP)
    led.wait_for_event("awake")
    seen = now()
    eventually(lambda: ticker.last(token) > seen + 2 * TTL, within=PATIENCE)
    assert led.events("lost") == []


def test_the_next_one_takes_over_when_the_command_ends(desk: Desk, tmp_path: Path) -> None:
    """The seat is free once the command has ended, and the next command runs with a greater token."""
    first = desk.lead("e", [sys.executable, "-ISc", WAITER])
    eventually(lambda: "ready\n" in first.out, within=PATIENCE)
    ticker = Ticker(tmp_path)
    second = desk.lead("e", ticker.command)
    waiting = second.wait_for_event("waiting")
    (won,) = first.events("won")
    assert waiting["holder"] == {"member_id": won["member_id"], "token": won["token"]}
    assert ticker.ticks() == []
    first.signal(signal.SIGUSR1)
    assert int(str(won["token"])) < ticker.wait_for_token(1, within=PATIENCE)
    assert first.status() == 0


def test_another_one_takes_over_when_this_process_is_killed(desk: Desk, tmp_path: Path) -> None:
    """SIGKILL of the leading process ends its lease, and the next one in line starts its command.

    The killed process's command goes on beside it until it looks at its token: only a process that outlives this one
    could stop it, and there is none.
    """
    first = desk.lead("e", ["sleep", "60"])
    first.wait_for_event("started")
    ticker = Ticker(tmp_path)
    second = desk.lead("e", ticker.command)
    second.wait_for_event("waiting")
    first.signal(signal.SIGKILL)
    assert ticker.wait_for_token(1, within=5 * TTL) > int(str(first.events("won")[0]["token"]))


def test_what_the_command_leaves_behind_is_stopped_before_the_seat_is_free(desk: Desk, tmp_path: Path) -> None:
    """A background process of the command's group is gone before anybody else can win, and the status stays."""
    ticker, successor = Ticker(tmp_path, manners="stubborn"), Ticker(tmp_path)
    # The command must not end before its background process has begun to tick.
    code = f'"$@" & until test -s {ticker.path}; do sleep 0.01; done; exit 3'
    first = desk.lead("e", ["sh", "-c", code, "sh", *ticker.command])
    first.wait_for_event("started")
    second = desk.lead("e", successor.command)
    assert first.status() == 3
    successor.wait_for_token(1, within=PATIENCE)
    assert second.process.poll() is None
    (_, _, _, pid), *_ = ticker.ticks()
    assert not is_running(pid)
    assert max(at for _, at, *_ in ticker.ticks()) < min(at for _, at, *_ in successor.ticks())


@pytest.mark.usefixtures("default_hangup")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_waiting_can_be_interrupted_at_once(desk: Desk, number: signal.Signals, status: int) -> None:
    """Ctrl-C ends the wait for leadership, and the candidate is gone."""
    first = desk.lead("e", ["sh", "-c", "echo up; read line"])
    eventually(lambda: "up\n" in first.out, within=PATIENCE)
    second = desk.lead("e", ["true"])
    second.wait_for_event("waiting")
    second.signal(number)
    assert second.status(within=TTL) == status
    assert [event["signal"] for event in second.events("interrupted")] == [number.name]
    third = desk.lead("e", ["true"])
    third.wait_for_event("waiting")
    first.type("\n")
    assert third.status(within=PATIENCE) == 0
    assert second.events("won") == []


def test_quiet_says_nothing_while_all_is_well(desk: Desk) -> None:
    """With --quiet a run without trouble leaves standard error to the command."""
    led = desk.start("lead", "e", "--quiet", "--", "true")
    assert led.status() == 0
    assert led.err == []


def test_what_is_told_to_people_is_one_line_each(desk: Desk) -> None:
    """Without --json each event is a line that says who speaks."""
    led = desk.start("lead", "e", "--", "true")
    assert led.status() == 0
    assert len(led.err) == 3
    assert all(line.startswith("drumbeat: ") for line in led.err)
