"""The lines of a history: read back as they were written, and refused where they are none."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from drumbeat import BadData
from drumbeat.history import append_line, note
from drumbeat.observers import HistoryObserver
from drumbeat.testing import memory_session
from drumbeat_conformance.checker import (
    Operation,
    Recording,
    as_line,
    check,
    parse_operation,
    parse_recording,
    read_recording,
)

ACQUIRE = b'{"op":"acquire","object":"lock/l","client":"a","called":1,"returned":2,"outcome":"done","token":1}'


def test_a_line_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    """Writing an operation and reading it gives the same operation, with an answer and without."""
    file = tmp_path / "history.jsonl"
    operations = (
        Operation(op="write", object="register/r", client="a", called=1.5, token=3, value="x", namespace="n"),
        Operation(op="read", object="counter/c", client="b", called=2.0, returned=2.5, outcome="done", value=0),
    )
    for operation in operations:
        append_line(file, as_line(operation))
    assert read_recording(file) == Recording(operations=operations)


def test_events_and_operations_of_several_files_are_one_history(tmp_path: Path) -> None:
    """What sessions tell, what a test notes and what a program records may stand in one file or in many."""
    events, operations = tmp_path / "events.jsonl", tmp_path / "operations.jsonl"
    with memory_session(member_id="a", observers=[HistoryObserver(events)]) as session:
        term = session.election("e").campaign()
        called = time.clock_gettime(time.CLOCK_BOOTTIME)
        use = Operation(
            op="use",
            object="election/e",
            client="a",
            called=called,
            returned=called,
            outcome="done",
            token=term.token,
            namespace="drumbeat",
        )
        append_line(operations, as_line(use))
        term.resign()
    note(events, kind="killed", member_id="a", at=called + 60)
    history = read_recording([operations, events])
    assert [event.kind for event in history.events] == [
        "connected",
        "campaigning",
        "won",
        "resigned",
        "closed",
        "killed",
    ]
    assert history.operations == (use,)
    assert history.end == called + 60
    assert check(history) == ()


def test_the_answer_takes_the_place_of_the_call() -> None:
    """Two lines with one id are one operation, as the later one tells it."""
    call = b'{"op":"acquire","object":"lock/l","client":"a","called":1,"id":"a-1"}'
    answer = ACQUIRE[:-1] + b',"id":"a-1"}'
    history = parse_recording([("f:1", call), ("f:2", answer)])
    assert history.operations == (parse_operation(answer, where="f:2"),)


def test_a_torn_last_line_is_reported(tmp_path: Path) -> None:
    """A line that a kill has cut at the end of a file is left out, and told."""
    file = tmp_path / "history.jsonl"
    file.write_bytes(ACQUIRE + b"\n" + ACQUIRE[:20])
    history = read_recording(file)
    assert len(history.operations) == 1
    assert history.torn == (f"{file}:2",)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"op":', "is no"),
        (b"[1]", "is a JSON list"),
        (b'{"kind":"won"}', "it has no at, member_id"),
        (b'{"op":"acquire"}', "it has no object, client, called"),
        (ACQUIRE.replace(b'"called":1', b'"called":NaN'), "whole line of JSON"),
        (ACQUIRE.replace(b'"called":1', b'"called":"1"'), "has called = '1'"),
        (ACQUIRE.replace(b'"token":1', b'"token":true'), "has token = True"),
        (ACQUIRE.replace(b'"token":1', b'"value":1'), "has no token"),
        (ACQUIRE.replace(b"lock/l", b"lock"), "has the object 'lock'"),
        (ACQUIRE.replace(b"lock/l", b"door/l"), "has the object 'door/l'"),
        (ACQUIRE.replace(b"acquire", b"write"), "to a lock can be done: acquire"),
        (ACQUIRE.replace(b'"done"', b'"unknown"'), "must be 'done' or 'refused'"),
        (ACQUIRE.replace(b'"returned":2,', b""), "only one of returned and outcome"),
        (ACQUIRE.replace(b'"returned":2', b'"returned":0'), "before it was called"),
        (b'{"op":"increment","object":"counter/c","client":"a","called":1,"returned":2,"outcome":"done"}', "no value"),
    ],
)
def test_a_foreign_line_is_an_error(line: bytes, problem: str) -> None:
    """A line that tells of nothing is refused with where it stands and what is wrong with it."""
    with pytest.raises(BadData) as error:
        parse_recording([("history.jsonl:7", line)])
    assert "history.jsonl:7" in str(error.value)
    assert problem in str(error.value) or problem == "is no"


@pytest.mark.parametrize(
    ("second", "problem"),
    [
        (ACQUIRE.replace(b'"client":"a"', b'"client":"b"'), "client is 'b', and was 'a'"),
        (ACQUIRE, "once more"),
    ],
)
def test_an_id_belongs_to_one_operation(second: bytes, problem: str) -> None:
    """Two lines with one id must tell of one call, and of one answer."""
    first, other = (line[:-1] + b',"id":"x"}' for line in (ACQUIRE, second))
    with pytest.raises(BadData, match=problem):
        parse_recording([("f:1", first), ("f:2", other)])


def test_ten_thousand_operations_are_judged_in_seconds() -> None:
    """A long history of four clients is judged in a time that grows with its length: some with unknown outcomes."""
    operations: list[Operation] = []
    for number in range(2500):
        start, client = number * 1.0, f"c{number % 4}"
        answered = number % 50 != 7
        steps = [("acquire", "lock/l", None), ("write", "register/r", number), ("read", "register/r", number)]
        for place, (op, name, value) in enumerate([*steps, ("release", "lock/l", None)]):
            operation = Operation(
                op=op,  # type: ignore[arg-type]
                object=name,
                client=client,
                called=start + place / 4,
                returned=start + place / 4 + 0.3 if answered or op in {"acquire", "read"} else None,
                outcome="done" if answered or op in {"acquire", "read"} else None,
                token=None if op == "read" else number + 1,
                value=value,
            )
            operations.append(operation)
    started = time.process_time()
    assert check(Recording(operations=tuple(operations))) == ()
    assert time.process_time() - started < 20
