"""One holding of a seat."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, final

from drumbeat._clock import Signal, check_seconds
from drumbeat._errors import TermLost, Unavailable
from drumbeat._values import encode_value

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from drumbeat._incarnation import Incarnation
    from drumbeat._keeper import Keeper
    from drumbeat.hookspecs import Seat


@final
class Term:
    """One holding of an election's seat or of a lock; immutable, and never revived once lost.

    As a context manager it resigns at the end of the block. `held` is computed from the clock when it is read;
    what it cannot cover, a pause between the check and the write, `token` does: send it with each write and let
    the resource refuse one that is lower than the highest it has seen.
    """

    def __init__(
        self,
        keeper: Keeper,
        incarnation: Incarnation,
        seat: Seat,
        *,
        name: str,
        on_lost: Callable[[Term], None] | None,
    ) -> None:
        self._keeper = keeper
        self._incarnation = incarnation
        self._seat = seat
        self._on_lost = on_lost
        self._over: str | None = None
        self._name = name
        self._lost = Signal(keeper.clock)

    @property
    def name(self) -> str:
        """The name of the election or lock."""
        return self._name

    @property
    def token(self) -> int:
        """The fencing token: a 63-bit integer, greater than that of every earlier term of this seat."""
        return self._seat.token

    @property
    def lost(self) -> Signal:
        """A signal that goes up when the term is over, lost or resigned: `wait(timeout)` and `is_set()`."""
        return self._lost

    @property
    def held(self) -> bool:
        """Whether the term certainly still holds, at the moment of reading.

        After a jump of the wall clock against the session's clock (a restored snapshot, for example) this first
        verifies the session with a heartbeat, which takes at most the request timeout.
        """
        if self._incarnation.alive() and self._incarnation.clock_jumped():
            return self._keeper.verify(self._incarnation) and self._over is None
        return self._over is None and self._incarnation.alive()

    @property
    def deadline(self) -> float:
        """Until when the term is certain, on the session's clock (CLOCK_BOOTTIME); each heartbeat moves it.

        A plain number that is read without asking anybody, for what must stop in time whatever else hangs.
        """
        return self._incarnation.deadline

    @property
    def remaining(self) -> float:
        """Seconds for which the term holds if no further heartbeat succeeds; 0.0 once it is over."""
        if not self.held:
            return 0.0
        return max(0.0, self._incarnation.deadline - self._keeper.clock.now())

    def ensure(self, seconds: float = 0.0) -> None:
        """Return if the term holds for at least `seconds` more; raise TermLost otherwise.

        A TermLost for want of time leaves a term that still holds as it is.
        """
        wanted = check_seconds("seconds", seconds)
        left = self.remaining
        if left <= 0.0 and self._over is None and self._incarnation.alive():
            raise TermLost(
                f"the term {self.token} of {self.name!r} cannot be verified: wall time has jumped, and the server did "
                "not answer. It may still hold; stop the work that it protects until `held` is True again"
            )
        if left <= 0.0:
            raise TermLost(
                f"the term {self.token} of {self.name!r} is over ({self._reason()}); another process may hold it "
                "now. Stop the work that it protects"
            )
        if left < wanted:
            raise TermLost(
                f"the term {self.token} of {self.name!r} is certain for {left:.3f} s only, {seconds:g} s were asked "
                "for; wait for the next heartbeat, or do a smaller piece of work"
            )

    def resign(self) -> bool:
        """Give the seat up and wake the next candidate; return whether it was still held.

        `held` is False before anything is sent. Raises Unavailable if the server did not answer: the seat is then
        freed by the next heartbeat, or at the end of the lease.
        """
        if not self._let_go(resigns=True):
            return False
        try:
            return self._keeper.resign(self._incarnation, self._seat)
        finally:
            self._incarnation.resigned(self._seat)

    def proclaim(self, value: object) -> None:
        """Replace the value that `Election.leader()` gives with the term.

        Raises TermLost if the term is over, Unavailable if the server did not answer in time.
        """
        self.ensure()
        stored = encode_value("value", value, limit=self._keeper.profile.limits.value_bytes)
        if not self._keeper.proclaim(self._incarnation, self._seat, stored):
            self._keeper.revoke(self._incarnation, self._seat, "the seat is held by another term")
            self.ensure()

    def __enter__(self) -> Term:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with suppress(Unavailable):
            self.resign()

    def __repr__(self) -> str:
        state = "held" if self.held else f"over: {self._reason()}"
        return f"<Term {self.token} of {self.name!r}, {state}>"

    def _reason(self) -> str:
        return self._over or self._incarnation.over or "its deadline passed"

    def _let_go(self, *, resigns: bool = False) -> bool:
        """Stop holding the seat here alone: the server frees it at the next heartbeat, which no longer lists it."""
        alive = self._incarnation.alive()
        if not alive or self._incarnation.remove_term(self._seat, "resigned", resigns=resigns) is None:
            return False
        self._finish("resigned")
        return True

    def _finish(self, reason: str) -> None:
        self._over = reason
        self._lost.set()
        self._keeper.emit(
            "resigned",
            subject=self._seat.election,
            token=self.token,
            reason=reason,
            incarnation=self._incarnation,
        )

    def _revoke(self, reason: str) -> None:
        """End a term that was lost; its seat has been taken out of the incarnation by the caller."""
        self._over = reason
        self._lost.set()
        self._keeper.emit(
            "term_lost",
            subject=self._seat.election,
            token=self.token,
            reason=reason,
            at=min(self._keeper.clock.now(), self._incarnation.deadline),
            incarnation=self._incarnation,
        )
        if self._on_lost is not None:
            self._keeper.lost_callbacks.run(self._seat.election, self._on_lost, self)
