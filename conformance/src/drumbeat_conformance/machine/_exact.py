"""Leases that run on a fake clock, to the very moment, and wall clocks that are set: for stores in one's own tree."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from drumbeat.hookspecs import Candidacy, LeaderRecord, Left, Reaped, Resigned, SessionClosed, Waiting, Withdrawn
from drumbeat.testing import FakeClock
from drumbeat_conformance.machine._rules import NUMBER, WHERE, WHICH, Rules, somebody
from drumbeat_conformance.machine._sides import Opened
from drumbeat_conformance.machine._twins import Twins

if TYPE_CHECKING:
    from drumbeat_conformance.machine._sides import Process
    from drumbeat_conformance.machine._store import FakeStore

__all__ = ["TTLS", "ExactMachine", "ExactTwins"]

TTLS: Final = (1.0, 2.0, 4.0)
#: Seconds by which the wall clock goes on between two calls, as it does everywhere but on a fake clock.
TICK: Final = 0.0001
#: Seconds by which two sums of the same times may differ.
ROUNDING: Final = 1e-6


class ExactTwins(Twins):
    """Twins on a fake clock, whose leases may run out between any two calls."""

    clock: FakeClock
    store: FakeStore

    def __init__(self, kind: type[FakeStore]) -> None:
        super().__init__(kind(FakeClock()), ttls=TTLS)

    def before_asking(self) -> None:
        """Let the wall clock go on."""
        self.clock.step_wall(TICK)

    def after_answer(self, ends: Opened | None) -> None:
        """Where leases are not exact, end what the store has ended."""
        if not self.store.exact and ends is None:
            self._bury(opened for opened in self.known if self.lapsed(opened) and self.store.is_over(opened))

    def compare_waits(self, given: float | None, wanted: float | None) -> None:
        """Where leases are exact so is the time to come back."""
        assert given is not None
        assert wanted is not None
        if self.store.exact:
            assert abs(wanted - given) < ROUNDING
        else:
            assert 0 < given <= 1.002 * max(TTLS)

    def excused(self, given: object, wanted: object, *, about: Opened | Process) -> bool:
        """Excuse a store that says of what lapsed unseen that it was given up now."""
        if not (self.store.late_giving_counts and isinstance(about, Opened) and self.lapsed(about)):
            return False
        return isinstance(given, SessionClosed | Reaped | Left | Withdrawn | Resigned) and type(given) is type(wanted)

    def request(self, opened: Opened, *, force: bool = False, supersedes: str | None = None) -> bool:
        """Ask for a session, whose lease must last as long as was asked."""
        asked = opened.ttl
        answered = super().request(opened, force=force, supersedes=supersedes)
        assert asked == opened.ttl
        return answered

    def model_ttl(self, ttl: float) -> float:
        """Return the lease's own length where it is exact."""
        return ttl if self.store.exact else super().model_ttl(ttl)

    def campaign(self, opened: Opened, candidacy: Candidacy, value: bytes) -> object:
        """Try once. Where leases are not exact, one that has run out is first renewed, or not."""
        if not self.store.exact and self.lapsed(opened):
            self.beat(opened)
        return super().campaign(opened, candidacy, value)


class ExactMachine(Rules):
    """Asks the same of the model and of a `FakeStore`, which a derived class names in `kind`.

    Leases of 1, 2 and 4 s run out at any moment between two calls, the very last and the very first one included, and
    the wall clock is set forward and back.
    """

    kind: ClassVar[type[FakeStore]]
    twins: ExactTwins

    def make_twins(self) -> ExactTwins:
        """Return a fresh store, and the model."""
        return ExactTwins(self.kind)

    @rule(where=WHERE)
    def open_once_more(self, where: int) -> None:
        """Repeat the request for a session that has done nothing yet, as after a lost answer."""
        opened = self.twins.processes[where].opened
        if opened is None or opened.newest or self.twins.lapsed(opened):
            return
        if not self.twins.request(opened):
            self.twins.drop(opened)

    @precondition(lambda self: any(opened.candidacies for opened in self.twins.sessions))
    @rule(which=WHICH, number=NUMBER)
    def outwait_the_holder(self, which: int, number: int) -> None:
        """Come back when the answer says so, beating meanwhile: a holder that has not beaten is out of the way."""
        opened = self._pick(which)
        if not opened.candidacies:
            return
        candidacy = opened.candidacies[number % len(opened.candidacies)]
        answer = self.twins.campaign(opened, candidacy, b"")
        if not isinstance(answer, Waiting) or answer.retry_after is None:
            return
        self.twins.beat_until(self.twins.clock.now() + answer.retry_after + 0.001, [opened])
        again = self.twins.campaign(opened, candidacy, b"")
        holder = answer.holder
        if isinstance(holder, LeaderRecord) and holder.incarnation != opened.incarnation and isinstance(again, Waiting):
            assert again.holder != holder

    # Time ---------------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.001, 0.3, 0.999, 1.0, 1.5, 4.0]), silent=st.sets(WHERE, max_size=2))
    def pass_time(self, seconds: float, silent: set[int]) -> None:
        """For a while some do not beat."""
        self.twins.beat_until(self.twins.clock.now() + seconds, self._all_but(silent))

    @somebody
    @rule(which=WHICH, after=st.sampled_from([0.0, 0.0, 0.001, -0.001]))
    def pass_time_until_a_lease_ends(self, which: int, after: float) -> None:
        """Nobody beats until the very moment at which a lease ends, or just before or after it."""
        opened = self._pick(which)
        self.twins.clock.advance(max(0.0, opened.renewed + opened.ttl + after - self.twins.clock.now()))

    @rule(seconds=st.sampled_from([-7200.0, -3.0, 0.5, 3600.0]))
    def set_wall_clock(self, seconds: float) -> None:
        """Somebody sets the wall clock."""
        self.twins.clock.step_wall(seconds)

    @rule(silent=st.sets(WHERE, min_size=1, max_size=3))
    def outlive_the_silent(self, silent: set[int]) -> None:
        """Some beat on until they must have seen all the silent ones go."""
        beating = self._all_but(silent)
        self.twins.compare_views(beating)
        longest = max((opened.ttl for opened in self.twins.known if opened not in beating), default=min(TTLS))
        self.twins.beat_until(self.twins.clock.now() + self.twins.profile.eviction.seconds(longest), beating)
        self.twins.compare_views(beating)
        gone = {opened.incarnation for opened in self.twins.known if self.twins.lapsed(opened)}
        for opened in beating:
            assert not gone & self.twins.seen_by(opened)
