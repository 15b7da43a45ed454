"""Hints from others and the deaths of processes, on one thread that sleeps until either comes."""

from __future__ import annotations

import itertools
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from drumbeat._errors import DrumbeatError, SessionLost
from drumbeat.local import _kernel, _sql
from drumbeat.local._call import AHEAD_CHANGED, CHANGED, Call, address

if TYPE_CHECKING:
    import sqlite3

    from drumbeat.hookspecs import Cancel, Notify

#: Seconds that the thread allows itself for one round; what fails is left to the core's slow polling.
_TIMEOUT: Final = 1.0
#: How often, and at what distance in seconds, a dead process's locks are looked at: the kernel may drop them late.
_LOOKS: Final = 20
_LOOK_PAUSE: Final = 0.001
#: Seconds between two look-ups of the neighbours in a group.
_RING_PAUSE: Final = 0.05
#: Hints taken at a time, so that a flood of them does not keep the thread from its other work.
_HINTS: Final = 64


@dataclass(frozen=True, slots=True)
class _Watcher:
    subject: str
    attempt: int
    notify: Notify


class Wakeups:
    """A session's socket for hints, the processes that it watches, and the thread that waits for both.

    A subject is "group PLACE", "leader PLACE" or "candidate PLACE". Processes are watched through pidfds: that of an
    election's holder, that of the candidate just ahead, and those of the next two members of a group.
    """

    def __init__(self, incarnation: str, call: Callable[[float], Call], *, pid: int) -> None:
        self._call = call
        self._pid = pid
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(0)
        self._address = address(incarnation)
        self._socket.bind(self._address)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        self._numbers = itertools.count()
        self._watchers: dict[int, _Watcher] = {}
        self._registering = threading.Lock()
        self._stopped = False
        #: Subjects that have watchers, or had and are not tidied away yet; of them, those whose processes must be
        #: looked up again; the processes watched for each; the descriptors by pid.
        self._subjects: set[str] = set()
        self._due: set[str] = set()
        self._not_before: dict[str, float] = {}
        self._ahead: dict[str, set[int]] = {}
        self._pidfds: dict[int, int] = {}
        #: Sessions whose process is gone while a forked child keeps their lock; only their deadline ends them.
        self._undead: set[int] = set()
        name = f"drumbeat-local-{incarnation}"
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def add(self, subject: str, attempt: int, notify: Notify, *, call: Call) -> Cancel:
        """Watch a subject until the returned function is called."""
        number = next(self._numbers)
        with self._registering:
            self._watchers[number] = _Watcher(subject, attempt, notify)
            self._subjects.add(subject)
            try:
                self._register(subject, call)
            except BaseException:
                del self._watchers[number]
                raise
        self._poke(subject)
        return lambda: self._remove(number)

    def stop(self) -> None:
        """Make the thread close everything and end."""
        self._stopped = True
        self._poke("")

    def close_in_child(self) -> None:
        """Close a forked child's copies; the thread exists in the parent only."""
        self._close()

    def _remove(self, number: int) -> None:
        watcher = self._watchers.pop(number, None)
        if watcher is not None:
            self._poke(watcher.subject)

    def _poke(self, subject: str) -> None:
        # If the queue is full, the thread is about to wake anyway.
        with suppress(OSError):
            self._socket.sendto(AHEAD_CHANGED + subject.encode(), self._address)

    def _run(self) -> None:
        try:
            while not self._stopped:
                pause = _RING_PAUSE * 1000 if self._arm_due() else None
                for descriptor, _ in self._poll.poll(pause):
                    if descriptor == self._socket.fileno():
                        self._hear()
                    else:
                        self._process_ended(descriptor)
        finally:
            self._close()

    def _hear(self) -> None:
        changed = set()
        with suppress(BlockingIOError):
            for _ in range(_HINTS):
                hint = self._socket.recv(1024)
                subject = hint[1:].decode(errors="replace")
                if hint[:1] == CHANGED:
                    changed.add(subject)
                # Anybody on this host can send here, so only what is known counts.
                self._due |= self._subjects & {subject}
        self._notify(changed)

    def _notify(self, subjects: Iterable[str]) -> None:
        for watcher in list(self._watchers.values()):
            if watcher.subject in subjects:
                watcher.notify()

    def _arm_due(self) -> bool:
        """Arm what is due; return whether something has to wait, so that a storm of joins is few look-ups."""
        waits = False
        for subject in list(self._due):
            now = time.monotonic()
            if now < self._not_before.get(subject, now):
                waits = True
                continue
            if subject.startswith("group "):
                self._not_before[subject] = now + _RING_PAUSE
            # What fails stays due until something else wakes the thread.
            with suppress(DrumbeatError):
                self._arm(subject)
                self._due.discard(subject)
        return waits

    def _arm(self, subject: str) -> None:
        """Watch the processes whose death matters to a subject now; bury those that died unwatched."""
        watchers = [watcher for watcher in list(self._watchers.values()) if watcher.subject == subject]
        if not watchers:
            self._ahead.pop(subject, None)
            self._prune()
            self._unregister(subject)
            return
        call = self._call(_TIMEOUT)
        while True:
            peers = self._peers(subject, watchers, call)
            self._ahead[subject] = {peer["pid"] for peer in peers if self._watch_process(peer["pid"])}
            self._prune()
            # Looked at after the pidfd was opened: whoever has the lock now had this pid then.
            dead = [peer for peer in peers if call.dead(peer)]
            if not dead:
                return
            call.reap(dead)
            call.check_time()

    def _peers(self, subject: str, watchers: list[_Watcher], call: Call) -> list[sqlite3.Row]:
        kind, _, place = subject.partition(" ")
        found: list[sqlite3.Row] = []
        if kind == "group":
            found = call.rows(_sql.NEIGHBOURS, place=place)
        elif kind == "leader":
            found = call.rows(_sql.LEADER, place=place)
        elif kind == "candidate":
            found = [row for watcher in watchers for row in call.rows(_sql.AHEAD, place=place, attempt=watcher.attempt)]
        here = call.facts["pid_space"]
        return [
            peer
            for peer in found
            if peer["pid_space"] == here and peer["pid"] != self._pid and peer["slot"] not in self._undead
        ]

    def _watch_process(self, pid: int) -> bool:
        if pid in self._pidfds:
            return True
        descriptor = _kernel.open_pidfd(pid)
        if descriptor is None:
            return False
        self._pidfds[pid] = descriptor
        self._poll.register(descriptor, select.POLLIN)
        return True

    def _prune(self) -> None:
        wanted = set().union(*self._ahead.values())
        for pid in self._pidfds.keys() - wanted:
            self._forget(pid)

    def _forget(self, pid: int) -> None:
        descriptor = self._pidfds.pop(pid)
        self._poll.unregister(descriptor)
        os.close(descriptor)

    def _process_ended(self, descriptor: int) -> None:
        pid = next(pid for pid, known in self._pidfds.items() if known == descriptor)
        self._forget(pid)
        subjects = {subject for subject, pids in self._ahead.items() if pid in pids}
        self._due |= subjects
        try:
            self._bury_process(pid)
        except DrumbeatError:
            # Whoever waits looks for itself.
            self._notify(subjects)

    def _bury_process(self, pid: int) -> None:
        call = self._call(_TIMEOUT)
        peers = call.rows(_sql.OF_PROCESS, other=pid)
        for _ in range(_LOOKS):
            if all(call.unlocked(peer) for peer in peers):
                break
            time.sleep(_LOOK_PAUSE)
        call.reap(peers)
        self._undead |= {peer["slot"] for peer in peers if not call.dead(peer)}

    def _register(self, subject: str, call: Call) -> None:
        """Have others hint when the subject changes; candidates are found by their candidacy."""
        registered = not subject.startswith("candidate ") and call.write(_sql.WATCH, subject=subject)
        if not registered and call.first(_sql.IS_ALIVE) is None:
            raise SessionLost("the session is over, so nothing wakes it any more")

    def _unregister(self, subject: str) -> None:
        with self._registering:
            if any(watcher.subject == subject for watcher in list(self._watchers.values())):
                return
            if not subject.startswith("candidate "):
                self._call(_TIMEOUT).write(_sql.UNWATCH, subject=subject)
            self._subjects.discard(subject)
            self._not_before.pop(subject, None)

    def _close(self) -> None:
        self._socket.close()
        while self._pidfds:
            os.close(self._pidfds.popitem()[1])
