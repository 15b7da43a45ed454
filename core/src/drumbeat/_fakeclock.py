"""A clock that stands still until a test moves it."""

from __future__ import annotations

import sys
import threading
import traceback
import weakref
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias, final

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Looks at a busy thread at one place in its code after which it is not waited for. They are counted, and no time is
#: taken: a machine that gives this program no turn gives its threads none either.
STANDSTILL: Final = 2_000
#: Looks after which no thread is waited for, wherever it was at each.
PATIENCE: Final = 30_000
#: Real seconds between two looks at what no thread reports: that another one has moved on, or ended.
LOOK: Final = 0.001


_Place: TypeAlias = tuple[tuple[int, int], ...]


@dataclass(eq=False, slots=True)
class _Sleeper:
    thread: threading.Thread
    condition: threading.Condition
    due: float | None


@dataclass(frozen=True, slots=True)
class _Standing:
    """Where a thread was at the last look, and at how many looks in a row."""

    place: _Place
    looks: int = 1

    @classmethod
    def of(cls, place: _Place, before: _Standing | None) -> _Standing:
        """Return what a look adds to the one before."""
        return cls(place, before.looks + 1 if before and before.place == place else 1)


def _places(threads: list[threading.Thread]) -> Iterator[tuple[threading.Thread, _Place]]:
    """Tell of each thread at which instruction of which frames it is."""
    frames = sys._current_frames()  # noqa: SLF001 - where else to see it
    for thread in threads:
        if top := frames.get(thread.ident or 0):
            yield thread, tuple((id(frame), frame.f_lasti) for frame, _ in traceback.walk_stack(top))


@final
class FakeClock:
    """A clock for tests: time passes only when `advance` is called, so no test has to sleep.

    Give it to `drumbeat.connect("memory://...", clock=clock)`: the session and its store then share it. `advance` stops
    at every moment for which some thread waits, wakes that thread, and goes on once all threads are at rest: each one
    that was started after the clock was made waits on this clock or has ended. A thread that does neither is not waited
    for any more once it has stood at one place in its code for about two seconds, or worked for about thirty, until it
    waits on the clock again.

    A call that waits on the clock, such as `campaign()`, belongs into a thread, while the test moves the clock.

    >>> from drumbeat.testing import FakeClock, freeze, memory_session
    >>> clock = FakeClock()
    >>> with memory_session(clock=clock, lease_ttl=10.0) as session:
    ...     term = session.election("leader").campaign()
    ...     clock.advance(100.0)  # heartbeats are sent meanwhile
    ...     held = term.held
    ...     with freeze(session):  # and now they are not
    ...         clock.advance(10.0)
    ...         held, term.held
    (True, False)
    """

    def __init__(self, now: float = 1000.0, *, wall: float = 1_700_000_000.0) -> None:
        self._now = now
        self._wall_offset = wall - now
        self._lock = threading.Condition()
        self._sleepers: set[_Sleeper] = set()
        #: Threads that are not waited for.
        self._strangers = weakref.WeakSet(threading.enumerate())
        #: Threads that move the clock, each of which waits for those that came after it.
        self._movers: list[threading.Thread] = []
        #: Counts every beginning and end of a wait.
        self._changes = 0

    def now(self) -> float:
        """Return the seconds that the clock shows."""
        return self._now

    def wall(self) -> float:
        """Return the wall time that goes with `now`, in seconds since 1970."""
        return self._now + self._wall_offset

    def step_wall(self, seconds: float) -> None:
        """Move the wall time alone, as an administrator or a time server does."""
        self._wall_offset += seconds

    def wait(self, condition: threading.Condition, timeout: float | None) -> None:
        """Wait on a held condition until it is notified or the clock was moved on by `timeout` seconds."""
        thread = threading.current_thread()
        with self._lock:
            due = None if timeout is None else self._now + timeout
            if due is not None and due <= self._now:
                return
            sleeper = _Sleeper(thread, condition, due)
            self._sleepers.add(sleeper)
            self._strangers.discard(thread)
            self._changed()
        try:
            condition.wait()
        finally:
            with self._lock:
                self._sleepers.discard(sleeper)
                self._changed()

    def advance(self, seconds: float) -> None:
        """Move the clock on by `seconds`, waking each waiting thread at the moment it waits for.

        Once this returns, whatever had to happen until then has happened. Raises ValueError for a negative number.
        """
        if seconds < 0:
            raise ValueError(f"a clock never steps back, so it cannot be moved by {seconds:g} s")
        target = self._now + seconds
        with self._moving():
            self._settle()
            while True:
                due = self._next_due(target)
                with self._lock:
                    self._now = max(self._now, target if due is None else due)
                self._wake_due()
                self._settle()
                if due is None:
                    return

    def settle(self) -> None:
        """Return once every other thread is at rest, without moving the clock.

        >>> from drumbeat.testing import FakeClock, lose, memory_session
        >>> clock, told = FakeClock(), []
        >>> with memory_session(clock=clock) as session:
        ...     lose(session.election("leader").campaign(on_lost=told.append))
        ...     clock.settle()  # the callback runs on a thread of its own
        ...     len(told)
        1
        """
        with self._moving():
            self._settle()

    def suspend(self, seconds: float) -> None:
        """Move the clock on by `seconds` at one stroke, as a suspended host or a stopped process sees it.

        No thread is woken; the next `advance` wakes those that are late, and `advance(0)` does nothing else.

        >>> from drumbeat.testing import FakeClock, memory_session
        >>> clock = FakeClock()
        >>> with memory_session(clock=clock, lease_ttl=10.0) as session:
        ...     term = session.election("leader").campaign()
        ...     clock.suspend(60.0)
        ...     term.held  # asked before any thread could notice
        False
        """
        with self._lock:
            self._now += seconds

    @contextmanager
    def _moving(self) -> Iterator[None]:
        me = threading.current_thread()
        with self._lock:
            self._movers.append(me)
            self._changed()
        try:
            yield
        finally:
            with self._lock:
                self._movers.remove(me)
                self._changed()

    def _settle(self) -> None:
        standing: dict[threading.Thread, _Standing] = {}
        with self._lock:
            for _ in range(PATIENCE):
                busy = self._busy()
                if not busy and not self._any_notified():
                    return
                if not self._lock.wait(LOOK):
                    standing = {thread: _Standing.of(place, standing.get(thread)) for thread, place in _places(busy)}
                    self._strangers.update(thread for thread, found in standing.items() if found.looks == STANDSTILL)
            self._strangers.update(self._busy())

    def _busy(self) -> list[threading.Thread]:
        """Return the threads that neither wait on the clock nor for the one that moves it; the lock is held."""
        earlier = self._movers[: self._movers.index(threading.current_thread())]
        resting = {threading.current_thread(), *earlier, *self._strangers}
        resting.update(sleeper.thread for sleeper in self._sleepers)
        return [thread for thread in threading.enumerate() if thread not in resting]

    def _any_notified(self) -> bool:
        """Return whether a thread that waits has been notified and only needs to be run; the lock is held."""
        changes = self._changes
        conditions = {sleeper.condition for sleeper in self._sleepers}
        self._lock.release()
        try:
            notified = any(self._is_notified(condition) for condition in conditions)
        finally:
            self._lock.acquire()
        return notified or self._changes != changes

    def _is_notified(self, condition: threading.Condition) -> bool:
        with condition:
            # A notified thread leaves the condition's list at once, and ours when it runs. No public name tells that.
            waiting = len(condition._waiters)  # type: ignore[attr-defined]  # noqa: SLF001
            with self._lock:
                return waiting < sum(sleeper.condition is condition for sleeper in self._sleepers)

    def _next_due(self, target: float) -> float | None:
        with self._lock:
            dues = [s.due for s in self._sleepers if s.due is not None and s.due <= target]
        return min(dues, default=None)

    def _wake_due(self) -> None:
        with self._lock:
            conditions = {s.condition for s in self._sleepers if s.due is not None and s.due <= self._now}
        for condition in conditions:
            with condition:
                condition.notify_all()

    def _changed(self) -> None:
        self._changes += 1
        self._lock.notify_all()
