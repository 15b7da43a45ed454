"""Watches: one stream for all of a session, read by one thread, opened again whenever it ends.

The stream is never trusted alone. Whatever ends a watch (a broken connection, a compaction, a server that lost its
data), it is placed anew at what the store holds then, and its watcher gets a hint, so that the core reads again.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from drumbeat import AuthenticationError, DrumbeatError, Unavailable
from drumbeat_etcd._operations import countdown

if TYPE_CHECKING:
    from collections.abc import Callable

    from drumbeat.hookspecs import Cancel, Notify
    from drumbeat_etcd._client import Client, WatchStream
    from drumbeat_etcd._operations import Place, Told

#: Seconds between two attempts to open the stream, and for one request of its thread.
PAUSE: Final = 0.2
TIMEOUT: Final = 2.0


@dataclass(eq=False, slots=True)
class Watch:
    """One watcher, and where in the store it looks at present."""

    #: Where to look, read from the store, and whether it is time for a hint.
    locate: Callable[[float], tuple[Place, bool]]
    notify: Notify
    #: Whether each event means that it must look somewhere else.
    moves: bool = False
    #: What the server calls it, once it stands.
    watch_id: int | None = None
    standing: threading.Event = field(default_factory=threading.Event)
    #: Why it cannot stand.
    refusal: str | None = None


class Watches:
    """All watches of a session; at most one thread."""

    def __init__(self, client: Client, *, name: str) -> None:
        self._client = client
        self._name = name
        self._lock = threading.Lock()
        self._watches: list[Watch] = []
        self._stream: WatchStream | None = None
        #: Asked for on the stream and not answered yet.
        self._asked: deque[Watch] = deque()
        self._told: dict[int, Watch] = {}
        self._thread: threading.Thread | None = None
        self._over = threading.Event()

    def add(self, watch: Watch, timeout: float) -> Cancel:
        """Start a watch, and return once the server has confirmed it."""
        with self._lock:
            self._watches.append(watch)
            stream = self._stream
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
        left = countdown(timeout)
        try:
            if stream is not None:
                self._place(stream, watch, left())
            self._await(watch, left())
        except BaseException:
            self._remove(watch)
            raise
        return lambda: self._remove(watch)

    def stop(self) -> None:
        """End all watches; nobody is waited for, and no hint comes any more."""
        with self._lock:
            self._over.set()
            watches = list(self._watches)
            self._watches.clear()
            stream, self._stream = self._stream, None
        for watch in watches:
            # Who still waits for the server to confirm it need not wait for the end of its time.
            watch.standing.set()
        if stream is not None:
            stream.end()

    def _await(self, watch: Watch, timeout: float) -> None:
        stands = watch.standing.wait(0.0 if self._over.is_set() else timeout)
        if self._over.is_set():
            raise Unavailable(f"a watch on etcd at {self._client.address} ended with its session")
        if not stands:
            raise Unavailable(f"etcd at {self._client.address} did not confirm a watch in time")
        if watch.refusal is not None:
            raise AuthenticationError(f"etcd at {self._client.address} refuses a watch: {watch.refusal}")

    def _remove(self, watch: Watch) -> None:
        with self._lock:
            if watch in self._watches:
                self._watches.remove(watch)
            if self._stream is not None and watch.watch_id is not None:
                self._stream.cancel(watch.watch_id)
                watch.watch_id = None

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                self._read()
            except DrumbeatError:
                self._over.wait(PAUSE)

    def _read(self) -> None:
        stream = self._client.open_watches(TIMEOUT)
        try:
            with self._lock:
                if self._over.is_set():
                    return
                self._asked.clear()
                self._told.clear()
                self._stream = stream
                watches = list(self._watches)
            for watch in watches:
                self._place(stream, watch, TIMEOUT)
            for told in stream:
                self._take(stream, told)
        finally:
            with self._lock:
                self._stream = None
            stream.end()

    def _place(self, stream: WatchStream, watch: Watch, timeout: float) -> None:
        place, is_due = watch.locate(timeout)
        with self._lock:
            # A stream that has ended since then left the watch to its successor.
            if self._stream is stream:
                self._asked.append(watch)
                stream.create(place)
        if is_due:
            self._hint(watch)

    def _take(self, stream: WatchStream, told: Told) -> None:
        if told.created:
            self._stand(stream, self._asked.popleft(), told)
            return
        watch = self._told.get(told.watch_id)
        if watch is None or watch not in self._watches:
            return
        if told.ended:
            del self._told[told.watch_id]
            self._place(stream, watch, TIMEOUT)
        elif watch.moves:
            del self._told[told.watch_id]
            stream.cancel(told.watch_id)
            self._place(stream, watch, TIMEOUT)
        if not watch.moves:
            self._hint(watch)

    def _stand(self, stream: WatchStream, watch: Watch, told: Told) -> None:
        if told.ended:
            watch.refusal = told.reason
        else:
            self._told[told.watch_id] = watch
            with self._lock:
                watch.watch_id = told.watch_id
                if watch not in self._watches:
                    stream.cancel(told.watch_id)
        is_new = not watch.standing.is_set()
        watch.standing.set()
        if not is_new:
            self._hint(watch)

    def _hint(self, watch: Watch) -> None:
        if watch in self._watches:
            watch.notify()
