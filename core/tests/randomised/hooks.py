"""What can be asked of a backend, in any order, while leases run out and clocks are set."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from randomised.twins import ELECTIONS, GROUPS, MEMBERS, TIMEOUT, TTLS, Subject, Twins

from drumbeat.hookspecs import Candidacy, LeaderRecord, Membership, Waiting
from drumbeat_conformance.machine._sides import Opened

#: Which process.
WHERE = st.integers(0, len(MEMBERS) - 1)
#: Which session: the first numbers mean one that lives, the last ones any.
WHICH = st.integers(0, 7)
NUMBER = st.integers(0, 7)
GROUP = st.sampled_from(GROUPS)
ELECTION = st.sampled_from(ELECTIONS)
TTL = st.sampled_from(TTLS)
VALUE = st.binary(max_size=3)

somebody = precondition(lambda self: self.twins.sessions)


class HookMachine(RuleBasedStateMachine):
    """Asks a backend and the model the same."""

    subject: ClassVar[type[Subject]]

    def __init__(self) -> None:
        super().__init__()
        self.twins = Twins(self.subject)
        self.attentive = False

    def teardown(self) -> None:
        """Let go of everything."""
        self.twins.end()

    # Sessions -----------------------------------------------------------------------------------------------

    @initialize(attentive=st.booleans())
    def begin(self, attentive: bool) -> None:
        """Most have a session. Views are compared after every step, or only now and then."""
        self.attentive = attentive
        for process, ttl in zip(self.twins.processes, TTLS, strict=False):
            self.twins.open(process, ttl=ttl)

    @rule(where=WHERE, member=st.sampled_from(MEMBERS), ttl=TTL, force=st.booleans())
    def open(self, where: int, member: str, ttl: float, force: bool) -> None:
        """Open a session under an id that may be in use, or in the place of the process's own."""
        process = self.twins.processes[where]
        old = process.opened
        if old is None:
            process.member_id = member
            self.twins.open(process, ttl=ttl, force=force)
        elif self.twins.open(process, ttl=ttl, force=force, supersedes=old.incarnation):
            self.twins.drop(old)

    @rule(where=WHERE)
    def open_once_more(self, where: int) -> None:
        """Repeat the request for a session that has done nothing yet, as after a lost answer."""
        opened = self.twins.processes[where].opened
        if opened is None or opened.newest or self.twins.lapsed(opened):
            return
        if not self.twins.request(opened):
            self.twins.drop(opened)

    @rule(where=WHERE, ttl=TTL, how=st.sampled_from(["reopen", "close", "close and reopen", "crash"]))
    def end(self, where: int, ttl: float, how: str) -> None:
        """End a session, which may be over: as after LOST, in good order, or without a word, with its process."""
        opened = self.twins.processes[where].opened
        if opened is None:
            return
        if "close" in how:
            self.twins.close(opened)
        if "reopen" in how:
            self.twins.reopen(opened, ttl=ttl)
        if how == "crash":
            self.twins.crash(opened)

    @rule(where=WHERE, number=NUMBER)
    def reap(self, where: int, number: int) -> None:
        """End somebody's session, which may be over."""
        known = self.twins.known
        if known:
            self.twins.reap(self.twins.processes[where], known[-1 - number % len(known)])

    # Heartbeats ---------------------------------------------------------------------------------------------

    @rule(ttl=TTL)
    def go_on(self, ttl: float) -> None:
        """Everybody beats; who is over is opened again, and who crashed is started again."""
        for process in self.twins.processes:
            if process.opened is None:
                self.twins.open(process, ttl=ttl)
                continue
            self.twins.beat(process.opened)
            if process.opened.over:
                self.twins.close(process.opened)
                self.twins.reopen(process.opened, ttl=ttl)

    @somebody
    @rule(which=WHICH)
    def beat(self, which: int) -> None:
        """Beat with all that the session believes."""
        opened = self._pick(which)
        opened.earlier.append(opened.holdings())
        self.twins.beat(opened)

    @somebody
    @rule(which=WHICH, kept=st.lists(st.booleans(), min_size=4, max_size=4))
    def beat_having_given_up(self, which: int, kept: list[bool]) -> None:
        """Beat without some of what the store has for the session: it was given up, so the store must forget it."""
        opened = self._pick(which)
        for place, item in enumerate(opened.attempts()):
            if not kept[place % 4]:
                opened.give_up(item)
        for place, group in enumerate(list(opened.memberships)):
            if not kept[-1 - place % 4]:
                del opened.memberships[group]
        self.twins.beat(opened)

    @somebody
    @rule(which=WHICH, age=st.integers(1, 4))
    def beat_as_of_earlier(self, which: int, age: int) -> None:
        """Beat with holdings that were listed before other calls were made."""
        opened = self._pick(which)
        if opened.earlier:
            self.twins.beat(opened, opened.earlier[-age:][0])

    @somebody
    @rule(which=WHICH, group=GROUP, number=st.integers(0, 20))
    def beat_with_too_much(self, which: int, group: str, number: int) -> None:
        """Beat with a membership and a seat that are not the session's, or not any more: the answer names them."""
        opened = self._pick(which)
        holdings = opened.holdings()
        if group not in opened.memberships:
            holdings = replace(holdings, memberships=(*holdings.memberships, Membership(group, opened.newest)))
        won = [seat for other in self.twins.sessions for seat in other.won]
        if won:
            seats = dict.fromkeys([*holdings.seats, won[number % len(won)]])
            holdings = replace(holdings, seats=tuple(seats))
        self.twins.beat(opened, holdings)

    # Groups -------------------------------------------------------------------------------------------------

    @somebody
    @rule(which=WHICH, group=GROUP, value=VALUE)
    def join(self, which: int, group: str, value: bytes) -> None:
        """Join, perhaps again."""
        self.twins.join(self._pick(which), group, value)

    @rule(group=GROUP, election=ELECTION)
    def all_come(self, group: str, election: str) -> None:
        """Everybody wants to be in the same places."""
        for opened in self.twins.sessions:
            self.twins.join(opened, group, b"")
            self.twins.campaign_anew(opened, election, opened.member_id.encode())

    @somebody
    @rule(which=WHICH, group=GROUP, value=VALUE, leaves=st.booleans())
    def update_or_leave(self, which: int, group: str, value: bytes, leaves: bool) -> None:
        """Replace a value or leave, perhaps without being a member."""
        opened = self._pick(which)
        if leaves:
            opened.memberships.pop(group, None)
            self.twins.both(opened, lambda half: half.backend.leave_group(half.lease, group, timeout=TIMEOUT))
            return
        self.twins.both(
            opened, lambda half: half.backend.update_member(half.lease, group, value=value, timeout=TIMEOUT)
        )

    # Elections ----------------------------------------------------------------------------------------------

    @somebody
    @rule(which=WHICH, election=ELECTION, value=VALUE)
    def campaign(self, which: int, election: str, value: bytes) -> None:
        """Try once, with a new attempt."""
        self.twins.campaign_anew(self._pick(which), election, value)

    @precondition(lambda self: any(opened.attempts() for opened in self.twins.sessions))
    @rule(which=WHICH, number=NUMBER, value=VALUE)
    def campaign_again(self, which: int, number: int, value: bytes) -> None:
        """Try again with an attempt that waits, or that has won."""
        opened = self._pick(which)
        known = opened.attempts()
        if known:
            self.twins.campaign(opened, known[number % len(known)], value)

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

    @somebody
    @rule(which=WHICH, number=NUMBER)
    def withdraw(self, which: int, number: int) -> None:
        """Forget an attempt, whether it waits, has won or never was."""
        opened = self._pick(which)
        known = [*opened.attempts(), Candidacy(ELECTIONS[0], opened.newest + 1)]
        gone = known[number % len(known)]
        opened.give_up(gone)
        self.twins.both(
            opened,
            lambda half: half.backend.withdraw(half.lease, gone.election, attempt=gone.attempt, timeout=TIMEOUT),
        )

    @precondition(lambda self: any(opened.won for opened in self.twins.sessions))
    @rule(which=WHICH, number=NUMBER, own=st.booleans(), value=VALUE, resigns=st.booleans())
    def proclaim_or_resign(self, which: int, number: int, own: bool, value: bytes, resigns: bool) -> None:
        """Replace the value of a seat or give it up: one that is held, that was held, or another session's."""
        opened = self._pick(which)
        won = [seat for other in self.twins.sessions for seat in other.won if (other is opened) is own]
        if not won:
            return
        seat = won[-1 - number % len(won)]
        if resigns:
            opened.seats = [other for other in opened.seats if other != seat]
            self.twins.both(opened, lambda half: half.backend.resign(half.lease, half.seat(seat), timeout=TIMEOUT))
            return
        self.twins.both(
            opened, lambda half: half.backend.proclaim(half.lease, half.seat(seat), value=value, timeout=TIMEOUT)
        )

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
        bound = self.twins.profile.eviction.seconds(max(TTLS))
        self.twins.beat_until(self.twins.clock.now() + bound, beating)
        self.twins.compare_views(beating)
        gone = {opened.incarnation for opened in self.twins.known if self.twins.lapsed(opened)}
        for opened in beating:
            assert not gone & self.twins.seen_by(opened)

    # Views --------------------------------------------------------------------------------------------------

    @somebody
    @rule(which=WHICH)
    def look(self, which: int) -> None:
        """Somebody reads everything."""
        self.twins.compare_views([self._pick(which)])

    @invariant()
    def looks_the_same(self) -> None:
        """The first session that lives reads everything."""
        if self.attentive and self.twins.sessions:
            self.twins.compare_views([self._pick(0)])

    def _pick(self, which: int) -> Opened:
        sessions = self.twins.sessions
        live = [opened for opened in sessions if not opened.over and not self.twins.lapsed(opened)]
        among = live if live and which < 6 else sessions
        return among[which % len(among)]

    def _all_but(self, silent: set[int]) -> list[Opened]:
        return [opened for number, opened in enumerate(self.twins.sessions) if number not in silent]
