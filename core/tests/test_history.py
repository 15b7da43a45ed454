"""Judging histories: a corpus of good and bad ones, and files that hold them."""

from __future__ import annotations

import json
import math
import os
import random
import resource
import signal
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Self

import pytest
from support import eventually

from drumbeat import BadData, ConfigurationError
from drumbeat.history import (
    History,
    Record,
    TornLine,
    Vacancy,
    append_line,
    find_overlaps,
    find_token_faults,
    longest_vacancy,
    note,
    read_history,
    terms,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SEAT = "election/e"


class Story:
    """A history in the making: sessions are named by a letter and a number, as `a1` for the first of member `a`."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    def tell(self, at: float, kind: str, session: str, **more: object) -> Self:
        """Add a record."""
        who = {"member_id": session[0], "incarnation": session, "namespace": "n"}
        self.records.append(Record(kind=kind, at=at, **(who | more)))  # type: ignore[arg-type]
        return self

    def beat(self, at: float, session: str, *, until: float) -> Self:
        """Tell that a session may believe in itself until then."""
        return self.tell(at, "beat", session, deadline=until)

    def won(self, at: float, session: str, token: int, **more: object) -> Self:
        """Tell of a win."""
        return self.tell(at, "won", session, **({"subject": SEAT, "token": token} | more))

    def resigned(self, at: float, session: str, token: int, **more: object) -> Self:
        """Tell of the end that a holder wanted."""
        return self.tell(at, "resigned", session, **({"subject": SEAT, "token": token} | more))

    def lost(self, at: float, session: str, token: int, **more: object) -> Self:
        """Tell of the end that a holder did not want."""
        return self.tell(at, "term_lost", session, **({"subject": SEAT, "token": token} | more))

    def killed(self, at: float, member_id: str, **more: object) -> Self:
        """Note that a test killed a process."""
        self.records.append(Record(kind="killed", at=at, member_id=member_id, **more))  # type: ignore[arg-type]
        return self


GOOD = {
    "nobody ever won": Story().beat(1, "a1", until=11),
    "one process leads and resigns": Story().won(10, "a1", 1).resigned(20, "a1", 1),
    "the next one wins at the very instant of the resignation": (
        Story().won(10, "a1", 1).resigned(20, "a1", 1).won(20, "b1", 2).resigned(30, "b1", 2)
    ),
    "the successor of a killed leader wins before the lease of the dead one has ended": (
        Story().won(10, "a1", 1, deadline=20).killed(12, "a").won(12.01, "b1", 2)
    ),
    "a frozen leader says nothing, and its successor wins when its last deadline has passed": (
        Story().won(10, "a1", 1).beat(12, "a1", until=22).won(22, "b1", 2)
    ),
    "a frozen leader wakes later, and says that its term ended at the deadline": (
        Story().won(10, "a1", 1, deadline=20).won(21, "b1", 2).lost(20, "a1", 1, deadline=20)
    ),
    "the server takes a seat away, the holder says so, and somebody else wins": (
        Story().won(10, "a1", 1, deadline=20).lost(12, "a1", 1).beat(13, "a1", until=23).won(13, "b1", 2)
    ),
    "the same member leads again with a greater token": (
        Story().won(10, "a1", 1).resigned(11, "a1", 1).won(12, "a1", 2).resigned(13, "a1", 2)
    ),
    "two elections have a leader each at the same time": (
        Story().won(10, "a1", 1).won(11, "b1", 1, subject="election/other")
    ),
    "an election and a lock of one name are two seats": Story().won(10, "a1", 5).won(11, "b1", 1, subject="lock/e"),
    "two applications use one name in their own namespaces": Story().won(10, "a1", 5).won(11, "b1", 1, namespace="m"),
    "tokens leave gaps": (
        Story().won(10, "a1", 1).resigned(11, "a1", 1).won(12, "b1", 1_763_823_600_000_000).resigned(13, "b1", 2)
    ),
    "a killed process comes back under its id, and its new term is not the killed one": (
        Story().won(10, "a1", 1).killed(12, "a").won(13, "a2", 2).resigned(20, "a2", 2).won(20, "b1", 3)
    ),
    "terms without length follow one another at one instant": (
        Story().won(10, "a1", 1).resigned(10, "a1", 1).won(10, "b1", 2).resigned(10, "b1", 2)
    ),
    "a session is lost and opened again, and wins again": (
        Story().won(10, "a1", 1, deadline=20).lost(20, "a1", 1).won(21, "a2", 2, deadline=31)
    ),
    "a win is known only when the session is over, and somebody else leads": (
        Story().beat(10, "a1", until=20).won(20, "b1", 6, deadline=30).won(21, "a1", 5)
    ),
    "the last win of a killed process is later than the note of the killing": (
        Story().won(12.002, "a1", 1, deadline=20, pid=7).killed(12, "a", pid=7).won(12.01, "b1", 2, deadline=22)
    ),
    "a killing names the session, and an earlier one of the same member was over already": (
        Story().won(10, "a1", 1, deadline=20).killed(12, "a", incarnation="a1").won(12, "b1", 2, deadline=22)
    ),
}

OVERLAPPING = {
    "two lead at the same time": (
        Story().won(10, "a1", 1).won(15, "b1", 2).resigned(20, "a1", 1).resigned(25, "b1", 2),
        [("a1", "b1", 5)],
    ),
    "the successor wins a moment before the resignation": (
        Story().won(10, "a1", 1).resigned(20, "a1", 1).won(19.5, "b1", 2).resigned(30, "b1", 2),
        [("a1", "b1", 0.5)],
    ),
    "the successor wins before the last deadline of a frozen leader": (
        Story().won(10, "a1", 1).beat(12, "a1", until=22).won(20, "b1", 2).resigned(30, "b1", 2),
        [("a1", "b1", 2)],
    ),
    "a heartbeat is answered although the seat has gone to another": (
        Story().won(10, "a1", 1, deadline=20).won(20, "b1", 2, deadline=30).beat(19, "a1", until=29),
        [("a1", "b1", 9)],
    ),
    "a holder notices too late that its seat was taken": (
        Story().won(10, "a1", 1, deadline=30).won(14, "b1", 2).lost(18, "a1", 1).resigned(30, "b1", 2),
        [("a1", "b1", 4)],
    ),
    "another process was killed than the one that led": (
        Story().won(10, "a1", 1, deadline=20).killed(12, "c").won(12, "b1", 2, deadline=22),
        [("a1", "b1", 8)],
    ),
    "the leader was killed after its successor had won": (
        Story().won(10, "a1", 1, deadline=20).won(12, "b1", 2, deadline=22).killed(13, "a"),
        [("a1", "b1", 1)],
    ),
    "the killing was of an earlier process with the id of the leader": (
        Story().won(10, "a2", 1, deadline=20, pid=8).killed(12, "a", pid=7).won(12, "b1", 2, deadline=22),
        [("a2", "b1", 8)],
    ),
    "the killing came before the leader won": (
        Story().killed(9, "a").won(10, "a2", 1, deadline=20).won(12, "b1", 2, deadline=22),
        [("a2", "b1", 8)],
    ),
    "one term lies within another": (
        Story().won(10, "a1", 1).won(12, "b1", 2).resigned(13, "b1", 2).resigned(20, "a1", 1),
        [("a1", "b1", 1)],
    ),
    "three lead at the same time": (
        Story().won(10, "a1", 1).won(11, "b1", 2).won(12, "c1", 3).tell(0, "beat", "a1", deadline=13)
        .tell(0, "beat", "b1", deadline=13).tell(0, "beat", "c1", deadline=13),
        [("a1", "b1", 2), ("a1", "c1", 1), ("b1", "c1", 1)],
    ),
    "two threads of one session hold one lock": (
        Story().won(10, "a1", 1).won(11, "a1", 2).resigned(12, "a1", 1).resigned(12, "a1", 2),
        [("a1", "a1", 1)],
    ),
    "nothing says that the first leader ever ended": (
        Story().won(10, "a1", 1).won(50, "b1", 2).resigned(51, "b1", 2),
        [("a1", "b1", 1)],
    ),
    "the end of another term does not end this one": (
        Story().won(10, "a1", 1, deadline=20).resigned(11, "a1", 1, subject="lock/e").won(12, "b1", 2, deadline=15),
        [("a1", "b1", 3)],
    ),
}  # fmt: skip

HUGE = 2**62

FALLING = {
    "a later term has a lower token": (Story().won(1, "a1", 2).resigned(2, "a1", 2).won(3, "b1", 1), [(2, 1)]),
    "a later term has the same token": (Story().won(1, "a1", 2).resigned(2, "a1", 2).won(3, "b1", 2), [(2, 2)]),
    "the same member gets the same token again": (
        Story().won(1, "a1", 2, deadline=1.5).won(3, "a2", 2, deadline=9),
        [(2, 2)],
    ),
    "one session wins one seat twice with one token": (
        Story().won(1, "a1", 2).won(1, "a1", 2).resigned(1, "a1", 2),
        [(2, 2)],
    ),
    "tokens start again after a loss of data": (
        Story().won(1, "a1", 7).won(2, "b1", 8).won(3, "c1", 1).won(4, "d1", 2).won(5, "e1", 9),
        [(8, 1), (8, 2)],
    ),
    "a token is greater than the one before, but not than the one before that": (
        Story().won(1, "a1", 9).won(2, "b1", 3).won(3, "c1", 5),
        [(9, 3), (9, 5)],
    ),
    "two large tokens differ by one": (Story().won(1, "a1", HUGE).won(2, "b1", HUGE - 1), [(HUGE, HUGE - 1)]),
    "two terms at one instant have one token": (Story().won(1, "a1", 4).won(1, "b1", 4), [(4, 4)]),
    "a lock's tokens fall": (
        Story().won(1, "a1", 4, subject="lock/x").won(2, "b1", 3, subject="lock/x"),
        [(4, 3)],
    ),
    "each of two namespaces has its fault": (
        Story().won(1, "a1", 4).won(2, "b1", 3).won(3, "a1", 6, namespace="m").won(4, "b1", 5, namespace="m"),
        [(4, 3), (6, 5)],
    ),
}


def in_any_order(story: Story) -> list[Record]:
    """Return a story's records shuffled, as lines of several files may be."""
    return random.Random(3).sample(story.records, len(story.records))


@pytest.mark.parametrize("story", GOOD.values(), ids=GOOD)
def test_a_good_history_is_found_good(story: Story) -> None:
    """No overlap and no fault of a token is found, whatever the order of the lines."""
    assert (find_overlaps(story), find_token_faults(story)) == ([], [])
    assert (find_overlaps(in_any_order(story)), find_token_faults(in_any_order(story))) == ([], [])


@pytest.mark.parametrize(("story", "expected"), OVERLAPPING.values(), ids=OVERLAPPING)
def test_an_overlap_is_found(story: Story, expected: list[tuple[str, str, float]]) -> None:
    """Each pair that held one seat at the same time is found, with the length of that time."""
    for records in (story.records, in_any_order(story)):
        overlaps = find_overlaps(records)
        found = [(pair.first.incarnation, pair.second.incarnation, pair.seconds) for pair in overlaps]
        assert found == expected


@pytest.mark.parametrize(("story", "expected"), FALLING.values(), ids=FALLING)
def test_a_fault_of_a_token_is_found(story: Story, expected: list[tuple[int, int]]) -> None:
    """Each term whose token did not rise is found, beside the greatest token before it."""
    for records in (story.records, in_any_order(story)):
        assert [(fault.earlier.token, fault.later.token) for fault in find_token_faults(records)] == expected


# Terms ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("story", "until", "ended"),
    [
        pytest.param(Story().won(1, "a1", 1), math.inf, "open", id="nothing"),
        pytest.param(Story().won(1, "a1", 1, deadline=9).resigned(5, "a1", 1), 5, "resigned", id="resigned"),
        pytest.param(Story().won(1, "a1", 1, deadline=9).lost(5, "a1", 1), 5, "term_lost", id="lost"),
        pytest.param(Story().won(1, "a1", 1, deadline=9).killed(5, "a"), 5, "killed", id="killed"),
        pytest.param(Story().won(1, "a1", 1, deadline=9), 9, "deadline", id="deadline"),
        pytest.param(
            Story().won(1, "a1", 1, deadline=9).beat(3, "a1", until=11).beat(2, "a1", until=10),
            11,
            "deadline",
            id="the last deadline",
        ),
        pytest.param(
            Story().won(1, "a1", 1, deadline=9).resigned(12, "a1", 1),
            9,
            "deadline",
            id="resigned when it was over already",
        ),
        pytest.param(
            Story().won(1, "a1", 1, deadline=9).resigned(5, "a1", 1).killed(6, "a"),
            5,
            "resigned",
            id="killed when it was over already",
        ),
        pytest.param(
            Story().won(1, "a1", 1, deadline=9).lost(9, "a1", 1),
            9,
            "term_lost",
            id="lost at the deadline",
        ),
    ],
)
def test_a_term_ends_with_what_comes_first(story: Story, until: float, ended: str) -> None:
    """The end of a term is the first of what can end it, and the history says which."""
    (term,) = terms(story)
    assert (term.since, term.until, term.ended) == (1, until, ended)


def test_terms_tell_who_held_what() -> None:
    """A term carries the holder, its session, the seat, the token and the time, in the order of the wins."""
    story = Story().won(5, "b1", 8).resigned(7, "b1", 8).won(1, "a1", 7).resigned(2, "a1", 7)
    first, second = terms(story)
    assert (first.namespace, first.subject, first.member_id, first.incarnation) == ("n", SEAT, "a", "a1")
    assert (first.token, first.seconds, second.token, second.seconds) == (7, 1, 8, 2)


def test_a_term_that_was_over_at_its_win_was_never_held() -> None:
    """A win that is known only after the deadline has no length, and is not usable."""
    (term,) = terms(Story().beat(1, "a1", until=5).won(6, "a1", 1))
    assert (term.seconds, term.usable) == (0.0, False)


# Vacancies --------------------------------------------------------------------------------------------------


def test_the_longest_vacancy_is_the_longest_of_all() -> None:
    """Times without a holder lie between the end of a term and the next win; the longest counts."""
    story = (
        Story().won(1, "a1", 1).resigned(3, "a1", 1).won(4, "b1", 2).resigned(6, "b1", 2)
        .won(9, "a1", 3).resigned(10, "a1", 3).won(12, "b1", 4).tell(20, "left", "b1")
    )  # fmt: skip
    vacancy = longest_vacancy(in_any_order(story), SEAT)
    assert vacancy == Vacancy(6, 9)
    assert vacancy.seconds == 3


def test_a_seat_that_nobody_takes_over_is_vacant_until_the_end() -> None:
    """If nobody ever won again, the vacancy lasts until the last record of the namespace."""
    story = Story().won(1, "a1", 1).resigned(3, "a1", 1).beat(60, "b1", until=70).tell(99, "left", "c1", namespace="m")
    assert longest_vacancy(story, SEAT) == Vacancy(3, 60)


def test_a_seat_that_was_always_held_has_no_vacancy() -> None:
    """Terms that touch or overlap leave no time between them; the time before the first one does not count."""
    story = Story().tell(0, "joined", "a1").won(5, "a1", 1).resigned(8, "a1", 1).won(8, "b1", 2).won(9, "c1", 3)
    assert longest_vacancy(story, SEAT) is None


def test_a_term_inside_another_ends_no_vacancy() -> None:
    """After a short term within a long one, the seat is free only when the long one ends."""
    story = (
        Story().won(1, "a1", 1).won(2, "b1", 2).resigned(3, "b1", 2).resigned(9, "a1", 1)
        .won(11, "c1", 3).resigned(12, "c1", 3)
    )  # fmt: skip
    assert longest_vacancy(story, SEAT) == Vacancy(9, 11)


def test_a_term_that_was_never_held_ends_no_vacancy() -> None:
    """A win that was known only after its deadline does not cut a vacancy in two."""
    story = (
        Story().won(1, "a1", 1).resigned(2, "a1", 1).beat(2, "b1", until=4).won(5, "b1", 2)
        .won(8, "c1", 3).resigned(8, "c1", 3)
    )  # fmt: skip
    assert longest_vacancy(story, SEAT) == Vacancy(2, 8)


def test_an_election_without_a_term_is_an_error() -> None:
    """A misspelt name is not taken for an election that was never vacant: the nearest name is offered."""
    with pytest.raises(ConfigurationError, match="no term of 'election/f', did you mean 'election/e'"):
        longest_vacancy(Story().won(1, "a1", 1), "election/f")


def test_a_seat_of_several_namespaces_is_an_error() -> None:
    """Where the name alone does not say which seat is meant, the namespaces are listed."""
    with pytest.raises(ConfigurationError, match="in the namespaces m, n"):
        longest_vacancy(Story().won(1, "a1", 1).won(2, "a1", 1, namespace="m"), SEAT)


# Files ------------------------------------------------------------------------------------------------------

WON = {"kind": "won", "at": 5.0, "namespace": "n", "member_id": "a", "incarnation": "a1", "subject": SEAT, "token": 7}


def test_what_was_appended_is_read_back(tmp_path: Path) -> None:
    """A record comes back as it was written; what is None is not written at all."""
    file = tmp_path / "h"
    append_line(file, WON | {"reason": None, "members": [["a", "a1"], ["é\n", "b1"]], "pid": 3, "wall": 9.5})
    (record,) = read_history(file)
    expected = Record(kind="won", at=5.0, member_id="a", namespace="n", incarnation="a1", subject=SEAT, token=7)
    assert record == replace(expected, members=(("a", "a1"), ("é\n", "b1")), pid=3, wall=9.5)
    assert "reason" not in file.read_text()
    assert file.read_bytes().count(b"\n") == 1


def test_several_files_are_one_history(tmp_path: Path) -> None:
    """Records of several files, named in any order, come in the order of their times."""
    for name, at in (("one", 3.0), ("two", 1.0), ("one", 4.0), ("two", 2.0)):
        append_line(tmp_path / name, WON | {"at": at})
    history = read_history([str(tmp_path / "one"), tmp_path / "two"])
    assert [record.at for record in history] == [1.0, 2.0, 3.0, 4.0]
    assert len(history) == 4


def test_an_empty_file_is_an_empty_history(tmp_path: Path) -> None:
    """A file that nobody has written to yet holds no record and no error."""
    (tmp_path / "h").touch()
    assert read_history(tmp_path / "h") == History((), ())


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    """A history that is not there is not taken for one in which nothing happened."""
    with pytest.raises(FileNotFoundError):
        read_history(tmp_path / "missing")


@pytest.mark.parametrize("rest", ['{"kind":"wo', json.dumps(WON)], ids=["half a line", "a line without its end"])
def test_a_torn_last_line_is_reported(tmp_path: Path, rest: str) -> None:
    """A last line without its end is left out and reported by file and line; what stands before it counts."""
    file = tmp_path / "h"
    append_line(file, WON)
    with file.open("a") as opened:
        opened.write(rest)
    history = read_history(file)
    assert len(history) == 1
    assert history.torn == (f"{file}:2",)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"kind":"wo', "is not a whole line of JSON"),
        ("", "is not a whole line of JSON"),
        ("\x00\x00", "is not a whole line of JSON"),
        ("\xff", "is not a whole line of JSON"),
        ("[1]", "is a JSON list, not an object"),
        ("7", "is a JSON int, not an object"),
        ("{}", "no record of a history: it has no kind, at, member_id"),
        ('{"level":"info","message":"hello"}', "no record of a history"),
        (json.dumps({"kind": "won", "at": 1, "member_id": "a"}), "it has no namespace, incarnation, subject, token"),
        (json.dumps({"kind": "resigned", "at": 1, "member_id": "a", "token": 1}), "it has no namespace"),
        (json.dumps(WON | {"at": "5"}), "has at = '5'"),
        (json.dumps(WON | {"at": True}), "has at = True"),
        (json.dumps(WON | {"at": math.nan}), "is not a whole line of JSON"),
        (json.dumps(WON | {"deadline": math.inf}), "is not a whole line of JSON"),
        (json.dumps(WON | {"token": 7.0}), "has token = 7.0"),
        (json.dumps(WON | {"token": None}), "has token = None"),
        (json.dumps(WON | {"subject": 3}), "has subject = 3"),
        (json.dumps(WON | {"members": [["a"]]}), r"has \['a'\] among its members"),
        (json.dumps(WON | {"members": [["a", 1]]}), r"has \['a', 1\] among its members"),
        ("[" * 100_000, "is nested too deeply"),
        ('{"kind":"won","at":1e400,"member_id":"a"}', "has at = inf, which is no finite number"),
        (json.dumps(WON | {"at": 10**400}), "has at = 10*[.]{3}, which is no finite number"),
        (json.dumps(WON | {"member_id": "\ud800"}), "half of a character"),
    ],
    ids=range(23),
)
def test_a_foreign_line_is_an_error(tmp_path: Path, line: str, problem: str) -> None:
    """A line that is no record is an error that names file, line and problem; nothing is silently left out."""
    file = tmp_path / "h"
    file.write_bytes(json.dumps(WON).encode() + b"\n" + line.encode("latin-1") + b"\n")
    with pytest.raises(BadData, match=problem) as caught:
        read_history(file)
    assert caught.value.key == f"{file}:2"


def test_what_a_later_version_adds_is_left_out(tmp_path: Path) -> None:
    """A field that this version does not know does not make the record unreadable."""
    append_line(tmp_path / "h", WON | {"mood": "good"})
    assert [record.kind for record in read_history(tmp_path / "h")] == ["won"]


def test_a_note_ends_the_term_of_a_killed_process(tmp_path: Path) -> None:
    """What a test notes about a process that it kills is part of the history."""
    append_line(tmp_path / "h", WON | {"deadline": 15.0, "pid": 3})
    note(tmp_path / "h", kind="killed", member_id="a", at=6.0, pid=3, reason="SIGKILL")
    (term,) = terms(read_history(tmp_path / "h"))
    assert (term.until, term.ended) == (6.0, "killed")


def test_a_line_that_does_not_fit_is_an_error_and_spoils_no_other(tmp_path: Path) -> None:
    """A line cut by a full disk raises TornLine, the next one stands alone, and the reader names the cut one."""
    file = tmp_path / "h"
    append_line(file, WON)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 20, hard))
    try:
        with pytest.raises(TornLine, match="only 20 of "):
            append_line(file, WON)
        with pytest.raises(OSError, match="File too large") as caught_later:
            append_line(file, WON, after_torn=True)
        assert not isinstance(caught_later.value, TornLine)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    append_line(file, WON | {"token": 8}, after_torn=True)
    with pytest.raises(BadData) as caught:
        read_history(file)
    assert caught.value.key == f"{file}:2"
    assert json.loads(file.read_text().splitlines()[2])["token"] == 8


WRITER = """
import sys
from drumbeat.history import append_line
for number in range(10**9):
    line = {"kind": "beat", "at": number, "member_id": sys.argv[2], "reason": "x" * (number % 200)}
    append_line(sys.argv[1], line)
"""


def test_a_kill_cuts_the_last_line_of_a_file_at_most(tmp_path: Path) -> None:
    """Four processes are killed while they write, each to a file of its own: every line but the last is whole."""
    files = [tmp_path / f"h{number}" for number in range(4)]
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(file), f"w{number}"]) for number, file in enumerate(files)
    ]
    try:
        for file, writer in zip(files, writers, strict=True):
            eventually(lambda file=file: file.exists() and file.stat().st_size > 1_000_000, within=30)  # type: ignore[misc]
            os.kill(writer.pid, signal.SIGKILL)
            writer.wait(10)
    finally:
        for writer in writers:
            writer.kill()
            writer.wait(10)
    history = read_history(files)
    assert len(history.torn) <= len(files)
    for number in range(4):
        times = [record.at for record in history if record.member_id == f"w{number}"]
        assert times == [float(at) for at in range(len(times))]
        assert times
