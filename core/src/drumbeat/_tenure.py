"""One holding of a shard, and the order of the callbacks that belong to it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, final

from drumbeat._clock import Signal
from drumbeat._dispatcher import logger
from drumbeat._election import Attempt
from drumbeat._errors import SessionLost
from drumbeat._values import encode_value
from drumbeat.hookspecs import Won

if TYPE_CHECKING:
    from drumbeat._incarnation import Incarnation
    from drumbeat._keeper import Keeper
    from drumbeat._term import Term
    from drumbeat.hookspecs import CandidacySubject, Waiting

#: A callback that is given a shard's number and its term.
OnShard = Callable[[int, "Term"], None]

#: What a shard's holder proclaims: nothing.
_NO_VALUE: Final = encode_value("value", None, limit=1 << 10)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardCallbacks:
    """What the user wants to be called for."""

    on_gained: OnShard | None
    drain: OnShard | None
    on_lost: OnShard | None


class _Stage(Enum):
    NEW = auto()
    #: `on_gained` was called, or there is none: the user may be at work on the shard.
    TOLD = auto()
    #: The shard goes before the user heard of it, so no callback is called at all.
    SKIPPED = auto()


@final
class Tenure:
    """One holding of a shard, from the attempt to win it to its release.

    `on_gained` and `on_lost` share the dispatcher's thread, in order. A drain may take long, so each has a
    short-lived thread of its own: neither other shards, nor other callbacks, nor heartbeats wait for it.
    """

    def __init__(
        self,
        keeper: Keeper,
        incarnation: Incarnation,
        election: str,
        *,
        number: int,
        callbacks: ShardCallbacks,
        on_change: Callable[[int], None],
    ) -> None:
        self.number = number
        self.term: Term | None = None
        #: The owner in whose place the shard was taken, and when to offer it to that one.
        self.adopted_from: str | None = None
        self.offer_at: float | None = None
        #: Until when the drain may take, once it was asked for; `drained` once nothing is left to be drained.
        self.drain_until: float | None = None
        self.drained = False
        self._keeper = keeper
        self._election = election
        self._callbacks = callbacks
        self._on_change = on_change
        self._lock = threading.Lock()
        self._stage = _Stage.NEW if callbacks.on_gained else _Stage.TOLD
        self._told = Signal(keeper.clock)
        self._drainer: threading.Thread | None = None
        self._attempt = Attempt(
            keeper,
            incarnation,
            election,
            name=election.removeprefix("shard/"),
            value=_NO_VALUE,
            on_lost=self._lost,
        )

    @property
    def subject(self) -> CandidacySubject:
        """What to watch while the attempt waits."""
        return self._attempt.subject

    def ask(self) -> Waiting | None:
        """Try once to win; return None if the shard is ours now, and have the user told."""
        answer = self._attempt.ask()
        if not isinstance(answer, Won):
            return answer
        self.term = self._attempt.take(answer)
        if self.term is None:
            raise SessionLost(f"the session was lost while {self._election} was won")
        if self._callbacks.on_gained is not None:
            self._keeper.dispatcher.call(self._tell_gained)
        else:
            self._told.set()
        return None

    def abandon(self) -> None:
        """Withdraw an attempt that has not won."""
        self._attempt.abandon()

    def drain(self, until: float) -> None:
        """Have the user stop the work; nothing is left to drain if the user was not told of it, or wants no call."""
        self.drain_until = until
        with self._lock:
            told = self._stage is _Stage.TOLD
            self._stage = _Stage.TOLD if told else _Stage.SKIPPED
        if not told or self._callbacks.drain is None:
            self.drained = True
            return
        name = f"drumbeat-drain-{self.number}-{self._keeper.settings.member_id}"
        self._drainer = threading.Thread(target=self._run_drain, name=name, daemon=True)
        self._drainer.start()

    def release(self) -> None:
        """Give the shard up; raise Unavailable if the server did not answer: the next heartbeat frees it then."""
        if self.term is not None:
            self.term.resign()

    def let_go(self) -> None:
        """Give the shard up here, and leave it to the next heartbeat to free it at the server."""
        if self.term is not None:
            self.term._let_go()  # noqa: SLF001 - what resign does before it asks the server

    def is_being_drained(self) -> bool:
        """Return whether the drain callback runs, or waits for `on_gained` to return."""
        return self._drainer is not None and not self.drained

    def is_drainer(self) -> bool:
        """Return whether the caller is the drain callback."""
        return threading.current_thread() is self._drainer

    def warn(self, reason: str) -> None:
        """Tell observers and the log."""
        logger().warning("%s: %s", self._election, reason)
        token = None if self.term is None else self.term.token
        self._keeper.emit("warning", subject=self._election, token=token, reason=reason)

    def _tell_gained(self) -> None:
        term, on_gained = self.term, self._callbacks.on_gained
        if term is None or on_gained is None or not term.held:
            return
        with self._lock:
            if self._stage is _Stage.SKIPPED:
                return
            self._stage = _Stage.TOLD
        try:
            on_gained(self.number, term)
        finally:
            self._told.set()

    def _run_drain(self) -> None:
        self._told.wait()
        try:
            if self.term is not None and self._callbacks.drain is not None:
                self._callbacks.drain(self.number, self.term)
        except Exception as error:  # noqa: BLE001 - whatever a user's callback raises, the shard is released
            logger().exception("the drain callback of %s raised", self._election)
            self.warn(f"the drain callback raised {error!r}; the shard is released")
        finally:
            self.drained = True
            self._on_change(self.number)

    def _lost(self, term: Term) -> None:
        try:
            if self._callbacks.on_lost is not None and self._stage is _Stage.TOLD:
                self._callbacks.on_lost(self.number, term)
        finally:
            self._on_change(self.number)
