"""A backend beside the reference model: whatever is asked of one is asked of the other, and compared."""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, ClassVar, Final

import drumbeat
from drumbeat import Capability
from drumbeat.hookspecs import (
    Beat,
    Candidacy,
    Holdings,
    Joined,
    LeaderRecord,
    Lease,
    ReapTicket,
    SessionRequest,
    Waiting,
    Won,
)
from drumbeat.memory import MemoryBackend
from drumbeat.testing import memory_url
from drumbeat_conformance.machine._program import Program
from drumbeat_conformance.machine._sides import Half, Opened, Process, Tokens
from drumbeat_conformance.waiting import pass_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from drumbeat_conformance.machine._store import Store

__all__ = ["ELECTIONS", "ENDLESS", "GROUPS", "MEMBERS", "TIMEOUT", "Twins"]

GROUPS: Final = ("g", "group/ü")
ELECTIONS: Final = ("election/e", "lock/l")
#: The ids that processes have when nothing else is said.
MEMBERS: Final = ("a", "b", "c", "d")
#: Longer than any example: in the model such a lease ends when the test says so.
ENDLESS: Final = 86_400.0
#: Seconds of real time for a hook.
TIMEOUT: Final = 10.0


class Twins(ABC):
    """Four processes and their sessions, on a backend and on the model."""

    #: What the backends of all examples have answered, by kind.
    answers: ClassVar[Counter[str]] = Counter()

    def __init__(self, store: Store, *, ttls: tuple[float, ...]) -> None:
        self.clock = store.clock
        self.store = store
        #: The TTLs that sessions have, in seconds.
        self.ttls = ttls
        #: How the names of incarnations begin, which no other example may have on the same server.
        self._prefix = uuid.uuid4().hex[:8]
        #: What was asked of the backend so far.
        self.program = Program(self.clock, prefix=self._prefix)
        self._numbers = count()
        self._tokens = Tokens()
        self._model_url = memory_url()
        # One for all processes: it remembers nothing but what is in the store.
        self._model = Half(store.make(MemoryBackend, self._model_url), Tokens())
        self.processes = [self._new_process(member) for member in MEMBERS]
        self.profile = self.processes[0].real.backend.describe(timeout=TIMEOUT)
        #: What processes have let go of, until it is known to be over.
        self._ghosts: list[Opened] = []

    def end(self) -> None:
        """Let go of everything."""
        for process in self.processes:
            half = process.real if process.opened is None else process.opened.real
            half.backend.drop_session(half.lease)
        self.store.close()
        MemoryBackend.forget_store(self._model_url.removeprefix("memory://"))

    @property
    def sessions(self) -> list[Opened]:
        """What processes have opened and not let go of, whether or not it is over."""
        return [process.opened for process in self.processes if process.opened is not None]

    @property
    def known(self) -> list[Opened]:
        """The sessions, and those that were let go of and may live on."""
        return [*self.sessions, *self._ghosts]

    def ttl(self, number: int) -> float:
        """Return one of the TTLs."""
        return self.ttls[number % len(self.ttls)]

    def lapsed(self, opened: Opened) -> bool:
        """Return whether a session has been silent for its TTL."""
        return self.clock.now() >= opened.renewed + opened.ttl

    # Asking both --------------------------------------------------------------------------------------------

    def both(
        self,
        who: Opened | Process,
        ask: Callable[[Half], object],
        *,
        election: str = "",
        ends: Opened | None = None,
    ) -> object:
        """Ask the backend, then the model; both must say the same. Return the backend's answer.

        A call that `ends` a session does so on both sides; any other may find that some lease has run out.
        """
        self.before_asking()
        given = who.real.answer(ask)
        self.after_answer(ends)
        wanted = who.model.answer(ask)
        if not self.excused(given, wanted, about=ends or who):
            model, real = who.model.plain(wanted, election=election), who.real.plain(given, election=election)
            if model != real:
                raise AssertionError(self.program.difference(model, real))
        self.program.answered(given)
        if isinstance(given, Waiting | drumbeat.Conflict):
            assert isinstance(wanted, Waiting | drumbeat.Conflict)
            self.compare_waits(given.retry_after, wanted.retry_after)
        if isinstance(given, drumbeat.SessionLost) and isinstance(who, Opened):
            who.over = True
        self.answers[type(given).__name__] += 1
        return given

    @abstractmethod
    def before_asking(self) -> None:
        """Do what must be done before each call."""

    @abstractmethod
    def after_answer(self, ends: Opened | None) -> None:
        """Have the model follow where the backend may have ended sessions, before the model is asked."""

    @abstractmethod
    def compare_waits(self, given: float | None, wanted: float | None) -> None:
        """Judge the seconds after which the backend, and the model, say that it is worth to come back."""

    def excused(self, given: object, wanted: object, *, about: Opened | Process) -> bool:  # noqa: ARG002 - for others
        """Return whether two answers may differ."""
        return False

    def _bury(self, ended: Iterable[Opened]) -> None:
        """End sessions in the model, and forget those that no process has."""
        for opened in list(ended):
            ticket = ReapTicket(opened.incarnation, opened.member_id)
            opened.model.backend.reap_session(ticket, timeout=TIMEOUT)
            self._ghosts = [ghost for ghost in self._ghosts if ghost is not opened]

    # Sessions -----------------------------------------------------------------------------------------------

    def open(self, process: Process, *, ttl: float, force: bool = False, supersedes: str | None = None) -> bool:
        """Open a session; return False if its member id is in use."""
        name = f"{self._prefix}-{next(self._numbers)}"
        lease = Lease(name, process.member_id, ttl)
        opened = Opened(
            process=process,
            real=replace(process.real, lease=lease),
            model=replace(process.model, lease=lease),
            incarnation=name,
            member_id=process.member_id,
            ttl=ttl,
            renewed=self.clock.now(),
        )
        if not self.request(opened, force=force, supersedes=supersedes):
            return False
        process.opened = opened
        return True

    def request(self, opened: Opened, *, force: bool = False, supersedes: str | None = None) -> bool:
        """Ask for a session, perhaps not for the first time; return False if its member id is in use."""
        request = SessionRequest(
            incarnation=opened.incarnation,
            member_id=opened.member_id,
            ttl=opened.ttl,
            supersedes=supersedes,
            replace=force,
        )
        in_model = replace(request, ttl=self.model_ttl(opened.ttl))

        def ask(half: Half) -> Lease:
            return half.backend.open_session(in_model if half is opened.model else request, timeout=TIMEOUT)

        sent = self.clock.now()
        answer = self.both(opened, ask)
        if isinstance(answer, Lease):
            opened.real.lease = answer
            opened.ttl = answer.ttl
            opened.renewed = sent
        return isinstance(answer, Lease)

    def model_ttl(self, ttl: float) -> float:  # noqa: ARG002 - for those whose leases are exact
        """Return the seconds for which the model grants a lease of `ttl` seconds: for ever, it ends when told so."""
        return ENDLESS

    def reopen(self, opened: Opened, *, ttl: float) -> None:
        """Go on with a new incarnation, as after LOST."""
        self.drop(opened)
        self.open(opened.process, ttl=ttl, supersedes=opened.incarnation)

    def restart(self, process: Process, *, ttl: float) -> None:
        """Start anew, in the place of whoever has the process's session or its id."""
        old = process.opened
        if old is not None:
            self.drop(old)
        self.open(process, ttl=ttl, force=True, supersedes=None if old is None else old.incarnation)

    def close(self, opened: Opened) -> None:
        """Close a session, which may be over."""
        self.both(opened, lambda half: half.backend.close_session(half.lease, timeout=TIMEOUT), ends=opened)

    def drop(self, opened: Opened) -> None:
        """Let go of a session on both sides. What is claimed says whether that ends it, or only its lease does."""
        for half in (opened.real, opened.model):
            half.backend.drop_session(half.lease)
        self._ghosts.append(opened)
        if Capability.CRASH_DETECTION in self.profile.capabilities:
            self._bury([opened])
        if opened.process.opened is opened:
            opened.process.opened = None

    def crash(self, opened: Opened) -> None:
        """End a process without a word, and with it all that its backend object knew; start it again."""
        self.drop(opened)
        place = self.processes.index(opened.process)
        self.processes[place] = self._new_process(opened.member_id)

    def reap(self, process: Process, opened: Opened) -> None:
        """Have a process end somebody's session."""
        ticket = ReapTicket(opened.incarnation, opened.member_id)
        self.both(process, lambda half: half.backend.reap_session(ticket, timeout=TIMEOUT), ends=opened)

    def _new_process(self, member_id: str) -> Process:
        return Process(Half(self.program.listens(self.store.backend()), self._tokens), self._model, member_id)

    # Heartbeats ---------------------------------------------------------------------------------------------

    def beat(self, opened: Opened, listed: Holdings | None = None) -> None:
        """Beat with what the session believes, or with other holdings; believe the answer."""
        holdings = listed or opened.holdings()
        sent = self.clock.now()
        answer = self.both(
            opened, lambda half: half.backend.heartbeat(half.lease, half.holdings(holdings), timeout=TIMEOUT)
        )
        if isinstance(answer, Beat):
            opened.renewed = sent
            opened.lose([opened.real.plain(item) for item in answer.lost])

    def beat_if_due(self, sessions: Iterable[Opened]) -> None:
        """Beat for those that have not for a quarter of their TTL, as a session does."""
        for opened in sessions:
            if not opened.over and self.clock.now() >= opened.renewed + opened.ttl / 4:
                self.beat(opened)

    def beat_until(self, until: float, beating: Iterable[Opened]) -> None:
        """Let time pass, in which some beat as a session does."""
        sessions = list(beating)
        while self.clock.now() < until:
            self.beat_if_due(sessions)
            pass_seconds(self.clock, max(0.0, min(min(self.ttls) / 4, until - self.clock.now())))

    # Places -------------------------------------------------------------------------------------------------

    def join(self, opened: Opened, group: str, value: bytes) -> None:
        """Join, perhaps again."""
        attempt = opened.attempt()
        answer = self.both(
            opened,
            lambda half: half.backend.join_group(half.lease, group, attempt=attempt, value=value, timeout=TIMEOUT),
        )
        if isinstance(answer, Joined):
            opened.memberships[group] = attempt

    def campaign_anew(self, opened: Opened, election: str, value: bytes) -> None:
        """Try once with a new attempt."""
        candidacy = Candidacy(election, opened.attempt())
        opened.candidacies.append(candidacy)
        self.campaign(opened, candidacy, value)

    def campaign(self, opened: Opened, candidacy: Candidacy, value: bytes) -> object:
        """Try once; return the answer."""
        answer = self.both(
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

    # Views --------------------------------------------------------------------------------------------------

    def compare_views(self, readers: Iterable[Opened]) -> None:
        """Have sessions read everything."""
        for reader in readers:
            for group in GROUPS:
                self.both(reader, lambda half, name=group: half.backend.read_group(half.lease, name, timeout=TIMEOUT))  # type: ignore[misc]
            for election in ELECTIONS:
                self.both(
                    reader,
                    lambda half, name=election: half.backend.read_leader(half.lease, name, timeout=TIMEOUT),  # type: ignore[misc]
                    election=election,
                )
            self.both(reader, lambda half: half.backend.list_groups(half.lease, timeout=TIMEOUT))

    def seen_by(self, reader: Opened, groups: Iterable[str] = GROUPS) -> set[str]:
        """Return the incarnations that a session sees in any place."""
        backend, lease = reader.real.backend, reader.real.lease
        read = [backend.read_group(lease, group, timeout=TIMEOUT) for group in groups]
        leaders = [backend.read_leader(lease, election, timeout=TIMEOUT) for election in ELECTIONS]
        found = {member.incarnation for group in read for member in group.members}
        return found | {leader.incarnation for leader in leaders if isinstance(leader, LeaderRecord)}
