"""The lines of a history: read back as they were written, and refused where they are none."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from drumbeat import BadData
from drumbeat.history import append_line, note
from drumbeat.observers import HistoryObserver
from drumbeat.testing import memory_session
from drumbeat_conformance.checker import (
    Kind,
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


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"[" * 100_000, "is nested too deeply"),
        (b'{"op":' * 100_000, "is nested too deeply"),
        (ACQUIRE.replace(b'"called":1', b'"called":1e400'), "has called = inf, which is no finite number"),
        (ACQUIRE.replace(b'"returned":2', b'"returned":-1e400'), "has returned = -inf, which is no finite number"),
        (ACQUIRE.replace(b'"returned":2', b'"returned":1' + b"0" * 400), "which is no finite number"),
        (ACQUIRE.replace(b'"returned":2', b'"returned":1' + b"0" * 5000), "whole line of JSON"),
        (ACQUIRE.replace(b'"token":1', b'"token":1e3'), "has token = 1000.0"),
        (ACQUIRE.replace(b'"client":"a"', b'"client":"\\ud800"'), "half of a character"),
        (b'{"kind":"won","at":1e400,"member_id":"a"}', "has at = inf"),
        (b'{"kind":"won","at":Infinity,"member_id":"a"}', "whole line of JSON"),
    ],
    ids=range(10),
)
def test_a_line_that_breaks_readers_is_an_error(line: bytes, problem: str) -> None:
    """A line that is too deep, or has numbers that no clock shows, is refused with its place and what to do."""
    with pytest.raises(BadData) as error:
        parse_recording([("history.jsonl:7", line)])
    assert "history.jsonl:7: this line " in str(error.value)
    assert problem in str(error.value)
    assert "mend or take out the line" in str(error.value)


def concurrent_writes(number: int, *, tokens: bool) -> list[Operation]:
    """Return writes that are all under way at once, and a read of each."""
    found: list[Operation] = []
    for place in range(number):
        call = Operation(op="write", object="register/r", client=f"w{place}", called=1.0, value=place)
        token = place if tokens else 5
        found.append(replace(call, returned=2.0 + place / 1000, outcome="done", token=token))
        found.append(replace(call, op="read", client=f"r{place}", returned=3.0, outcome="done", token=None))
    return found


@pytest.mark.parametrize("tokens", [True, False], ids=["rising tokens", "one token"])
def test_thirty_writes_at_once_are_judged_at_once(tokens: bool) -> None:
    """Writes that could happen in very many orders, nearly all alike, take few steps."""
    operations = concurrent_writes(30, tokens=tokens)
    assert check(Recording(operations=tuple(operations)), effort=60_000) == ()
    late = Operation(
        op="read", object="register/r", client="x", called=9.0, returned=9.5, outcome="done", value="never written"
    )
    (found,) = check(Recording(operations=(*operations, late)), effort=60_000)
    assert found.kind is Kind.REGISTER


def test_two_thousand_operations_of_a_crowd_are_judged_in_few_steps() -> None:
    """Of ten clients that read and write one register, four operations are under way at any moment."""
    operations: list[Operation] = []
    value: int | None = None
    for number in range(2000):
        write = number % 3 == 0
        value = number if write else value
        operation = Operation(
            op="write" if write else "read",
            object="register/r",
            client=f"c{number % 10}",
            called=number - number % 5 / 2.5,
            returned=number + number % 7 / 3,
            outcome="done",
            token=1 if write else None,
            value=value,
        )
        operations.append(operation)
    operations.sort(key=lambda one: one.called)
    assert check(Recording(operations=tuple(operations)), effort=50_000) == ()


def test_what_takes_too_many_steps_is_not_called_fine() -> None:
    """A search that was given up is told as not decided, with what to do."""
    (found,) = check(Recording(operations=tuple(concurrent_writes(30, tokens=True))), effort=50)
    assert found.kind is Kind.UNDECIDED
    assert "was not found out in 50 steps" in found.says
    assert "check with a greater effort" in found.says
