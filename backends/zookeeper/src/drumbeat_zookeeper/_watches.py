"""Watches: one at the server for each path, however many there are here, set again after each event."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from drumbeat_zookeeper._wire import Refusal, children, exists

if TYPE_CHECKING:
    from drumbeat.hookspecs import Candidacy, Notify
    from drumbeat_zookeeper._link import Link


@dataclass(eq=False, slots=True)
class Watch:
    """One wish to be told, of what happens at a path."""

    path: str
    notify: Notify
    #: Also tell of the path's children.
    folder: bool = False
    #: The attempt that waits for the node at the path to go; it need not be told of anything else.
    waiter: Candidacy | None = None


class Watches:
    """All watches of a session. The server forgets one when it fires, and all when the connection breaks."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._lock = threading.Lock()
        self._watches: set[Watch] = set()
        link.on_connected = self._arm_all

    def add(self, watch: Watch, until: float) -> None:
        """Begin to watch; once this has returned, no change goes untold."""
        with self._lock:
            self._watches.add(watch)
        try:
            answers = self._link.call(*self._requests(watch.path), until=until)
        except BaseException:
            self.remove(watch)
            raise
        self._tell(watch.path, answers, waiters_only=True)

    def move(self, waiter: Candidacy, path: str) -> None:
        """Have an attempt that is watched for wait for another node."""
        with self._lock:
            moved = [watch for watch in self._watches if watch.waiter == waiter and watch.path != path]
            for watch in moved:
                watch.path = path
        if moved:
            self._arm(path)

    def remove(self, watch: Watch) -> None:
        """End one watch; what the server still has of it goes unheard."""
        with self._lock:
            self._watches.discard(watch)

    def clear(self) -> None:
        """End all watches."""
        with self._lock:
            self._watches.clear()

    def _at(self, path: str) -> list[Watch]:
        with self._lock:
            return [watch for watch in self._watches if watch.path == path]

    def _arm_all(self) -> None:
        with self._lock:
            paths = {watch.path for watch in self._watches}
        for path in paths:
            self._arm(path)

    def _arm(self, path: str) -> None:
        """Watch a path again, and tell of it only then: whoever reads after the hint misses nothing."""
        self._link.post(*self._requests(path), then=lambda answers: self._tell(path, answers, waiters_only=False))

    def _requests(self, path: str) -> list[object]:
        wanted = [exists(path, watcher=self._fired)]
        if any(watch.folder for watch in self._at(path)):
            wanted.append(children(path, watcher=self._fired))
        return wanted

    def _tell(self, path: str, answers: list[object], *, waiters_only: bool) -> None:
        gone = answers[0] in (None, Refusal.MISSING)
        for watch in self._at(path):
            if gone if watch.waiter is not None else not waiters_only:
                watch.notify()

    def _fired(self, event: object) -> None:
        """Take an event, on kazoo's thread for watches; one without a path says that the connection broke."""
        path = getattr(event, "path", None)
        if path is not None and self._at(path):
            self._arm(path)
