"""What sees how a session goes, from inside: an observer that records, and interceptors that count and delay."""

from __future__ import annotations

import threading
from collections.abc import Generator
from dataclasses import asdict
from typing import TYPE_CHECKING, Final, final

from drumbeat import Lock, Timeout
from drumbeat._clock import Signal
from drumbeat.history import History, Overlap, Record, TokenFault, find_overlaps, find_token_faults
from drumbeat.hookspecs import Waiting, hookimpl

if TYPE_CHECKING:
    from drumbeat import Election, Event
    from drumbeat._clock import Clock

__all__ = ["LONG", "AnswersLate", "Asked", "Recorder", "wins_at_once"]

#: Seconds of a TTL that nobody waits for: what happens, happens for another reason.
LONG: Final = 60.0


def wins_at_once(seat: Election | Lock) -> bool:
    """Try once to win a free seat, and give it up again; return whether it was won."""
    take = seat.acquire if isinstance(seat, Lock) else seat.campaign
    try:
        return take(timeout=0.0).resign()
    except Timeout:
        return False


@final
class Recorder:
    """An observer, for any number of sessions, that keeps their history; look when the sessions are closed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._records: list[Record] = []

    @hookimpl
    def on_event(self, event: Event) -> None:
        """Keep an event."""
        with self._lock:
            self._records.append(Record(**asdict(event)))

    @property
    def history(self) -> History:
        """All that was told so far, in the order of its times."""
        with self._lock:
            return History(tuple(sorted(self._records, key=lambda record: record.at)))

    def overlaps(self) -> list[Overlap]:
        """Return the terms of one seat that were held at the same time."""
        return find_overlaps(self.history)

    def token_faults(self) -> list[TokenFault]:
        """Return the terms whose tokens do not rise."""
        return find_token_faults(self.history)


@final
class Asked:
    """An interceptor that tells when a candidate has been told to wait: it is known to the server then."""

    def __init__(self) -> None:
        #: The attempts that were told to wait, whatever became of them.
        self.waiting: set[int] = set()

    @hookimpl(wrapper=True)
    def campaign(self, attempt: int) -> Generator[None, object, object]:
        """Look at an answer."""
        answer = yield
        if isinstance(answer, Waiting):
            self.waiting.add(attempt)
        return answer

    @property
    def waits(self) -> bool:
        """Whether a candidate of the session was told to wait."""
        return bool(self.waiting)


@final
class AnswersLate:
    """An interceptor whose heartbeats reach the server at once, and whose answers are late by `seconds`."""

    def __init__(self, clock: Clock) -> None:
        self.seconds = 0.0
        #: When the newest heartbeat was sent at the latest.
        self.sent = 0.0
        #: How many the server has answered.
        self.answered = 0
        self._clock = clock

    @hookimpl(wrapper=True)
    def heartbeat(self) -> Generator[None, object, object]:
        """Hold an answer back."""
        self.sent = self._clock.now()
        answer = yield
        seconds = self.seconds
        self.answered += 1
        Signal(self._clock).wait(seconds)
        return answer
