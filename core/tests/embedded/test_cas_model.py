"""Any sequence of beats, pauses, campaigns, lost answers and late writes: never two leaders, tokens rise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from rig import RiggedWorld, Write, store_of

from drumbeat._cas.records import Owner, Roster, SeatRecord
from drumbeat._errors import Conflict, SessionLost, Unavailable
from drumbeat._timing import Timing
from drumbeat.hookspecs import LeaderRecord, SessionRequest, Won
from drumbeat_conformance.actor import Actor

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    from drumbeat.hookspecs import Seat

    Fault = Literal["lost reply", "late", "refused"] | None

# A failure is shrunk, which takes its time.
pytestmark = pytest.mark.timeout(300)

MEMBERS = st.integers(min_value=0, max_value=3)
NAMES = st.sampled_from(["e", "f"])
FAULTS = st.sampled_from([None, None, None, "lost reply", "late", "refused"])


class Process:
    """A process as the core would be one: it believes in its session until a deadline of its own."""

    def __init__(self, world: RiggedWorld, member_id: str) -> None:
        self.actor = Actor(world, member_id, backend=world.backend())
        self.request: SessionRequest | None = None
        self.sent = 0.0
        self.deadline = float("-inf")
        self.held: dict[str, Seat] = {}
        #: What may have happened to the session without its silence: it was superseded, replaced or closed.
        self.may_be_over = False

    @property
    def alive(self) -> bool:
        """Whether the process believes in its session."""
        return self.actor.stage.clock.now() < self.deadline


class CompareAndSet(RuleBasedStateMachine):
    """Four processes on one store, of which hypothesis chooses who does what, and what goes wrong with it."""

    volatile: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self.stage = RiggedWorld(Path(), volatile=self.volatile, policy="trust" if not self.volatile else "wait")
        self.stage.say_of_losses("nothing was lost")
        self.stage.set_longest_ttl(1.2 * self.stage.ttl)
        timing = Timing.plan(ttl=self.stage.ttl, heartbeat_interval=None, request_timeout=None, early_expiry=0.0)
        self.usable = timing.usable
        self.processes = [Process(self.stage, f"member-{number}") for number in range(4)]
        self.tokens: dict[str, dict[int, tuple[str, int]]] = {}
        self.late: list[Write] = []
        self.losses = 0
        for process in self.processes:
            self.open(process, fault=None)

    # What a process does ------------------------------------------------------------------------------------

    def attempt(self, process: Process, fault: Fault, operation: Callable[[], object], *, write: int = 0) -> bool:
        """Run an operation, one of whose writes may fail; return whether it answered."""
        store = store_of(process.actor)
        try:
            if fault is None:
                operation()
            else:
                with store.failing(write, fault):
                    operation()
        except Unavailable:
            return False
        except SessionLost:
            self.lose(process)
            return False
        finally:
            self.late += store.late
            store.late.clear()
        return True

    def lose(self, process: Process) -> None:
        process.deadline = float("-inf")
        process.held.clear()
        process.actor.candidacies.clear()

    def open(self, process: Process, fault: Fault, *, replace: bool = False) -> None:
        if process.request is None or process.request.replace != replace:
            old = process.actor.lease.incarnation or None
            process.request = process.actor.request(supersedes=old, replace=replace)
        request, sent = process.request, self.stage.clock.now()
        try:
            answered = self.attempt(process, fault, lambda: process.actor.open(request))
        except Conflict:
            return
        if answered:
            process.sent, process.deadline, process.request = sent, sent + self.usable, None
            process.may_be_over = False

    @rule(member=MEMBERS, fault=FAULTS, write=st.integers(0, 2))
    def beat(self, member: int, fault: Fault, write: int) -> None:
        process = self.processes[member]
        if not process.alive:
            return
        actor, sent = process.actor, self.stage.clock.now()
        actor.seats = dict(process.held)
        lost: list[object] = []
        if self.attempt(process, fault, lambda: lost.extend(actor.beat().lost), write=write):
            process.sent, process.deadline = sent, sent + self.usable
            process.held = {name: seat for name, seat in process.held.items() if seat not in lost}
            if fault is None:
                self.require_no_strays(process)

    def require_no_strays(self, process: Process) -> None:
        """LEAD-15: after a heartbeat the store holds nothing for a session that the session does not know of."""
        known = {("e", name, seat.attempt) for name, seat in process.held.items()}
        known |= {("e", name, attempt) for name, attempt in process.actor.candidacies.items()}
        known |= {("g", name, attempt) for name, attempt in process.actor.places.items()}
        lease, contents = process.actor.lease, store_of(process.actor).contents
        for name in ("e", "f"):
            if f"db:seat:tests:{name}" in contents:
                seat = SeatRecord.decode("seat", contents[f"db:seat:tests:{name}"][0])
                assert seat.owner != Owner.of(lease) or ("e", name, seat.attempt) in known
            if f"db:roster:tests:{name}" in contents:
                entry = Roster.decode("roster", contents[f"db:roster:tests:{name}"][0]).entry(lease.incarnation)
                assert entry is None or ("g", name, entry.attempt) in known

    @rule(member=MEMBERS, fault=FAULTS, again=st.booleans())
    def reopen(self, member: int, fault: Fault, *, again: bool) -> None:
        process = self.processes[member]
        if process.alive and not again:
            return
        self.lose(process)
        self.open(process, fault)

    @rule(member=MEMBERS)
    def crash_and_restart(self, member: int) -> None:
        """The process is killed; another one with its member id comes, and has to wait for its death."""
        self.lose(self.processes[member])
        self.processes[member] = Process(self.stage, f"member-{member}")

    @rule(member=MEMBERS, name=NAMES, fault=FAULTS, write=st.integers(0, 2))
    def campaign(self, member: int, name: str, fault: Fault, write: int) -> None:
        process = self.processes[member]
        if not process.alive or name in process.held:
            return
        actor, answers = process.actor, list[object]()
        if self.attempt(process, fault, lambda: answers.append(actor.campaign(name)), write=write):
            (answer,) = answers
            if isinstance(answer, Won):
                process.held[name] = answer.seat
                self.record(process, answer.seat)

    @rule(member=MEMBERS, name=NAMES)
    def give_up(self, member: int, name: str) -> None:
        """The process stops wanting an attempt and a membership and says nothing; its next heartbeat cleans up."""
        self.processes[member].actor.candidacies.pop(name, None)
        self.processes[member].actor.places.pop(name, None)

    @rule(member=MEMBERS, name=NAMES, fault=FAULTS)
    def withdraw(self, member: int, name: str, fault: Fault) -> None:
        process = self.processes[member]
        attempt = process.actor.candidacies.get(name)
        if process.alive and attempt:
            self.attempt(process, fault, lambda: process.actor.withdraw(name, attempt))

    @rule(member=MEMBERS, name=NAMES, fault=FAULTS)
    def resign(self, member: int, name: str, fault: Fault) -> None:
        process = self.processes[member]
        seat = process.held.pop(name, None)
        if seat is not None:
            self.attempt(process, fault, lambda: process.actor.resign(seat))

    @rule(member=MEMBERS, name=NAMES)
    def proclaim(self, member: int, name: str) -> None:
        process = self.processes[member]
        seat = process.held.get(name)
        if seat is not None and process.alive:
            assert process.actor.proclaim(seat, b"value") or self.volatile

    @rule(member=MEMBERS, name=NAMES, fault=FAULTS, write=st.integers(0, 3))
    def join(self, member: int, name: str, fault: Fault, write: int) -> None:
        process = self.processes[member]
        if process.alive:
            self.attempt(process, fault, lambda: process.actor.join(name), write=write)

    @rule(member=MEMBERS, name=NAMES)
    def leave(self, member: int, name: str) -> None:
        process = self.processes[member]
        if process.alive:
            process.actor.leave(name)
            assert process.actor.member_id not in process.actor.members(name)

    @rule(member=MEMBERS, name=NAMES)
    def look(self, member: int, name: str) -> None:
        process = self.processes[member]
        members = process.actor.members(name)
        leader = process.actor.leader(name)
        assert set(members) <= {f"member-{number}" for number in range(4)}
        for other in self.processes:
            if other.alive and name in other.held and not self.volatile:
                assert isinstance(leader, LeaderRecord)
                assert leader.token == other.held[name].token

    @precondition(lambda self: self.late)
    @rule(data=st.data())
    def a_late_write_arrives(self, data: st.DataObject) -> None:
        self.late.pop(data.draw(st.integers(0, len(self.late) - 1))).arrive()

    @rule(ttls=st.sampled_from([0.01, 0.25, 0.5, 1.002]))
    def pass_time(self, ttls: float) -> None:
        """Time passes, in which nobody does anything."""
        self.stage.wait(ttls * self.stage.ttl)

    @rule(quarters=st.integers(1, 6), silent=st.sets(MEMBERS, max_size=2), order=st.permutations(range(4)))
    def live(self, quarters: int, silent: set[int], order: list[int]) -> None:
        """Time passes, in which some do what the core does: beat, open again when lost, and want to lead."""
        for _ in range(quarters):
            self.stage.wait(self.stage.ttl / 4)
            for member in order:
                if member in silent:
                    continue
                self.reopen(member, None, again=False)
                self.beat(member, None, 0)
                for name in ("e", "f"):
                    self.campaign(member, name, None, 0)
                self.at_most_one_leads()

    # What holds at every moment -----------------------------------------------------------------------------

    def record(self, process: Process, seat: Seat) -> None:
        terms = self.tokens.setdefault(seat.election, {})
        who = (process.actor.lease.incarnation, seat.attempt)
        assert terms.setdefault(seat.token, who) == who
        assert seat.token == max(terms)

    @invariant()
    def at_most_one_leads(self) -> None:
        """LEAD-1: of those who believe that they lead, at most one does at any moment."""
        for name in ("e", "f"):
            believers = [process for process in self.processes if process.alive and name in process.held]
            assert len(believers) <= 1

    @invariant()
    def nobody_dies_early(self) -> None:
        """BEAT-3: a session is marked dead at the earliest one TTL after its last answered heartbeat was sent."""
        contents = store_of(self.processes[0].actor).contents
        for process in self.processes:
            stored = contents.get(f"db:session:tests:{process.actor.member_id}")
            if stored is None or not process.alive:
                continue
            session = json.loads(stored[0][1:])
            assert session["incarnation"] == process.actor.lease.incarnation
            assert session["state"] == "alive"
            assert self.stage.clock.now() - process.sent < self.stage.ttl


class VolatileCompareAndSet(CompareAndSet):
    """The same on a store that now and then forgets everything, or one thing."""

    volatile = True

    @rule()
    def forget_everything(self) -> None:
        """The server starts again without its data."""
        self.stage.wipe()

    @rule(kind=st.sampled_from(["seat", "session", "birth", "roster", "value", "groups"]), data=st.data())
    def forget_one_thing(self, kind: str, data: st.DataObject) -> None:
        """The server evicts a key; of its seats it says so, or it does not know."""
        store = store_of(self.processes[0].actor)
        keys = sorted(key for key in store.contents if key.startswith(f"db:{kind}:"))
        if keys:
            store.evict(data.draw(st.sampled_from(keys)))
            self.losses += 1
            self.stage.say_of_losses(data.draw(st.sampled_from([None, f"{self.losses} keys were lost"])))
        for member in data.draw(st.permutations(range(4))):
            self.campaign(member, "e", None, 0)
            self.campaign(member, "f", None, 0)

    @invariant()
    def nobody_dies_early(self) -> None:
        """What was forgotten was not declared dead by anybody."""


TestCompareAndSet = CompareAndSet.TestCase
TestCompareAndSet.settings = settings(max_examples=60, stateful_step_count=60)
TestVolatile = VolatileCompareAndSet.TestCase
TestVolatile.settings = settings(max_examples=60, stateful_step_count=60)
