"""The command that connects and reports: doctor."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Final

import typer

from drumbeat import ConfigurationError, SystemClock
from drumbeat._plugins import BACKENDS, installed
from drumbeat._session import load_backend
from drumbeat.cli import _options as options
from drumbeat.cli._backends import origin
from drumbeat.cli._connect import reader, timing_of
from drumbeat.cli._report import NO, answer, in_columns, print_lines
from drumbeat.hookspecs import Finding

if TYPE_CHECKING:
    from drumbeat import Session
    from drumbeat._settings import Settings
    from drumbeat._timing import Timing
    from drumbeat.hookspecs import BackendProfile

#: Heartbeats that are measured.
BEATS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """All that the doctor has found."""

    settings: Settings
    profile: BackendProfile
    timing: Timing
    #: Seconds from the sending of each heartbeat to its answer.
    beats: list[float]
    findings: list[Finding]

    @property
    def healthy(self) -> bool:
        """Whether nothing was found that is an error."""
        return all(finding.level != "error" for finding in self.findings)


def doctor(
    where: str | None = typer.Argument(None, metavar="[URL]"),
    *,
    url: str | None = options.URL,
    namespace: str | None = options.NAMESPACE,
    ttl: float | None = options.TTL,
    as_json: bool = options.JSON,
) -> int:
    """Connect to URL and report: server, claims, limits, the granted TTL, the time of a heartbeat, and findings.

    It joins nothing. Exits with 1 if a finding is an error.

    --json: {"url", "namespace", "package", "version", "server", "capabilities": [label], "limits", "lease": {"asked",
    "granted", "certain", "heartbeat_interval", "request_timeout"}, "failover_bound", "eviction_bound",
    "heartbeat_seconds": {"count", "min", "median", "max"}, "findings": [{"level", "message"}], "healthy"}
    """
    if where is not None and url is not None:
        raise ConfigurationError("the URL is given twice, as an argument and as --url; give it once")
    found = _examine(where if url is None else url, namespace, ttl)
    if as_json:
        answer(_document(found))
    else:
        print_lines(_lines(found))
    return 0 if found.healthy else NO


def _examine(url: str | None, namespace: str | None, ttl: float | None) -> Examination:
    target = reader(url, namespace, ttl=ttl, heartbeat="manual")
    settings = target.settings()
    with target.connect(settings) as session:
        timing = timing_of(session, settings)
        beats = [_timed_beat(session) for _ in range(BEATS)]
        backend = load_backend(settings, clock=SystemClock())
        findings = [*_own_findings(settings, timing, beats), *backend.diagnose(timeout=settings.connect_timeout)]
        return Examination(settings=settings, profile=session.backend, timing=timing, beats=beats, findings=findings)


def _timed_beat(session: Session) -> float:
    clock = SystemClock()
    sent = clock.now()
    session.beat()
    return clock.now() - sent


def _own_findings(settings: Settings, timing: Timing, beats: list[float]) -> list[Finding]:
    found = []
    if timing.ttl != settings.lease_ttl:
        found.append(Finding("warning", f"a TTL of {settings.lease_ttl:g} s was asked for, {timing.ttl:g} s granted"))
    if max(beats) > timing.request_timeout / 2:
        found.append(
            Finding(
                "warning",
                f"a heartbeat took {max(beats):.3f} s of the {timing.request_timeout:g} s that it may take; "
                "raise lease_ttl",
            )
        )
    return found


def _document(found: Examination) -> dict[str, object]:
    package, version = origin(installed(BACKENDS)[found.settings.url.scheme])
    return {
        "url": str(found.settings.url),
        "namespace": found.settings.namespace,
        "package": package,
        "version": version,
        "server": found.profile.server,
        "capabilities": sorted(capability.label for capability in found.profile.capabilities),
        "limits": asdict(found.profile.limits),
        "lease": {
            "asked": found.settings.lease_ttl,
            "granted": found.timing.ttl,
            "certain": found.timing.usable,
            "heartbeat_interval": found.timing.heartbeat_interval,
            "request_timeout": found.timing.request_timeout,
        },
        "failover_bound": found.profile.failover.seconds(found.timing.ttl),
        "eviction_bound": found.profile.eviction.seconds(found.timing.ttl),
        "heartbeat_seconds": {
            "count": len(found.beats),
            "min": min(found.beats),
            "median": median(found.beats),
            "max": max(found.beats),
        },
        "findings": [asdict(finding) for finding in found.findings],
        "healthy": found.healthy,
    }


def _lines(found: Examination) -> list[str]:
    claims = sorted((capability.label, capability.promise) for capability in found.profile.capabilities)
    findings: list[tuple[str, str]] = [(finding.level, finding.message) for finding in found.findings]
    lines = in_columns(_facts(found))
    for title, rows in (("claims", claims), ("findings", findings)):
        lines += [title, *(f"  {line}" for line in in_columns(rows))]
    return lines


def _facts(found: Examination) -> list[tuple[str, str]]:
    package, version = origin(installed(BACKENDS)[found.settings.url.scheme])
    profile, timing, limits = found.profile, found.timing, found.profile.limits
    middle, least, most = (1e3 * seconds for seconds in (median(found.beats), min(found.beats), max(found.beats)))
    return [
        ("url", str(found.settings.url)),
        ("backend", f"{package} {version}"),
        ("server", profile.server),
        ("namespace", found.settings.namespace),
        ("lease", f"{timing.ttl:g} s granted, certain for {timing.usable:g} s after a heartbeat"),
        ("", f"one every {timing.heartbeat_interval:g} s, which may take {timing.request_timeout:g} s"),
        ("heartbeat", f"{middle:.2f} ms, the median of {len(found.beats)} ({least:.2f} to {most:.2f})"),
        ("failover", f"at most {profile.failover.seconds(timing.ttl):g} s from a leader's last heartbeat to a win"),
        ("eviction", f"at most {profile.eviction.seconds(timing.ttl):g} s until nobody sees a dead member"),
        ("limits", f"TTL {limits.min_ttl:g} to {limits.max_ttl:g} s, values of up to {limits.value_bytes} bytes"),
    ]
