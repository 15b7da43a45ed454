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
    """What is false is looked at again."""
    assert eventually(looks(0, None, "", 7, 8), within=1.0, clock=FakeClock()) == 7


def test_what_never_comes_true_fails() -> None:
    """The failure tells what was waited for, for how long, and the last look's answer."""
    with pytest.raises(AssertionError, match=r"^it was not true within 1 s; the last look gave \[\]"):
        eventually(looks(0, []), within=1.0, clock=FakeClock(), what="it")


@pytest.mark.parametrize("error", [Unavailable("busy", outcome="not_applied"), ZeroDivisionError()])
def test_errors_are_raised_at_once(error: Exception) -> None:
    """No error passes for an answer that is not true yet, that of a server that does not answer neither."""
    with pytest.raises(type(error)):
        eventually(looks(0, error, 1), within=1.0, clock=FakeClock())
