"""The one thread that runs user callbacks and observers, outside every call path."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from drumbeat._clock import Clock, Signal

if TYPE_CHECKING:
    import logging

    from pluggy import HookCaller

    from drumbeat._events import Event

#: Events kept for observers that are slower than what happens; the oldest are dropped beyond it.
MAX_EVENTS: Final = 10_000

Callback = Callable[[], None]


class Dispatcher:
    """Runs callbacks in order, and hands events to observers; started when there is something to do."""

    def __init__(self, clock: Clock, *, name: str, observers: tuple[HookCaller, ...]) -> None:
        self._clock = clock
        self._name = name
        self._observers = observers
        self._events: deque[Event] = deque(maxlen=MAX_EVENTS)
        self._callbacks: deque[Callback] = deque()
        self._work = Signal(clock)
        self._idle = Signal(clock)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._dropped = 0

    def emit(self, event: Event) -> None:
        """Hand an event to the observers, soon."""
        if not self._observers:
            return
        self._dropped += len(self._events) == MAX_EVENTS
        self._events.append(event)
        self._wake()

    def call(self, callback: Callback) -> None:
        """Run a callback, soon; what it raises is logged."""
        self._callbacks.append(callback)
        self._wake()

    def is_current_thread(self) -> bool:
        """Return whether a callback or observer is the caller."""
        return threading.current_thread() is self._thread

    def stop(self, deadline: float) -> None:
        """Let what is queued run until `deadline`, then end the thread."""
        self._stopping = True
        self._work.set()
        if self._thread is not None and not self.is_current_thread():
            self._idle.wait_until(deadline)

    def _wake(self) -> None:
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                    self._thread.start()
        self._work.set()

    def _run(self) -> None:
        while True:
            while self._callbacks or self._events:
                self._run_one()
            if self._stopping:
                self._idle.set()
                return
            self._work.take(None)

    def _run_one(self) -> None:
        if self._callbacks:
            with surviving("a callback"):
                self._callbacks.popleft()()
            return
        event = self._events.popleft()
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            logger().warning("%d events were dropped: the observers are slower than what happens", dropped)
        for observer in self._observers:
            with surviving("an observer"):
                observer(event=event)


@contextmanager
def surviving(what: str, *, expected: type[Exception] | tuple[()] = ()) -> Iterator[None]:
    """Log what the block raises and go on: a thread of the core outlives backends, callbacks and observers.

    What is `expected` has been told otherwise and goes to the debug log in one line; the rest goes with its traceback.
    """
    try:
        yield
    except expected as error:
        logger().debug("%s: %s", what, error)
    except Exception:  # noqa: BLE001 - the code of others may raise anything
        logger().exception("%s raised; what comes after it is not affected", what)


def logger() -> logging.Logger:
    """Return Drumbeat's logger; logging is imported when something is to be said."""
    import logging

    return logging.getLogger("drumbeat")
