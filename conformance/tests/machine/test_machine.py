"""The exported state machine: it agrees with every backend, and finds those that break a promise."""

from __future__ import annotations

import re
import subprocess
import sys
import unittest
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import Phase, settings

from drumbeat import SessionLost, hookimpl
from drumbeat.hookspecs import Beat, LeaderRecord, Resigned
from drumbeat.memory import MemoryBackend
from drumbeat_conformance.machine import Twins, backend_machine
from drumbeat_conformance.target import Target

if TYPE_CHECKING:
    from drumbeat.hookspecs import BackendFactory, Holdings, Lease, Seat, Vacant
    from drumbeat_conformance.machine import PacedMachine

#: What every run has to do with, whichever the backend.
COMMON = {"Beat", "GroupRecord", "Joined", "LeaderRecord", "Lease", "SessionLost", "Vacant", "Waiting", "Won"}


def run(machine: type[PacedMachine], *, shrink: bool = True) -> unittest.TestResult:
    """Run the machine's test case as unittest does."""
    if not shrink:
        machine.TestCase.settings = settings(machine.TestCase.settings, phases=(Phase.generate,))
    result = unittest.TestResult()
    machine.TestCase().run(result)
    assert result.testsRun == 1
    return result


def require_agreement(target: Target) -> None:
    """Fail where a target's answers are not the model's, or where hardly anything was asked."""
    Twins.answers.clear()
    result = run(backend_machine(target))
    assert result.wasSuccessful(), "\n".join(text for _, text in [*result.failures, *result.errors])
    assert Twins.answers.keys() >= COMMON, Twins.answers


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", ["memory", "memory-cas"])
def test_stores_in_memory_agree_in_fake_time(name: str) -> None:
    """Where time is only pretended to pass, thousands of calls have the model's answers."""
    require_agreement(Target.of(name).with_fake_time())
    assert Twins.answers["Beat"] > 500


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", ["local", "redis", "memcached", "zookeeper", "etcd"])
def test_backends_agree_in_real_time(name: str) -> None:
    """On a real store, with leases that run out in real time, every call has the model's answer."""
    require_agreement(Target.of(name))


class BelievesWhatItIsTold(MemoryBackend):
    """Renews a session, and never says that something is lost."""

    @hookimpl
    def heartbeat(self, lease: Lease, holdings: Holdings) -> Beat:
        return Beat(super().heartbeat(lease, holdings).lease)


#: The last holder of each election that anybody has read.
_seen: dict[tuple[str, str], LeaderRecord] = {}


class LeavesTheDeadInTheirSeats(MemoryBackend):
    """Goes on to name a leader whose lease has run out."""

    @hookimpl
    def read_leader(self, election: str) -> LeaderRecord | Vacant:
        found = super().read_leader(election)
        if isinstance(found, LeaderRecord):
            _seen[self._namespace, election] = found
        return _seen.get((self._namespace, election), found)


class PutsOffTheEnd(MemoryBackend):
    """Ends a session only when three TTLs of silence have passed."""

    @hookimpl
    def heartbeat(self, lease: Lease, holdings: Holdings) -> Beat:
        answer = super().heartbeat(lease, holdings)
        with self._store.call(self._namespace) as space:
            space.sessions[lease.incarnation].deadline += 2 * lease.ttl
        return answer


class EndsTooEarly(MemoryBackend):
    """Ends a session when half of its TTL has passed."""

    @hookimpl
    def heartbeat(self, lease: Lease, holdings: Holdings) -> Beat:
        answer = super().heartbeat(lease, holdings)
        with self._store.call(self._namespace) as space:
            space.sessions[lease.incarnation].deadline -= 0.5 * lease.ttl
        return answer


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("broken", "text"),
    [
        (BelievesWhatItIsTold, "the model says   ('renewed', "),
        (LeavesTheDeadInTheirSeats, "the model says   Vacant()\n    the backend says LeaderRecord"),
        (PutsOffTheEnd, "the backend's bound"),
        (EndsTooEarly, "its lease lasts"),
    ],
)
def test_a_broken_backend_is_found(broken: type[MemoryBackend], text: str) -> None:
    """A backend that breaks one promise differs from the model, and the message says in what."""
    target = Target.of("memory").with_fake_time()
    result = run(backend_machine(target, factory=cast("BackendFactory", broken)), shrink=False)
    ((_, told),) = result.failures
    assert text in told
    assert "state.begin(" in told


class MintsTokensTwice(MemoryBackend):
    """Gives a token back when its holder resigns."""

    @hookimpl
    def resign(self, lease: Lease, seat: Seat) -> Resigned:
        answer = super().resign(lease, seat)
        if answer.was_held:
            with self._store.call(self._namespace) as space:
                space.elections[seat.election].token -= 1
        return answer


@pytest.mark.timeout(240)
def test_a_failure_is_a_short_program_of_hooks_with_both_answers() -> None:
    """Who reads it sees the call, what each side said, and the few calls before it: no more than the bug needs."""
    target = Target.of("memory").with_fake_time()
    ((_, told),) = run(backend_machine(target, factory=cast("BackendFactory", MintsTokensTwice))).failures
    answers, program = told.split("the calls that were made")
    (call,) = re.findall(r"differs from the model in its answer to\n +[0-9.]+ +(#\d of \w: campaign\(.*\))\n", answers)
    assert re.search(r"the model says +\('won', .*token=1\)\)\n +the backend says \('won', .*token=0\)\)\n", answers)
    asked = re.findall(r"^ +[0-9.]+ +(.*)\n +-> (.*)$", program, flags=re.MULTILINE)
    assert (call, "here it failed") == asked[-1]
    assert "Resigned(was_held=True)" in [answer for _, answer in asked]
    assert len(asked) <= 20, program


@pytest.mark.timeout(120)
def test_a_broken_backend_is_found_in_real_time() -> None:
    """The same in real time, where examples are few on a busy machine; the run ends with the one that finds it."""
    target = replace(Target.of("memory"), factory=cast("BackendFactory", PutsOffTheEnd))
    ((_, told),) = run(backend_machine(target, seconds=90.0)).failures
    assert "the backend's bound" in told


class LosesOneSession(MemoryBackend):
    """Says once, and never again, that a session is over which lives."""

    said = False

    @hookimpl
    def heartbeat(self, lease: Lease, holdings: Holdings) -> Beat:
        if not LosesOneSession.said:
            LosesOneSession.said = True
            raise SessionLost("so it says")
        return super().heartbeat(lease, holdings)


def test_in_real_time_a_failure_counts_that_does_not_come_again() -> None:
    """In real time no example is like another: what was found is shown as it was found, with the calls before it."""
    target = replace(Target.of("memory"), factory=cast("BackendFactory", LosesOneSession))
    result = run(backend_machine(target))
    assert result.errors == []
    ((_, told),) = result.failures
    assert "the backend says lost" in told
    program = told.split("the calls that were made")[1]
    assert "open_session(" in program
    assert "here it failed" in program


def test_without_hypothesis_it_says_what_to_install() -> None:
    """The error names the extra, and the rest of the package can be imported all the same."""
    code = "import sys; sys.modules['hypothesis'] = None; import drumbeat_conformance.machine"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 1
    assert "python3 -m pip install 'drumbeat-conformance[machine]'" in ran.stderr.splitlines()[-1]
