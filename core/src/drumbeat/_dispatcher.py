"""The threads that run user callbacks and observers, outside every call path."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

from drumbeat._clock import Clock, Signal
from drumbeat._errors import BackendError

if TYPE_CHECKING:
    import logging

    from pluggy import HookCaller

    from drumbeat._events import Event

#: Events kept for observers that are slower than what happens; the oldest are dropped beyond it.
MAX_EVENTS: Final = 10_000

#: What the code of others may raise: an exit too, which would end this thread rather than the program.
ANYTHING: Final = (Exception, SystemExit)

Callback = Callable[[], None]


class Dispatcher:
    """Runs callbacks on one thread and observers on another, so that no observer delays an `on_lost`."""

    def __init__(self, clock: Clock, *, name: str, observers: tuple[HookCaller, ...]) -> None:
        self._observers = observers
        self._callbacks = _Worker(clock, name=name)
        self._events = _Worker(clock, name=f"{name}-events", most=MAX_EVENTS)

    def emit(self, event: Event) -> None:
        """Hand an event to the observers, soon."""
        if self._observers:
            self._events.put(partial(self._tell, event))

    def call(self, callback: Callback) -> None:
        """Run a callback, soon; what it raises is logged."""
        self._callbacks.put(partial(self._run, callback))

    def is_current_thread(self) -> bool:
        """Return whether a callback is the caller."""
        return self._callbacks.is_current_thread()

    def stop(self, deadline: float) -> None:
        """Let what is queued run until `deadline`, then end the threads."""
        for worker in (self._callbacks, self._events):
            worker.finish()
        for worker in (self._callbacks, self._events):
            worker.join(deadline)

    def _run(self, callback: Callback) -> None:
        with surviving("a callback", caught=ANYTHING):
            callback()

    def _tell(self, event: Event) -> None:
        dropped = self._events.take_dropped()
        if dropped:
            logger().warning("%d events were dropped: the observers are slower than what happens", dropped)
        for observer in self._observers:
            with surviving("an observer", caught=ANYTHING):
                observer(event=event)


class _Worker:
    """A thread that runs actions in their order, started with the first of them."""

    def __init__(self, clock: Clock, *, name: str, most: int | None = None) -> None:
        self._name = name
        self._queue: deque[Callback] = deque(maxlen=most)
        self._dropped = 0
        self._finishing = False
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._work = Signal(clock)
        self._done = Signal(clock)

    def put(self, action: Callback) -> None:
        """Queue an action; beyond the most that is kept, the oldest is dropped."""
        with self._lock:
            self._dropped += len(self._queue) == self._queue.maxlen
            self._queue.append(action)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work_off, name=self._name, daemon=True)
                self._thread.start()
        self._work.set()

    def take_dropped(self) -> int:
        """Return how many actions were dropped since the last time."""
        with self._lock:
            dropped, self._dropped = self._dropped, 0
            return dropped

    def is_current_thread(self) -> bool:
        """Return whether an action is the caller."""
        return threading.current_thread() is self._thread

    def finish(self) -> None:
        """End the thread when nothing is queued any more."""
        self._finishing = True
        self._work.set()

    def join(self, deadline: float) -> None:
        """Wait for the end of the thread until `deadline`, unless an action is the caller."""
        if self._thread is not None and not self.is_current_thread():
            self._done.wait_until(deadline)

    def _work_off(self) -> None:
        while (action := self._next()) is not None:
            action()

    def _next(self) -> Callback | None:
        while True:
            with self._lock:
                if self._queue:
                    return self._queue.popleft()
                if self._finishing:
                    # What comes after the end starts a thread again, so that nothing is ever left undone.
                    self._thread = None
                    self._done.set()
                    return None
            self._work.take(None)


@contextmanager
def surviving(
    what: str, *, expected: type[Exception] | tuple[()] = (), caught: tuple[type[BaseException], ...] = (Exception,)
) -> Iterator[None]:
    """Log what the block raises and go on: a thread of the core outlives backends, callbacks and observers.

    What is `expected` has been told otherwise and goes to the debug log in one line; the rest goes with its traceback,
    and so does a plain BackendError, which is a defect of the backend.
    """
    try:
        yield
    except caught as error:
        if isinstance(error, expected) and type(error) is not BackendError:
            logger().debug("%s: %s", what, error)
        else:
            logger().exception("%s raised; what comes after it is not affected", what)


def logger() -> logging.Logger:
    """Return Drumbeat's logger; logging is imported when something is to be said."""
    import logging

    return logging.getLogger("drumbeat")
