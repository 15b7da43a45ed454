"""Every backend answers as the reference model does, whatever is asked of it, in whatever order."""

from __future__ import annotations

import os
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from randomised.hooks import HookMachine
from randomised.twins import NAMESPACE, Subject, Twins

from drumbeat import cas, hookimpl
from drumbeat._cas.records import Keys, Session
from drumbeat.hookspecs import (
    Beat,
    Holdings,
    Left,
    Lease,
    Resigned,
    Seat,
    SessionClosed,
    SessionRequest,
    Waiting,
    Won,
)
from drumbeat.local import LocalBackend
from drumbeat.memory import MemoryBackend
from drumbeat.testing import FakeClock, memory_url

if TYPE_CHECKING:
    from randomised.sides import Opened

    from drumbeat._facade import Backend

DAY = 86_400.0


class Local(Subject):
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


class CompareAndSet(Subject):
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


class Memory(Subject):
    """The model itself, under another name; the start of broken ones."""

    broken: type[MemoryBackend] = MemoryBackend

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.url = memory_url()

    def backend(self) -> Backend:
        return self.make(self.broken, self.url)

    def close(self) -> None:
        MemoryBackend.forget_store(self.url.removeprefix("memory://"))


def compare(kind: type[Subject], *, examples: int, phases: tuple[Phase, ...] = tuple(Phase)) -> None:
    """Compare a backend with the model; raise AssertionError where they differ."""

    class Machine(HookMachine):
        subject = kind

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=50,
            phases=phases,
            report_multiple_bugs=False,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )


@pytest.mark.timeout(600)  # a failure is shrunk, which takes its time
@pytest.mark.parametrize("kind", [Local, CompareAndSet])
def test_a_backend_answers_as_the_model_does(kind: type[Subject]) -> None:
    """Any sequence of hooks, leases running out meanwhile, has the model's answers and leaves the model's views."""
    Twins.answers.clear()
    compare(kind, examples=200)
    common = ["Beat", "Joined", "LeaderRecord", "Lease", "SessionClosed", "SessionLost", "Waiting", "Won"]
    assert min(Twins.answers[name] for name in common) > 100, Twins.answers
    rare = ["Conflict", "Left", "Proclaimed", "Reaped", "Resigned", "Updated", "Withdrawn"]
    assert min(Twins.answers[name] for name in rare) > 20, Twins.answers
