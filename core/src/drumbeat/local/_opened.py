"""One incarnation as its process holds it: the lock on its slot, its share of the store, its wake-up thread."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from drumbeat._errors import ConfigurationError, Conflict, SessionLost
from drumbeat.hookspecs import Lease, SessionRequest
from drumbeat.local import _kernel, _sql
from drumbeat.local._call import Call
from drumbeat.local._store import Store
from drumbeat.local._translate import translated
from drumbeat.local._wakeup import Wakeups

if TYPE_CHECKING:
    from drumbeat.hookspecs import BackendConfig
    from drumbeat.local._store import Value

#: Longest TTL that a new namespace allows, in seconds; recorded in its birth record.
LONGEST_TTL: Final = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Birth:
    """A namespace's birth record; `epoch` is when the first one of the file was written, in µs of wall time."""

    epoch: int
    longest_ttl: float
    on_empty_store: str
    boot: str
    quiet_until: float


class Opened:
    """The lock is taken before the session can be seen, so one whose lock is free is over for ever."""

    def __init__(self, request: SessionRequest, config: BackendConfig, *, path: Path, timeout: float) -> None:
        self.lease = Lease(request.incarnation, request.member_id, request.ttl)
        self.pid = os.getpid()
        self._clock = config.clock
        self._starting = threading.Lock()
        self._dropped = False
        self._wakeups: Wakeups | None = None
        self.store = Store.share(path, until=time.monotonic() + timeout)
        try:
            with translated(path, opening=True):
                self._facts: dict[str, Value] = {
                    "incarnation": request.incarnation,
                    "namespace": config.namespace,
                    "pid": self.pid,
                    "pid_space": _kernel.pid_space(),
                    "boot": _kernel.boot_id(),
                }
                self._lock = self.store.open_locks()
        except BaseException:
            self.store.release()
            raise
        # If another lock file has just taken the place of the store's, require_current says so below.
        self._facts["lock_file"] = self._lock.identity
        try:
            self._birth = _birth(config, self.call(timeout))
            self._facts["slot"] = self._take_slot()
        except BaseException:
            self.drop()
            raise

    def call(self, timeout: float, *, beats: bool = False) -> Call:
        """Return a use of the store; heartbeats have a connection of their own."""
        link = self.store.beats if beats else self.store.work
        return Call(self.store, link, self._facts, clock=self._clock, timeout=timeout)

    def enter(self, request: SessionRequest, call: Call) -> None:
        """Make the session visible, in the place of a dead one; raise Conflict if a live one has the member id."""
        if request.ttl > self._birth.longest_ttl:
            raise ConfigurationError(
                f"ttl {request.ttl:g} s is more than namespace {self._facts['namespace']!r} in {self.store.path} "
                f"allows ({self._birth.longest_ttl:g} s)"
            )
        call.write(_sql.SWEEP)
        while not call.write(_sql.OPEN, member_id=request.member_id, ttl=request.ttl):
            other = call.first(_sql.SAME_MEMBER, member_id=request.member_id)
            if other is None:
                pass
            elif other["slot"] == self._facts["slot"] and call.write(_sql.RENEW):
                return
            elif other["incarnation"] == request.incarnation or request.replace:
                call.bury([other["slot"]], gone=[other["slot"]])
            elif call.dead(other):
                call.reap([other])
            else:
                raise Conflict(
                    request.member_id,
                    incarnation=other["incarnation"],
                    retry_after=max(0.0, other["deadline"] - self._clock.now()),
                )
            call.check_time()

    def quiet_for(self, call: Call) -> float | None:
        """Return the seconds for which nobody may win yet, None if anybody may.

        A file that is new because the old one was deleted knows nothing of what is held by those who still have the
        old one open; their kernel locks tell whether there are any.
        """
        birth = self._birth
        left = birth.quiet_until - self._clock.now()
        if left <= 0 or birth.boot != self._facts["boot"]:
            return None
        if birth.on_empty_store == "wait":
            return left
        # Read again, because a namespace born at the same time may have been written down since.
        epoch = call.rows(_sql.BIRTH)[0]["epoch"]
        return None if self.store.probe.is_free(1, epoch - 1) else left

    def wakeups(self) -> Wakeups:
        """Return the wake-up thread, starting it the first time."""
        with self._starting, translated(self.store.path):
            if self._dropped:
                raise SessionLost("the session was dropped in this process")
            if self._wakeups is None:
                self._wakeups = Wakeups(self.lease.incarnation, self.call, pid=self.pid)
            return self._wakeups

    def drop(self) -> None:
        """Let go of everything, the kernel lock first, so that the session is dead for all others at once."""
        self._lock.close()
        with self._starting:
            self._dropped = True
            if self._wakeups is not None:
                self._wakeups.stop()
        self.store.release()

    def drop_in_child(self) -> None:
        """Close this forked child's copies of the descriptors; the parent's locks and socket stay as they are."""
        self._lock.close()
        if self._wakeups is not None:
            self._wakeups.close_in_child()

    def _take_slot(self) -> int:
        slot = max(int(self._clock.wall() * 1e6), self._birth.epoch)
        while not self._lock.take(slot):
            slot += 1
        # A file that replaces this one from now on is born with the lock in sight; see quiet_for.
        self.store.require_current()
        return slot


def _birth(config: BackendConfig, call: Call) -> Birth:
    call.write(
        _sql.BEAR,
        epoch=int(config.clock.wall() * 1e6),
        longest_ttl=LONGEST_TTL,
        on_empty_store=config.on_empty_store or "look",
        quiet=0.0 if config.on_empty_store == "trust" else LONGEST_TTL,
    )
    row = call.rows(_sql.BIRTH)[0]
    return Birth(**{name: row[name] for name in row.keys()})  # noqa: SIM118 - a Row iterates over its values
