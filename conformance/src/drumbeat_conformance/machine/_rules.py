"""What can be asked of a backend, in any order."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from typing import TYPE_CHECKING, Final

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from drumbeat import Capability
from drumbeat.hookspecs import Candidacy, Membership
from drumbeat_conformance.machine._twins import ELECTIONS, GROUPS, MEMBERS, TIMEOUT, Twins

if TYPE_CHECKING:
    from drumbeat.hookspecs import Seat
    from drumbeat_conformance.machine._sides import Opened

__all__ = ["ELECTION", "GROUP", "NUMBER", "OFTEN", "SELDOM", "TTL", "VALUE", "WHERE", "WHICH", "Rules", "somebody"]

#: Which process.
WHERE = st.integers(0, len(MEMBERS) - 1)
#: Which session: numbers below `ANY` mean one that lives, the others any.
WHICH = st.integers(0, 7)
ANY: Final = 6
NUMBER = st.integers(0, 7)
GROUP = st.sampled_from(GROUPS)
ELECTION = st.sampled_from(ELECTIONS)
#: Which of the TTLs.
TTL = st.integers(0, 2)
VALUE = st.binary(max_size=3)
#: Yes in three cases of four; what is shown of a failure says no where that is enough.
OFTEN = st.sampled_from([False, True, True, True])
#: Yes in one case of four.
SELDOM = st.sampled_from([False, False, False, True])
#: Which seat of an election.
SEAT = st.sampled_from(["held", "held", "another's", "former"])

somebody = precondition(lambda self: self.twins.sessions)


class Rules(RuleBasedStateMachine):
    """Asks a backend and the model the same."""

    def __init__(self) -> None:
        super().__init__()
        self.twins = self.make_twins()
        self.attentive = False

    @abstractmethod
    def make_twins(self) -> Twins:
        """Return a fresh store of the backend, and the model."""

    def teardown(self) -> None:
        """Show what was asked, if it is to be shown, and let go of everything."""
        note(str(self.twins.program))
        self.twins.end()

    # Sessions -----------------------------------------------------------------------------------------------

    @initialize(attentive=SELDOM, crowded=OFTEN)
    def begin(self, attentive: bool, crowded: bool) -> None:
        """Two have a session; or all want the same, one under an id in use. Views are compared always, or at times."""
        self.attentive = attentive
        processes = self.twins.processes
        for number, process in enumerate(processes[: 3 if crowded else 2]):
            self.twins.open(process, ttl=self.twins.ttl(number))
        if crowded:
            last = processes[-1]
            last.member_id = processes[0].member_id
            self.twins.open(last, ttl=self.twins.ttl(0))
            last.member_id = MEMBERS[-1]
            self.all_come(GROUPS[0], ELECTIONS[0])

    @rule(where=WHERE, member=st.sampled_from(MEMBERS), ttl=TTL, force=st.sampled_from([False, False, True]))
    def open(self, where: int, member: str, ttl: int, force: bool) -> None:
        """Open a session under an id that may be in use, or in the place of the process's own."""
        process = self.twins.processes[where]
        old = process.opened
        if old is None:
            process.member_id = member
            self.twins.open(process, ttl=self.twins.ttl(ttl), force=force)
        elif self.twins.open(process, ttl=self.twins.ttl(ttl), force=force, supersedes=old.incarnation):
            self.twins.drop(old)

    @somebody
    @rule(where=WHERE, which=WHICH, ttl=TTL)
    def replace(self, where: int, which: int, ttl: int) -> None:
        """Open a session in the place of another process's, under its id; it has not been told that it is over."""
        process, other = self.twins.processes[where], self._pick(which)
        if process.opened is other:
            return
        if process.opened is not None:
            self.twins.close(process.opened)
            self.twins.drop(process.opened)
        process.member_id = other.member_id
        self.twins.open(process, ttl=self.twins.ttl(ttl), force=True)

    @rule(where=WHERE, ttl=TTL, how=st.sampled_from(["reopen", "close", "close and reopen", "crash"]))
    def end(self, where: int, ttl: int, how: str) -> None:
        """End a session, which may be over: as after LOST, in good order, or without a word, with its process."""
        opened = self.twins.processes[where].opened
        if opened is None:
            return
        if "close" in how:
            self.twins.close(opened)
        if "reopen" in how:
            self.twins.reopen(opened, ttl=self.twins.ttl(ttl))
        if how == "crash":
            self.twins.crash(opened)

    @precondition(lambda self: Capability.REAPING in self.twins.profile.capabilities)
    @rule(where=WHERE, number=NUMBER)
    def reap(self, where: int, number: int) -> None:
        """End somebody's session, which may be over."""
        known = self.twins.known
        if known:
            self.twins.reap(self.twins.processes[where], known[-1 - number % len(known)])

    # Heartbeats ---------------------------------------------------------------------------------------------

    @rule(ttl=TTL)
    def go_on(self, ttl: int) -> None:
        """Everybody beats; who is over is opened again, and who crashed is started again."""
        for process in self.twins.processes:
            if process.opened is None:
                self.twins.open(process, ttl=self.twins.ttl(ttl))
                continue
            self.twins.beat(process.opened)
            if process.opened.over:
                self.twins.close(process.opened)
                self.twins.reopen(process.opened, ttl=self.twins.ttl(ttl))

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
        for place, group in enumerate(GROUPS):
            if group in opened.memberships and not kept[-1 - place % 4]:
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
            memberships = (*holdings.memberships, Membership(group, opened.newest))
            holdings = dataclasses.replace(holdings, memberships=memberships)
        won = [seat for other in self.twins.sessions for seat in other.won]
        if won:
            seats = dict.fromkeys([*holdings.seats, won[number % len(won)]])
            holdings = dataclasses.replace(holdings, seats=tuple(seats))
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
        for opened in [*self._live()]:
            self.twins.join(opened, group, b"")
            self.twins.campaign_anew(opened, election, opened.member_id.encode())

    @somebody
    @rule(which=WHICH, group=GROUP, value=VALUE, member=OFTEN)
    def update(self, which: int, group: str, value: bytes, member: bool) -> None:
        """Replace a value, perhaps without being a member."""
        opened = self._pick(which)
        place = self._place(opened, group, member=member)
        self.twins.both(
            opened, lambda half: half.backend.update_member(half.lease, place, value=value, timeout=TIMEOUT)
        )

    @somebody
    @rule(which=WHICH, group=GROUP, member=OFTEN)
    def leave(self, which: int, group: str, member: bool) -> None:
        """Leave, perhaps without being a member."""
        opened = self._pick(which)
        place = self._place(opened, group, member=member)
        opened.memberships.pop(place, None)
        self.twins.both(opened, lambda half: half.backend.leave_group(half.lease, place, timeout=TIMEOUT))

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

    @somebody
    @rule(which=WHICH, number=NUMBER, election=ELECTION, won=st.booleans())
    def withdraw(self, which: int, number: int, election: str, won: bool) -> None:
        """Forget an attempt, whether it has won, waits or never was."""
        if won:
            for opened, seat in self._seats(which, election, "held"):
                self._withdraw(opened, Candidacy(seat.election, seat.attempt))
            return
        opened = self._pick(which)
        known = [*opened.candidacies, Candidacy(election, opened.newest + 1)]
        self._withdraw(opened, known[number % len(known)])

    @somebody
    @rule(which=WHICH, election=ELECTION, seat=SEAT, value=VALUE)
    def proclaim(self, which: int, election: str, seat: str, value: bytes) -> None:
        """Replace the value of a seat: one that is held, that was held, or another session's."""
        for opened, known in self._seats(which, election, seat):
            self.twins.both(
                opened,
                lambda half: half.backend.proclaim(half.lease, half.seat(known), value=value, timeout=TIMEOUT),  # noqa: B023 - asked at once
            )

    @somebody
    @rule(which=WHICH, election=ELECTION, seat=SEAT)
    def resign(self, which: int, election: str, seat: str) -> None:
        """Give a seat up: one that is held, that was held, or another session's."""
        for opened, known in self._seats(which, election, seat):
            self._resign(opened, known)

    @somebody
    @rule(which=WHICH, election=ELECTION, queued=OFTEN)
    def hand_over(self, which: int, election: str, queued: bool) -> None:
        """The holder resigns, and the next term begins: of one who waits, or of whoever asks anew."""
        self._vacate(election)
        for opened, item in self._waiting(election):
            if queued:
                self.twins.campaign(opened, item, b"")
            else:
                self._withdraw(opened, item)
        if not self._held(election):
            self.twins.campaign_anew(self._pick(which), election, b"")

    def _vacate(self, election: str) -> None:
        for holder, seat in self._held(election):
            self._resign(holder, seat)

    def _waiting(self, election: str) -> list[tuple[Opened, Candidacy]]:
        return [(opened, item) for opened in self._live() for item in opened.candidacies if item.election == election]

    def _resign(self, opened: Opened, seat: Seat) -> None:
        opened.seats = [other for other in opened.seats if other != seat]
        self.twins.both(opened, lambda half: half.backend.resign(half.lease, half.seat(seat), timeout=TIMEOUT))

    def _withdraw(self, opened: Opened, gone: Candidacy) -> None:
        opened.give_up(gone)
        self.twins.both(
            opened,
            lambda half: half.backend.withdraw(half.lease, gone.election, attempt=gone.attempt, timeout=TIMEOUT),
        )

    def _held(self, election: str) -> list[tuple[Opened, Seat]]:
        return [(opened, seat) for opened in self._live() for seat in opened.seats if seat.election == election]

    def _seats(self, which: int, election: str, kind: str) -> list[tuple[Opened, Seat]]:
        """Return who asks for which seat: one of its kind, where there is one, after a win if there must be one."""
        if not self._held(election):
            self.hand_over(which, election, queued=True)
        held = self._held(election)
        if kind == "former" and held:
            seats = self._former(*held[0])
        elif kind == "another's":
            seats = [(opened, seat) for holder, seat in held for opened in self._live() if opened is not holder]
        else:
            seats = held
        return [seats[which % len(seats)]] if seats else []

    def _former(self, holder: Opened, seat: Seat) -> list[tuple[Opened, Seat]]:
        """Return the earlier seats of a holder, which wins another term if this is its first."""
        if [other.election for other in holder.won].count(seat.election) == 1:
            self._vacate(seat.election)
            for opened, item in self._waiting(seat.election):
                self._withdraw(opened, item)
            self.twins.campaign_anew(holder, seat.election, b"")
        return [(holder, other) for other in holder.won if other not in holder.seats]

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

    def _live(self) -> list[Opened]:
        """Return the sessions that live by what is known; where there is none, everybody starts again."""
        live = [opened for opened in self.twins.sessions if not opened.over and not self.twins.lapsed(opened)]
        if live:
            return live
        for number, process in enumerate(self.twins.processes):
            self.twins.restart(process, ttl=self.twins.ttl(number))
        return self.twins.sessions

    def _pick(self, which: int) -> Opened:
        among = self._live() if which < ANY else self.twins.sessions
        return among[which % len(among)]

    def _place(self, opened: Opened, group: str, *, member: bool) -> str:
        """Return the group, or one that a session is a member of, after a join if there is none."""
        if not member or group in opened.memberships:
            return group
        joined = [name for name in GROUPS if name in opened.memberships]
        if not joined:
            self.twins.join(opened, group, b"")
        return next(iter(joined), group)

    def _all_but(self, silent: set[int]) -> list[Opened]:
        return [opened for number, opened in enumerate(self.twins.sessions) if number not in silent]
