"""One use of the store: its statements within the time allowed, who is dead, and who is woken."""

from __future__ import annotations

import errno
import hashlib
import json
import socket
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from drumbeat._errors import DrumbeatError, Unavailable
from drumbeat.local import _sql

if TYPE_CHECKING:
    from drumbeat._clock import Clock
    from drumbeat.local._store import Link, Store, Value

#: The first byte of a hint: the subject may have changed; or only who is ahead of the candidate has.
CHANGED = b"!"
AHEAD_CHANGED = b"?"


def address(incarnation: str) -> str:
    """Return the name of a session's socket: abstract, so that it ends with the process and leaves no file."""
    return f"\0drumbeat-local-{hashlib.sha256(incarnation.encode()).hexdigest()[:32]}"


class Call:
    """What one hook, or one round of the wake-up thread, does with the store in the time that it has."""

    def __init__(self, store: Store, link: Link, facts: Mapping[str, Value], *, clock: Clock, timeout: float) -> None:
        self.store = store
        self.facts = facts
        self.clock = clock
        self._link = link
        self._until = time.monotonic() + timeout
        self._wrote = False

    def rows(self, sql: str, **parameters: Value) -> list[sqlite3.Row]:
        """Return what a SELECT finds."""
        try:
            return self._link.rows(sql, self._all(parameters), until=self._until)
        except Unavailable as error:
            raise self._known(error) from error.__cause__

    def first(self, sql: str, **parameters: Value) -> sqlite3.Row | None:
        """Return the first row that a SELECT finds, or None."""
        found = self.rows(sql, **parameters)
        return found[0] if found else None

    def write(self, sql: str, *, synced: bool = False, **parameters: Value) -> bool:
        """Run one statement that commits by itself; return whether it changed anything."""
        try:
            changed = self._link.write(sql, self._all(parameters), until=self._until, synced=synced)
        except Unavailable as error:
            raise self._known(error) from error.__cause__
        self._wrote |= changed > 0
        return changed > 0

    def check_time(self) -> None:
        """Raise Unavailable if the time allowed is over: asked by what repeats itself."""
        if time.monotonic() >= self._until:
            text = f"{self.store.path}: others changed the same things for all of the time allowed"
            raise self._known(Unavailable(text, outcome="not_applied"))

    def unlocked(self, peer: sqlite3.Row) -> bool:
        """Return whether a session's kernel lock is free, which stays so: its process is gone or let go of it."""
        probe = self.store.probe
        return bool(peer["lock_file"] == probe.identity) and probe.is_free(peer["slot"])

    def dead(self, peer: sqlite3.Row) -> bool:
        """Return whether a session has ended, for whatever reason."""
        if peer["boot"] != self.facts["boot"] or peer["deadline"] <= self.clock.now():
            return True
        return self.unlocked(peer)

    def reap(self, peers: Iterable[sqlite3.Row]) -> None:
        """Bury those of the sessions that are dead by the facts."""
        listed = list(peers)
        self.bury([peer["slot"] for peer in listed], gone=[peer["slot"] for peer in listed if self.unlocked(peer)])

    def bury(self, slots: Sequence[int], *, gone: Sequence[int]) -> bool:
        """End sessions with all that they held, and wake who waits for it; return whether any was there.

        Those in `gone` are known to be over; the others end only if their deadline has passed or the host restarted.
        """
        listed = json.dumps(slots)
        estate = self.rows(_sql.ESTATE, slots=listed)
        if not self.write(_sql.BURY, slots=listed, unlocked=json.dumps(gone)):
            return False
        self.wake(
            groups={row["place"] for row in estate if row["kind"] == "group"},
            elections={row["place"] for row in estate if row["kind"] == "election"},
        )
        return True

    def wake(self, *, groups: Iterable[str] = (), elections: Iterable[str] = ()) -> None:
        """Hint to the watchers of what has changed, and to the next candidates; never fails, never waits."""
        elections = list(elections)
        subjects = [f"group {place}" for place in groups] + [f"leader {place}" for place in elections]
        # What was written stands, whoever hears of it: the others poll.
        with suppress(DrumbeatError, OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.settimeout(0)
            for row in self.rows(_sql.WATCHERS, subjects=json.dumps(subjects)):
                _send(sender, row["incarnation"], CHANGED + row["subject"].encode())
            for place in elections:
                self._wake_next(sender, place)

    def _wake_next(self, sender: socket.socket, place: str) -> None:
        for row in self.rows(_sql.NEXT_CANDIDATES, place=place):
            hint = CHANGED if row["vacant"] else AHEAD_CHANGED
            if _send(sender, row["incarnation"], hint + f"candidate {place}".encode()):
                return

    def _all(self, parameters: Mapping[str, Value]) -> dict[str, Value]:
        return {**self.facts, "now": self.clock.now(), **parameters}

    def _known(self, error: Unavailable) -> Unavailable:
        # An earlier statement of the same call has been applied.
        return Unavailable(error.args[0]) if self._wrote else error


def _send(sender: socket.socket, incarnation: str, hint: bytes) -> bool:
    """Return whether somebody listens there, who may have more hints waiting than fit."""
    try:
        sender.sendto(hint, address(incarnation))
    except OSError as error:
        return error.errno in {errno.EAGAIN, errno.ENOBUFS}
    return True
