"""Waiting for something to change: hints from the backend, polling behind, and endless iterators over both."""

from __future__ import annotations

import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Generic, Self, TypeVar

from drumbeat._clock import Signal, SystemClock, deadline_after
from drumbeat._errors import Closed, DrumbeatError, SessionLost, Timeout, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from drumbeat._incarnation import Incarnation
    from drumbeat._keeper import Keeper
    from drumbeat.hookspecs import Cancel, Notify, Subject

T = TypeVar("T")

#: Seconds between two reads that hints cause: the first hint counts at once, a storm of them is one read.
COALESCE: Final = 0.02
#: It spares servers, so it counts real time also where a test moves the clock.
REAL_TIME: Final = SystemClock()


class Subscription:
    """One thread's wait for hints about a subject; moves on by itself to the next incarnation."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._signal = keeper.new_signal()
        self._pause = Signal(REAL_TIME)
        self._incarnation: Incarnation | None = None
        self._subject: Subject | None = None
        self._cancel: Cancel | None = None
        self._abandoned: weakref.finalize[[Cancel], Subscription] | None = None
        self._last_hint = float("-inf")

    def follow(self, incarnation: Incarnation, subject: Subject) -> bool:
        """Watch a subject; return True if the watch is new, so that what it guards must be read again."""
        if not self._keeper.backend.implements("watch"):
            return False
        if self._incarnation is incarnation and self._subject == subject:
            return False
        self.cancel()
        self._cancel = self._keeper.backend.watch(
            incarnation.lease, subject, _hint(self._signal), timeout=incarnation.timing.request_timeout
        )
        # A stream that is dropped unclosed goes when the interpreter likes, perhaps within a backend's lock.
        self._abandoned = weakref.finalize(self, self._keeper.abandoned_watches.append, self._cancel)
        self._abandoned.atexit = False
        self._incarnation = incarnation
        self._subject = subject
        return True

    def wait(self, deadline: float | None, *, at_most: float | None = None) -> None:
        """Return after a hint or a change of state, when it is time to poll, or at `deadline`."""
        now = self._keeper.clock.now()
        pause = self._keeper.profile.limits.poll_interval
        until = now + (pause if at_most is None else min(pause, at_most))
        if self._signal.take(until if deadline is None else min(until, deadline)):
            self._pause.wait_until(self._last_hint + COALESCE)
            self._last_hint = REAL_TIME.now()

    def wake(self) -> None:
        """End a wait in another thread."""
        self._signal.set()

    def cancel(self) -> None:
        """End the watch; that of an incarnation that is over has ended with it."""
        if self._abandoned is not None:
            self._abandoned.detach()
        if self._cancel is not None and self._incarnation is not None and self._incarnation.alive():
            with suppress(DrumbeatError):
                self._cancel()
        self._cancel = self._incarnation = self._subject = None


def _hint(signal: Signal) -> Notify:
    # Weak, so that a backend's list of watches does not keep alive a stream that its user has dropped.
    known = weakref.ref(signal)

    def notify() -> None:
        found = known()
        if found is not None:
            found.set()

    return notify


class Stream(Generic[T]):
    """An endless iterator over changes; ends when it or the session is closed. For one thread at a time."""

    def __init__(self, keeper: Keeper, subject: Subject) -> None:
        self._keeper = keeper
        self._subject = subject
        self._subscription = Subscription(keeper)
        self._closed = False

    def next(self, timeout: float | None = None) -> T:
        """Return the next change; raise Timeout after `timeout` seconds, Closed once the session is closed.

        Waits out times in which the session is LOST or the server does not answer.
        """
        deadline = deadline_after(self._keeper.clock, timeout)
        while not self._closed:
            incarnation = self._keeper.wait_live(deadline)
            with suppress(Unavailable):
                try:
                    # Without push the next look comes by itself.
                    with suppress(Unavailable):
                        self._subscription.follow(incarnation, self._subject)
                    change = self._read(incarnation)
                except SessionLost as error:
                    self._keeper.lose(incarnation, str(error))
                    continue
                if change is not None:
                    return change
            if deadline is not None and self._keeper.clock.now() >= deadline:
                raise Timeout(f"nothing changed within {timeout:g} s")
            self._subscription.wait(deadline)
        self._subscription.cancel()
        raise Closed("the stream is closed")

    def close(self) -> None:
        """End the stream; harmless when repeated, and allowed from another thread."""
        self._closed = True
        self._subscription.cancel()
        self._subscription.wake()

    def _read(self, incarnation: Incarnation) -> T | None:
        raise NotImplementedError

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        try:
            return self.next()
        except Closed:
            raise StopIteration from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
