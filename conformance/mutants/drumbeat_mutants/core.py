"""The core's own rules, broken: what sessions, terms and callbacks do the same on every backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from drumbeat import SessionLost, State
from drumbeat._dispatcher import Dispatcher
from drumbeat._election import Attempt, Campaign
from drumbeat._events import Event
from drumbeat._group import Group, GroupWatch
from drumbeat._incarnation import Incarnation
from drumbeat._keeper import Keeper
from drumbeat._streams import Subscription
from drumbeat._term import Term
from drumbeat._timing import Timing
from drumbeat.hookspecs import Lease, Membership, Seat, Subject
from drumbeat_mutants import Patch, mutant

#: A bound method, before it was broken.
Original = Callable[..., object]


@mutant("drops-terms-at-the-first-failure", breaks="BEAT-28")
def drops_terms_at_the_first_failure(patch: Patch) -> None:
    """One heartbeat without an answer ends all terms, long before the deadline."""

    def failed(original: Original, self: Keeper, incarnation: Incarnation, error: Exception) -> None:
        original(self, incarnation, error)
        self.lose(incarnation, str(error))

    patch.wrap(Keeper, "_beat_failed", failed)


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


@mutant("rejoins-with-its-first-metadata", breaks="BEAT-8")
def rejoins_with_its_first_metadata(patch: Patch) -> None:
    """After a reopening, a group is joined with the metadata of the first join, whatever was updated since."""

    def update(original: Original, self: Group, metadata: dict[str, object]) -> object:
        before = self._keeper.wanted.get(self.name)
        answer = original(self, metadata)
        if before is not None:
            self._keeper.wanted[self.name] = before
        return answer

    patch.wrap(Group, "update", update)


@mutant("rejoins-what-it-has-left", breaks="BEAT-8")
def rejoins_what_it_has_left(patch: Patch) -> None:
    """A group that was left is joined again when the session is opened again."""

    def leave(original: Original, self: Group) -> object:
        before = self._keeper.wanted.get(self.name)
        answer = original(self)
        if before is not None:
            self._keeper.wanted[self.name] = before
        return answer

    patch.wrap(Group, "leave", leave)


@mutant("passes-off-the-last-view", breaks="BEAT-29")
def passes_off_the_last_view(patch: Patch) -> None:
    """While the server does not answer, the last view is given for the present one."""
    views: dict[tuple[Keeper, str], object] = {}

    def members(original: Original, self: Group) -> object:
        try:
            views[self._keeper, self.name] = original(self)
        except Exception:
            if (self._keeper, self.name) not in views:
                raise
        return views[self._keeper, self.name]

    patch.wrap(Group, "members", members)


@mutant("leaves-the-session-to-lapse", breaks="BEAT-7")
def leaves_the_session_to_lapse(patch: Patch) -> None:
    """Closing a session only stops its heartbeats, so that everybody waits for the end of its lease."""

    def release(self: Keeper, lease: Lease, *, timeout: float) -> None:
        self.backend.drop_session(lease)

    patch(Keeper, "_release", release)


@mutant("gives-up-with-its-session", breaks="LEAD-32")
def gives_up_with_its_session(patch: Patch) -> None:
    """A campaign ends with an error when the session is lost, although it is opened again."""

    def run_in(original: Original, self: Campaign, incarnation: Incarnation) -> object:
        term = original(self, incarnation)
        if term is None:
            raise SessionLost("the session was lost while its campaign waited")
        return term

    patch.wrap(Campaign, "_run_in", run_in)


@mutant("leaves-its-candidacy-behind", breaks="LEAD-30")
def leaves_its_candidacy_behind(patch: Patch) -> None:
    """A campaign that gives up withdraws nothing: the attempt stays in the queue, and wins for nobody."""

    def abandon(self: Attempt) -> None:
        self._keeper.check()

    patch(Attempt, "abandon", abandon)


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


@mutant("calls-back-in-the-heart-of-it", breaks="LEAD-34", like="hazard: callback on the client's I/O thread")
def calls_back_in_the_heart_of_it(patch: Patch) -> None:
    """Callbacks run on the thread that sends heartbeats and watches the deadline."""

    def call(self: Dispatcher, callback: Callable[[], None]) -> None:
        self._run(callback)

    patch(Dispatcher, "call", call)
