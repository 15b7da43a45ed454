"""The order of losing and winning: the next win of an election waits for the last loss to be told."""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from typing import TYPE_CHECKING

from drumbeat._clock import Clock, Signal
from drumbeat._dispatcher import Dispatcher, logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from drumbeat._term import Term

_lock = threading.Lock()
#: Callbacks that have not returned yet, of all sessions of this process, by store and election.
_pending: defaultdict[tuple[str, str, str], set[Signal]] = defaultdict(set)


def _forget_in_child() -> None:
    # No callback runs in a forked child, and another thread may have held the lock.
    global _lock  # noqa: PLW0603 - a lock that was held at the fork is held for ever
    _lock = threading.Lock()
    _pending.clear()


os.register_at_fork(after_in_child=_forget_in_child)


class LostCallbacks:
    """Runs `on_lost` callbacks, and makes later wins of the same election in this process wait for them."""

    def __init__(self, dispatcher: Dispatcher, *, clock: Clock, url: str, namespace: str) -> None:
        self._dispatcher = dispatcher
        self._clock = clock
        self._store = (url, namespace)

    def run(self, election: str, on_lost: Callable[[Term], None], term: Term) -> None:
        """Have the dispatcher call `on_lost(term)`."""
        done = Signal(self._clock)
        with _lock:
            _pending[(*self._store, election)].add(done)

        def tell() -> None:
            try:
                on_lost(term)
            finally:
                done.set()
                self._forget(election, done)

        self._dispatcher.call(tell)

    def pending(self, election: str) -> bool:
        """Return whether an `on_lost` of the election is running or queued."""
        return bool(_pending.get((*self._store, election)))

    def wait(self, election: str, *, deadline: float, waiter: str) -> None:
        """Return once no `on_lost` of the election is running or queued, or at `deadline` with a warning."""
        if self._dispatcher.is_current_thread():
            return
        with _lock:
            pending = list(_pending.get((*self._store, election), ()))
        for done in pending:
            if not done.wait_until(deadline):
                self._forget(election, done)
                logger().warning(
                    "%s won %s although an on_lost callback of its last term has not returned; "
                    "what that callback protects may run twice in this process",
                    waiter,
                    election,
                )

    def _forget(self, election: str, done: Signal) -> None:
        key = (*self._store, election)
        with _lock:
            _pending[key].discard(done)
            if not _pending[key]:
                del _pending[key]
