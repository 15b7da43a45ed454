"""What keeps a session alive, and what ends it in time: the safety rule as threads and one lock."""

from __future__ import annotations

import os
import random
import threading
import weakref
from collections import deque
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, TypeVar

from drumbeat._callbacks import LostCallbacks
from drumbeat._clock import Clock, Signal, check_seconds
from drumbeat._dispatcher import Dispatcher, surviving
from drumbeat._errors import (
    AuthenticationError,
    Closed,
    Conflict,
    DrumbeatError,
    Forked,
    SessionLost,
    Timeout,
    Unavailable,
)
from drumbeat._events import Event, EventKind, State
from drumbeat._incarnation import Incarnation
from drumbeat._timing import Timing
from drumbeat.hookspecs import Beat, Lease, Seat, SessionRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from drumbeat._facade import Backend
    from drumbeat._settings import Settings
    from drumbeat._term import Term
    from drumbeat.hookspecs import BackendProfile, Cancel

T = TypeVar("T")

#: Seconds before the first repetition of something that failed; it doubles up to a quarter of the TTL.
FIRST_RETRY: Final = 0.02

_keepers: weakref.WeakSet[Keeper] = weakref.WeakSet()


class Keeper:
    """Opens a session, renews it, ends it at its deadline and opens it again.

    Two threads run beside the dispatcher: one sends heartbeats, the other watches the deadline. They share no
    lock while a backend is called, so neither a slow server nor a slow callback delays the end of a lease.
    """

    def __init__(
        self,
        backend: Backend,
        profile: BackendProfile,
        settings: Settings,
        *,
        clock: Clock,
        dispatcher: Dispatcher,
    ) -> None:
        self.backend = backend
        self.profile = profile
        self.settings = settings
        self.clock = clock
        self.dispatcher = dispatcher
        self.lost_callbacks = LostCallbacks(
            dispatcher, clock=clock, url=str(settings.url), namespace=settings.namespace
        )
        #: The groups to be in, with the stored metadata last asked for.
        self.wanted: dict[str, bytes] = {}
        #: What ends the watches of streams that were dropped without being closed.
        self.abandoned_watches: deque[Cancel] = deque()
        self._membership = threading.Lock()
        #: What runs before the session is closed, each with the moment by which it must have returned.
        self.before_close: list[Callable[[float], None]] = []
        self._state_listeners: list[Callable[[State], None]] = []
        self._lock = threading.Lock()
        self._incarnation: Incarnation | None = None
        self._ended: type[Closed] | AuthenticationError | None = None
        self._closing = Signal(clock)
        self._released = False
        self._heartbeat_due = Signal(clock)
        self._watchdog_due = Signal(clock)
        self._signals: weakref.WeakSet[Signal] = weakref.WeakSet()
        self._threads: list[threading.Thread] = []
        self._pid = os.getpid()
        _keepers.add(self)

    # Opening ------------------------------------------------------------------------------------------------

    def open(self, *, deadline: float | None) -> None:
        """Open the first incarnation and start the threads."""
        opened = self._open(supersedes=None, on_conflict=self.settings.on_conflict, deadline=deadline)
        self._start(opened)
        targets = {"watchdog": self._watch_deadlines}
        if self.settings.heartbeat == "auto":
            targets["heartbeat"] = self._send_heartbeats
        for role, target in targets.items():
            name = f"drumbeat-{role}-{self.settings.member_id}"
            thread = threading.Thread(target=target, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def _open(self, *, supersedes: str | None, on_conflict: str, deadline: float | None) -> Incarnation:
        request = SessionRequest(
            incarnation=f"{os.getpid():x}-{os.urandom(12).hex()}",
            member_id=self.settings.member_id,
            ttl=self.settings.lease_ttl,
            supersedes=supersedes,
            replace=on_conflict == "replace",
        )
        conflict_until: float | None = None
        pause = FIRST_RETRY
        while True:
            try:
                return self._open_once(request, deadline)
            except Conflict as conflict:
                if conflict_until is None:
                    conflict_until = self._lapsed_by(conflict)
                if on_conflict == "refuse" or self.clock.now() >= conflict_until:
                    raise
                longest = conflict.retry_after or self.profile.limits.poll_interval
            except Unavailable:
                if deadline is not None and self.clock.now() >= deadline:
                    raise
                longest = self.settings.lease_ttl / 4
            if self._closing.wait(min(pause, longest)):
                raise Closed("the session was closed while it was being opened")
            pause = min(pause * random.uniform(1.5, 2.5), self.settings.lease_ttl / 4)  # noqa: S311 - no secret

    def _open_once(self, request: SessionRequest, deadline: float | None) -> Incarnation:
        sent = self.clock.now()
        timeout = self.settings.connect_timeout
        if deadline is not None:
            timeout = min(timeout, max(deadline - sent, 0.05))
        lease = self.backend.open_session(request, timeout=timeout)
        try:
            timing = self._timing(lease)
            return Incarnation(lease, timing, sent=sent, clock=self.clock)
        except DrumbeatError:
            self._release(lease, timeout=timeout)
            raise

    def _lapsed_by(self, conflict: Conflict) -> float:
        """Return when the session that is in the way has lapsed if it does not beat again."""
        ttl = max(self.settings.lease_ttl, conflict.retry_after or 0.0)
        return self.clock.now() + self.profile.failover.seconds(ttl)

    def _timing(self, lease: Lease) -> Timing:
        return Timing.plan(
            ttl=lease.ttl,
            heartbeat_interval=self.settings.heartbeat_interval,
            request_timeout=self.settings.request_timeout,
            early_expiry=self.profile.limits.early_expiry,
        )

    def _start(self, opened: Incarnation) -> None:
        with self._lock:
            if self._ended is None:
                self._incarnation = opened
        if self._incarnation is not opened:
            self._release(opened.lease, timeout=opened.timing.request_timeout)
            return
        self._heartbeat_due.set()
        self._announce(State.CONNECTED, opened, reason="opened")

    # State --------------------------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """The state at the moment of reading; LOST does not wait for a thread to notice."""
        if self._ended is not None or os.getpid() != self._pid:
            return State.CLOSED
        incarnation = self._incarnation
        if incarnation is None or not incarnation.alive():
            return State.LOST
        return State.SUSPENDED if incarnation.suspended else State.CONNECTED

    @property
    def incarnation(self) -> Incarnation | None:
        """The newest incarnation, which may be over."""
        return self._incarnation

    def check(self) -> None:
        """Raise if the session can never do anything again: Closed, Forked, or the authentication error."""
        if os.getpid() != self._pid:
            raise Forked(
                f"the session of {self.settings.member_id!r} belongs to process {self._pid}; this forked child "
                f"({os.getpid()}) holds nothing. Connect here for a session of its own"
            )
        if isinstance(self._ended, AuthenticationError):
            raise self._ended
        if self._ended is not None:
            raise Closed(f"the session of {self.settings.member_id!r} is closed; connect again")

    def wait_live(self, deadline: float | None) -> Incarnation:
        """Return a live incarnation, waiting for a reopening; raise Timeout at `deadline`."""
        changed: Signal | None = None
        while True:
            self.check()
            incarnation = self._incarnation
            if incarnation is not None and incarnation.alive():
                return incarnation
            if deadline is not None and self.clock.now() >= deadline:
                raise Timeout("the session is LOST and was not reopened in time")
            if changed is None:
                changed = self.new_signal()
            else:
                changed.take(deadline)

    def call(self, what: str, operation: Callable[[Incarnation, float], T]) -> T:
        """Run one operation on a live incarnation; go on with the next one if the server says SessionLost."""
        deadline = self.clock.now() + self._request_timeout()
        while True:
            try:
                incarnation = self.wait_live(deadline)
            except Timeout as error:
                raise Unavailable(f"{what}: {error}", outcome="not_applied") from error
            try:
                return operation(incarnation, incarnation.timing.request_timeout)
            except SessionLost as error:
                self.lose(incarnation, str(error))

    def new_signal(self) -> Signal:
        """Return a signal that goes up at every change of the session's state, for as long as it is kept."""
        if os.getpid() != self._pid:
            self.check()
        signal = Signal(self.clock)
        with self._lock:
            self._signals.add(signal)
        return signal

    def on_state(self, listener: Callable[[State], None]) -> None:
        """Call `listener(state)` on the dispatcher's thread at every change from now on."""
        self._state_listeners.append(listener)

    def emit(
        self,
        kind: EventKind,
        *,
        at: float | None = None,
        subject: str | None = None,
        token: int | None = None,
        seconds: float | None = None,
        members: tuple[tuple[str, str], ...] | None = None,
        reason: str | None = None,
        incarnation: Incarnation | None = None,
    ) -> None:
        """Tell the observers; what is about an `incarnation` that may not be the newest names it."""
        incarnation = incarnation or self._incarnation
        self.dispatcher.emit(
            Event(
                kind=kind,
                at=self.clock.now() if at is None else at,
                namespace=self.settings.namespace,
                member_id=self.settings.member_id,
                incarnation="" if incarnation is None else incarnation.id,
                subject=subject,
                token=token,
                deadline=None if incarnation is None else incarnation.deadline,
                seconds=seconds,
                members=members,
                reason=reason,
            )
        )

    def _announce(self, state: State, incarnation: Incarnation, *, reason: str) -> None:
        kinds: dict[State, EventKind] = {
            State.CONNECTED: "connected",
            State.SUSPENDED: "suspended",
            State.LOST: "lost",
            State.CLOSED: "closed",
        }
        at = min(self.clock.now(), incarnation.deadline) if state is State.LOST else None
        self.emit(kinds[state], at=at, reason=reason, incarnation=incarnation)
        for listener in list(self._state_listeners):
            self.dispatcher.call(lambda listener=listener: listener(state))  # type: ignore[misc]
        self._wake_waiters()

    def _wake_waiters(self) -> None:
        with self._lock:
            signals = list(self._signals)
        for signal in signals:
            signal.set()

    def _request_timeout(self) -> float:
        incarnation = self._incarnation
        given = self.settings.request_timeout or self.settings.lease_ttl / 5
        return given if incarnation is None else incarnation.timing.request_timeout

    # Heartbeats ---------------------------------------------------------------------------------------------

    def beat(self) -> None:
        """Send one heartbeat and bring memberships up to date; raise what went wrong."""
        try:
            incarnation = self.wait_live(self.clock.now() + self._request_timeout())
        except Timeout as error:
            raise Unavailable(f"heartbeat: {error}", outcome="not_applied") from error
        self._beat(incarnation)
        self._rejoin(incarnation)

    def verify(self, incarnation: Incarnation) -> bool:
        """Ask the server whether the incarnation lives; return False if that cannot be told."""
        with suppress(DrumbeatError):
            self._beat(incarnation)
            return incarnation.alive()
        return False

    def _send_heartbeats(self) -> None:
        while not self._closing.is_set():
            incarnation = self._incarnation
            if incarnation is None or incarnation.over is not None:
                self._heartbeat_due.take(None)
                continue
            with surviving("a heartbeat", expected=DrumbeatError):
                self._rejoin(incarnation)
                if not self._heartbeat_due.take(incarnation.next_beat):
                    self._beat(incarnation)

    def _beat(self, incarnation: Incarnation) -> None:
        holdings = incarnation.holdings()
        sent = self.clock.now()
        try:
            beat = self.backend.heartbeat(incarnation.lease, holdings, timeout=incarnation.timing.request_timeout)
            timing = incarnation.timing if beat.lease == incarnation.lease else self._timing(beat.lease)
        except SessionLost as error:
            self.lose(incarnation, f"the server does not know the session: {error}")
            raise
        except Exception as error:
            self._beat_failed(incarnation, error)
            raise
        self._beat_answered(incarnation, beat, timing, sent=sent)

    def _beat_failed(self, incarnation: Incarnation, error: Exception) -> None:
        self.emit("beat_failed", reason=str(error), incarnation=incarnation)
        incarnation.next_beat = self.clock.now() + incarnation.timing.ttl / 20
        with self._lock:
            if incarnation.suspended or not incarnation.alive():
                return
            incarnation.suspended = True
        self._announce(State.SUSPENDED, incarnation, reason=str(error))

    def _beat_answered(self, incarnation: Incarnation, beat: Beat, timing: Timing, *, sent: float) -> None:
        with self._lock:
            in_time = incarnation.renew(beat.lease, timing, sent=sent)
            was_suspended, incarnation.suspended = incarnation.suspended, False
        if not in_time:
            self.check()
            self.lose(incarnation, "the answer to a heartbeat came after the deadline")
            raise SessionLost("the answer to the heartbeat came after the session's deadline")
        self._end_abandoned_watches()
        self.emit("beat", seconds=self.clock.now() - sent, incarnation=incarnation)
        self._revoke(incarnation.take_lost(beat.lost), "the store does not hold the seat for us any more")
        incarnation.rejoin_due = True
        if was_suspended:
            self._announce(State.CONNECTED, incarnation, reason="a heartbeat was answered")

    def _end_abandoned_watches(self) -> None:
        while self.abandoned_watches:
            with surviving("ending a watch", expected=DrumbeatError):
                self.abandoned_watches.popleft()()

    def _rejoin(self, incarnation: Incarnation) -> None:
        """Join the wanted groups that the incarnation is not in, while no heartbeat is due; raise the last failure."""
        if not incarnation.rejoin_due or not self._membership.acquire(blocking=False):
            return
        failure: DrumbeatError | None = None
        try:
            incarnation.rejoin_due = False
            for group, value in self.wanted.items():
                if incarnation.has_place(group):
                    continue
                try:
                    self.join(incarnation, group, value, incarnation.timing.request_timeout)
                except DrumbeatError as error:
                    failure = error
                if self.clock.now() >= incarnation.next_beat:
                    incarnation.rejoin_due = True
                    break
        finally:
            self._membership.release()
        if failure is not None:
            raise failure

    @contextmanager
    def changing_membership(self) -> Iterator[None]:
        """Keep a user's change of membership and a rejoin from crossing."""
        self.check()
        with self._membership:
            yield

    def join(self, incarnation: Incarnation, group: str, value: bytes, timeout: float) -> None:
        """Join one group; if that fails, what was applied of it goes at the next heartbeat."""
        attempt = incarnation.new_place(group)
        try:
            self.backend.join_group(incarnation.lease, group, attempt=attempt, value=value, timeout=timeout)
        except BaseException:
            incarnation.undo_place(group)
            raise
        incarnation.joined(group)
        self.emit("joined", subject=group, incarnation=incarnation)

    # Ending -------------------------------------------------------------------------------------------------

    def lose(self, incarnation: Incarnation, reason: str) -> None:
        """Make an incarnation LOST with all its terms, each told once."""
        terms = incarnation.end(reason)
        if terms is None:
            return
        self._revoke(terms, f"the session is LOST: {reason}")
        self._announce(State.LOST, incarnation, reason=reason)
        self._watchdog_due.set()
        self._heartbeat_due.set()

    def resign(self, incarnation: Incarnation, seat: Seat) -> bool:
        """Free a seat at the server; return whether the server still had it for us."""
        try:
            timeout = incarnation.timing.request_timeout
            return self.backend.resign(incarnation.lease, seat, timeout=timeout).was_held
        except SessionLost as error:
            self.lose(incarnation, str(error))
            return False

    def proclaim(self, incarnation: Incarnation, seat: Seat, value: bytes) -> bool:
        """Replace a seat's value; return False if the seat is not ours."""
        try:
            timeout = incarnation.timing.request_timeout
            answer = self.backend.proclaim(incarnation.lease, seat, value=value, timeout=timeout)
        except SessionLost as error:
            self.lose(incarnation, str(error))
            return False
        return answer.was_held

    def revoke(self, incarnation: Incarnation, seat: Seat, reason: str) -> None:
        """End one term that the server says is not ours."""
        term = incarnation.remove_term(seat, reason)
        if term is not None:
            self._revoke([term], reason)

    def _revoke(self, terms: Iterable[Term], reason: str) -> None:
        for term in terms:
            term._revoke(reason)  # noqa: SLF001 - only the keeper may end a term as lost

    def close(self, timeout: float) -> None:
        """Release everything and end the session, within `timeout` seconds whatever the server does."""
        if os.getpid() != self._pid:
            return
        deadline = self.clock.now() + check_seconds("timeout", timeout)
        for prepare in list(self.before_close):
            prepare(deadline - min(timeout / 2, self._request_timeout()))
        with self._lock:
            is_first = self._ended is None
            self._ended = self._ended or Closed
            self._closing.set()
        incarnation = self._incarnation
        if incarnation is not None and not incarnation.alive():
            self.lose(incarnation, "the deadline had passed when the session was closed")
        terms = None if incarnation is None else incarnation.end("the session was closed")
        for term in terms or ():
            term._finish("the session was closed")  # noqa: SLF001 - only the keeper ends terms at close
        self._wake_all()
        if incarnation is not None and not self._released:
            self._release(incarnation.lease, timeout=max(0.0, deadline - self.clock.now()))
            self._released = True
        if incarnation is not None and is_first:
            self._announce(State.CLOSED, incarnation, reason="closed")
        self.dispatcher.stop(deadline)
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - self.clock.now()))

    def drop_in_child(self) -> None:
        """Let go of the parent's session in a forked child, which must not take any lock here."""
        incarnation = self._incarnation
        if incarnation is None:
            return
        incarnation.end_in_child()
        try:
            self.backend.drop_session(incarnation.lease, forked=True)
        except Exception:  # noqa: BLE001 - a fork must go on whatever a backend does
            self._incarnation = None

    def _watch_deadlines(self) -> None:
        while not self._closing.is_set():
            incarnation = self._incarnation
            if incarnation is None:
                return
            if incarnation.over is None:
                self._watchdog_due.take(incarnation.deadline)
                if not self._closing.is_set() and self.clock.now() >= incarnation.deadline:
                    self.lose(incarnation, "no heartbeat was answered before the deadline")
            else:
                self._reopen(incarnation)

    def _reopen(self, lost: Incarnation) -> None:
        self._release(lost.lease, timeout=lost.timing.request_timeout)
        while not self._closing.is_set():
            with surviving("reopening the session", expected=DrumbeatError):
                try:
                    opened = self._open(supersedes=lost.id, on_conflict="wait", deadline=None)
                except AuthenticationError as error:
                    self._give_up(lost, error)
                    return
                self._start(opened)
                return
            self._closing.wait(lost.timing.heartbeat_interval)

    def _give_up(self, lost: Incarnation, error: AuthenticationError) -> None:
        with self._lock:
            self._ended = self._ended or error
            self._closing.set()
        self._wake_all()
        self._announce(State.CLOSED, lost, reason=str(error))

    def _release(self, lease: Lease, *, timeout: float) -> None:
        """Close a lease at the server as far as possible, and let go of it here."""
        with surviving("closing a lease", expected=DrumbeatError):
            self.backend.close_session(lease, timeout=timeout)
        with surviving("dropping a lease", expected=DrumbeatError):
            self.backend.drop_session(lease)

    def _wake_all(self) -> None:
        for signal in (self._heartbeat_due, self._watchdog_due):
            signal.set()
        self._wake_waiters()


def _drop_in_child() -> None:
    for keeper in list(_keepers):
        keeper.drop_in_child()


os.register_at_fork(after_in_child=_drop_in_child)
