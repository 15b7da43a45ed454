"""Any backend, on a real server or in fake time: sessions lapse one by one, and nothing is asked meanwhile."""

from __future__ import annotations

import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, ClassVar, Final

from hypothesis import assume, reject
from hypothesis import strategies as st
from hypothesis.errors import HypothesisException
from hypothesis.stateful import initialize, precondition, rule

from drumbeat import SessionLost
from drumbeat.hookspecs import Left, Reaped, Resigned, SessionClosed, Withdrawn
from drumbeat_conformance.machine._rules import OFTEN, SELDOM, WHERE, Rules
from drumbeat_conformance.machine._sides import Opened
from drumbeat_conformance.machine._store import TargetStore
from drumbeat_conformance.machine._twins import GROUPS, TIMEOUT, Twins
from drumbeat_conformance.waiting import pass_seconds

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from drumbeat_conformance.machine._sides import Process
    from drumbeat_conformance.target import Site, Target

__all__ = ["PacedMachine", "PacedTwins", "RealTimeMachine"]

#: A group that every session joins first and never leaves, so that each can be seen to live.
PRESENT: Final = "present"
#: The part of a TTL after which a silent session may be about to lapse, for a machine that is busy with other things.
CERTAIN: Final = 0.8
#: Looks in one TTL after those who are about to lapse.
LOOKS: Final = 20


class PacedTwins(Twins):
    """Twins on a target, where nothing is compared while a lease may run out.

    Sessions beat by themselves, at a quarter of their TTL. One that is to lapse is watched until nobody sees it any
    more, and only then the model is told and the next call made. An example in which the machine was so slow that a
    lease may have run out by accident proves nothing, and is given up.
    """

    def __init__(self, target: Target, site: Site) -> None:
        self._pacing = False
        super().__init__(TargetStore(target, site), ttls=(target.ttl,))
        #: Those that do not beat, because they are to lapse.
        self._silent: list[Opened] = []
        #: The incarnations that have lapsed, and those that lived when the last call was made.
        self._gone: set[str] = set()
        self._living: set[str] = set()

    # Pace ---------------------------------------------------------------------------------------------------

    def before_asking(self) -> None:
        """Beat for those who are due, and let those who were let go of lapse before anybody asks on."""
        if not self._pacing:
            with self._no_other_pace():
                self.beat_if_due(self.sessions)
                self._await_ghosts()
        self._living = self.living()

    def after_answer(self, ends: Opened | None) -> None:  # noqa: ARG002 - what ends is no different here
        """Give up an example in which a lease may have run out while the backend was asked."""
        for opened in self.sessions:
            if opened.incarnation in self._living and opened not in self._silent and self._uncertain(opened):
                reject()

    def excused(self, given: object, wanted: object, *, about: Opened | Process) -> bool:
        """Let any call tell a session that it is over, and one that lapsed unseen count as given up now."""
        if not isinstance(about, Opened) or about.incarnation in self._living:
            return False
        given_up = isinstance(given, SessionClosed | Reaped | Left | Withdrawn | Resigned)
        late = given_up and type(given) is type(wanted) and about.incarnation in self._gone
        return late or isinstance(given, SessionLost)

    def compare_waits(self, given: float | None, wanted: float | None) -> None:  # noqa: ARG002 - the model's is endless
        """Where it is known when to come back, it is soon, and not in the past."""
        assert given is None or 0 <= given <= self.bound(), (
            f"{given} s is when to come back, where a session may last {self.bound():g} s, the backend's bound"
        )

    def living(self) -> set[str]:
        """Return the incarnations that live, according to the model."""
        record = self._model.backend.read_group(self._model.lease, PRESENT, timeout=TIMEOUT)
        return {member.incarnation for member in record.members}

    def bound(self) -> float:
        """Return the seconds of silence after which nobody may see a session any more."""
        return max(bound.seconds(max(self.ttls)) for bound in (self.profile.eviction, self.profile.failover))

    @contextmanager
    def _no_other_pace(self) -> Iterator[None]:
        self._pacing = True
        try:
            yield
        finally:
            self._pacing = False

    def _uncertain(self, opened: Opened) -> bool:
        return self.clock.now() >= opened.renewed + CERTAIN * opened.ttl - self.profile.limits.early_expiry

    def _await_ghosts(self) -> None:
        living = self.living()
        self._ghosts = [ghost for ghost in self._ghosts if ghost.incarnation in living]
        leaving = [ghost for ghost in self._ghosts if self._uncertain(ghost)]
        if leaving:
            self._watch_them_go(leaving)

    # Lapses -------------------------------------------------------------------------------------------------

    def outlive(self, silent: Collection[Opened]) -> None:
        """Have some sessions lapse, as seen by all others that live, of which there must be one."""
        self.before_asking()
        for opened in silent:
            self.beat(opened)
        living = self.living()
        self._silent = [opened for opened in silent if opened.incarnation in living]
        with self._no_other_pace():
            self._watch_them_go(self._silent)
        self._silent = []

    def watchers(self, silent: Collection[Opened] = ()) -> list[Opened]:
        """Return the sessions that live, but for some."""
        living = self.living()
        return [opened for opened in self.sessions if opened.incarnation in living and opened not in silent]

    def _watch_them_go(self, leaving: Collection[Opened]) -> None:
        """Return once nobody sees them; fail if that is before a lease has run out, or beyond the bound."""
        watchers = self.watchers(leaving)
        waiting = list(leaving)
        while waiting:
            self.beat_if_due(watchers)
            seen = [self.seen_by(opened, (*GROUPS, PRESENT)) for opened in watchers]
            waiting = [opened for opened in leaving if any(opened.incarnation in found for found in seen)]
            self._require_in_time(leaving, waiting)
            if watchers:
                pass_seconds(self.clock, min(self.ttls) / LOOKS if waiting else 0.0)
            else:
                pass_seconds(self.clock, self.bound())
        self._gone |= {opened.incarnation for opened in leaving}
        self._bury(leaving)

    def _require_in_time(self, leaving: Collection[Opened], waiting: Collection[Opened]) -> None:
        now = self.clock.now()
        for opened in leaving:
            silence = now - opened.renewed
            if opened in waiting:
                assert silence <= self.bound(), (
                    f"{opened.member_id!r} has been silent for {silence:.3f} s and is still seen, which is beyond the "
                    f"backend's bound, {self.bound():g} s"
                )
            else:
                least = opened.ttl - self.profile.limits.early_expiry
                assert silence >= least, (
                    f"{opened.member_id!r} is gone {silence:.3f} s after its last heartbeat was sent; its lease lasts "
                    f"{least:g} s"
                )

    # Sessions -----------------------------------------------------------------------------------------------

    def open(self, process: Process, *, ttl: float, force: bool = False, supersedes: str | None = None) -> bool:
        """Open a session, every other one as if the first answer had been lost, and make it present."""
        if not super().open(process, ttl=ttl, force=force, supersedes=supersedes):
            return False
        opened = process.opened
        assert opened is not None
        if int(opened.incarnation.rpartition("-")[2]) % 2 and not self.request(opened, supersedes=supersedes):
            raise AssertionError(f"{opened.incarnation} was opened, and then refused when it was asked for again")
        self.join(opened, PRESENT, b"")
        return True


class PacedMachine(Rules):
    """Asks the same of the model and of a backend, which a derived class names in `target`."""

    target: ClassVar[Target]
    #: Where the store is, if that lasts longer than an example.
    site: ClassVar[Site | None] = None

    twins: PacedTwins

    def make_twins(self) -> PacedTwins:
        """Return a namespace of its own on the target, and the model."""
        self._stack = ExitStack()
        site = self.site or self._stack.enter_context(self.target.calm())
        return PacedTwins(self.target, site)

    def teardown(self) -> None:
        """Let go of everything."""
        with self._stack:
            super().teardown()

    @rule(ttls=st.sampled_from([0.1, 0.3, 0.6]))
    def pass_time(self, ttls: float) -> None:
        """For a while nobody does anything but beat."""
        self.twins.beat_until(self.twins.clock.now() + ttls * self.target.ttl, self.twins.watchers())

    @precondition(lambda self: len(self.twins.watchers()) > 1)
    @rule(silent=st.sets(WHERE, min_size=1, max_size=2))
    def outlive_the_silent(self, silent: set[int]) -> None:
        """Some stop beating, until all others have seen them go."""
        living = self.twins.watchers()
        chosen = [opened for number, opened in enumerate(living[1:], 1) if number in silent] or living[-1:]
        self.twins.outlive(chosen)
        self.twins.compare_views(self.twins.watchers())


class RealTimeMachine(PacedMachine):
    """The same where time cannot be pretended to pass, so that each example counts."""

    #: What the first example that failed has raised. Hypothesis repeats it, and time makes the repetition differ.
    found: ClassVar[Exception | None] = None

    @initialize(number=st.integers(0, 2**32), attentive=SELDOM, crowded=OFTEN)
    def begin(self, number: int, attentive: bool, crowded: bool) -> None:
        """Start as ever, but not with hypothesis' first choice, which is the simplest in everything."""
        assume(number)
        super().begin(attentive, crowded)

    def teardown(self) -> None:
        """Keep what the example raised, with the calls that led to it, and let go of everything."""
        raised = sys.exception()
        if type(self).found is None and isinstance(raised, Exception) and not isinstance(raised, HypothesisException):
            raised.add_note(str(self.twins.program))
            type(self).found = raised
        super().teardown()
