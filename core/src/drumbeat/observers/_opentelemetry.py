"""Events as OpenTelemetry metrics and spans."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from drumbeat._clock import Clock, SystemClock
from drumbeat._errors import ConfigurationError
from drumbeat.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opentelemetry.metrics import Meter, MeterProvider
    from opentelemetry.trace import Span, TracerProvider

    from drumbeat._events import Event

#: Seconds. The SDK's own buckets are meant for milliseconds, and would put all heartbeats into the first.
BUCKETS: Final = (0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_STATES: Final = ("connected", "suspended", "lost", "closed")


@final
class OpenTelemetryObserver:
    """Emits metrics and spans through the OpenTelemetry API; the program brings the SDK and the exporters.

    | instrument | unit | attributes beside `drumbeat.namespace` |
    |---|---|---|
    | histogram `drumbeat.heartbeat.duration` | `s` | |
    | counter `drumbeat.heartbeat.failures` | `{failure}` | |
    | counter `drumbeat.session.state_changes` | `{change}` | `drumbeat.session.state` |
    | counters `drumbeat.term.wins` and `drumbeat.term.losses` | `{term}` | `drumbeat.election.name` |
    | up-down counter `drumbeat.term.held` | `{term}` | `drumbeat.election.name` |
    | gauge `drumbeat.group.members`, of each group that is watched | `{member}` | `drumbeat.group.name` |

    Each term is a span `drumbeat.term` from its win to its end, with `drumbeat.election.name`, `drumbeat.term.token`,
    `drumbeat.member.id` and `drumbeat.session.incarnation`; the span of a term that was lost has the status ERROR and
    the reason. Heartbeats are no spans, for the histogram says all that there is to say. The span of a term that its
    process took into its death is never exported. Member ids are in spans alone: as an attribute of a metric each
    would be a time series of its own.

    Without providers the global ones are used. `clock` is the session's, where that is not the machine's. Raises
    ConfigurationError if the OpenTelemetry API is not installed.
    """

    def __init__(
        self,
        *,
        meter_provider: MeterProvider | None = None,
        tracer_provider: TracerProvider | None = None,
        clock: Clock | None = None,
    ) -> None:
        try:
            from opentelemetry import context, metrics, trace
        except ImportError as error:
            raise ConfigurationError(
                "the opentelemetry observer needs the OpenTelemetry API, which is not installed; install it with: "
                "python3 -m pip install 'drumbeat[otel]'"
            ) from error
        from importlib.metadata import version

        self._tracer = trace.get_tracer("drumbeat", version("drumbeat"), tracer_provider)
        #: What this thread has as its context has nothing to do with a term.
        self._no_parent = context.Context()
        self._lost_status = trace.StatusCode.ERROR
        self._clock = clock or SystemClock()
        self._held: dict[_Term, Span] = {}
        self._make_instruments(metrics.get_meter("drumbeat", version("drumbeat"), meter_provider))
        self._actions: Mapping[str, Callable[[Event], None]] = {
            "beat": lambda event: self._duration.record(event.seconds or 0.0, _attributes(event)),
            "beat_failed": lambda event: self._failures.add(1, _attributes(event)),
            "view": lambda event: self._members.set(
                len(event.members or ()), _attributes(event, "drumbeat.group.name")
            ),
            "won": self._begin,
            "resigned": self._end,
            "term_lost": self._end,
            **dict.fromkeys(_STATES, self._change_state),
        }

    @hookimpl
    def on_event(self, event: Event) -> None:
        """Record one event."""
        action = self._actions.get(event.kind)
        if action is not None:
            action(event)

    def _make_instruments(self, meter: Meter) -> None:
        self._duration = meter.create_histogram(
            "drumbeat.heartbeat.duration",
            unit="s",
            description="Time from the sending of a heartbeat to its answer",
            explicit_bucket_boundaries_advisory=BUCKETS,
        )
        self._failures = meter.create_counter(
            "drumbeat.heartbeat.failures", unit="{failure}", description="Heartbeats without a usable answer"
        )
        self._changes = meter.create_counter(
            "drumbeat.session.state_changes", unit="{change}", description="Sessions that entered a state"
        )
        self._wins = meter.create_counter("drumbeat.term.wins", unit="{term}", description="Terms won")
        self._losses = meter.create_counter(
            "drumbeat.term.losses", unit="{term}", description="Terms lost rather than resigned"
        )
        self._holding = meter.create_up_down_counter("drumbeat.term.held", unit="{term}", description="Terms held now")
        self._members = meter.create_gauge(
            "drumbeat.group.members", unit="{member}", description="Members of a watched group, as last seen"
        )

    def _change_state(self, event: Event) -> None:
        self._changes.add(1, {**_attributes(event), "drumbeat.session.state": event.kind})
        if event.kind in {"lost", "closed"}:
            # Nothing outlives its session, whatever became of the events that should have said so.
            for term in [term for term in self._held if term.incarnation == event.incarnation]:
                self._finish(term, event)

    def _begin(self, event: Event) -> None:
        attributes = _attributes(event, "drumbeat.election.name")
        self._wins.add(1, attributes)
        self._holding.add(1, attributes)
        self._held[_Term.of(event)] = self._tracer.start_span(
            "drumbeat.term",
            context=self._no_parent,
            start_time=self._nanoseconds(event),
            attributes={
                **attributes,
                "drumbeat.term.token": event.token or 0,
                "drumbeat.member.id": event.member_id,
                "drumbeat.session.incarnation": event.incarnation,
            },
        )

    def _end(self, event: Event) -> None:
        if event.kind == "term_lost":
            self._losses.add(1, _attributes(event, "drumbeat.election.name"))
        self._finish(_Term.of(event), event)

    def _finish(self, term: _Term, event: Event) -> None:
        span = self._held.pop(term, None)
        if span is None:
            return
        if event.kind in {"term_lost", "lost"}:
            span.set_status(self._lost_status, event.reason)
        span.end(self._nanoseconds(event))
        self._holding.add(-1, {"drumbeat.namespace": term.namespace, "drumbeat.election.name": term.election})

    def _nanoseconds(self, event: Event) -> int:
        """Return the wall time of an event, as spans count it."""
        return int((self._clock.wall() - self._clock.now() + event.at) * 1e9)


@dataclass(frozen=True, slots=True)
class _Term:
    namespace: str
    incarnation: str
    election: str
    token: int | None

    @classmethod
    def of(cls, event: Event) -> _Term:
        return cls(event.namespace, event.incarnation, event.subject or "", event.token)


def _attributes(event: Event, subject: str | None = None) -> dict[str, str]:
    """Return the attributes of a measurement; `subject` is the name of the one that tells the event's subject."""
    attributes = {"drumbeat.namespace": event.namespace}
    return attributes if subject is None else attributes | {subject: event.subject or ""}
