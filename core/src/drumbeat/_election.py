"""Elections and locks: one machinery for every seat."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, final

from drumbeat._clock import deadline_after
from drumbeat._errors import CampaignWithdrawn, ConfigurationError, DrumbeatError, SessionLost, Timeout, Unavailable
from drumbeat._names import check_name
from drumbeat._streams import Stream, Subscription
from drumbeat._term import Term
from drumbeat._values import encode_value
from drumbeat._view import Leader
from drumbeat.hookspecs import CandidacySubject, LeaderRecord, LeaderSubject, Vacant, Won

if TYPE_CHECKING:
    from drumbeat._incarnation import Incarnation
    from drumbeat._keeper import Keeper
    from drumbeat.hookspecs import Waiting

OnLost = Callable[[Term], None]

#: Seconds after a holder's last moment at which a candidate looks again, so as not to come too early.
AFTER_LAPSE = 0.001


class Attempt:
    """One attempt of one incarnation to win a seat: asks without waiting, and leaves nothing behind unless it won."""

    def __init__(
        self,
        keeper: Keeper,
        incarnation: Incarnation,
        election: str,
        *,
        name: str,
        value: bytes,
        on_lost: OnLost | None,
    ) -> None:
        self._keeper = keeper
        self._incarnation = incarnation
        self._name = name
        self._value = value
        self._on_lost = on_lost
        self._candidacy = incarnation.new_candidacy(election)
        keeper.emit("campaigning", subject=election, incarnation=incarnation)

    @property
    def subject(self) -> CandidacySubject:
        """What to watch while the attempt waits."""
        return CandidacySubject(self._candidacy.election, self._candidacy.attempt)

    def ask(self) -> Won | Waiting:
        """Try once; raise Unavailable or SessionLost. Asking again is harmless."""
        return self._keeper.backend.campaign(
            self._incarnation.lease,
            self._candidacy.election,
            attempt=self._candidacy.attempt,
            value=self._value,
            timeout=self._incarnation.timing.request_timeout,
        )

    def take(self, won: Won) -> Term | None:
        """Return the term that was won, or None if the incarnation has ended meanwhile."""
        term = Term(self._keeper, self._incarnation, won.seat, name=self._name, on_lost=self._on_lost)
        if not self._incarnation.add_term(self._candidacy, won.seat, term):
            return None
        self._keeper.emit("won", subject=self._candidacy.election, token=term.token, incarnation=self._incarnation)
        return term

    def abandon(self) -> None:
        """Withdraw; if the server does not answer, what it knows of the attempt goes at the next heartbeat."""
        self._incarnation.end_candidacy(self._candidacy)
        if not self._incarnation.alive():
            return
        with suppress(DrumbeatError):
            self._keeper.backend.withdraw(
                self._incarnation.lease,
                self._candidacy.election,
                attempt=self._candidacy.attempt,
                timeout=self._incarnation.timing.request_timeout,
            )


class Campaign:
    """One call that waits for a seat: attempts follow one another until one wins or the caller gives up."""

    def __init__(
        self,
        keeper: Keeper,
        election: str,
        *,
        name: str,
        value: bytes,
        timeout: float | None,
        on_lost: OnLost | None,
    ) -> None:
        self._keeper = keeper
        self._election = election
        self._name = name
        self._value = value
        self._timeout = timeout
        self._deadline = deadline_after(keeper.clock, timeout)
        self._on_lost = on_lost
        self._subscription = Subscription(keeper)
        self._withdrawn = False

    def run(self) -> Term:
        """Return the term, or raise Timeout, CampaignWithdrawn, Closed, Forked or AuthenticationError."""
        term: Term | None = None
        try:
            while term is None:
                term = self._run_in(self._keeper.wait_live(self._deadline))
            self._subscription.cancel()
        except BaseException:
            # An interrupt may come at any line: a seat that nobody has must not be renewed for ever.
            if term is not None:
                with suppress(DrumbeatError):
                    term.resign()
            self._subscription.cancel()
            raise
        return term

    def withdraw(self) -> None:
        """Make `run` raise CampaignWithdrawn in the thread that waits in it."""
        self._withdrawn = True
        self._subscription.wake()

    def _run_in(self, incarnation: Incarnation) -> Term | None:
        attempt = Attempt(
            self._keeper,
            incarnation,
            self._election,
            name=self._name,
            value=self._value,
            on_lost=self._on_lost,
        )
        term = None
        try:
            term = self._try_until_won(incarnation, attempt)
        except SessionLost as error:
            self._keeper.lose(incarnation, str(error))
        finally:
            if term is None:
                attempt.abandon()
        return term

    def _try_until_won(self, incarnation: Incarnation, attempt: Attempt) -> Term | None:
        while incarnation.alive():
            retry_after: float | None = None
            try:
                answer = attempt.ask()
            except Unavailable:
                retry_after = incarnation.timing.ttl / 20
            else:
                if isinstance(answer, Won):
                    return self._win(incarnation, attempt, answer)
                self._give_up_in_time()
                if self._follow(incarnation, attempt):
                    continue
                if answer.retry_after is not None:
                    retry_after = answer.retry_after + AFTER_LAPSE
            self._give_up_in_time()
            self._subscription.wait(self._deadline, at_most=retry_after)
            self._keeper.check()
        return None

    def _follow(self, incarnation: Incarnation, attempt: Attempt) -> bool:
        try:
            return self._subscription.follow(incarnation, attempt.subject)
        except Unavailable:
            return False

    def _give_up_in_time(self) -> None:
        if self._withdrawn:
            raise CampaignWithdrawn(f"the campaign for {self._name!r} was withdrawn")
        if self._deadline is not None and self._keeper.clock.now() >= self._deadline:
            raise Timeout(f"{self._name!r} was not won within {self._timeout:g} s; the attempt was withdrawn")

    def _win(self, incarnation: Incarnation, attempt: Attempt, won: Won) -> Term | None:
        deadline = self._keeper.clock.now() + incarnation.timing.ttl
        if self._deadline is not None:
            deadline = min(deadline, self._deadline)
        who = self._keeper.settings.member_id
        self._keeper.lost_callbacks.wait(self._election, deadline=deadline, waiter=who)
        if self._withdrawn:
            raise CampaignWithdrawn(f"the campaign for {self._name!r} was withdrawn")
        return attempt.take(won)


@final
class LeaderWatch(Stream["Leader | Vacant"]):
    """The changes of an election's leader, from `Election.observe()`; the first one is who leads now."""

    def __init__(self, keeper: Keeper, election: str, *, name: str) -> None:
        super().__init__(keeper, LeaderSubject(election))
        self._election = election
        self._name = name
        self._last: Leader | Vacant | None = None

    def _read(self, incarnation: Incarnation) -> Leader | Vacant | None:
        record = self._keeper.backend.read_leader(
            incarnation.lease, self._election, timeout=incarnation.timing.request_timeout
        )
        leader = Leader.from_record(self._name, record) if isinstance(record, LeaderRecord) else record
        if leader == self._last:
            return None
        self._last = leader
        return leader


class _Seat:
    """What elections and locks have in common."""

    _kind: str

    def __init__(self, keeper: Keeper, name: str) -> None:
        self._keeper = keeper
        self.name = check_name(self._kind, name)
        self._qualified = f"{self._kind}/{self.name}"
        self._campaigns: set[Campaign] = set()

    def _win(self, *, value: object, timeout: float | None, on_lost: OnLost | None) -> Term:
        if on_lost is not None and not callable(on_lost):
            raise ConfigurationError(f"on_lost must be a function that takes the term, not {on_lost!r}")
        campaign = Campaign(
            self._keeper,
            self._qualified,
            name=self.name,
            value=encode_value("value", value, limit=self._keeper.profile.limits.value_bytes),
            timeout=timeout,
            on_lost=on_lost,
        )
        self._campaigns.add(campaign)
        try:
            return campaign.run()
        finally:
            self._campaigns.discard(campaign)

    def _read_holder(self) -> Leader | None:
        record = self._keeper.call(
            f"read {self._qualified}",
            lambda incarnation, timeout: self._keeper.backend.read_leader(
                incarnation.lease, self._qualified, timeout=timeout
            ),
        )
        return Leader.from_record(self.name, record) if isinstance(record, LeaderRecord) else None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


@final
class Election(_Seat):
    """A named seat that one process at a time holds; get one from `Session.election(name)`."""

    _kind = "election"

    def campaign(
        self,
        value: object = None,
        *,
        timeout: float | None = None,
        on_lost: OnLost | None = None,
    ) -> Term:
        """Wait until this process leads, and return the term.

        `value` is a small JSON document that `leader()` gives to everybody. Two campaigns of one session are two
        candidates. A LOST session does not end the wait: it goes on with a new attempt. `on_lost(term)` is called
        on the dispatcher's thread if the term is lost rather than resigned, after `held` became False, and before
        this process can win the same election again. Raises Timeout after `timeout` seconds (0 tries once; a slow
        server may add two request timeouts), CampaignWithdrawn, Closed, Forked or AuthenticationError.
        """
        return self._win(value=value, timeout=timeout, on_lost=on_lost)

    def withdraw(self) -> int:
        """Give up every campaign of this object that waits in another thread; return how many there were.

        Each of those calls raises CampaignWithdrawn. Terms that were won already stay.
        """
        campaigns = list(self._campaigns)
        for campaign in campaigns:
            campaign.withdraw()
        return len(campaigns)

    def leader(self) -> Leader | None:
        """Return who leads, read from the server now, or None if nobody does."""
        return self._read_holder()

    def observe(self) -> LeaderWatch:
        """Return an iterator over the leaders to come, first who leads now; `Vacant()` stands for nobody.

        Short terms between two reads may not be seen.
        """
        self._keeper.check()
        return LeaderWatch(self._keeper, self._qualified, name=self.name)


@final
class Lock(_Seat):
    """Mutual exclusion among processes and threads; get one from `Session.lock(name)`.

    It is not re-entrant: two threads of one session exclude each other, and so do two calls of one thread.
    """

    _kind = "lock"

    def acquire(self, *, timeout: float | None = None, on_lost: OnLost | None = None) -> Term:
        """Wait for the lock and return the term in which it is held; leave its `with` block to release it.

        Raises Timeout after `timeout` seconds (0 tries once; a slow server may add two request timeouts).
        """
        return self._win(value=None, timeout=timeout, on_lost=on_lost)

    def holder(self) -> Leader | None:
        """Return who holds the lock, read from the server now, or None."""
        return self._read_holder()
