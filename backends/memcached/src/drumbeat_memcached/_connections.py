"""A few connections that wait for work, so that no call waits for another."""

from __future__ import annotations

import time
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

from drumbeat import AuthenticationError, BackendError, ConfigurationError, Unavailable
from drumbeat_memcached._connection import Connection
from drumbeat_memcached._translate import translated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from drumbeat_memcached._target import Target

T = TypeVar("T")

#: How many connections are kept when they have nothing to do.
KEPT: Final = 4


def examine(target: Target, request: bytes, read: Callable[[Connection], T], timeout: float) -> T:
    """Send one request that writes nothing, on a connection for it alone; return what `read` makes of the answer."""
    connection = Connection.dial(target, time.monotonic() + timeout, learns_start=False)
    try:
        with translated(target, outcome="not_applied"):
            connection.send(request)
            return read(connection)
    finally:
        connection.close()


class Connections:
    """Lends each call a connection of its own.

    No lock is taken, since a list's own operations are atomic: a forked child must be able to let go of everything.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._idle: list[Connection] = []
        self._generation = 0
        weakref.finalize(self, _close_all, self._idle)

    def ask(self, request: bytes, read: Callable[[Connection], T], timeout: float) -> T:
        """Send one request and return what `read` makes of the answer, as `lend` does."""
        with self.lend(timeout) as connection:
            connection.send(request)
            return read(connection)

    @contextmanager
    def lend(self, timeout: float) -> Iterator[Connection]:
        """Give a connection for one request of `timeout` seconds; what fails closes it, as an error of Drumbeat."""
        deadline = time.monotonic() + timeout
        generation = self._generation
        connection = self._take_idle() or self._dial(deadline)
        connection.deadline = deadline
        try:
            with translated(self._target, outcome="unknown"):
                yield connection
        except BaseException:
            connection.close()
            raise
        if generation == self._generation and len(self._idle) < KEPT:
            self._idle.append(connection)
        else:
            connection.close()

    def drop(self) -> None:
        """Close what waits for work at once, and what works when it is done; nothing is sent."""
        self._generation += 1
        _close_all(self._idle)

    def _dial(self, deadline: float) -> Connection:
        """Connect; what is found in the server's place now may be gone again soon, so that is no lasting error."""
        try:
            return Connection.dial(self._target, deadline)
        except (AuthenticationError, Unavailable):
            raise
        except (BackendError, ConfigurationError) as error:
            raise Unavailable(str(error), outcome="not_applied") from error

    def _take_idle(self) -> Connection | None:
        for _ in range(KEPT):
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            if connection.is_idle():
                return connection
            # The server was restarted, or closed what was idle for too long.
            connection.close()
        return None


def _close_all(connections: list[Connection]) -> None:
    while True:
        try:
            connections.pop().close()
        except IndexError:
            return
