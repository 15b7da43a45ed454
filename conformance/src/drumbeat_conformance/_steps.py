"""Calls into a backend or a server that end in time, however they fail: in a thread, which may be left behind."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import TypeVar, final

from drumbeat import DrumbeatError
from drumbeat_conformance.servers import CouldNotRun

__all__ = ["Blind", "Hangs", "StepFailed", "raised_by", "step", "told"]

T = TypeVar("T")


@final
class Blind(DrumbeatError):
    """A check that must fail passed: whatever else passed in this process proves nothing."""

    def __init__(self) -> None:
        super().__init__(
            "a check that must fail passed: something in this process, be it the backend, has replaced parts of the "
            "engine, so that nothing which passed here proves anything"
        )


@final
class StepFailed(DrumbeatError):
    """What comes before the first guarantee, or after the last, failed; the message names the step, as does `during`.

    What it failed by is its cause.
    """

    def __init__(self, during: str, cause: BaseException) -> None:
        super().__init__(f"{during} failed: {told(cause)}")
        self.during = during


@final
class Hangs(TimeoutError):
    """A call has not ended in time; `frame` is where its thread was then."""

    def __init__(self, within: float, frame: FrameType | None) -> None:
        super().__init__(f"hangs for {within:g} s")
        self.frame = frame


def told(error: BaseException) -> str:
    """Return what was raised in a line or more."""
    return str(error) if isinstance(error, Hangs) else f"{type(error).__name__}: {error}"


def raised_by(call: Callable[[], object], *, within: float, name: str) -> BaseException | None:
    """Call in a thread of that name; return what it raised, be it SystemExit, or Hangs after `within` seconds."""
    errors: list[BaseException] = []

    def attempt() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is handed to the caller
            errors.append(error)

    thread = threading.Thread(target=attempt, name=name, daemon=True)
    thread.start()
    thread.join(within)
    if thread.is_alive():
        return Hangs(within, sys._current_frames().get(thread.ident or 0))  # noqa: SLF001 - where else to see it
    return errors[0] if errors else None


def step(during: str, call: Callable[[], T], *, within: float) -> T:
    """Return what a call returns; raise StepFailed, or CouldNotRun as it comes, if it fails or takes too long."""
    results: list[T] = []
    error = raised_by(lambda: results.append(call()), within=within, name=f"drumbeat: {during}")
    if isinstance(error, CouldNotRun):
        raise error
    if error is not None:
        raise StepFailed(during, error) from error
    return results[0]
