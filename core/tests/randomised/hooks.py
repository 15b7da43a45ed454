"""A backend beside the reference model: every hook is asked of both, and both must say the same."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from randomised.sides import Half, Opened, Process, Tokens

import drumbeat
from drumbeat import Capability
from drumbeat._plugins import make_backend
from drumbeat._url import BackendURL
from drumbeat.hookspecs import (
    BackendConfig,
    BackendFactory,
    Beat,
    Candidacy,
    Holdings,
    Joined,
    LeaderRecord,
    Lease,
    Membership,
    ReapTicket,
    Seat,
    SessionRequest,
    Waiting,
    Won,
)
from drumbeat.memory import MemoryBackend
from drumbeat.testing import FakeClock, memory_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from drumbeat._facade import Backend

NAMESPACE = "n"
GROUPS = ("g", "group/ü")
ELECTIONS = ("election/e", "lock/l")
#: The ids that processes have when nothing else is said.
MEMBERS = ("a", "b", "c", "d")
TTLS = (1.0, 2.0, 4.0)
#: Longer than any example: in the model such a lease ends when the test says so.
ENDLESS = 86_400.0
#: Seconds of real time for a hook.
TIMEOUT = 10.0

#: Which process.
WHERE = st.integers(0, 3)
#: Which session: the first numbers mean one that lives, the last ones any.
WHICH = st.integers(0, 7)
GROUP = st.sampled_from(GROUPS)
ELECTION = st.sampled_from(ELECTIONS)
VALUE = st.binary(max_size=3)


def open_backend(factory: BackendFactory, url: str, clock: FakeClock) -> Backend:
    """Return a new backend object behind its facade, as another process would have it."""
    parsed = BackendURL.parse(url)
    return make_backend(factory, BackendConfig(url=parsed, namespace=NAMESPACE, clock=clock, on_empty_store="trust"))


class HookMachine(RuleBasedStateMachine):
    """Asks a backend and the model the same, in any order; a subclass says which backend."""

    #: Whether a lease ends at its very moment by the server's clock. Otherwise `is_over` tells whether it has ended,
    #: and the model follows: it must not be too early.
    exact: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.numbers = count()
        self.real_tokens = Tokens()
        self.model_url = memory_url()
        #: One for all processes: it remembers nothing that is not in the store.
        self.model = Half(open_backend(MemoryBackend, self.model_url, self.clock), Tokens())
        self.start()
        self.processes = [self._new_process(member) for member in MEMBERS]
        self.profile = self.processes[0].real.backend.describe(timeout=TIMEOUT)
        #: What crashed processes had opened, until its lease is over.
        self.ghosts: list[Opened] = []
        self.attentive = True

    def start(self) -> None:
        """Make a fresh store."""
        raise NotImplementedError

    def backend(self) -> Backend:
        """Return a new backend object of the store."""
        raise NotImplementedError

    def is_over(self, opened: Opened) -> bool:
        """Return whether the store has ended a session."""
        raise NotImplementedError

    def teardown(self) -> None:
        """Let go of the stores."""
        for opened in self.sessions:
            opened.real.backend.drop_session(opened.real.lease)
        MemoryBackend.forget_store(self.model_url.removeprefix("memory://"))

    @property
    def sessions(self) -> list[Opened]:
        """What processes have opened and not let go of; some of it may be over."""
        return [process.opened for process in self.processes if process.opened is not None]

    # Sessions -----------------------------------------------------------------------------------------------

    @initialize(attentive=st.booleans())
    def begin(self, attentive: bool) -> None:
        """Most have a session. Views are compared after every step, or only now and then."""
        self.attentive = attentive
        for process, ttl in zip(self.processes, TTLS, strict=False):
            self._open(process, ttl=ttl)

    @rule(where=WHERE, member=st.sampled_from(MEMBERS), ttl=st.sampled_from(TTLS), force=st.booleans())
    def open(self, where: int, member: str, ttl: float, force: bool) -> None:
        """Open a session under an id that may be in use, or in the place of the process's own."""
        process = self.processes[where]
        old = process.opened
        if old is None:
            process.member_id = member
            self._open(process, ttl=ttl, force=force)
        elif self._open(process, ttl=ttl, force=force, supersedes=old.incarnation):
            self._drop(old)

    @rule(where=WHERE)
    def open_once_more(self, where: int) -> None:
        """Repeat the request for a live session, as after a lost answer."""
        opened = self.processes[where].opened
        if opened is None or self._lapsed(opened) or opened.newest:
            return
        request = SessionRequest(incarnation=opened.incarnation, member_id=opened.member_id, ttl=opened.ttl)
        sent = self.clock.now()
        if isinstance(self._request(opened, request), Lease):
            opened.renewed = sent

    @rule(where=WHERE, ttl=st.sampled_from(TTLS), how=st.sampled_from(["reopen", "close", "close and reopen", "crash"]))
    def end(self, where: int, ttl: float, how: str) -> None:
        """End a session, which may be over: as after LOST, in good order, or without a word, with its process."""
        opened = self.processes[where].opened
        if opened is None:
            return
        if "close" in how:
            self._close(opened)
        if "reopen" in how:
            self._reopen(opened, ttl=ttl)
        if how == "crash":
            self._drop(opened)
            self.processes[where] = self._new_process(opened.member_id)

    @rule(where=WHERE, whose=st.integers(0, 7))
    def reap(self, where: int, whose: int) -> None:
        """End somebody's session, which may be over."""
        known = [*self.sessions, *self.ghosts]
        if known:
            other = known[-1 - whose % len(known)]
            ticket = ReapTicket(other.incarnation, other.member_id)
            self._both(
                self.processes[where], lambda half: half.backend.reap_session(ticket, timeout=TIMEOUT), ends=other
            )

    # Heartbeats ---------------------------------------------------------------------------------------------

    @rule(ttl=st.sampled_from(TTLS))
    def go_on(self, ttl: float) -> None:
        """Everybody beats; who is over is opened again, and who crashed is started again."""
        for process in self.processes:
            if process.opened is None:
                self._open(process, ttl=ttl)
                continue
            self._beat(process.opened)
            if process.opened.over:
                self._close(process.opened)
                self._reopen(process.opened, ttl=ttl)

    @precondition(lambda self: self.sessions)
    @rule(which=WHICH)
    def beat(self, which: int) -> None:
        """Beat with all that the session believes."""
        opened = self._pick(which)
        opened.earlier.append(opened.holdings())
        self._beat(opened)

    @precondition(lambda self: self.sessions)
    @rule(which=WHICH, kept=st.lists(st.booleans(), min_size=4, max_size=4))
    def beat_having_given_up(self, which: int, kept: list[bool]) -> None:
        """Beat without some of what the store has for the session: it was given up, so the store must forget it."""
        opened = self._pick(which)
        dropped = [item for place, item in enumerate(opened.attempts()) if not kept[place % 4]]
        for item in dropped:
            opened.give_up(item)
        groups = list(opened.memberships)
        for place, group in enumerate(groups):
            if not kept[-1 - place % 4]:
                del opened.memberships[group]
        self._beat(opened)

    @precondition(lambda self: self.sessions)
    @rule(which=WHICH, age=st.integers(1, 4))
    def beat_as_of_earlier(self, which: int, age: int) -> None:
        """Beat with holdings that were listed before other calls were made."""
        opened = self._pick(which)
        if opened.earlier:
            self._beat(opened, opened.earlier[-age:][0])

    @precondition(lambda self: self.sessions)
    @rule(which=WHICH, group=GROUP, whose=st.integers(0, 20))
    def beat_with_too_much(self, which: int, group: str, whose: int) -> None:
        """Beat with a membership and a seat that are not the session's, or not any more: the answer names them."""
        opened = self._pick(which)
        holdings = opened.holdings()
        if group not in opened.memberships:
            holdings = replace(holdings, memberships=(*holdings.memberships, Membership(group, opened.newest)))
        won = [seat for other in self.sessions for seat in other.won]
        if won:
            seats = dict.fromkeys([*holdings.seats, won[whose % len(won)]])
            holdings = replace(holdings, seats=tuple(seats))
        self._beat(opened, holdings)

    # Groups -------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.sessions)
    @rule(which=WHICH, group=GROUP, value=VALUE)
    def join(self, which: int, group: str, value: bytes) -> None:
        """Join, perhaps again."""
        self._join(self._pick(which), group, value)

    @rule(group=GROUP, election=ELECTION)
    def all_join_and_campaign(self, group: str, election: str) -> None:
        """Everybody wants to be in the same places."""
        for opened in self.sessions:
            self._join(opened, group, b"")
            self._campaign_anew(opened, election, opened.member_id.encode())

    @precondition(lambda self: self.sessions)
    @rule(which=WHICH, group=GROUP, value=VALUE, leaves=st.booleans())
    def update_or_leave(self, which: int, group: str, value: bytes, leaves: bool) -> None:
        """Replace a value or leave, perhaps without being a member."""
        opened = self._pick(which)
        if leaves:
            opened.memberships.pop(group, None)
            self._both(opened, lambda half: half.backend.leave_group(half.lease, group, timeout=TIMEOUT))
            return
        self._both(
            opened, lambda half: half.backend.update_member(half.lease, group, value=value, timeout=TIMEOUT)
        )

    # Elections ----------------------------------------------------------------------------------------------

    @precondition(lambda self: self.sessions)
    @rule(which=WHICH, election=ELECTION, value=VALUE)
    def campaign(self, which: int, election: str, value: bytes) -> None:
        """Try once, with a new attempt."""
        self._campaign_anew(self._pick(which), election, value)

    @precondition(lambda self: any(opened.attempts() for opened in self.sessions))
    @rule(which=WHICH, number=st.integers(0, 7), value=VALUE)
    def campaign_again(self, which: int, number: int, value: bytes) -> None:
        """Try again with an attempt that waits, or that has won."""
        opened = self._pick(which)
        known = opened.attempts()
        if known:
            self._campaign(opened, known[number % len(known)], value)

    @precondition(lambda self: any(opened.candidacies for opened in self.sessions))
    @rule(which=WHICH, number=st.integers(0, 7))
    def outwait_the_holder(self, which: int, number: int) -> None:
        """Come back when the answer says so, beating meanwhile: a holder that has not beaten is out of the way."""
        opened = self._pick(which)
        if not opened.candidacies:
            return
        candidacy = opened.candidacies[number % len(opened.candidacies)]
        answer = self._campaign(opened, candidacy, b"")
        if not isinstance(answer, Waiting) or answer.retry_after is None:
            return
        self._beat_until(self.clock.now() + answer.retry_after + 0.001, [opened])
        holder = answer.holder
        answer = self._campaign(opened, candidacy, b"")
        if isinstance(holder, LeaderRecord) and holder.incarnation != opened.incarnation and isinstance(answer, Waiting):
            assert answer.holder != holder, f"{holder} is still in the way"

    @precondition(lambda self: self.sessions)
    @rule(which=WHICH, number=st.integers(0, 7))
    def withdraw(self, which: int, number: int) -> None:
        """Forget an attempt, whether it waits, has won or never was."""
        opened = self._pick(which)
        known = [*opened.attempts(), Candidacy(ELECTIONS[0], opened.newest + 1)]
        gone = known[number % len(known)]
        opened.give_up(gone)
        self._both(
            opened,
            lambda half: half.backend.withdraw(half.lease, gone.election, attempt=gone.attempt, timeout=TIMEOUT),
        )

    @precondition(lambda self: any(opened.won for opened in self.sessions))
    @rule(which=WHICH, number=st.integers(0, 7), own=st.booleans(), value=VALUE, resigns=st.booleans())
    def proclaim_or_resign(self, which: int, number: int, own: bool, value: bytes, resigns: bool) -> None:
        """Replace the value of a seat or give it up: one that is held, that was held, or another session's."""
        opened = self._pick(which)
        won = [seat for other in self.sessions for seat in other.won if (other is opened) is own]
        if not won:
            return
        seat = won[-1 - number % len(won)]
        if resigns:
            opened.seats = [other for other in opened.seats if other != seat]
            self._both(opened, lambda half: half.backend.resign(half.lease, half.seat(seat), timeout=TIMEOUT))
            return
        self._both(
            opened, lambda half: half.backend.proclaim(half.lease, half.seat(seat), value=value, timeout=TIMEOUT)
        )

    # Time ---------------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.001, 0.3, 0.999, 1.0, 1.5, 4.0]), silent=st.sets(WHERE, max_size=2))
    def pass_time(self, seconds: float, silent: set[int]) -> None:
        """For a while some do not beat."""
        self._beat_until(self.clock.now() + seconds, self._all_but(silent))

    @precondition(lambda self: self.sessions)
    @rule(which=WHICH, after=st.sampled_from([0.0, 0.0, 0.001, -0.001]))
    def pass_time_until_a_lease_ends(self, which: int, after: float) -> None:
        """Nobody beats until the very moment at which a lease ends, or just before or after it."""
        opened = self._pick(which)
        self.clock.advance(max(0.0, opened.renewed + opened.ttl + after - self.clock.now()))

    @rule(seconds=st.sampled_from([-7200.0, -3.0, 0.5, 3600.0]))
    def step_wall_clock(self, seconds: float) -> None:
        """Somebody sets the wall clock."""
        if os.environ.get("LENIENT") and type(self).__name__ == "LocalMachine": self.clock.step_wall(100_000+seconds) ; return
        self.clock.step_wall(seconds)

    @rule(silent=st.sets(WHERE, min_size=1, max_size=3))
    def outlive_the_silent(self, silent: set[int]) -> None:
        """Some beat on until they must have seen all the silent ones go."""
        beating = self._all_but(silent)
        self._compare_views(beating)
        self._beat_until(self.clock.now() + self.profile.eviction.seconds(max(TTLS)), beating)
        self._compare_views(beating)
        silent_ones = {opened.incarnation for opened in [*self.sessions, *self.ghosts] if self._lapsed(opened)}
        for opened in beating:
            assert not silent_ones & self._seen_by(opened)

    # Views --------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.sessions)
    @rule(which=WHICH)
    def look(self, which: int) -> None:
        """Somebody reads everything."""
        self._compare_views([self._pick(which)])

    @invariant()
    def looks_the_same(self) -> None:
        """Whoever's turn it is reads everything."""
        if self.attentive and self.sessions:
            self._compare_views([self._pick(next(self.numbers) % 8)])

    def _compare_views(self, readers: Iterable[Opened]) -> None:
        for reader in readers:
            for group in GROUPS:
                self._both(
                    reader, lambda half, name=group: half.backend.read_group(half.lease, name, timeout=TIMEOUT)
                )
            for election in ELECTIONS:
                self._both(
                    reader,
                    lambda half, name=election: half.backend.read_leader(half.lease, name, timeout=TIMEOUT),
                    election=election,
                )
            self._both(reader, lambda half: half.backend.list_groups(half.lease, timeout=TIMEOUT))

    def _seen_by(self, reader: Opened) -> set[str]:
        """Return the incarnations that a session sees in any place."""
        backend, lease = reader.real.backend, reader.real.lease
        groups = [backend.read_group(lease, group, timeout=TIMEOUT) for group in GROUPS]
        leaders = [backend.read_leader(lease, election, timeout=TIMEOUT) for election in ELECTIONS]
        found = {member.incarnation for group in groups for member in group.members}
        return found | {leader.incarnation for leader in leaders if isinstance(leader, LeaderRecord)}

    # Asking both --------------------------------------------------------------------------------------------

    def _both(
        self, who: Opened | Process, ask: Callable[[Half], object], *, election: str = "", ends: bool = False
    ) -> object:
        """Ask the backend, then the model, compare, and return the backend's answer.

        A call that `ends` a session does so on both sides; any other may find that a lease is over.
        """
        if os.environ.get("LENIENT"): self.clock.step_wall(1e-4)
        given = who.real.answer(ask)
        if not self.exact and not ends:
            self._bury(
                opened for opened in [*self.sessions, *self.ghosts] if self._lapsed(opened) and self.is_over(opened)
            )
        wanted = who.model.answer(ask)
        real, model = who.real.plain(given, election=election), who.model.plain(wanted, election=election)
        if os.environ.get("LENIENT") and type(real) is type(model) and type(real).__name__ in {"SessionClosed","Reaped","Left","Withdrawn","Resigned"}:
            target = ends if isinstance(ends, Opened) else who
            if self._lapsed(target): real = model = None
        assert model == real, f"the model says {model}, the backend {real}"
        self._compare_waits(given, wanted)
        if isinstance(given, drumbeat.SessionLost) and isinstance(who, Opened):
            who.over = True
        return given

    def _compare_waits(self, given: object, wanted: object) -> None:
        if not isinstance(given, Waiting | drumbeat.Conflict):
            return
        assert isinstance(wanted, Waiting | drumbeat.Conflict)
        assert given.retry_after is not None
        assert wanted.retry_after is not None
        if self.exact:
            assert abs(given.retry_after - wanted.retry_after) < 1e-6
        else:
            assert 0 < given.retry_after <= 1.002 * max(TTLS)

    def _bury(self, ended: Iterable[Opened]) -> None:
        """End sessions in the model."""
        for opened in list(ended):
            ticket = ReapTicket(opened.incarnation, opened.member_id)
            opened.model.backend.reap_session(ticket, timeout=TIMEOUT)
            self.ghosts = [ghost for ghost in self.ghosts if ghost is not opened]

    # Doing --------------------------------------------------------------------------------------------------

    def _new_process(self, member_id: str) -> Process:
        return Process(Half(self.backend(), self.real_tokens), self.model, member_id)

    def _open(self, process: Process, *, ttl: float, force: bool = False, supersedes: str | None = None) -> bool:
        name, member_id = f"i{next(self.numbers)}", process.member_id
        request = SessionRequest(
            incarnation=name, member_id=member_id, ttl=ttl, supersedes=supersedes, replace=force
        )
        lease = Lease(name, member_id, ttl)
        opened = Opened(
            process=process,
            real=replace(process.real, lease=lease),
            model=replace(process.model, lease=lease),
            incarnation=name,
            member_id=member_id,
            ttl=ttl,
            renewed=self.clock.now(),
        )
        if not isinstance(self._request(opened, request), Lease):
            return False
        process.opened = opened
        return True

    def _request(self, opened: Opened, request: SessionRequest) -> object:
        def ask(half: Half) -> Lease:
            endless = half is opened.model and not self.exact
            return half.backend.open_session(replace(request, ttl=ENDLESS) if endless else request, timeout=TIMEOUT)

        answer = self._both(opened, ask)
        assert not isinstance(answer, Lease) or answer == opened.real.lease
        return answer

    def _reopen(self, opened: Opened, *, ttl: float) -> None:
        self._drop(opened)
        self._open(opened.process, ttl=ttl, supersedes=opened.incarnation)

    def _close(self, opened: Opened) -> None:
        self._both(opened, lambda half: half.backend.close_session(half.lease, timeout=TIMEOUT), ends=True)

    def _drop(self, opened: Opened) -> None:
        """Let go of a session on both sides; whether that ends it, or its lease does, is claimed as a capability."""
        for half in (opened.real, opened.model):
            half.backend.drop_session(half.lease)
        if Capability.CRASH_DETECTION in self.profile.capabilities:
            self._bury([opened])
        else:
            self.ghosts.append(opened)
        if opened.process.opened is opened:
            opened.process.opened = None

    def _beat(self, opened: Opened, listed: Holdings | None = None) -> None:
        holdings = listed or opened.holdings()
        sent = self.clock.now()
        answer = self._both(
            opened, lambda half: half.backend.heartbeat(half.lease, half.holdings(holdings), timeout=TIMEOUT)
        )
        if isinstance(answer, Beat):
            opened.renewed = sent
            opened.lose([opened.real.plain(item) for item in answer.lost])

    def _beat_until(self, until: float, beating: list[Opened]) -> None:
        while self.clock.now() < until:
            for opened in beating:
                if not opened.over and self.clock.now() >= opened.renewed + opened.ttl / 4:
                    self._beat(opened)
            self.clock.advance(min(min(TTLS) / 4, until - self.clock.now()))

    def _join(self, opened: Opened, group: str, value: bytes) -> None:
        attempt = opened.attempt()
        answer = self._both(
            opened,
            lambda half: half.backend.join_group(half.lease, group, attempt=attempt, value=value, timeout=TIMEOUT),
        )
        if isinstance(answer, Joined):
            opened.memberships[group] = attempt

    def _campaign_anew(self, opened: Opened, election: str, value: bytes) -> None:
        candidacy = Candidacy(election, opened.attempt())
        opened.candidacies.append(candidacy)
        self._campaign(opened, candidacy, value)

    def _campaign(self, opened: Opened, candidacy: Candidacy, value: bytes) -> object:
        answer = self._both(
            opened,
            lambda half: half.backend.campaign(
                half.lease, candidacy.election, attempt=candidacy.attempt, value=value, timeout=TIMEOUT
            ),
            election=candidacy.election,
        )
        if isinstance(answer, Won):
            opened.win(candidacy, opened.real.ranked(answer.seat))
        elif isinstance(answer, Waiting) and Capability.FIFO_CANDIDATES not in self.profile.capabilities:
            # Where there is no queue, whoever asks first wins: in the model nobody must stand in line either.
            model = opened.model
            model.backend.withdraw(model.lease, candidacy.election, attempt=candidacy.attempt, timeout=TIMEOUT)
        return answer

    def _all_but(self, silent: set[int]) -> list[Opened]:
        return [opened for number, opened in enumerate(self.sessions) if number not in silent]

    def _lapsed(self, opened: Opened) -> bool:
        return self.clock.now() >= opened.renewed + opened.ttl

    def _pick(self, which: int) -> Opened:
        live = [opened for opened in self.sessions if not opened.over and not self._lapsed(opened)]
        among = live if live and which < 6 else self.sessions
        return among[which % len(among)]
