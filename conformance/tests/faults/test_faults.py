"""Faults begin with their block and end with it, and members tell what became of them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from drumbeat.history import History, find_overlaps, read_history, terms
from drumbeat.testing import wait_until
from drumbeat_conformance.faults import frozen, half_open, hogged, kill, losing_replies, run_forked
from drumbeat_conformance.faults.fixtures import drumbeat_fault, drumbeat_member, drumbeat_proxy
from drumbeat_conformance.members import Member, MemberEnded, MemberRaised
from drumbeat_conformance.proxy import Proxy
from drumbeat_conformance.strangers import Stranger, babbler

__all__ = ["drumbeat_fault", "drumbeat_member", "drumbeat_proxy"]

SOON = 10.0
SILENCE = 0.2
#: A module whose function keeps a session from ever recording that it resigned.
HELD_UP = """
import threading

from drumbeat.observers import HistoryObserver

line = HistoryObserver._line


def hold_up(self, event):
    if event.kind == "resigned":
        threading.Event().wait()
    return line(self, event)


def preload():
    HistoryObserver._line = hold_up
"""


@pytest.fixture
def program() -> Iterator[Stranger]:
    """A program that answers every word by another."""
    with babbler(b"word\n") as running:
        yield running


@pytest.fixture
def start(drumbeat_member: Callable[..., Member], tmp_path: Path) -> Callable[..., Member]:
    """Starts members on one file."""
    return lambda name, **options: drumbeat_member(f"local://{tmp_path}/x.db", name, namespace="n", ttl=1.0, **options)


def test_a_frozen_process_stands_still_until_the_end_of_the_block() -> None:
    """Within `frozen` a process does nothing, and afterwards it goes on."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as echo:
        assert echo.stdin is not None
        assert echo.stdout is not None
        os.set_blocking(echo.stdout.fileno(), False)
        with frozen(echo.pid):
            echo.stdin.write(b"?")
            echo.stdin.flush()
            time.sleep(SILENCE)
            assert echo.stdout.read() is None
        os.set_blocking(echo.stdout.fileno(), True)
        assert echo.stdout.read(1) == b"?"


def test_a_process_that_has_ended_cannot_be_frozen() -> None:
    """Freezing what has ended, waited for or not, raises ProcessLookupError rather than wait for it."""
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(ProcessLookupError), frozen(ended.pid):
            raise AssertionError


def test_a_hog_lasts_as_long_as_it_was_told() -> None:
    """`hogged` keeps the interpreter for so long before its block."""
    began = time.monotonic()
    with hogged(SILENCE):
        assert time.monotonic() - began >= SILENCE


def test_a_forked_child_ends_with_its_status_in_time() -> None:
    """`run_forked` returns the child's status, that of an exception, or the signal that ended it."""

    def fail() -> int:
        raise ValueError

    def hang() -> int:
        time.sleep(SOON)
        return 0

    found = [run_forked(call, within=SILENCE) for call in (lambda: 3, fail, hang)]
    assert found == [3, os.EX_SOFTWARE, -14]


def test_a_half_open_connection_is_silent_and_a_new_one_is_sound(
    program: Stranger, drumbeat_proxy: Callable[[str, int], Proxy]
) -> None:
    """Within `half_open` an old connection stands and says nothing; afterwards it is closed."""
    proxy = drumbeat_proxy(program.host, program.port)
    with _client(proxy) as old:
        with half_open(proxy):
            old.sendall(b"?")
            old.settimeout(SILENCE)
            with pytest.raises(TimeoutError):
                old.recv(100)
            with _client(proxy) as new:
                new.sendall(b"?")
                assert new.recv(100) == b"word\n"
        old.settimeout(SOON)
        assert _rest(old) == b""


def test_replies_lost_at_random_end_connections_the_same_way_each_time(
    program: Stranger, drumbeat_proxy: Callable[[str, int], Proxy]
) -> None:
    """With one seed the same of the same requests have no reply, and neither all nor none; the server had them all."""
    runs = []
    for _ in range(2):
        proxy = drumbeat_proxy(program.host, program.port)
        answers = []
        with losing_replies(proxy, 0.5, seed=1):
            for _ in range(12):
                with _client(proxy) as client:
                    client.sendall(b"?")
                    answers.append(_rest(client, 5))
        runs.append(answers)
    assert runs[0] == runs[1]
    assert {b"word\n", b""} == set(runs[0])


def test_a_member_does_what_it_is_told_and_records_it(start: Callable[..., Member]) -> None:
    """A member wins, says what raised, and its killing ends its term in its history."""
    member = start("a")
    token = member.win("e")
    with pytest.raises(MemberRaised, match="Timeout") as raised:
        member.ask("campaign", "e", 0)
    assert raised.value.kind == "Timeout"
    kill(member.pid)
    with pytest.raises(MemberEnded, match="status -9"):
        member.ask("state")
    assert [term.token for term in terms(read_history(member.history))] == [token]


@pytest.mark.parametrize(
    "commands",
    [
        (["campaign", "e"], ["resign", "e"], ["campaign", "e"]),
        (["state"], ["churn", "e", SILENCE, SILENCE, 1], ["campaign", "e"]),
        (["state"], ["count", "e", "counter", 1], ["count", "e", "counter", 1]),
    ],
    ids=["resign", "churn", "count"],
)
def test_a_seat_that_was_given_up_counts_as_free_though_its_holder_died_before_it_recorded_that(
    start: Callable[..., Member],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    commands: tuple[list[str], list[str], list[str]],
) -> None:
    """A member that is killed before its session has recorded that it resigned does not overlap its successor."""
    before, gives_up, succeeds = commands
    (tmp_path / "held_up.py").write_text(HELD_UP)
    (tmp_path / "counter").write_text("0")
    monkeypatch.chdir(tmp_path)
    successor = start("b").ready()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("DRUMBEAT_CONFORMANCE_PRELOAD", "held_up:preload")
    held_up = start("a").ready()

    def history() -> History:
        return read_history([held_up.history, successor.history])

    held_up.ask(*before)
    held_up.tell(*gives_up)
    wait_until(lambda: terms(history()), SOON)
    successor.ask(*succeeds)
    held_up.freeze()
    held_up.kill()
    wait_until(lambda: [term.member_id for term in terms(history())] == ["a", "b"], SOON)
    assert find_overlaps(history()) == []


def test_a_member_that_cannot_connect_or_start_says_why(
    start: Callable[..., Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What connecting raised is raised, and a process that dies early is told of with what it wrote to its errors."""
    with pytest.raises(MemberRaised, match="lease_ttl"):
        start("a", heartbeat_interval=5.0).ready()
    monkeypatch.setenv("DRUMBEAT_CONFORMANCE_PRELOAD", "os:abort_at_once")
    with pytest.raises(MemberEnded, match="abort_at_once"):
        start("b").ready()


def test_a_fault_ends_with_its_test(start: Callable[..., Member], drumbeat_fault: Callable[..., None]) -> None:
    """A fault that the fixture began does not keep a member from being ended."""
    member = start("a").ready()
    drumbeat_fault(frozen(member.pid))
    assert member.tell("state").running


def _client(proxy: Proxy) -> socket.socket:
    client = socket.create_connection((proxy.host, proxy.port), timeout=SOON)
    assert client.recv(100) == b"word\n"
    return client


def _rest(client: socket.socket, size: int = 100) -> bytes:
    with suppress(ConnectionError):
        return client.recv(size)
    return b""
