"""Sessions that believe in their terms for too long, tell too little, or wait for what never comes."""

from __future__ import annotations

import time
import unicodedata
import weakref
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import drumbeat._election
import drumbeat._term
from drumbeat import CampaignWithdrawn, Closed, Leader, SessionLost, Unavailable
from drumbeat._callbacks import LostCallbacks
from drumbeat._clock import Signal
from drumbeat._dispatcher import Dispatcher
from drumbeat._election import Attempt, Campaign, Election, LeaderWatch, _Seat
from drumbeat._incarnation import Incarnation
from drumbeat._keeper import Keeper
from drumbeat._streams import Subscription
from drumbeat._term import Term
from drumbeat._timing import Timing
from drumbeat.hookspecs import Lease, Resigned, Seat, Vacant
from drumbeat.memory import MemoryBackend
from drumbeat_etcd._watches import Watch, Watches
from drumbeat_mutants import Patch, mutant

if TYPE_CHECKING:
    from drumbeat.hookspecs import Waiting, Won


@mutant("grants-itself-a-grace", breaks=("LEAD-1", "LEAD-8", "LEAD-28"))
def grants_itself_a_grace(patch: Patch) -> None:
    """A session believes in itself for half a TTL longer than its lease, to get over short outages."""

    def usable(original: Callable[[Timing], float], self: Timing) -> float:
        return original(self) + self.ttl / 2

    patch.wrap(Timing, "usable", usable)


@mutant("starts-over-after-an-error", breaks="LEAD-9", like="hazard: reply lost after the write was applied")
def starts_over_after_an_error(patch: Patch) -> None:
    """A campaign whose answer was lost tries again as a new candidate, and waits for the seat that it has."""

    def ask(original: Callable[[Attempt], Won | Waiting], self: Attempt) -> Won | Waiting:
        try:
            return original(self)
        except Unavailable:
            self._candidacy = self._incarnation.new_candidacy(self._candidacy.election)
            raise

    patch.wrap(Attempt, "ask", ask)


@mutant("tells-of-the-first-loss-alone", breaks="LEAD-11")
def tells_of_the_first_loss_alone(patch: Patch) -> None:
    """When a session is lost, the first of its terms is told, and the others find out for themselves."""

    def end(original: Callable[..., list[Term] | None], self: Incarnation, reason: str) -> list[Term] | None:
        terms = original(self, reason)
        return None if terms is None else terms[:1]

    patch.wrap(Incarnation, "end", end)


@mutant("tells-each-loss-twice", breaks="LEAD-11")
def tells_each_loss_twice(patch: Patch) -> None:
    """Both who notices a loss and who ends the term call `on_lost`."""

    def revoke(original: Callable[..., None], self: Keeper, terms: Iterable[Term], reason: str) -> None:
        known = list(terms)
        original(self, known, reason)
        original(self, known, reason)

    patch.wrap(Keeper, "_revoke", revoke)


@mutant("keeps-the-first-value", breaks="LEAD-26")
def keeps_the_first_value(patch: Patch) -> None:
    """A session that has read a leader once gives that again for as long as the token is the same."""
    known: dict[int, Leader] = {}

    def read(original: Callable[[_Seat], Leader | None], self: _Seat) -> Leader | None:
        leader = original(self)
        return None if leader is None else known.setdefault(leader.token, leader)

    patch.wrap(_Seat, "_read_holder", read)


@mutant("sleeps-until-the-lease-is-over", breaks="LEAD-27", like="hazard: an event is lost")
def sleeps_until_the_lease_is_over(patch: Patch) -> None:
    """A candidate sleeps until the holder can lapse, and neither a hint nor a look in between wakes it."""

    def wait(
        original: Callable[..., None], self: Subscription, deadline: float | None, *, at_most: float | None = None
    ) -> None:
        if at_most is None:
            original(self, deadline, at_most=at_most)
        else:
            until = self._keeper.clock.now() + at_most
            Signal(self._keeper.clock).wait_until(until if deadline is None else min(until, deadline))

    patch.wrap(Subscription, "wait", wait)


@mutant("takes-its-own-word-for-a-resign", breaks=("LEAD-27", "LEAD-28"))
def takes_its_own_word_for_a_resign(patch: Patch) -> None:
    """A resign says that the term was held, whatever the clock or the server says."""

    def resign(original: Callable[[Term], bool], self: Term) -> bool:
        original(self)
        return True

    patch.wrap(Term, "resign", resign)


@mutant("leaves-its-attempt-behind", breaks=("LEAD-29", "LEAD-30"))
def leaves_its_attempt_behind(patch: Patch) -> None:
    """A campaign that gives up returns to its caller, and leaves its attempt in the queue."""

    def abandon(self: Attempt) -> None:
        assert self._candidacy.attempt

    patch(Attempt, "abandon", abandon)


@mutant("repeats-until-it-is-answered", breaks=("LEAD-30", "LOCK-2"))
def repeats_until_it_is_answered(patch: Patch) -> None:
    """A campaign looks at its timeout when it has an answer, and repeats its request until there is one."""

    def ask(original: Callable[[Attempt], Won | Waiting], self: Attempt) -> Won | Waiting:
        while self._incarnation.alive():
            try:
                return original(self)
            except Unavailable:
                Signal(self._keeper.clock).wait(self._incarnation.timing.ttl / 20)
        raise SessionLost("the session ended meanwhile")

    patch.wrap(Attempt, "ask", ask)


@mutant("ends-campaigns-with-their-session", breaks="LEAD-32")
def ends_campaigns_with_their_session(patch: Patch) -> None:
    """A campaign ends with the session that it was begun in, although the session is opened again."""

    def run_in(original: Callable[..., Term | None], self: Campaign, incarnation: Incarnation) -> Term | None:
        term = original(self, incarnation)
        if term is None:
            raise SessionLost("the session is LOST")
        return term

    patch.wrap(Campaign, "_run_in", run_in)


@mutant("wins-while-it-tells-of-the-loss", breaks="LEAD-33")
def wins_while_it_tells_of_the_loss(patch: Patch) -> None:
    """A process wins an election again while it still runs `on_lost` of its last term there."""

    def wait(self: LostCallbacks, election: str, *, deadline: float, waiter: str) -> None:
        assert self._store, (election, deadline, waiter)

    patch(LostCallbacks, "wait", wait)


@mutant("calls-back-from-its-own-threads", breaks="LEAD-34", like="hazard: callback runs on the client's I/O thread")
def calls_back_from_its_own_threads(patch: Patch) -> None:
    """Callbacks run on the thread that noticed: one that blocks stops the heartbeats and the watchdog."""

    def call(self: Dispatcher, callback: Callable[[], None]) -> None:
        self._run(callback)

    patch(Dispatcher, "call", call)


@mutant("ensures-that-it-is-held-now", breaks="LEAD-35")
def ensures_that_it_is_held_now(patch: Patch) -> None:
    """`ensure` looks whether the term is held, and not for how much longer."""

    def ensure(original: Callable[..., None], self: Term, seconds: float = 0.0) -> None:
        assert seconds is not None
        original(self)

    patch.wrap(Term, "ensure", ensure)


@mutant("resigns-after-success-alone", breaks="LEAD-36")
def resigns_after_success_alone(patch: Patch) -> None:
    """The end of a `with` block resigns, unless the block has raised."""

    def leave(original: Callable[..., None], self: Term, kind: object, *rest: object) -> None:
        if kind is None:
            original(self, kind, *rest)

    patch.wrap(Term, "__exit__", leave)


@mutant("answers-from-memory", breaks="LEAD-37")
def answers_from_memory(patch: Patch) -> None:
    """While the server does not answer, the leader that was read last is given as who leads now."""
    known: dict[tuple[Keeper, str], Leader | None] = {}

    def read(original: Callable[[_Seat], Leader | None], self: _Seat) -> Leader | None:
        place = (self._keeper, self._qualified)
        try:
            known[place] = original(self)
        except Unavailable:
            if place not in known:
                raise
        return known[place]

    patch.wrap(_Seat, "_read_holder", read)


@mutant("believes-a-late-answer", breaks="LEAD-38", like="hazard: a success that arrives after its own deadline")
def believes_a_late_answer(patch: Patch) -> None:
    """A session past its deadline is left in peace while a heartbeat is under way, and its answer, however late, makes
    the terms held again.
    """
    under_way: set[Incarnation] = set()

    def alive(self: Incarnation) -> bool:
        return self.over is None and self._clock.now() < self.deadline

    def beat(original: Callable[..., None], self: Keeper, incarnation: Incarnation) -> None:
        under_way.add(incarnation)
        original(self, incarnation)
        under_way.discard(incarnation)

    def lose(original: Callable[..., None], self: Keeper, incarnation: Incarnation, reason: str) -> None:
        if incarnation in under_way:
            Signal(self.clock).wait(incarnation.timing.ttl)
        original(self, incarnation, reason)

    def renew(self: Incarnation, lease: Lease, timing: Timing, *, sent: float) -> bool:
        self.lease, self.timing = lease, timing
        self.deadline = max(sent, self._clock.now()) + timing.usable
        return True

    patch(Incarnation, "alive", alive)
    patch(Incarnation, "renew", renew)
    patch.wrap(Keeper, "_beat", beat)
    patch.wrap(Keeper, "lose", lose)


@mutant("renews-itself", breaks="LEAD-11")
def renews_itself(patch: Patch) -> None:
    """The deadline moves on when a heartbeat is sent, whether or not it is answered."""

    def beat(original: Callable[..., None], self: Keeper, incarnation: Incarnation) -> None:
        incarnation.deadline = self.clock.now() + incarnation.timing.usable
        original(self, incarnation)

    patch.wrap(Keeper, "_beat", beat)


@mutant("tells-of-a-loss-at-its-close", breaks="LEAD-11")
def tells_of_a_loss_at_its_close(patch: Patch) -> None:
    """`on_lost` is called for every term that the session's close ends, although it was given up and not lost."""

    def finish(original: Callable[..., None], self: Term, reason: str) -> None:
        original(self, reason)
        if reason != "resigned" and self._on_lost is not None:
            self._keeper.lost_callbacks.run(self._seat.election, self._on_lost, self)

    patch.wrap(Term, "_finish", finish)


@mutant("withdraws-one-campaign", breaks="LEAD-29")
def withdraws_one_campaign(patch: Patch) -> None:
    """`withdraw()` ends one of the campaigns that wait, and counts them all."""

    def withdraw(self: Election) -> int:
        for campaign in list(self._campaigns)[:1]:
            campaign.withdraw()
        return len(self._campaigns)

    patch(Election, "withdraw", withdraw)


@mutant("withdraws-from-every-election", breaks="LEAD-29")
def withdraws_from_every_election(patch: Patch) -> None:
    """The campaigns that wait are known by session, and `withdraw()` ends those for other elections too."""
    seats: weakref.WeakSet[_Seat] = weakref.WeakSet()

    def make(original: Callable[..., None], self: _Seat, keeper: Keeper, name: str) -> None:
        original(self, keeper, name)
        seats.add(self)

    def withdraw(original: Callable[[Election], int], self: Election) -> int:
        for other in list(seats):
            if other._keeper is self._keeper and other is not self and isinstance(other, Election):
                original(other)
        return original(self)

    patch.wrap(_Seat, "__init__", make)
    patch.wrap(Election, "withdraw", withdraw)


@mutant("remains-what-it-was", breaks="LEAD-35")
def remains_what_it_was(patch: Patch) -> None:
    """`remaining` is what a heartbeat grants, until the term is over."""
    patch(Term, "remaining", property(lambda self: self._incarnation.timing.usable if self.held else 0.0))


@mutant("signals-losses-alone", breaks="LEAD-36")
def signals_losses_alone(patch: Patch) -> None:
    """The signal `lost` goes up when a term is lost, and stays down when it is resigned or its session closed."""

    def finish(original: Callable[..., None], self: Term, reason: str) -> None:
        raised, self._lost = self._lost, Signal(self._keeper.clock)
        original(self, reason)
        self._lost = raised

    patch.wrap(Term, "_finish", finish)


@mutant("waits-for-a-closed-session", breaks="LEAD-46")
def waits_for_a_closed_session(patch: Patch) -> None:
    """A campaign takes the close of its session for an outage, and waits for the session to be opened again."""

    def run(original: Callable[[Campaign], Term], self: Campaign) -> Term:
        try:
            return original(self)
        except Closed:
            Signal(self._keeper.clock).wait()
            raise

    patch.wrap(Campaign, "run", run)


@mutant("waits-for-a-watch-that-never-comes", breaks="LEAD-46", of="etcd")
def waits_for_a_watch_that_never_comes(patch: Patch) -> None:
    """Who waits for the server to confirm a watch goes on waiting when the session has ended meanwhile."""

    def await_(self: Watches, watch: Watch, timeout: float) -> None:
        until = time.monotonic() + timeout
        while watch.watch_id is None:
            if time.monotonic() > until:
                raise Unavailable("the watch was not confirmed in time")
            time.sleep(0.001)

    def stand(original: Callable[..., None], self: Watches, *rest: object) -> None:
        # As from a server that is busy.
        time.sleep(1.0)
        if not self._over.is_set():
            original(self, *rest)

    patch(Watches, "_await", await_)
    patch.wrap(Watches, "_stand", stand)


@mutant("takes-a-proclaim-for-done", breaks="LEAD-47")
def takes_a_proclaim_for_done(patch: Patch) -> None:
    """Whether the server still had the seat for a proclaim is not looked at."""

    def proclaim(original: Callable[..., bool], self: Keeper, *rest: object) -> bool:
        return original(self, *rest) or self.backend is not None

    patch.wrap(Keeper, "proclaim", proclaim)


@mutant("proclaims-whatever-its-size", breaks="LEAD-48")
def proclaims_whatever_its_size(patch: Patch) -> None:
    """The limit of a value is looked at when a campaign begins, and not at a proclaim."""

    def encode(original: Callable[..., bytes], kind: str, value: object, *, limit: int) -> bytes:
        return original(kind, value, limit=2 * limit)

    patch.wrap(drumbeat._term, "encode_value", encode)


@mutant("knows-leaders-by-name", breaks="LEAD-49")
def knows_leaders_by_name(patch: Patch) -> None:
    """Who observes an election is told when the member or the value has changed, and not when the term has."""

    def read(
        original: Callable[..., Leader | Vacant | None], self: LeaderWatch, incarnation: Incarnation
    ) -> Leader | Vacant | None:
        last, found = self._last, original(self, incarnation)
        if not isinstance(last, Leader) or not isinstance(found, Leader):
            return found
        return None if (last.member_id, last.value) == (found.member_id, found.value) else found

    patch.wrap(LeaderWatch, "_read", read)


@mutant("resigns-under-another-spelling", breaks="LEAD-50")
def resigns_under_another_spelling(patch: Patch) -> None:
    """The name of a seat is written in a simpler form when it is resigned, and as it was given otherwise."""

    def resign(original: Callable[..., Resigned], self: MemoryBackend, lease: Lease, seat: Seat) -> Resigned:
        return original(self, lease, replace(seat, election=unicodedata.normalize("NFKC", seat.election)))

    patch.wrap(MemoryBackend, "resign", resign)


@mutant("takes-names-for-one-another", breaks="LEAD-50")
def takes_names_for_one_another(patch: Patch) -> None:
    """Names of elections that look alike, such as by a ligature or a space at the end, are one and the same."""

    def name_of(original: Callable[..., str], kind: str, name: str) -> str:
        plain = original(kind, name)
        return plain if kind == "group" else unicodedata.normalize("NFKC", plain).rstrip()

    patch.wrap(drumbeat._election, "check_name", name_of)


@mutant("keeps-the-seat-it-could-not-resign", breaks="LEAD-51", like="hazard: reply lost after the write was applied")
def keeps_the_seat_it_could_not_resign(patch: Patch) -> None:
    """A seat whose resign got no answer is counted as held again, so that every heartbeat renews it."""

    def resign(original: Callable[[Term], bool], self: Term) -> bool:
        try:
            return original(self)
        except Unavailable:
            self._incarnation._terms[self._seat] = self
            raise

    patch.wrap(Term, "resign", resign)


@mutant("believes-whoever-answers-last", breaks="LEAD-52")
def believes_whoever_answers_last(patch: Patch) -> None:
    """Each answer to a heartbeat sets the deadline anew, also that to an earlier one which took longer."""

    def renew(original: Callable[..., bool], self: Incarnation, lease: Lease, timing: Timing, *, sent: float) -> bool:
        renewed = original(self, lease, timing, sent=sent)
        self.deadline = sent + timing.usable
        return renewed

    patch.wrap(Incarnation, "renew", renew)


@mutant("stays-withdrawn", breaks="LEAD-29")
def stays_withdrawn(patch: Patch) -> None:
    """An election that was withdrawn from once takes each later campaign for withdrawn as well."""
    withdrawn: weakref.WeakSet[Election] = weakref.WeakSet()

    def withdraw(original: Callable[[Election], int], self: Election) -> int:
        withdrawn.add(self)
        return original(self)

    def win(original: Callable[..., Term], self: _Seat, **options: object) -> Term:
        if self in withdrawn:
            raise CampaignWithdrawn(f"the campaign for {self.name!r} was withdrawn")
        return original(self, **options)

    patch.wrap(Election, "withdraw", withdraw)
    patch.wrap(_Seat, "_win", win)


@mutant("counts-anew-after-a-loss", breaks="LEAD-54")
def counts_anew_after_a_loss(patch: Patch) -> None:
    """The timeout of a campaign is counted for each session in which it is tried."""

    def run_in(original: Callable[..., Term | None], self: Campaign, incarnation: Incarnation) -> Term | None:
        if self._timeout is not None:
            self._deadline = self._keeper.clock.now() + self._timeout
        return original(self, incarnation)

    patch.wrap(Campaign, "_run_in", run_in)


@mutant("observes-by-the-clock", breaks="LEAD-49")
def observes_by_the_clock(patch: Patch) -> None:
    """Who observes an election is given what every look finds, whether or not it has changed."""

    def read(
        original: Callable[..., Leader | Vacant | None], self: LeaderWatch, incarnation: Incarnation
    ) -> Leader | Vacant | None:
        self._last = None
        return original(self, incarnation)

    patch.wrap(LeaderWatch, "_read", read)
