"""The observer that records a history."""

from __future__ import annotations

import json
import logging
import os
import resource
import time
from typing import TYPE_CHECKING

import pytest
from support import eventually

import drumbeat
from drumbeat import ConfigurationError, Event
from drumbeat.history import find_overlaps, find_token_faults, longest_vacancy, read_history, terms
from drumbeat.observers import HistoryObserver
from drumbeat.testing import FakeClock, freeze, lose, memory_session, memory_url

if TYPE_CHECKING:
    from pathlib import Path

EVENT = Event(kind="beat", at=7.0, namespace="n", member_id="a", incarnation="a1")


def test_a_session_tells_its_history(tmp_path: Path) -> None:
    """Who joined, led and resigned, when and with which token, is in the file when the session is closed."""
    file = tmp_path / "h"
    before = drumbeat.SystemClock().now()
    with memory_session(member_id="a", observers=[HistoryObserver(file)]) as session:
        session.group("g").join()
        with session.election("e").campaign() as term:
            pass
    after = drumbeat.SystemClock().now()
    history = read_history(file)
    assert [record.kind for record in history] == ["connected", "joined", "campaigning", "won", "resigned", "closed"]
    (held,) = terms(history)
    assert (held.member_id, held.subject, held.token, held.ended) == ("a", "election/e", term.token, "resigned")
    assert before <= held.since <= held.until <= after


def test_the_lines_are_compact_and_say_which_process(tmp_path: Path) -> None:
    """A line has what is set and nothing else, with the process id, and the wall time of the event."""
    observer = HistoryObserver(tmp_path / "h")
    at = drumbeat.SystemClock().now() - 3600.0
    observer.on_event(Event(kind="beat", at=at, namespace="n", member_id="a", incarnation="a1", seconds=0.25))
    (line,) = (tmp_path / "h").read_text().splitlines()
    found = json.loads(line)
    assert found.pop("wall") == pytest.approx(time.time() - 3600.0, abs=5.0)
    expected = {"kind": "beat", "at": at, "namespace": "n", "member_id": "a", "incarnation": "a1", "seconds": 0.25}
    assert found == expected | {"pid": os.getpid()}
    assert ": " not in line


def test_the_wall_time_is_that_of_the_given_clock(tmp_path: Path) -> None:
    """With a fake clock, an event's wall time is what that clock showed when it happened."""
    clock = FakeClock(now=50.0, wall=1_000_000.0)
    observer = HistoryObserver(tmp_path / "h", clock=clock)
    clock.advance(10.0)
    observer.on_event(EVENT)
    (record,) = read_history(tmp_path / "h")
    assert (record.at, record.wall) == (7.0, 999_957.0)


def test_the_environment_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Switched on by its name, the observer writes to the file in DRUMBEAT_HISTORY."""
    monkeypatch.setenv("DRUMBEAT_HISTORY", str(tmp_path / "h"))
    drumbeat.connect(memory_url(), observers=["history"]).close()
    assert [record.kind for record in read_history(tmp_path / "h")] == ["connected", "closed"]


def test_a_relative_name_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that changes its directory later goes on writing to the same file."""
    monkeypatch.chdir(tmp_path)
    observer = HistoryObserver("h")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    observer.on_event(EVENT)
    assert len(read_history(tmp_path / "h")) == 1


def test_no_file_is_an_error() -> None:
    """Without an argument and without DRUMBEAT_HISTORY, connecting fails and says what to set."""
    with pytest.raises(ConfigurationError, match="set DRUMBEAT_HISTORY to the name of a file"):
        drumbeat.connect(memory_url(), observers=["history"])


def test_a_file_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    """A folder that is missing is told when the observer is made, not when the first event is lost."""
    with pytest.raises(ConfigurationError, match="no/h cannot be written: No such file or directory"):
        HistoryObserver(tmp_path / "no" / "h")


def test_a_full_disk_hurts_nothing_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """A session whose history cannot be written works as ever, and one error says that there is a gap."""
    with memory_session(observers=[HistoryObserver("/dev/full")]) as session:
        session.group("g").join()
        with session.election("e").campaign() as term:
            assert term.held
        assert session.state is drumbeat.State.CONNECTED
    errors = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.getMessage() for record in errors] == [
        "the history /dev/full has a gap: an event could not be written ([Errno 28] No space left on device)"
    ]


def test_writing_goes_on_when_it_works_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """After a gap the history goes on, on a line of its own, and the log tells how many events are missing."""
    observer = HistoryObserver(tmp_path / "h")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))
    try:
        for _ in range(3):
            observer.on_event(EVENT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    observer.on_event(EVENT)
    observer.on_event(EVENT)
    torn, *whole = (tmp_path / "h").read_text().splitlines()
    assert len(torn) == 20
    assert [json.loads(line)["kind"] for line in whole] == ["beat", "beat"]
    assert len(caplog.records) == 2
    assert caplog.records[1].getMessage() == f"the history {tmp_path / 'h'} is written again; it lacks 3 events"


def test_a_history_of_freezes_and_losses_is_good(tmp_path: Path) -> None:
    """Three candidates, of which the leader is frozen or loses its term again and again, leave a good history."""
    clock, url = FakeClock(), memory_url()
    observer = HistoryObserver(tmp_path / "h", clock=clock)
    sessions = [
        memory_session(url, member_id=name, clock=clock, lease_ttl=10.0, observers=[observer]) for name in "abc"
    ]
    for turn in range(12):
        leader = sessions[turn % 3]
        term = leader.election("e").campaign()
        if turn % 2:
            lose(term)
        else:
            with freeze(leader):
                clock.advance(12.0)
            clock.advance(1.0)
        assert not term.held
    for session in sessions:
        session.close()
    eventually(lambda: len(terms(read_history(tmp_path / "h"))) == 12, within=5.0)
    history = read_history(tmp_path / "h")
    assert (find_overlaps(history), find_token_faults(history)) == ([], [])
    vacancy = longest_vacancy(history, "election/e")
    assert vacancy is not None
    assert vacancy.seconds < 13.0
