"""Every backend answers as the reference model does, whatever is asked of it, in whatever order."""

from __future__ import annotations

import os
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from drumbeat import cas, hookimpl
from drumbeat._cas.records import Keys, Session
from drumbeat.hookspecs import (
    Beat,
    Holdings,
    Lease,
    Resigned,
    Seat,
    SessionRequest,
    Waiting,
    Won,
)
from drumbeat.local import LocalBackend
from drumbeat.memory import MemoryBackend
from drumbeat.testing import FakeClock, memory_url
from drumbeat_conformance.machine import NAMESPACE, ExactMachine, FakeStore, Twins

if TYPE_CHECKING:
    from collections.abc import Callable

    from drumbeat._facade import Backend
    from drumbeat_conformance.machine import Opened

DAY = 86_400.0


class Local(FakeStore):
    late_giving_counts = True

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.folder = TemporaryDirectory()
        self._open_the_day_before()

    def backend(self) -> Backend:
        return self.make(LocalBackend, f"local://{self.folder.name}/drumbeat.db")

    def close(self) -> None:
        self.folder.cleanup()

    def _open_the_day_before(self) -> None:
        """Make the file; no wall clock is set to a time before that."""
        self.clock.step_wall(-DAY)
        backend = self.backend()
        lease = backend.open_session(SessionRequest(incarnation="first", member_id="first", ttl=1.0), timeout=5.0)
        backend.close_session(lease, timeout=5.0)
        backend.drop_session(lease)
        self.clock.step_wall(DAY)


class CompareAndSet(FakeStore):
    exact = False

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.name = memory_url().removeprefix("memory://")

    def backend(self) -> Backend:
        return self.make(cas.MemoryCasBackend, f"memory-cas://{self.name}")

    def is_over(self, opened: Opened) -> bool:
        values = cas._stores[os.getpid(), self.name].values
        key = Keys(NAMESPACE).session(opened.member_id)
        return not Session.decode(key, values[key][0]).is_live(opened.incarnation)

    def close(self) -> None:
        del cas._stores[os.getpid(), self.name]


class Memory(FakeStore):
    """The model itself, under another name; the start of broken ones."""

    broken: type[MemoryBackend] = MemoryBackend

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.url = memory_url()

    def backend(self) -> Backend:
        return self.make(self.broken, self.url)

    def close(self) -> None:
        MemoryBackend.forget_store(self.url.removeprefix("memory://"))


def machine(store: type[FakeStore]) -> type[ExactMachine]:
    """Return the machine that compares a store with the model."""

    class Machine(ExactMachine):
        kind = store

    return Machine


def compare(store: type[FakeStore], *, examples: int, phases: tuple[Phase, ...] = tuple(Phase)) -> None:
    """Compare a backend with the model, in the same examples on every interpreter; AssertionError if they differ."""
    run_state_machine_as_test(
        seed(0)(machine(store)),
        settings=settings(
            max_examples=examples,
            stateful_step_count=50,
            phases=phases,
            report_multiple_bugs=False,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.timeout(600)  # a failure is shrunk, which takes its time
@pytest.mark.parametrize("store", [Local, CompareAndSet])
def test_a_backend_answers_as_the_model_does(store: type[FakeStore]) -> None:
    """Any sequence of hooks, leases running out meanwhile, has the model's answers and leaves the model's views."""
    compare(store, examples=100)


#: What a rule must ask for, whatever went before it.
ASKS: dict[str, Callable[[ExactMachine], None]] = {
    "Beat": lambda asked: asked.beat(0),
    "Conflict": lambda asked: asked.begin(attentive=False, crowded=True),
    "Joined": lambda asked: asked.join(0, "g", b""),
    "Left": lambda asked: asked.leave(0, "g", member=True),
    "Proclaimed": lambda asked: asked.proclaim(0, "lock/l", "held", b""),
    "Reaped": lambda asked: asked.reap(0, 0),
    "Resigned": lambda asked: asked.resign(0, "lock/l", "held"),
    "SessionClosed": lambda asked: asked.end(0, 0, "close"),
    "Updated": lambda asked: asked.update(0, "g", b"", member=True),
    "Withdrawn": lambda asked: asked.withdraw(0, 0, "lock/l", won=True),
    "Won": lambda asked: asked.hand_over(0, "lock/l", queued=True),
}


@pytest.mark.parametrize("crowded", [False, True])
@pytest.mark.parametrize("lapsed", [False, True])
@pytest.mark.parametrize("kind", ASKS)
def test_a_rule_asks_for_its_answer_wherever_it_stands(kind: str, crowded: bool, lapsed: bool) -> None:
    """What is to be compared does not wait for luck: each rule leads to its answer, also after everybody has lapsed."""
    asked = machine(Memory)()
    try:
        asked.begin(attentive=False, crowded=crowded)
        if lapsed:
            asked.twins.clock.advance(DAY)
        before = Twins.answers[kind]
        ASKS[kind](asked)
        assert before < Twins.answers[kind]
    finally:
        asked.twins.end()


def test_the_model_agrees_with_itself() -> None:
    """Without a broken promise the comparison finds nothing: the tests below fail for the right reason."""
    compare(Memory, examples=20)


class ForgetsTheHolder(MemoryBackend):
    @hookimpl
    def campaign(self, lease: Lease, election: str, attempt: int, value: bytes) -> Won | Waiting:
        with self._store.call(self._namespace) as space:
            place = space.elections.get(election)
            if place is not None:
                place.holder = None
        return super().campaign(lease, election, attempt, value)


class MintsTokensTwice(MemoryBackend):
    @hookimpl
    def resign(self, lease: Lease, seat: Seat) -> Resigned:
        answer = super().resign(lease, seat)
        if answer.was_held:
            with self._store.call(self._namespace) as space:
                space.elections[seat.election].token -= 1
        return answer


class ResignsForAnybody(MemoryBackend):
    @hookimpl
    def resign(self, lease: Lease, seat: Seat) -> Resigned:
        with self._store.call(self._namespace) as space:
            place = space.elections[seat.election]
            was_held, place.holder = place.holder is not None, None
            return Resigned(was_held)


class RevivesTheDead(MemoryBackend):
    @hookimpl
    def heartbeat(self, lease: Lease, holdings: Holdings) -> Beat:
        self.open_session(
            SessionRequest(incarnation=lease.incarnation, member_id=lease.member_id, ttl=lease.ttl, replace=True)
        )
        return super().heartbeat(lease, holdings)


class EndsLeasesLate(MemoryBackend):
    @hookimpl
    def heartbeat(self, lease: Lease, holdings: Holdings) -> Beat:
        answer = super().heartbeat(lease, holdings)
        with self._store.call(self._namespace) as space:
            space.sessions[lease.incarnation].deadline += 0.0005
        return answer


class KeepsWhatWasAbandoned(MemoryBackend):
    @hookimpl
    def heartbeat(self, lease: Lease, holdings: Holdings) -> Beat:
        return super().heartbeat(
            lease, Holdings(memberships=holdings.memberships, seats=holdings.seats, newest_attempt=0)
        )


class BelievesWhatItIsTold(MemoryBackend):
    @hookimpl
    def heartbeat(self, lease: Lease, holdings: Holdings) -> Beat:
        return Beat(super().heartbeat(lease, holdings).lease)


class ServesTheLastComer(MemoryBackend):
    @hookimpl
    def campaign(self, lease: Lease, election: str, attempt: int, value: bytes) -> Won | Waiting:
        answer = super().campaign(lease, election, attempt, value)
        with self._store.call(self._namespace) as space:
            space.elections[election].queue.reverse()
        return answer


class IgnoresWhatItSupersedes(MemoryBackend):
    @hookimpl
    def open_session(self, request: SessionRequest) -> Lease:
        return super().open_session(replace(request, supersedes=None))


BROKEN = [
    ForgetsTheHolder,
    MintsTokensTwice,
    ResignsForAnybody,
    RevivesTheDead,
    EndsLeasesLate,
    KeepsWhatWasAbandoned,
    BelievesWhatItIsTold,
    ServesTheLastComer,
    IgnoresWhatItSupersedes,
]


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_backend_is_found_out(broken: type[MemoryBackend]) -> None:
    """A backend that breaks one promise does not pass the comparison."""
    store = type("Broken", (Memory,), {"broken": broken})
    with pytest.raises(AssertionError):
        compare(store, examples=200, phases=(Phase.generate,))
