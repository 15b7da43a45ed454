"""The core's own rules, broken: what sessions, terms and callbacks do the same on every backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from drumbeat import State
from drumbeat._dispatcher import Dispatcher
from drumbeat._events import Event
from drumbeat._group import GroupWatch
from drumbeat._incarnation import Incarnation
from drumbeat._keeper import Keeper
from drumbeat._streams import Subscription
from drumbeat._term import Term
from drumbeat._timing import Timing
from drumbeat.hookspecs import Membership, Seat, Subject
from drumbeat_mutants import Patch, mutant

#: A bound method, before it was broken.
Original = Callable[..., object]


@mutant("says-nothing-of-an-outage", breaks="BEAT-28", like="hazard: read-only mode counts as SUSPENDED")
def says_nothing_of_an_outage(patch: Patch) -> None:
    """A session whose heartbeats fail calls itself connected until its deadline."""

    def state(original: Callable[[Keeper], State], self: Keeper) -> State:
        found = original(self)
        return State.CONNECTED if found is State.SUSPENDED else found

    patch.wrap(Keeper, "state", state)


@mutant("stops-beating-after-a-failure", breaks="BEAT-28", like="hazard: keepalive stream stuck")
def stops_beating_after_a_failure(patch: Patch) -> None:
    """The thread that sends heartbeats ends with the first one that fails."""

    def beats(self: Keeper) -> None:
        while not self._closing.is_set():
            incarnation = self._incarnation
            if incarnation is None or incarnation.over is not None:
                self._heartbeat_due.take(None)
            elif not self._heartbeat_due.take(incarnation.next_beat):
                try:
                    self._beat(incarnation)
                    self._rejoin(incarnation)
                except Exception:  # noqa: BLE001 - that was the last one
                    return

    patch(Keeper, "_send_heartbeats", beats)


@mutant("takes-back-a-lost-seat-again-and-again", breaks="LEAD-39")
def takes_back_a_lost_seat_again_and_again(patch: Patch) -> None:
    """What a heartbeat finds gone is told to the user, and still counts as held: each heartbeat finds it gone anew."""

    def take_lost(self: Incarnation, lost: Sequence[Seat | Membership]) -> list[Term]:
        for item in lost:
            if isinstance(item, Membership):
                self._forget_place(item)
        return [self._terms[item] for item in lost if isinstance(item, Seat) and item in self._terms]

    patch(Incarnation, "take_lost", take_lost)


@mutant("asks-the-server-before-it-lets-go", breaks="LEAD-40", like="hazard: flags flip before callbacks")
def asks_the_server_before_it_lets_go(patch: Patch) -> None:
    """A resign frees the seat at the server first, and `held` is True until the answer has come."""

    def resign(self: Term) -> bool:
        was_held = self._incarnation.alive() and self._keeper.resign(self._incarnation, self._seat)
        return self._let_go() and was_held

    patch(Term, "resign", resign)


@mutant("lives-to-the-last-moment", breaks="LEAD-41", like="hazard: two clocks drift apart")
def lives_to_the_last_moment(patch: Patch) -> None:
    """A term is held for the whole TTL, as if its holder's clock and the server's were one."""
    patch(Timing, "usable", property(lambda self: self.ttl))


@mutant("trusts-a-restored-snapshot", breaks="LEAD-42", like="hazard: host suspended")
def trusts_a_restored_snapshot(patch: Patch) -> None:
    """A jump of wall time against the session's clock is not looked at."""
    patch(Incarnation, "clock_jumped", lambda _self: False)


@mutant("tells-the-loss-while-it-holds", breaks="LEAD-39", like="hazard: flags flip before callbacks")
def tells_the_loss_while_it_holds(patch: Patch) -> None:
    """The user is told of a lost seat by a callback that still finds the term held."""

    def revoke(original: Original, self: Term, reason: str) -> None:
        if self._on_lost is not None:
            self._on_lost(self)
        original(self, reason)

    patch.wrap(Term, "_revoke", revoke)


@mutant("hears-nothing-after-a-reopening", breaks="WATCH-16", like="hazard: watches lost on expiry")
def hears_nothing_after_a_reopening(patch: Patch) -> None:
    """A watch belongs to the incarnation that it was set in, and is not set again in the next one."""

    def follow(original: Original, self: Subscription, incarnation: Incarnation, subject: Subject) -> object:
        return False if self._subject == subject else original(self, incarnation, subject)

    patch.wrap(Subscription, "follow", follow)


@mutant("reads-before-it-watches", breaks="WATCH-17", like="hazard: SUBSCRIBE races the read")
def reads_before_it_watches(patch: Patch) -> None:
    """A watch is set after the first read, and what changes in between is seen by the next polling only."""

    def read(original: Original, self: GroupWatch, incarnation: Incarnation) -> object:
        self._subscription.cancel()
        change = original(self, incarnation)
        self._subscription.follow(incarnation, self._subject)
        return change

    patch.wrap(GroupWatch, "_read", read)


@mutant("lets-observers-delay-it", breaks="WATCH-3")
def lets_observers_delay_it(patch: Patch) -> None:
    """Observers are called where the event happens, and what they raise is the caller's."""

    def emit(self: Dispatcher, event: Event) -> None:
        for observer in self._observers:
            observer(event=event)

    patch(Dispatcher, "emit", emit)
