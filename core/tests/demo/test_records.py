"""What agents write down, and how it is read while they write."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from drumbeat.cli.demo._records import Journal, Killed, Polled, Reader, Record, Won, from_line, to_line

if TYPE_CHECKING:
    from pathlib import Path

POLL = Polled(
    agent="agent-1", at=2.5, cycle=2, began=2.25, values={"load.1min": 0.5, "memory.used": 2**60, "gone": None}
)


def won(token: int) -> Won:
    """Return a record with a number in it."""
    return Won(agent="agent-1", at=1.0, token=token)


def test_a_record_comes_back_as_it_was_written() -> None:
    """Every kind of record and of value, also a 63-bit token, is the same after writing and reading."""
    for record in (POLL, won(2**63 - 1), Killed(agent="agent-1", at=3.0)):
        assert from_line(to_line(record)) == record


def test_each_record_is_read_once(tmp_path: Path) -> None:
    """A reader gives what is new in all journals of a folder, and nothing twice."""
    first, second = Journal(tmp_path / "a.journal"), Journal(tmp_path / "b.journal")
    reader = Reader(tmp_path)
    assert list(reader.new()) == []
    first.write(won(1))
    second.write(POLL)
    assert list(reader.new()) == [won(1), POLL]
    second.write(won(2))
    assert list(reader.new()) == [won(2)]
    assert list(reader.new()) == []


def test_a_line_without_its_end_is_not_read(tmp_path: Path) -> None:
    """What a killed writer left of a line is never read, and a line that is completed later is read then."""
    line = to_line(POLL)
    path = tmp_path / "a.journal"
    path.write_bytes(to_line(won(1)) + line[:20])
    reader = Reader(tmp_path)
    assert list(reader.new()) == [won(1)]
    path.write_bytes(to_line(won(1)) + line)
    assert list(reader.new()) == [POLL]


def test_threads_do_not_mix_their_lines(tmp_path: Path) -> None:
    """Records of several threads stay whole."""
    journal = Journal(tmp_path / "a.journal")

    def write(first: int) -> None:
        for token in range(first, first + 50):
            journal.write(won(token))

    threads = [threading.Thread(target=write, args=(100 * number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected: list[Record] = [won(100 * number + offset) for number in range(4) for offset in range(50)]
    read = list(Reader(tmp_path).new())
    assert sorted(read, key=lambda record: getattr(record, "token", 0)) == expected
