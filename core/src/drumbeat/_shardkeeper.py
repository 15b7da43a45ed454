"""What takes, guards and hands over the shards of one session: one thread, which never waits for a user."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, final

from drumbeat._clock import Signal
from drumbeat._dispatcher import logger
from drumbeat._election import AFTER_LAPSE
from drumbeat._errors import DrumbeatError, SessionLost, Unavailable
from drumbeat._partition import read_weights, seats
from drumbeat._streams import COALESCE
from drumbeat._tenure import Tenure
from drumbeat._view import View
from drumbeat.hookspecs import GroupSubject, LeaderSubject, Vacant

if TYPE_CHECKING:
    from drumbeat._incarnation import Incarnation
    from drumbeat._keeper import Keeper
    from drumbeat._partition import WeightOf
    from drumbeat._tenure import ShardCallbacks
    from drumbeat._term import Term
    from drumbeat.hookspecs import Cancel, Notify, Subject, Waiting

#: Graces after which a shard that was taken in its owner's place is offered to the owner again.
OFFER_AFTER: Final = 10
NEVER: Final = float("inf")


@dataclass(slots=True)
class _Watch:
    """A watch on one subject of one incarnation, or none."""

    subject: Subject | None = None
    cancel: Cancel | None = None

    def follow(self, keeper: Keeper, incarnation: Incarnation, subject: Subject, notify: Notify) -> bool:
        """Watch a subject, if the backend can; return True if the watch is new."""
        if self.subject == subject or not keeper.backend.implements("watch"):
            return False
        self.end()
        with suppress(Unavailable):
            timeout = incarnation.timing.request_timeout
            self.cancel = keeper.backend.watch(incarnation.lease, subject, notify, timeout=timeout)
            self.subject = subject
        return self.subject is not None

    def end(self) -> None:
        if self.cancel is not None:
            self.cancel()
        self.cancel = self.subject = None


@dataclass(slots=True)
class _Shard:
    """What this session knows of one shard."""

    number: int
    #: Who should have it by the last view, and how many members come before us; None if we take no part.
    owner: str | None = None
    rank: int | None = None
    #: The attempt that waits for the shard, and the holding of it.
    candidate: Tenure | None = None
    tenure: Tenure | None = None
    #: A holding that is over, whose drain callback still runs; the next win waits for it until `blocked_until`.
    leaving: Tenure | None = None
    blocked_until: float | None = None
    #: When to ask for the shard, or to look who has it, next.
    due: float = NEVER
    #: When to take the shard in its owner's place, if it is vacant until then.
    adopt_at: float | None = None
    #: The member and incarnation that had it at the last look; a look is due once that one has gone.
    holder: tuple[str, str] | None = None
    watch: _Watch = field(default_factory=_Watch)


@final
class ShardKeeper:
    """Keeps this session's shards: its own by the view, and those whose owners leave them vacant.

    A shard's owner, the first in rendezvous order, asks for it at once. All others look who has it when its owner has
    changed, the k-th in order after k graces: if they find it vacant, and vacant still after one more grace, they take
    it (in the owner's place: "adopt" it), and offer it to the owner again later. Once all shards are with their
    owners, the second in order watches a shard where the backend pushes, and besides looks at one shard in a grace.
    """

    def __init__(
        self,
        keeper: Keeper,
        group: str,
        count: int,
        *,
        callbacks: ShardCallbacks,
        drain_timeout: float | None,
        grace: float | None,
        weight: WeightOf | None,
    ) -> None:
        self.keeper = keeper
        self.group = group
        #: The shards to work on now, and those that are being drained; replaced, never changed.
        self.owned: dict[int, Term] = {}
        self.draining: dict[int, Term] = {}
        #: Whether each shard that should be ours is held, and no other.
        self.balanced = False
        #: Goes up when the thread ends.
        self.ended = Signal(keeper.clock)
        self._shards = [_Shard(number) for number in range(count)]
        self._callbacks = callbacks
        self._drain_timeout = drain_timeout
        self._grace = grace
        self._weight = weight
        self._group_watch = _Watch()
        self._woken = keeper.new_signal()
        self._last_hint = -NEVER
        self._hinted: deque[int] = deque()
        self._incarnation: Incarnation | None = None
        self._view: View | None = None
        self._identities: frozenset[tuple[str, str]] = frozenset()
        self._guarded = 1
        self._close_at: float | None = None
        self._closing = Signal(keeper.clock)
        self._told: str | None = None
        self._lock = threading.Lock()
        self._signals: weakref.WeakSet[Signal] = weakref.WeakSet()
        name = f"drumbeat-shards-{keeper.settings.member_id}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread, and have the session drain the shards before it closes."""
        self.keeper.before_close.append(self.close_by)
        self._thread.start()

    def new_signal(self) -> Signal:
        """Return a signal that goes up at every change, for as long as it is kept."""
        signal = Signal(self.keeper.clock)
        with self._lock:
            self._signals.add(signal)
        return signal

    def drain_timeout(self) -> float:
        """Return the seconds that a drain may take."""
        return self._ttl() if self._drain_timeout is None else self._drain_timeout

    def grace(self) -> float:
        """Return the seconds for which a shard may stand vacant."""
        return self.keeper.profile.failover.seconds(self._ttl()) if self._grace is None else self._grace

    def close_by(self, deadline: float) -> None:
        """Drain and release everything; what is not drained at `deadline` is released without.

        Returns when that is done, or one request timeout after the deadline: the shards are then let go of here, and
        the server frees them at the next heartbeat. Called from a callback it does not wait.
        """
        try:
            self.keeper.check()
        except DrumbeatError:
            return
        self._close_at = deadline if self._close_at is None else min(self._close_at, deadline)
        self._closing.set()
        self._woken.set()
        if self._is_callback():
            return
        if not self.ended.wait_until(deadline + self.request_timeout()):
            for shard in self._shards:
                tenure = shard.tenure
                if tenure is not None:
                    tenure.let_go()

    def request_timeout(self) -> float:
        """Return the seconds that one request may take."""
        incarnation = self._incarnation
        return self._ttl() / 5 if incarnation is None else incarnation.timing.request_timeout

    def missing(self) -> str:
        """Say what stands between this session and its share, for people."""
        wanted = [str(shard.number) for shard in self._shards if shard.rank == 0 and shard.tenure is None]
        surplus = [str(number) for number in self.draining]
        if self._view is None:
            return "the group could not be read yet"
        return f"still to be gained: {', '.join(wanted) or 'none'}; still draining: {', '.join(surplus) or 'none'}"

    # The thread ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._is_done():
                self.keeper.check()
                pause = self._guarded_pass()
                if not self._is_done():
                    self._wait(pause)
        except DrumbeatError as error:
            logger().debug("the shards of %s end: %s", self.group, error)
        finally:
            self._wind_up()

    def _wait(self, pause: float) -> None:
        """Wait for a hint, a change of state or `pause` seconds; a storm of hints is one in 20 ms."""
        until = self._now() + min(pause, self._poll_interval())
        if self._woken.take(until):
            self._closing.wait_until(self._last_hint + COALESCE)
            self._last_hint = self._now()

    def _is_done(self) -> bool:
        idle = all(shard.tenure is None and shard.candidate is None for shard in self._shards)
        return self._close_at is not None and idle

    def _guarded_pass(self) -> float:
        try:
            return self._pass()
        except Unavailable as error:
            logger().debug("the shards of %s: %s", self.group, error)
        except Exception as error:  # noqa: BLE001 - whatever a backend raises, the shards must go on
            self._complain("trying again", error)
        return self._ttl() / 20

    def _pass(self) -> float:
        """Do all that is due, and return the seconds until more is."""
        self._notice_losses()
        incarnation = self.keeper.incarnation
        if incarnation is None or not incarnation.alive():
            self._forget_incarnation()
            return NEVER
        if incarnation is not self._incarnation:
            self._forget_incarnation()
            self._incarnation = incarnation
        try:
            self._release_drained()
            if self._close_at is None:
                self._read(incarnation)
            self._take_hints()
            for shard in self._shards:
                # Any call may have taken longer than the lease had left.
                if not incarnation.alive():
                    return 0.0
                self._guarded_step(shard, incarnation)
        except SessionLost as error:
            self.keeper.lose(incarnation, str(error))
        self._publish()
        return max(0.0, min(map(self._next, self._shards)) - self._now())

    def _next(self, shard: _Shard) -> float:
        tenure = shard.tenure
        if tenure is None:
            return shard.due
        if tenure.drain_until is not None:
            return self._drain_end(tenure.drain_until)
        return NEVER if tenure.offer_at is None else tenure.offer_at

    def _forget_incarnation(self) -> None:
        if self._incarnation is None:
            return
        self._incarnation = self._view = None
        self._group_watch.end()
        for shard in self._shards:
            shard.watch.end()
            shard.candidate = shard.owner = shard.rank = shard.adopt_at = shard.holder = None
            shard.due = NEVER
        self._publish()

    def _wind_up(self) -> None:
        self.keeper.before_close.remove(self.close_by)
        self._group_watch.end()
        for shard in self._shards:
            shard.watch.end()
            shard.tenure = None
        self._view = None
        self._publish()
        self.ended.set()
        self._wake_watchers()

    # Planning -----------------------------------------------------------------------------------------------

    def _read(self, incarnation: Incarnation) -> None:
        timeout = incarnation.timing.request_timeout
        self._group_watch.follow(self.keeper, incarnation, GroupSubject(self.group), self._woken.set)
        record = self.keeper.backend.read_group(incarnation.lease, self.group, timeout=timeout)
        try:
            view = View.from_record(self.group, record)
            if view != self._view:
                self._plan(view, incarnation)
                self._view = view
        except Exception as error:  # noqa: BLE001 - a user's `weight` may raise anything
            self._complain("the last view that could be read goes on counting", error)

    def _plan(self, view: View, incarnation: Incarnation) -> None:
        weights, problems = read_weights(view, self._weight)
        for problem in problems:
            self._complain(problem)
        me = self.keeper.settings.member_id
        self._identities = frozenset(member.identity for member in view)
        is_member = (me, incarnation.id) in self._identities
        plan = seats(weights, len(self._shards), me) if is_member else None
        for shard in self._shards:
            self._assign(shard, *((None, None) if plan is None else plan[shard.number]))
        self._guarded = max(1, sum(shard.rank == 1 for shard in self._shards))

    def _assign(self, shard: _Shard, owner: str | None, rank: int | None) -> None:
        before = (shard.owner, shard.rank)
        shard.owner, shard.rank = owner, rank
        is_guard = rank == 1 and before[1] != 1
        if rank == 0:
            shard.due = self._now()
        elif rank is None or before[0] != owner or is_guard or shard.holder not in self._identities:
            self._look_later(shard)

    def _look_later(self, shard: _Shard) -> None:
        shard.watch.end()
        shard.holder = shard.adopt_at = None
        shard.due = self._now() + self.grace() * (shard.rank or 0) if shard.rank is not None else NEVER

    def _take_hints(self) -> None:
        while self._hinted:
            shard = self._shards[self._hinted.popleft()]
            if shard.rank == 0:
                shard.due = self._now()
            elif shard.rank is not None:
                shard.due = min(shard.due, self._now() + self.grace())

    # One shard ----------------------------------------------------------------------------------------------

    def _guarded_step(self, shard: _Shard, incarnation: Incarnation) -> None:
        """Do what is due for a shard; if that fails for this one alone, the others have their turn before it again."""
        try:
            self._step(shard, incarnation)
        except SessionLost:
            raise
        except Exception as error:
            shard.due = self._now() + self._ttl() / 10
            if isinstance(error, Unavailable):
                raise
            self._complain(f"shard {shard.number}", error)

    def _step(self, shard: _Shard, incarnation: Incarnation) -> None:
        wanted = shard.rank == 0 and self._close_at is None
        if shard.tenure is not None:
            self._step_held(shard, shard.tenure, wanted=wanted)
            return
        if shard.candidate is not None and not wanted:
            self._abandon(shard)
        if self._close_at is not None:
            shard.due = NEVER
        if self._now() < shard.due:
            return
        if wanted:
            self._campaign(shard, incarnation)
        else:
            self._look(shard, incarnation)

    def _step_held(self, shard: _Shard, tenure: Tenure, *, wanted: bool) -> None:
        if tenure.drain_until is not None:
            return
        if wanted:
            tenure.offer_at = None
            return
        may_stay = shard.owner == tenure.adopted_from and shard.rank is not None and self._close_at is None
        if may_stay and tenure.offer_at is not None and self._now() < tenure.offer_at:
            return
        tenure.drain(self._now() + self.drain_timeout())
        self._publish()
        if tenure.drained:
            self._release(shard, tenure)

    def _campaign(self, shard: _Shard, incarnation: Incarnation) -> None:
        if self._is_blocked(shard):
            return
        answer = self._ask(shard, incarnation)
        candidate = shard.candidate
        if candidate is not None and self._follow(shard, incarnation, candidate.subject):
            answer = self._ask(shard, incarnation)
        if answer is not None:
            pause = NEVER if answer.retry_after is None else answer.retry_after + AFTER_LAPSE
            shard.due = self._now() + min(pause, self._poll_interval())

    def _ask(self, shard: _Shard, incarnation: Incarnation) -> Waiting | None:
        """Ask once for the shard; return None if it is ours now."""
        tenure = shard.candidate
        if tenure is None:
            tenure = shard.candidate = Tenure(
                self.keeper,
                incarnation,
                self._election(shard),
                number=shard.number,
                callbacks=self._callbacks,
                on_change=self._hint,
            )
        answer = tenure.ask()
        if answer is None:
            shard.watch.end()
            shard.tenure, shard.candidate = tenure, None
            self._publish()
        return answer

    def _abandon(self, shard: _Shard) -> None:
        shard.watch.end()
        if shard.candidate is not None:
            shard.candidate.abandon()
        shard.candidate = None

    def _look(self, shard: _Shard, incarnation: Incarnation) -> None:
        """See who has a shard that is not ours by right, and take it if it has been vacant for a grace."""
        if shard.rank == 1:
            self._follow(shard, incarnation, LeaderSubject(self._election(shard)))
        timeout = incarnation.timing.request_timeout
        found = self.keeper.backend.read_leader(incarnation.lease, self._election(shard), timeout=timeout)
        now = self._now()
        if not isinstance(found, Vacant):
            shard.holder, shard.adopt_at = (found.member_id, found.incarnation), None
            shard.due = now + self.grace() * self._graces_to_next_look(shard)
        elif shard.adopt_at is None:
            shard.due = shard.adopt_at = now + self.grace()
        elif now < shard.adopt_at:
            shard.due = shard.adopt_at
        else:
            self._adopt(shard, incarnation)

    def _graces_to_next_look(self, shard: _Shard) -> int:
        """Spread looks so that, however many shards there are, a session makes about one in a grace."""
        if shard.holder not in self._identities:
            return 1
        return self._guarded if shard.rank == 1 else len(self._shards) * (shard.rank or 1)

    def _adopt(self, shard: _Shard, incarnation: Incarnation) -> None:
        if self._is_blocked(shard):
            return
        if self._ask(shard, incarnation) is not None:
            self._abandon(shard)
            shard.adopt_at = None
            shard.due = self._now() + self.grace()
        elif shard.tenure is not None:
            shard.adopt_at = None
            shard.tenure.adopted_from = shard.owner
            shard.tenure.offer_at = self._now() + OFFER_AFTER * self.grace()
            shard.tenure.warn(f"taken over, since its owner {shard.owner!r} has left it vacant for {self.grace():g} s")

    def _is_blocked(self, shard: _Shard) -> bool:
        """Return whether callbacks of the shard's last term still run; after a TTL the next win waits no longer."""
        election, now = self._election(shard), self._now()
        draining = shard.leaving is not None and shard.leaving.is_being_drained()
        if not draining and not self.keeper.lost_callbacks.pending(election):
            shard.leaving = shard.blocked_until = None
            return False
        if shard.blocked_until is None:
            shard.blocked_until = now + self._ttl()
        if now < shard.blocked_until:
            shard.due = min(shard.blocked_until, now + self._ttl() / 20)
            return True
        if draining and shard.leaving is not None:
            shard.leaving.warn("taken again, although the drain callback of its last term has not returned")
        self.keeper.lost_callbacks.wait(election, deadline=now, waiter=self.keeper.settings.member_id)
        shard.leaving = shard.blocked_until = None
        return False

    def _notice_losses(self) -> None:
        for shard in self._shards:
            tenure = shard.tenure
            if tenure is not None and (tenure.term is None or not tenure.term.held):
                self._forget(shard, tenure)

    def _release_drained(self) -> None:
        for shard in self._shards:
            tenure = shard.tenure
            if tenure is None or tenure.drain_until is None:
                continue
            if tenure.drained or self._now() >= self._drain_end(tenure.drain_until):
                self._release(shard, tenure)

    def _release(self, shard: _Shard, tenure: Tenure) -> None:
        if not tenure.drained:
            tenure.warn("the drain callback has not returned in time; the shard is released without")
        is_offer = tenure.offer_at is not None and self._now() >= tenure.offer_at
        try:
            tenure.release()
        finally:
            self._forget(shard, tenure)
            if is_offer:
                shard.due = shard.adopt_at = self._now() + 2 * self._poll_interval()

    def _forget(self, shard: _Shard, tenure: Tenure) -> None:
        shard.tenure, shard.leaving = None, tenure
        self._look_later(shard)
        self._publish()

    # Small things -------------------------------------------------------------------------------------------

    def _follow(self, shard: _Shard, incarnation: Incarnation, subject: Subject) -> bool:
        return shard.watch.follow(self.keeper, incarnation, subject, partial(self._hint, shard.number))

    def _hint(self, number: int) -> None:
        self._hinted.append(number)
        self._woken.set()

    def _publish(self) -> None:
        """Tell who watches what has changed."""
        held = {shard.number: shard.tenure for shard in self._shards if shard.tenure is not None}
        owned = {number: t.term for number, t in held.items() if t.term is not None and t.drain_until is None}
        draining = {number: t.term for number, t in held.items() if t.term is not None and t.drain_until is not None}
        balanced = self._view is not None and not draining and all(map(_is_in_place, self._shards))
        if (owned, draining, balanced) == (self.owned, self.draining, self.balanced):
            return
        self.owned, self.draining, self.balanced = owned, draining, balanced
        self._wake_watchers()

    def _wake_watchers(self) -> None:
        with self._lock:
            signals = list(self._signals)
        for signal in signals:
            signal.set()

    def _is_callback(self) -> bool:
        tenures = [tenure for shard in self._shards for tenure in (shard.tenure, shard.leaving)]
        return (
            self.keeper.dispatcher.is_current_thread()
            or threading.current_thread() is self._thread
            or any(tenure is not None and tenure.is_drainer() for tenure in tenures)
        )

    def _complain(self, problem: str, error: Exception | None = None) -> None:
        """Tell observers and the log, once as long as it is the same."""
        text = problem if error is None else f"{problem}: {error if isinstance(error, DrumbeatError) else repr(error)}"
        if text != self._told:
            trace = None if isinstance(error, DrumbeatError) else error
            logger().warning("the shards of %s: %s", self.group, text, exc_info=trace)
            self.keeper.emit("warning", subject=self.group, reason=text)
        self._told = text

    def _drain_end(self, until: float) -> float:
        return until if self._close_at is None else min(until, self._close_at)

    def _election(self, shard: _Shard) -> str:
        return f"shard/{self.group}/{shard.number}"

    def _now(self) -> float:
        return self.keeper.clock.now()

    def _poll_interval(self) -> float:
        return self.keeper.profile.limits.poll_interval

    def _ttl(self) -> float:
        incarnation = self._incarnation
        return self.keeper.settings.lease_ttl if incarnation is None else incarnation.timing.ttl


def _is_in_place(shard: _Shard) -> bool:
    if shard.tenure is None:
        return shard.rank != 0
    return shard.rank == 0 or shard.tenure.offer_at is not None
