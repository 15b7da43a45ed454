"""The thirteen faults that were found in other libraries, made here as closely as this code can have them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from drumbeat._dispatcher import Dispatcher
from drumbeat._election import Lock
from drumbeat._group import GroupWatch
from drumbeat._incarnation import Incarnation
from drumbeat._keeper import Keeper
from drumbeat._term import Term
from drumbeat._view import Change, View
from drumbeat.hookspecs import Beat, Holdings, Lease, Seat, Waiting, Won
from drumbeat.memory import MemoryBackend, _Candidate, _Election, _leader, _Member
from drumbeat_mutants import Patch, mutant

if TYPE_CHECKING:
    from drumbeat._dispatcher import Callback
    from drumbeat._timing import Timing


@mutant("touches-the-seat-of-another", breaks=("BEAT-4", "LEAD-16"), like="peers 1")
def touches_the_seat_of_another(patch: Patch) -> None:
    """An ex-leader's heartbeat renews the seat that it once had, whoever holds it now, and says that all is well."""

    def heartbeat(
        original: Callable[..., Beat], self: MemoryBackend, lease: Lease, holdings: Holdings, *rest: object
    ) -> Beat:
        with self._store.call(self._namespace) as space:
            now = self._store.clock.now()
            for seat in holdings.seats:
                holder = space.elections.get(seat.election, _Election()).holder
                if holder is not None:
                    space.sessions[holder.incarnation].deadline = now + lease.ttl
            if lease.incarnation not in space.sessions:
                return Beat(lease)
        return original(self, lease, holdings, *rest)

    patch.wrap(MemoryBackend, "heartbeat", heartbeat)


@mutant("believes-in-a-local-flag", breaks=("BEAT-8", "LEAD-11"), like="peers 2")
def believes_in_a_local_flag(patch: Patch) -> None:
    """Whether a term is held is a flag of the client: the end of the session, which it hears of, leaves it up."""

    def held(self: Term) -> bool:
        return self._over is None

    def end(original: Callable[..., list[Term] | None], self: Incarnation, reason: str) -> list[Term] | None:
        terms = original(self, reason)
        return None if terms is None else []

    patch(Term, "held", property(held))
    patch.wrap(Incarnation, "end", end)


@mutant("ignores-its-own-deadline", breaks="LEAD-8", like="peers 3")
def ignores_its_own_deadline(patch: Patch) -> None:
    """A leader that was stalled believes in its term until a server says otherwise, and nobody tells it."""

    def alive(self: Incarnation) -> bool:
        return self.over is None

    def watch_deadlines(self: Keeper) -> None:
        while not self._closing.is_set():
            incarnation = self._incarnation
            if incarnation is not None and incarnation.over is not None:
                self._reopen(incarnation)
            else:
                self._watchdog_due.take(None)

    patch(Incarnation, "alive", alive)
    patch(Keeper, "_watch_deadlines", watch_deadlines)


@mutant("compares-with-a-later-read", breaks="WATCH-15", like="peers 4")
def compares_with_a_later_read(patch: Patch) -> None:
    """A watch reads the view to give it to the user, and once more to compare the next one with: what happens between
    the two is told to nobody.
    """

    def read(self: GroupWatch, incarnation: Incarnation) -> Change | None:
        first, baseline = (
            View.from_record(
                self._group,
                self._keeper.backend.read_group(
                    incarnation.lease, self._group, timeout=incarnation.timing.request_timeout
                ),
            )
            for _ in range(2)
        )
        change = Change.between(self._view, first)
        self._view = baseline
        return change

    patch(GroupWatch, "_read", read)


@mutant("dies-with-a-callback", breaks="WATCH-3", like="peers 5")
def dies_with_a_callback(patch: Patch) -> None:
    """An exception in one callback ends all later ones: its place in the queue is never left."""

    def run(original: Callable[..., None], self: Dispatcher, callback: Callback) -> None:
        queue = self._callbacks._queue
        try:
            callback()
        except Exception:  # noqa: BLE001 - the next one meets it again
            queue.appendleft(lambda: self._run(callback))

    patch.wrap(Dispatcher, "_run", run)


@mutant("elects-a-member", breaks="GROUP-8", like="peers 6")
def elects_a_member(patch: Patch) -> None:
    """An election keeps its winner among the members of the group that has its name."""

    def campaign(
        original: Callable[..., Won | Waiting], self: MemoryBackend, lease: Lease, election: str, *rest: object
    ) -> Won | Waiting:
        answer = original(self, lease, election, *rest)
        if isinstance(answer, Won):
            with self._store.call(self._namespace) as space:
                group = space.groups.setdefault(election.partition("/")[2] or election, {})
                group[lease.incarnation] = _Member(answer.seat.attempt, b"{}")
        return answer

    patch.wrap(MemoryBackend, "campaign", campaign)


@mutant("says-yes-when-all-is-gone", breaks=("BEAT-4", "BEAT-10"), like="peers 7")
def says_yes_when_all_is_gone(patch: Patch) -> None:
    """A heartbeat renews a lease, by a new one if need be, and does not look whether anything is attached to it."""

    def heartbeat(
        original: Callable[..., Beat], self: MemoryBackend, lease: Lease, holdings: Holdings, *rest: object
    ) -> Beat:
        with self._store.call(self._namespace) as space:
            known = lease.incarnation in space.sessions
        if known:
            original(self, lease, holdings, *rest)
        return Beat(lease)

    patch.wrap(MemoryBackend, "heartbeat", heartbeat)


@mutant("stops-when-the-server-does", breaks="BEAT-7", like="peers 8")
def stops_when_the_server_does(patch: Patch) -> None:
    """Closing a session asks the server again and again until it has answered, for as long as that may take."""

    def release(original: Callable[..., None], self: Keeper, lease: Lease, *, timeout: float) -> None:
        while True:
            try:
                self.backend.close_session(lease, timeout=timeout)
            except Exception:  # noqa: BLE001 - once more
                self._closing.clear()
                self._closing.wait(lease.ttl / 20)
            else:
                break
        original(self, lease, timeout=timeout)

    patch.wrap(Keeper, "_release", release)


@mutant("forgets-its-groups", breaks="BEAT-8", like="peers 9")
def forgets_its_groups(patch: Patch) -> None:
    """A session that is opened again after it was lost joins none of its groups, and tells nobody."""

    def rejoin(self: Keeper, incarnation: Incarnation) -> None:
        incarnation.rejoin_due = False

    patch(Keeper, "_rejoin", rejoin)


@mutant("takes-no-time-for-no-limit", breaks="LOCK-2", like="peers 10")
def takes_no_time_for_no_limit(patch: Patch) -> None:
    """A lock's timeout of 0 waits as long as it takes, as None does."""

    def acquire(
        original: Callable[..., Term], self: Lock, *, timeout: float | None = None, on_lost: object = None
    ) -> Term:
        return original(self, timeout=timeout or None, on_lost=on_lost)

    patch.wrap(Lock, "acquire", acquire)


@mutant("refuses-what-it-has", breaks=("LEAD-9", "LEAD-17"), like="peers 11")
def refuses_what_it_has(patch: Patch) -> None:
    """A campaign that is repeated because its answer was lost is told that the seat is taken: by itself."""

    def campaign(
        original: Callable[..., Won | Waiting],
        self: MemoryBackend,
        lease: Lease,
        election: str,
        attempt: int,
        *rest: object,
    ) -> Won | Waiting:
        with self._store.call(self._namespace) as space:
            place = space.elections.get(election, _Election())
            if place.holder == _Candidate(lease.incarnation, attempt):
                left = space.live(lease).deadline - self._store.clock.now()
                return Waiting(_leader(space, place), left)
        return original(self, lease, election, attempt, *rest)

    patch.wrap(MemoryBackend, "campaign", campaign)


@mutant("wins-with-no-key-left", breaks="BEAT-17", like="peers 12")
def wins_with_no_key_left(patch: Patch) -> None:
    """A candidate whose own key went with its session is told that it has won, since nobody is before it."""

    def campaign(
        original: Callable[..., Won | Waiting],
        self: MemoryBackend,
        lease: Lease,
        election: str,
        attempt: int,
        *rest: object,
    ) -> Won | Waiting:
        with self._store.call(self._namespace) as space:
            place = space.elections.setdefault(election, _Election())
            if lease.incarnation not in space.sessions and place.holder is None:
                return Won(Seat(election, attempt, place.token + 1))
        return original(self, lease, election, attempt, *rest)

    patch.wrap(MemoryBackend, "campaign", campaign)


@mutant("counts-from-the-answer", breaks="LEAD-8", like="peers 13")
def counts_from_the_answer(patch: Patch) -> None:
    """A heartbeat's deadline counts from the moment when its answer came, not from when it was sent."""

    def renew(original: Callable[..., bool], self: Incarnation, lease: Lease, timing: Timing, *, sent: float) -> bool:
        return original(self, lease, timing, sent=self._clock.now())

    patch.wrap(Incarnation, "renew", renew)
