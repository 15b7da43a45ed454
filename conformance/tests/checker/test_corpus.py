"""The checker's own corpus: each file begins with a line that says what is wrong with it, or why it is fine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from drumbeat_conformance.checker import Kind, check, parse_recording

CORPUS = Path(__file__).parent / "corpus"
BAD = sorted((CORPUS / "bad").iterdir())
GOOD = sorted((CORPUS / "good").iterdir())
#: Enough for each, but for the one that would take too much.
EFFORT = 100_000
#: What one line can prove: that nothing else explains it.
PROVED_BY_ONE = {Kind.REGISTER, Kind.COUNTER, Kind.UNWON, Kind.TOKEN, Kind.UNDECIDED}


def read(path: Path) -> tuple[dict[str, str], list[tuple[str, bytes]]]:
    """Return the first line of a file, and the lines of its history."""
    head, *lines = path.read_bytes().splitlines()
    return json.loads(head), [(f"{path.name}:{number}", line) for number, line in enumerate(lines, 2)]


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_a_bad_history_is_found_bad(path: Path) -> None:
    """What the first line names is found, told with names and proved by records, and nothing else is found."""
    head, lines = read(path)
    assert head["says"].endswith(".")
    found = check(parse_recording(lines), effort=EFFORT)
    assert {violation.kind.value for violation in found} == {head["finds"]}, [str(violation) for violation in found]
    for violation in found:
        assert len(violation.records) >= 2 or violation.kind in PROVED_BY_ONE
        assert "'" in violation.says


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_a_good_history_is_found_good(path: Path) -> None:
    """Nothing is found in it."""
    head, lines = read(path)
    assert head["says"].endswith(".")
    assert "finds" not in head
    assert [str(violation) for violation in check(parse_recording(lines), effort=EFFORT)] == []


@pytest.mark.parametrize("path", [*BAD, *GOOD], ids=lambda path: path.stem)
def test_the_order_of_the_lines_does_not_count(path: Path) -> None:
    """Several files make one history, so the same is found if the lines come backwards."""
    _, lines = read(path)
    forwards, backwards = (check(parse_recording(some), effort=EFFORT) for some in (lines, lines[::-1]))
    assert {violation.kind for violation in forwards} == {violation.kind for violation in backwards}


def test_the_corpus_is_large(record_property: Callable[[str, object], None]) -> None:
    """There are at least 40 bad and 20 good histories, and bad ones of every kind; how many is reported."""
    record_property("bad histories", len(BAD))
    record_property("good histories", len(GOOD))
    assert len(BAD) >= 40, f"only {len(BAD)} bad histories"
    assert len(GOOD) >= 20, f"only {len(GOOD)} good histories"
    assert {read(path)[0]["finds"] for path in BAD} == {kind.value for kind in Kind}
