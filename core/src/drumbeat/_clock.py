"""Time: one clock that counts suspend, and the one place where the core waits."""

from __future__ import annotations

import math
import threading
import time
from typing import Final, Protocol, final

from drumbeat._errors import ConfigurationError

#: Seconds that the operating system is asked to wait at most; the core looks at the clock then and waits on.
LONGEST_WAIT: Final = 86_400.0
#: Integers beyond this are not written out in an error.
MAX_SHOWN_BITS: Final = 64
_CLOCK_ID: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock(Protocol):
    """What the core asks of time; `drumbeat.testing.FakeClock` is another."""

    def now(self) -> float:
        """Return seconds since an arbitrary fixed moment; never steps back, counts suspend."""
        ...

    def wall(self) -> float:
        """Return seconds since 1970, for people and for tokens; it may step either way."""
        ...

    def wait(self, condition: threading.Condition, timeout: float | None) -> None:
        """Wait on a held condition until notified or `timeout` seconds of this clock passed, or earlier."""
        ...


@final
class SystemClock:
    """The machine's clock: CLOCK_BOOTTIME where it exists, so that a suspended host notices the time it lost.

    See https://man7.org/linux/man-pages/man2/clock_gettime.2.html. Waits use the C library's timers, which
    may stand still during suspend; the core looks at the clock again after every wait.
    """

    def now(self) -> float:
        """Return seconds since boot, suspend included."""
        return time.clock_gettime(_CLOCK_ID)

    def wall(self) -> float:
        """Return seconds since 1970."""
        return time.time()

    def wait(self, condition: threading.Condition, timeout: float | None) -> None:
        """Wait on a held condition for at most `timeout` seconds."""
        condition.wait(None if timeout is None else min(timeout, LONGEST_WAIT))


def check_seconds(name: str, value: object) -> float:
    """Return a duration as float seconds, a negative one as 0; raise ConfigurationError for what is no number."""
    try:
        seconds = math.nan if isinstance(value, bool) or not isinstance(value, int | float) else float(value)
    except OverflowError:
        seconds = math.nan
    if math.isnan(seconds):
        shown = value if not isinstance(value, int) or value.bit_length() < MAX_SHOWN_BITS else "a huge integer"
        raise ConfigurationError(f"{name} must be a number of seconds, not {shown!r}")
    return max(0.0, seconds)


def deadline_after(clock: Clock, timeout: float | None) -> float | None:
    """Return the moment at which a timeout has passed, None for never; raise ConfigurationError for a bad one."""
    return None if timeout is None else clock.now() + check_seconds("timeout", timeout)


@final
class Signal:
    """A flag that one thread waits for and any thread raises; every wait of the core goes through one."""

    __slots__ = ("__weakref__", "_clock", "_condition", "_raised")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._condition = threading.Condition(threading.Lock())
        self._raised = False

    def set(self) -> None:
        """Raise the flag and wake who waits."""
        with self._condition:
            self._raised = True
            self._condition.notify_all()

    def set_in_child(self) -> None:
        """Raise the flag in a forked child, where another thread may have had the lock for ever."""
        self._condition = threading.Condition(threading.Lock())
        self._raised = True

    def clear(self) -> None:
        """Lower the flag."""
        with self._condition:
            self._raised = False

    def __bool__(self) -> bool:
        return self._raised

    def is_set(self) -> bool:
        """Return whether the flag is up."""
        return self._raised

    def wait_until(self, deadline: float | None) -> bool:
        """Wait for the flag until the clock shows `deadline`; return whether it is up. It stays up."""
        with self._condition:
            while not self._raised:
                left = None if deadline is None else deadline - self._clock.now()
                if left is not None and left <= 0:
                    return False
                self._clock.wait(self._condition, left)
            return True

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the flag for at most `timeout` seconds; return whether it is up."""
        return self.wait_until(deadline_after(self._clock, timeout))

    def take(self, deadline: float | None) -> bool:
        """Wait like `wait_until`, then lower the flag; return whether it had been up."""
        raised = self.wait_until(deadline)
        if raised:
            self.clear()
        return raised
