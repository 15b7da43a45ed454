"""Waiting for a condition or for a call in a thread, on the machine's clock and on a `FakeClock` alike."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from drumbeat import SystemClock
from drumbeat.testing import FakeClock

if TYPE_CHECKING:
    from drumbeat._clock import Clock

__all__ = ["Background", "eventually", "pass_seconds"]

T = TypeVar("T")

#: Seconds between two looks, on the machine's clock.
_LOOK: Final = 0.005
#: Looks within the given time, on a clock that stands still between them.
_FAKE_LOOKS: Final = 100


def pass_seconds(clock: Clock, seconds: float) -> None:
    """Let `seconds` of this clock pass, in which the caller does nothing."""
    if isinstance(clock, FakeClock):
        clock.advance(seconds)
    else:
        time.sleep(seconds)


def eventually(
    condition: Callable[[], T], *, within: float, clock: Clock | None = None, what: str = "the condition"
) -> T:
    """Return the first true value of a condition; raise AssertionError once `within` seconds have passed."""
    clock = clock or SystemClock()
    until = clock.now() + within
    step = within / _FAKE_LOOKS if isinstance(clock, FakeClock) else _LOOK
    while True:
        value = condition()
        if value:
            return value
        assert clock.now() < until, f"{what} was not true within {within:g} s; the last look gave {value!r}"
        pass_seconds(clock, step)


class Background(Generic[T]):
    """A call that runs in a thread, and whose result or error is taken later.

    Whatever may wait belongs in one: on a `FakeClock` nothing would move the time on for it otherwise.
    """

    def __init__(self, call: Callable[[], T], *, clock: Clock | None = None) -> None:
        self._call = call
        self._clock = clock or SystemClock()
        self._results: list[T] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="drumbeat-background", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether the call has neither returned nor raised."""
        return self._thread.is_alive()

    def result(self, *, within: float = 40.0) -> T:
        """Return what the call returned, or raise what it raised; AssertionError if it takes more than `within` s."""
        eventually(lambda: not self.running, within=within, clock=self._clock, what="the end of a call")
        if self._error is not None:
            raise self._error
        return self._results[0]

    def _run(self) -> None:
        try:
            self._results.append(self._call())
        except BaseException as error:  # noqa: BLE001 - handed to the thread that asks for the result
            self._error = error
