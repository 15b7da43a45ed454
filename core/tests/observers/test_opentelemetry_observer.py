"""The observer that emits OpenTelemetry metrics and spans."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from opentelemetry import context, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

import drumbeat
from drumbeat import ConfigurationError, Event, Session
from drumbeat.observers import OpenTelemetryObserver
from drumbeat.testing import FakeClock, Faults, freeze, lose, memory_session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.sdk.metrics.export import Metric
    from opentelemetry.sdk.trace import ReadableSpan

TTL = 10.0
SPACE = {"drumbeat.namespace": "drumbeat"}
SEAT = SPACE | {"drumbeat.election.name": "election/e"}


class Telemetry:
    """An observer, and what it has emitted."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self._reader = InMemoryMetricReader()
        self._spans = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        self.observer = OpenTelemetryObserver(
            meter_provider=MeterProvider([self._reader]), tracer_provider=self.tracers, clock=clock
        )

    @property
    def metrics(self) -> dict[str, Metric]:
        """What was measured, by the name of the instrument."""
        self.clock.settle()
        data = self._reader.get_metrics_data()
        if data is None:
            return {}
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics]
        return {metric.name: metric for scope in scopes for metric in scope.metrics}

    def values(self, name: str) -> list[tuple[dict[str, object], float]]:
        """The attributes and values of a counter or gauge."""
        points = self.metrics[name].data.data_points if name in self.metrics else []
        return [(dict(point.attributes or {}), point.value) for point in points if isinstance(point, NumberDataPoint)]

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """The spans that have ended."""
        self.clock.settle()
        return self._spans.get_finished_spans()


@pytest.fixture
def clock() -> FakeClock:
    """Time stands still until the test moves it."""
    return FakeClock()


@pytest.fixture
def telemetry(clock: FakeClock) -> Telemetry:
    """An observer with exporters in memory."""
    return Telemetry(clock)


@pytest.fixture
def faults(clock: FakeClock) -> Faults:
    """Faults for the session."""
    return Faults(clock)


@pytest.fixture
def session(clock: FakeClock, telemetry: Telemetry, faults: Faults) -> Iterator[Session]:
    """A session that is observed."""
    observed = {"observers": [telemetry.observer], "interceptors": [faults]}
    with memory_session(member_id="a", clock=clock, lease_ttl=TTL, **observed) as opened:  # type: ignore[arg-type]
        yield opened


def test_heartbeats_are_a_histogram_in_seconds(
    clock: FakeClock, telemetry: Telemetry, session: Session, faults: Faults
) -> None:
    """Each answered heartbeat is measured, in buckets that tell 20 ms from 200."""
    clock.advance(TTL / 4)
    with faults.delaying(0.2, "heartbeat"):
        clock.advance(TTL / 4 + 0.3)
    metric = telemetry.metrics["drumbeat.heartbeat.duration"]
    (point,) = metric.data.data_points
    assert isinstance(point, HistogramDataPoint)
    assert (metric.unit, point.count, point.attributes) == ("s", 2, SPACE)
    assert point.sum == pytest.approx(0.2)
    filled = [bound for bound, count in zip(point.explicit_bounds, point.bucket_counts, strict=False) if count]
    assert filled == [0.0001, 0.25]


def test_failed_heartbeats_are_counted(
    clock: FakeClock, telemetry: Telemetry, session: Session, faults: Faults
) -> None:
    """Each heartbeat without an answer counts once: at its time, and then every twentieth of a TTL."""
    with faults.failing("heartbeat"):
        clock.advance(TTL / 4 + 2 * TTL / 20)
    assert telemetry.values("drumbeat.heartbeat.failures") == [(SPACE, 3)]
    assert telemetry.metrics["drumbeat.heartbeat.failures"].unit == "{failure}"


def test_changes_of_state_are_counted_by_state(clock: FakeClock, telemetry: Telemetry, session: Session) -> None:
    """Each state that a session enters is counted under its name."""
    with freeze(session):
        clock.advance(TTL)
    clock.settle()
    session.close()
    counted = {attributes["drumbeat.session.state"]: value for attributes, value in telemetry.values(CHANGES)}
    assert counted == {"connected": 2, "lost": 1, "closed": 1}
    assert telemetry.metrics[CHANGES].unit == "{change}"


CHANGES = "drumbeat.session.state_changes"


def test_terms_are_counted(clock: FakeClock, telemetry: Telemetry, session: Session) -> None:
    """Wins and losses are counted, and the terms held now go up and down, for each election by itself."""
    session.election("e").campaign().resign()
    lose(session.election("e").campaign())
    session.election("e").campaign()
    session.lock("l").acquire()
    lock = SPACE | {"drumbeat.election.name": "lock/l"}
    assert telemetry.values("drumbeat.term.wins") == [(SEAT, 3), (lock, 1)]
    assert telemetry.values("drumbeat.term.losses") == [(SEAT, 1)]
    assert telemetry.values("drumbeat.term.held") == [(SEAT, 1), (lock, 1)]
    session.close()
    assert telemetry.values("drumbeat.term.held") == [(SEAT, 0), (lock, 0)]
    assert {telemetry.metrics[f"drumbeat.term.{name}"].unit for name in ("wins", "losses", "held")} == {"{term}"}


def test_the_members_of_a_watched_group_are_a_gauge(telemetry: Telemetry, session: Session) -> None:
    """The size of a group is known as long as this process watches it."""
    session.group("g").join()
    with session.group("g").watch() as changes:
        changes.next()
        group = SPACE | {"drumbeat.group.name": "g"}
        assert telemetry.values("drumbeat.group.members") == [(group, 1)]
        session.group("g").leave()
        changes.next()
        assert telemetry.values("drumbeat.group.members") == [(group, 0)]
    assert telemetry.metrics["drumbeat.group.members"].unit == "{member}"


def test_a_term_is_a_span_from_win_to_resignation(clock: FakeClock, telemetry: Telemetry, session: Session) -> None:
    """The span begins and ends in wall time when the term did, and says which term of whom it was."""
    clock.step_wall(1000.0)
    term = session.election("e").campaign()
    clock.advance(4.0)
    term.resign()
    clock.advance(60.0)
    (span,) = telemetry.spans
    begin = int(1_700_001_000.0 * 1e9)
    assert (span.name, span.start_time, span.end_time) == ("drumbeat.term", begin, begin + 4_000_000_000)
    expected = {"drumbeat.term.token": 1, "drumbeat.member.id": "a"}
    assert span.attributes == SEAT | expected | {"drumbeat.session.incarnation": session.incarnation}
    assert span.status.status_code is StatusCode.UNSET


def test_a_span_begins_when_the_event_happened(clock: FakeClock, telemetry: Telemetry) -> None:
    """An event that is told a minute late is a span of the time at which it happened."""
    clock.advance(60.0)
    for kind in ("won", "resigned"):
        telemetry.observer.on_event(_event(kind, subject="election/e", token=3))
    (span,) = telemetry.spans
    assert span.start_time == span.end_time == int(1_700_000_000.0 * 1e9)


def test_a_lost_term_is_a_span_with_an_error(clock: FakeClock, telemetry: Telemetry, session: Session) -> None:
    """The span of a lost term ends at the deadline, with the status ERROR and the reason."""
    term = session.election("e").campaign()
    remaining = term.remaining
    with freeze(session):
        clock.advance(TTL)
    (span,) = telemetry.spans
    assert span.start_time is not None
    assert span.end_time is not None
    assert span.end_time - span.start_time == pytest.approx(remaining * 1e9, abs=1000)
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == "the session is LOST: no heartbeat was answered before the deadline"


def test_a_term_has_no_parent(telemetry: Telemetry) -> None:
    """A term is a trace of its own, whatever the thread that tells of it is busy with."""
    tracer = telemetry.tracers.get_tracer("test")
    token = context.attach(trace.set_span_in_context(tracer.start_span("other")))
    try:
        for kind in ("won", "resigned"):
            telemetry.observer.on_event(_event(kind, subject="election/e", token=3))
    finally:
        context.detach(token)
    (span,) = telemetry.spans
    assert span.parent is None


def test_a_term_whose_end_was_not_told_ends_with_its_session(telemetry: Telemetry) -> None:
    """Where events were dropped, what a session held is not counted as held for ever."""
    telemetry.observer.on_event(_event("won", subject="election/e", token=3))
    telemetry.observer.on_event(_event("won", incarnation="a2", subject="election/e", token=4))
    telemetry.observer.on_event(_event("lost", reason="too late"))
    (span,) = telemetry.spans
    assert (span.attributes or {})["drumbeat.term.token"] == 3
    assert span.status.status_code is StatusCode.ERROR
    assert telemetry.values("drumbeat.term.held") == [({**SEAT, "drumbeat.namespace": "n"}, 1)]


def test_an_end_without_a_beginning_is_left_out(telemetry: Telemetry) -> None:
    """Where the win was dropped, its end makes the number of held terms neither wrong nor negative."""
    telemetry.observer.on_event(_event("resigned", subject="election/e", token=3))
    assert telemetry.spans == ()
    assert telemetry.values("drumbeat.term.held") == []


def test_switched_on_by_its_name() -> None:
    """`observers=["opentelemetry"]` uses the global providers, which do nothing until the program sets them."""
    with memory_session(observers=["opentelemetry"]) as session:
        assert session.election("e").campaign().held


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """If OpenTelemetry is not installed, connecting fails and says what to install."""
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'drumbeat\[otel\]'"):
        memory_session(observers=["opentelemetry"])


def test_only_its_own_observer_loads_opentelemetry() -> None:
    """Importing the observers and using another one works without OpenTelemetry and does not load it."""
    code = (
        "import sys, drumbeat.observers as o; o.LoggingObserver(); from drumbeat.observers import *;"
        "print(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "False\n"


def test_an_unknown_name_is_an_attribute_error() -> None:
    """A name that the package of observers does not have fails as in any module."""
    with pytest.raises(AttributeError, match="has no attribute 'Nonsense'"):
        drumbeat.observers.Nonsense  # type: ignore[attr-defined]  # noqa: B018
    assert set(drumbeat.observers.__all__) <= set(dir(drumbeat.observers))


def _event(kind: str, *, incarnation: str = "a1", **more: object) -> Event:
    return Event(kind=kind, at=1000.0, namespace="n", member_id="a", incarnation=incarnation, **more)  # type: ignore[arg-type]
