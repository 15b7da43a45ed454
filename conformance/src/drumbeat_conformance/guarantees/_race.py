"""Calls that are made at the same moment, by threads that give way to one another between any two lines."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from threading import Barrier, BrokenBarrierError
from typing import TYPE_CHECKING, Final, Self, TypeVar, final

from drumbeat_conformance.actor import TIMEOUT

if TYPE_CHECKING:
    from types import FrameType

    from drumbeat_conformance.arena import Arena

__all__ = ["race"]

T = TypeVar("T")

#: Packages, beside Python's own, in which nobody races for anything.
_ASIDE: Final = sys.stdlib_module_names | {"pluggy", "drumbeat_conformance"}
#: How many of the other lines of Python that a racer runs let the others come first, and for how many seconds.
_GIVING_WAY: Final = 0.25
_PAUSE: Final = 1e-6
#: Seconds for all that racers do.
_WITHIN: Final = 40.0


def race(arena: Arena, racers: Sequence[Callable[[int], T]], *, turns: Iterable[int]) -> Iterator[tuple[T, ...]]:
    """Have all racers called with each of the numbers in turn, all at the same moment; give their answers by turn."""
    numbers, start = tuple(turns), Barrier(len(racers))
    draws = [random.Random(arena.draw.random()) for _ in racers]  # noqa: S311 - repeatable, nothing secret
    running = [
        arena.background(partial(_run, racer, numbers, start=start, draw=draw))
        for racer, draw in zip(racers, draws, strict=True)
    ]
    # Who broke off has the error that counts; the others have none but that they waited in vain.
    for one in running:
        with suppress(BrokenBarrierError):
            one.result(within=_WITHIN)
    return zip(*(one.result(within=_WITHIN) for one in running), strict=True)


def _run(racer: Callable[[int], T], turns: Sequence[int], *, start: Barrier, draw: random.Random) -> list[T]:
    answers = []
    try:
        for turn in turns:
            start.wait(TIMEOUT)
            with _giving_way(draw):
                answers.append(racer(turn))
    except BaseException:
        start.abort()
        raise
    return answers


@contextmanager
def _giving_way(draw: random.Random) -> Iterator[None]:
    """Let other threads come between the lines of what this one does: a race that nobody loses by luck alone."""
    usual = sys.gettrace()
    sys.settrace(_GivingWay(draw))
    try:
        yield
    finally:
        sys.settrace(usual)


@final
class _GivingWay:
    """What Python calls at each line of the functions that a thread enters."""

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw

    def __call__(self, frame: FrameType, event: str, _: object) -> Self | None:
        if event == "call" and str(frame.f_globals.get("__name__")).partition(".")[0] in _ASIDE:
            return None
        if event == "line" and self._draw.random() < _GIVING_WAY:
            time.sleep(_PAUSE)
        return self
