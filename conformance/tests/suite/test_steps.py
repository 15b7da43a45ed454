"""What is no guarantee: beginning, looking for the server and ending are bounded, and told by their names."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from drumbeat import ConfigurationError, Unavailable, hookimpl
from drumbeat.cas import MemoryCasBackend
from drumbeat.hookspecs import BackendConfig, BackendProfile, Lease, SessionRequest
from drumbeat_conformance import Target
from drumbeat_conformance import run as running
from drumbeat_conformance._started import checked
from drumbeat_conformance._steps import StepFailed
from drumbeat_conformance.guarantee import catalogue
from drumbeat_conformance.run import Run
from drumbeat_conformance.target import Site

LONG = 60.0


class SaysNothing(MemoryCasBackend):
    """A backend that hangs when it is asked what it is."""

    @hookimpl
    def describe_backend(self, timeout: float) -> BackendProfile:
        """Hang."""
        time.sleep(LONG)
        raise AssertionError


class OpensNothing(MemoryCasBackend):
    """A backend that hangs when a session is opened."""

    @hookimpl
    def open_session(self, request: SessionRequest, timeout: float) -> Lease:
        """Hang."""
        time.sleep(LONG)
        raise AssertionError


class Ends(MemoryCasBackend):
    """A backend that would end the process."""

    def __init__(self, config: BackendConfig) -> None:
        super().__init__(config)
        raise SystemExit(0)


class GoesAway(MemoryCasBackend):
    """A backend whose server is gone after the first sessions."""

    opened = 0

    @hookimpl
    def open_session(self, request: SessionRequest, timeout: float) -> Lease:
        """Open one session and no more."""
        GoesAway.opened += 1
        if GoesAway.opened > 1:
            raise Unavailable("nobody listens", outcome="not_applied")
        return super().open_session(request, timeout=timeout)


@contextmanager
def hangs() -> Iterator[Site]:
    """Stand for a server that never starts."""
    time.sleep(LONG)
    yield Site("mine://x")


@contextmanager
def never_ends() -> Iterator[Site]:
    """Stand for a server that never ends."""
    yield Site("memory://never-ends")
    time.sleep(LONG)


@contextmanager
def poor_server() -> Iterator[object]:
    """Give what is no server."""
    yield object()


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every step have little time."""
    for name in ("STARTS_WITHIN", "BEGINS_WITHIN", "ENDS_WITHIN"):
        monkeypatch.setattr(running, name, 3.0)


def one(target: Target, *ids: str) -> Run:
    """Return the run of some guarantees."""
    return Run(target, [catalogue()[id_] for id_ in ids or ("LEAD-3",)])


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        (SaysNothing, "making the backend and asking it what it is failed: hangs for 3 s"),
        (OpensNothing, "opening a session with a lease of 1 s failed: hangs for 3 s"),
        (Ends, "making the backend and asking it what it is failed: SystemExit: 0"),
    ],
)
def test_a_run_that_cannot_begin_says_why(backend: type[MemoryCasBackend], message: str) -> None:
    """A backend that hangs or would end the process before anything is tested is an error that names the step."""
    target = Target(scheme="mine", calm=lambda: Target.of("mine://x").calm(), factory=backend)
    with pytest.raises(StepFailed, match=message), one(target):
        pytest.fail("it began")


def test_a_server_that_never_starts_or_ends() -> None:
    """Starting and ending a server are bounded."""
    with (
        pytest.raises(StepFailed, match=r"starting the server failed: hangs for 3 s"),
        one(Target(scheme="memory", calm=hangs)),
    ):
        pytest.fail("it began")
    with (
        pytest.raises(StepFailed, match=r"ending the server failed: hangs for 3 s"),
        one(Target(scheme="memory", calm=never_ends)) as run,
    ):
        run.outcomes()


def test_a_server_that_goes_away_is_told_once() -> None:
    """Once the server is gone the rest is left out, as a gap, and the run says why; one failure says so shortly."""
    GoesAway.opened = 0
    target = Target(scheme="mine", calm=lambda: Target.of("mine://x").calm(), factory=GoesAway)
    with one(target, "LEAD-1", "LEAD-3", *(id_ for id_ in catalogue() if id_.startswith("GROUP-"))) as run:
        outcomes = run.outcomes()
    assert run.gone == "the server no longer answers: nobody listens (nothing was changed; the call may be repeated)"
    tested = [outcome for outcome in outcomes if outcome.result != "left out"]
    assert 1 <= len(tested) <= running.WORKERS["contract"]
    assert {"failed"} == {outcome.result for outcome in tested}
    assert all(outcome.reason.endswith(run.gone) for outcome in tested)
    assert all(outcome.gap for outcome in outcomes if outcome.result == "left out")


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (lambda: None, "mine returned None, which no `with` block takes"),
        (lambda: 1 / 0, "mine started no server: it raised ZeroDivisionError"),
        (poor_server, "is no server: it lacks url, kill, stop, start, wipe, pause, resume"),
    ],
    ids=["none", "raises", "poor"],
)
def test_what_is_no_server_is_said(start: object, message: str) -> None:
    """A function that starts no server is an error that names it, and what is missing."""
    with pytest.raises(ConfigurationError, match=message), checked(start, name="mine")():  # type: ignore[arg-type]
        pytest.fail("it started")
