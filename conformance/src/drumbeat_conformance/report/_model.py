"""A report as values."""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Final, final, get_args

from drumbeat import SPEC_VERSION
from drumbeat._plugins import BACKENDS, installed
from drumbeat_conformance.guarantee import Level, Tier, catalogue
from drumbeat_conformance.run import Result

if TYPE_CHECKING:
    from drumbeat_conformance.run import Outcome, Run
    from drumbeat_conformance.target import Target

__all__ = ["BackendFacts", "Line", "Report", "ServerFacts", "origin_of", "report_of"]

_VERSION: Final = re.compile(r"(?P<name>.*?)[ /]v?(?P<version>\d\S*)(?P<rest>.*)")
#: What a store in memory calls itself: different each time, so no fact to keep.
_IN_MEMORY: Final = re.compile(r"memory store .* of process \d+")
TIERS: Final[tuple[Tier, ...]] = get_args(Tier)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class BackendFacts:
    """Which backend was tested."""

    scheme: str
    package: str
    version: str
    #: Labels of what it claims, sorted.
    capabilities: tuple[str, ...]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """Which server it was tested on, as the backend says; `version` is empty where it says none."""

    name: str
    version: str


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What came of one guarantee."""

    id: str
    #: What is promised, in a sentence.
    promise: str
    level: Level
    tier: Tier
    outcome: Result
    #: Seconds that it took.
    seconds: float
    #: Why it was left out or how it failed; empty if it holds.
    reason: str
    #: Whether it was left out though it may be binding, because what it needs was not given.
    gap: bool

    @property
    def family(self) -> str:
        """The letters of the id."""
        return self.id.partition("-")[0]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What came of a run."""

    #: The command line that tests the same again; empty if pytest was run in another way.
    command: str
    spec_version: int
    suite_version: str
    backend: BackendFacts
    server: ServerFacts
    tiers: tuple[Tier, ...]
    #: Whether all guarantees of these tiers were selected, and not all of them left out.
    whole: bool
    seed: int
    #: Seconds that leases were asked to last.
    lease_ttl: float
    #: Whether time was only pretended to pass.
    fake_time: bool
    #: Whether the store was said to be one that a single process reaches, so that no other one took part.
    in_process: bool
    #: When it began, in ISO 8601 with the offset to UTC.
    began: str
    #: Seconds that it took.
    seconds: float
    python: str
    platform: str
    guarantees: tuple[Line, ...]

    def count(self, outcome: Result, tier: Tier | None = None) -> int:
        """Return how many guarantees, of a tier or of all, came out so."""
        return sum(line.outcome == outcome and tier in {None, line.tier} for line in self.guarantees)

    @property
    def broken(self) -> tuple[Line, ...]:
        """What makes the run a failure: promises that do not hold, and known failures that do."""
        return tuple(line for line in self.guarantees if line.outcome in {"failed", "unexpected pass"})

    @property
    def tested(self) -> tuple[Tier, ...]:
        """The tiers of which at least one guarantee was tested."""
        return tuple(tier for tier in self.tiers if any(_was_tested(line, tier) for line in self.guarantees))

    def is_whole(self, tier: Tier) -> bool:
        """Return whether every guarantee of a tier that may be binding was tested, and at least one."""
        return self.whole and tier in self.tested and not self.has_gaps(tier)

    def has_gaps(self, tier: Tier) -> bool:
        """Return whether a guarantee of a tier was left out though it may be binding."""
        return any(line.gap and line.tier == tier for line in self.guarantees)


def report_of(run: Run, outcomes: Sequence[Outcome], *, began: datetime, seconds: float, command: str = "") -> Report:
    """Return the report of a run whose servers still answer or did so when it began."""
    assert run.profile is not None
    found = {outcome.guarantee.id for outcome in outcomes}
    tiers: tuple[Tier, ...] = tuple(tier for tier in TIERS if any(one.tier == tier for one in run.guarantees))
    any_tested = any(outcome.result != "left out" for outcome in outcomes)
    package, package_version = origin_of(run.target)
    return Report(
        command=command,
        spec_version=SPEC_VERSION,
        suite_version=version("drumbeat-conformance"),
        backend=BackendFacts(
            scheme=run.target.scheme,
            package=package,
            version=package_version,
            capabilities=tuple(sorted(capability.label for capability in run.profile.capabilities)),
        ),
        server=_server(run.profile.server),
        tiers=tiers,
        whole=any_tested and all(one.id in found for one in catalogue().values() if one.tier in tiers),
        seed=run.seed,
        lease_ttl=run.target.ttl,
        fake_time=run.target.fake_time,
        in_process=run.target.in_process,
        began=began.isoformat(timespec="seconds"),
        seconds=round(seconds, 3),
        python=platform.python_version(),
        platform=platform.platform(),
        guarantees=tuple(_line(outcome) for outcome in sorted(outcomes, key=lambda one: one.guarantee.order)),
    )


def _was_tested(line: Line, tier: Tier) -> bool:
    return line.tier == tier and line.outcome != "left out"


def _line(outcome: Outcome) -> Line:
    return Line(
        id=outcome.guarantee.id,
        promise=outcome.guarantee.title,
        level=outcome.guarantee.level,
        tier=outcome.guarantee.tier,
        outcome=outcome.result,
        seconds=round(outcome.seconds, 3),
        reason=outcome.reason,
        gap=outcome.gap,
    )


def _server(described: str) -> ServerFacts:
    if _IN_MEMORY.fullmatch(described):
        return ServerFacts(name="memory", version="")
    found = _VERSION.fullmatch(described)
    if found is None:
        return ServerFacts(name=described, version="")
    return ServerFacts(name=found["name"] + found["rest"], version=found["version"])


def origin_of(target: Target) -> tuple[str, str]:
    """Return the package that a backend comes from, and its version."""
    if target.factory is not None:
        return getattr(target.factory, "__module__", "unknown"), "not installed"
    point = installed(BACKENDS).get(target.scheme)
    return ("unknown", "unknown") if point is None or point.dist is None else (point.dist.name, point.dist.version)
