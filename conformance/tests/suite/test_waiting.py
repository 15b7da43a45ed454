"""Waiting for a condition: which looks count, and what is told of the last one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from drumbeat import Unavailable
from drumbeat.testing import FakeClock
from drumbeat_conformance.waiting import eventually


def looks(*answers: object) -> Callable[[], object]:
    """Return a condition with these answers, one after the other; the last one stays."""
    left: Iterator[object] = iter(answers)
    seen: list[object] = []

    def look() -> object:
        seen[:] = [next(left, *seen)]
        (answer,) = seen
        if isinstance(answer, Exception):
            raise answer
        return answer

    return look


def test_the_first_true_answer_is_returned() -> None:
    """What is false, and what gets no answer, is looked at again."""
    silent = Unavailable("busy", outcome="not_applied")
    assert eventually(looks(0, silent, None, silent, 7, 8), within=1.0, clock=FakeClock()) == 7


def test_silence_until_the_end_fails() -> None:
    """No answer is never taken for a true one, and the failure tells of it."""
    silent = looks(Unavailable("nobody listens", outcome="not_applied"))
    with pytest.raises(AssertionError, match=r"it was not true within 1 s; .*nobody listens"):
        eventually(silent, within=1.0, clock=FakeClock(), what="it")


def test_other_errors_are_raised_at_once() -> None:
    """An error that is no silence ends the wait."""
    with pytest.raises(ZeroDivisionError):
        eventually(looks(0, ZeroDivisionError(), 1), within=1.0, clock=FakeClock())
