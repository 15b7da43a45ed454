"""Which observers a session gets, and that none of them is in the way of what it observes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from support import Background, eventually

import drumbeat
from drumbeat import ConfigurationError, Event, Session, State, _fakeclock, hookimpl
from drumbeat.testing import FakeClock, Faults, freeze, memory_session, memory_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TTL = 10.0


class Recorder:
    """An observer that remembers, and runs what a test puts before that."""

    def __init__(self, before: Callable[[], object] = lambda: None) -> None:
        self.before = before
        self.seen: list[Event] = []

    @hookimpl
    def on_event(self, event: Event) -> None:
        self.before()
        self.seen.append(event)

    @property
    def kinds(self) -> list[str]:
        """The kinds of what was seen."""
        return [event.kind for event in self.seen]


@pytest.fixture
def clock() -> FakeClock:
    """Time stands still until the test moves it."""
    return FakeClock()


def fail() -> None:
    """Do what no observer should."""
    raise RuntimeError("an observer that fails on purpose")


@pytest.fixture(params=["raising", "blocking", "slow"])
def troubled(request: pytest.FixtureRequest, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    """An observer that raises, that blocks until the test is over, or that takes its time for each event."""
    monkeypatch.setattr(_fakeclock, "STANDSTILL", 50)
    release = threading.Event()
    before = {
        "raising": fail,
        "blocking": lambda: release.wait(30),
        "slow": lambda: release.wait(0.02),
    }[request.param]
    yield Recorder(before)
    release.set()


def test_a_troubled_observer_delays_no_heartbeat(clock: FakeClock, troubled: Recorder) -> None:
    """Whatever an observer does, heartbeats go out at their times, and the session is never SUSPENDED."""
    faults = Faults(clock)
    states: list[State] = []
    session = memory_session(clock=clock, lease_ttl=TTL, observers=[troubled], interceptors=[faults])
    session.on_state(states.append)
    term = session.election("e").campaign()
    clock.advance(10 * TTL)
    assert (session.state, term.held) == (State.CONNECTED, True)
    assert faults.calls["heartbeat"] == 40
    assert states == []


def test_a_troubled_observer_delays_no_campaign(clock: FakeClock, troubled: Recorder) -> None:
    """Winning, resigning and the hand-over to a waiting candidate take no time of the session's clock."""
    url = memory_url()
    one = memory_session(url, member_id="a", clock=clock, lease_ttl=TTL, observers=[troubled])
    two = memory_session(url, member_id="b", clock=clock, lease_ttl=TTL, observers=[troubled])
    before = clock.now()
    for _ in range(20):
        term = one.election("e").campaign()
        waiting = Background(lambda: two.election("e").campaign())
        eventually(lambda: two._keeper.incarnation and two._keeper.incarnation.holdings().candidacies, within=5.0)
        term.resign()
        other = waiting.result()
        assert isinstance(other, drumbeat.Term)
        other.resign()
    assert clock.now() == before


def test_a_troubled_observer_delays_no_callback(clock: FakeClock, troubled: Recorder) -> None:
    """`on_lost` runs at the deadline, and the next win of the process does not wait for the observer."""
    told: list[float] = []
    session = memory_session(clock=clock, lease_ttl=TTL, observers=[troubled])
    term = session.election("e").campaign(on_lost=lambda _: told.append(clock.now()))
    deadline = clock.now() + term.remaining
    with freeze(session):
        clock.advance(TTL)
    assert told == [pytest.approx(deadline)]
    clock.settle()
    assert session.election("e").campaign(timeout=0).held


def test_a_troubled_observer_delays_no_neighbour(clock: FakeClock, troubled: Recorder) -> None:
    """Callbacks and observers of another session on the same store run as if the troubled one were not there."""
    url, calm = memory_url(), Recorder()
    told: list[drumbeat.Term] = []
    with memory_session(url, member_id="a", clock=clock, lease_ttl=TTL, observers=[calm]) as session:
        memory_session(url, member_id="b", clock=clock, lease_ttl=TTL, observers=[troubled])
        session.election("e").campaign(on_lost=told.append)
        with freeze(session):
            clock.advance(TTL)
            assert len(told) == 1
            assert calm.kinds[-2:] == ["term_lost", "lost"]


def test_a_troubled_observer_cannot_keep_a_session_open(troubled: Recorder) -> None:
    """Closing returns within its timeout, and everything is released at the server."""
    url = memory_url()
    clock = drumbeat.SystemClock()
    with memory_session(url, member_id="b") as other:
        session = memory_session(url, member_id="a", observers=[troubled])
        session.group("g").join()
        session.election("e").campaign()
        before = clock.now()
        session.close(timeout=0.2)
        assert clock.now() - before < 2.0
        assert other.group("g").members().ids == ()
        assert other.election("e").leader() is None


def test_events_come_in_the_order_in_which_they_happened(clock: FakeClock) -> None:
    """An observer sees the life of a session from its opening to its end, with times that never fall."""
    recorder = Recorder()
    with memory_session(member_id="a", clock=clock, lease_ttl=TTL, observers=[recorder]) as session:
        first = session.incarnation
        session.group("g").join()
        session.group("g").update({"x": 1})
        session.election("e").campaign().resign()
        clock.advance(TTL / 4)
        session.lock("l").acquire()
        with freeze(session):
            clock.advance(TTL)
        clock.settle()
        second = session.incarnation
        session.group("g").leave()
    assert recorder.kinds == [
        "connected", "joined", "updated", "campaigning", "won", "resigned", "beat", "campaigning", "won",
        "term_lost", "lost", "connected", "joined", "left", "closed",
    ]  # fmt: skip
    assert [event.incarnation for event in recorder.seen] == [first] * 11 + [second] * 4
    times = [event.at for event in recorder.seen]
    assert times == sorted(times)
    assert {event.member_id for event in recorder.seen} == {"a"}


def test_a_name_that_is_not_installed_lists_those_that_are() -> None:
    """An unknown observer is refused before anything is opened, with the names of the installed ones."""
    known = "history, logging, opentelemetry"
    with pytest.raises(ConfigurationError, match=f"unknown observer 'loging'; installed are: {known}"):
        memory_session(observers=["loging"])


def test_names_and_objects_can_be_mixed() -> None:
    """An observer of one's own works beside an installed one, and several of a kind beside each other."""
    one, two = Recorder(), Recorder()
    memory_session(observers=["logging", one, two]).close()
    assert one.kinds == two.kinds == ["connected", "closed"]


def test_one_observer_may_serve_several_sessions() -> None:
    """The same object can observe two sessions, and tells them apart by what the events say."""
    recorder, url = Recorder(), memory_url()
    sessions: list[Session] = [memory_session(url, member_id=name, observers=[recorder]) for name in "ab"]
    for session in sessions:
        session.close()
    assert sorted((event.member_id, event.kind) for event in recorder.seen) == [
        ("a", "closed"),
        ("a", "connected"),
        ("b", "closed"),
        ("b", "connected"),
    ]
