"""A clock that stands still until a test moves it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Final, final

#: Real seconds that `advance` gives the threads it woke to come to rest; reached only by a thread that never does.
SETTLE: Final = 1.0


@dataclass(eq=False, slots=True)
class _Sleeper:
    thread: threading.Thread
    condition: threading.Condition
    due: float | None


@final
class FakeClock:
    """A clock for tests: time passes only when `advance` is called, so no test has to sleep.

    Give it to `drumbeat.connect("memory://", clock=clock)`: the session and the backend then share it. `advance`
    stops at every moment for which some thread waits, wakes that thread, and goes on once it waits again or ended.
    """

    def __init__(self, now: float = 1000.0, *, wall: float = 1_700_000_000.0) -> None:
        self._now = now
        self._wall_offset = wall - now
        self._lock = threading.Condition()
        self._sleepers: set[_Sleeper] = set()
        self._awake: set[threading.Thread] = set()

    def now(self) -> float:
        """Return the seconds that the clock shows."""
        return self._now

    def wall(self) -> float:
        """Return the wall time that goes with `now`."""
        return self._now + self._wall_offset

    def step_wall(self, seconds: float) -> None:
        """Move the wall time alone, as an administrator or a time server does."""
        self._wall_offset += seconds

    def wait(self, condition: threading.Condition, timeout: float | None) -> None:
        """Wait on a held condition until it is notified or the clock was moved past `timeout`."""
        due = None if timeout is None else self._now + timeout
        sleeper = _Sleeper(threading.current_thread(), condition, due)
        with self._lock:
            if due is not None and due <= self._now:
                return
            self._awake.discard(sleeper.thread)
            self._sleepers.add(sleeper)
            self._lock.notify_all()
        try:
            condition.wait()
        finally:
            with self._lock:
                self._sleepers.discard(sleeper)
                self._awake.add(sleeper.thread)

    def advance(self, seconds: float) -> None:
        """Move the clock on, waking each waiting thread at the moment it waits for."""
        target = self._now + seconds
        self.settle()
        while True:
            due = self._next_due(target)
            self._now = max(self._now, target if due is None else due)
            self._wake_due()
            self.settle()
            if due is None:
                return

    def settle(self) -> None:
        """Return once every thread that this clock has woken waits again or has ended."""
        me = threading.current_thread()
        until = time.monotonic() + SETTLE
        with self._lock:
            while any(thread is not me and thread.is_alive() for thread in self._awake):
                if time.monotonic() >= until:
                    break
                self._lock.wait(0.002)
            self._awake.clear()

    def _next_due(self, target: float) -> float | None:
        with self._lock:
            dues = [s.due for s in self._sleepers if s.due is not None and s.due <= target]
        return min(dues, default=None)

    def _wake_due(self) -> None:
        with self._lock:
            due = [s for s in self._sleepers if s.due is not None and s.due <= self._now]
            self._awake.update(s.thread for s in due)
            self._sleepers.difference_update(due)
        for sleeper in due:
            with sleeper.condition:
                sleeper.condition.notify_all()
