"""What a soak found."""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final, final

from drumbeat import SPEC_VERSION, ConfigurationError
from drumbeat.history import Record, longest_vacancy
from drumbeat_conformance.checker import Kind, Operation, Recording, Violation, check, read_recording
from drumbeat_conformance.checker._evidence import Evidence
from drumbeat_conformance.report import origin_of
from drumbeat_conformance.soak._work import COUNTER, ELECTION, REGISTER

if TYPE_CHECKING:
    from drumbeat_conformance.target import Target

#: Rises when a reader of the former shape would misunderstand the new one.
FORMAT: Final = 1
#: Violations that are told in full.
_TOLD: Final = 20


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The numbers of a history."""

    terms: int = 0
    overlaps: int = 0
    #: Seconds, of the election that all campaign for.
    longest_without_leader: float = 0.0
    operations: int = 0
    #: Operations whose answer never came.
    unanswered: int = 0
    increments: int = 0
    #: Reads and writes with a token that was too low.
    fenced_off: int = 0
    lost_updates: int = 0
    missed_changes: int = 0
    diverging_views: int = 0
    #: How many violations there are of each kind, by name.
    violations: Mapping[str, int] = field(default_factory=dict)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SoakReport:
    """What a soak did, and what came of it; plain data, which `dataclasses.asdict` and JSON can take."""

    target: str
    server: str
    seed: int
    processes: int
    #: Seconds for which faults were made.
    seconds: float
    #: Whether it was ended before its time.
    interrupted: bool
    faults: Mapping[str, int]
    figures: Figures
    #: Each violation in a sentence, and each process that ended by itself; at most twenty. What could not be judged is
    #: among them, as a sentence that begins with "not decided".
    violations: tuple[str, ...]
    #: The folder with the histories, kept if anything was violated.
    histories: str | None = None

    @property
    def ok(self) -> bool:
        """Whether all was judged, and nothing was violated."""
        return not self.violations

    @property
    def verdict(self) -> str:
        """What came of it, in words."""
        if self.ok:
            return "nothing was violated"
        return "NOT DECIDED" if all(map(_is_undecided, self.violations)) else "VIOLATED"

    def lines(self) -> list[str]:
        """Return the report for people."""
        figures = self.figures
        faults = ", ".join(f"{count} x {name}" for name, count in sorted(self.faults.items())) or "none"
        ended = ", ended early" if self.interrupted else ""
        operations = f"operations: {figures.operations}, {figures.unanswered} of them without an answer"
        return [
            f"soak of {self.target} ({self.server}) with {self.processes} processes, seed {self.seed}",
            f"faults: {sum(self.faults.values())} in {self.seconds:.0f} s{ended} ({faults})",
            f"terms: {figures.terms}, overlaps: {figures.overlaps}",
            f"longest time without a leader: {figures.longest_without_leader:.3f} s",
            f"{operations}, {figures.fenced_off} fenced off",
            f"increments: {figures.increments}, lost updates: {figures.lost_updates}",
            f"missed changes: {figures.missed_changes}, diverging views: {figures.diverging_views}",
            *(one if _is_undecided(one) else f"VIOLATED: {one}" for one in self.violations),
            *([f"the histories are in {self.histories}"] if self.histories else []),
            f"soak: {self.verdict}",
        ]


def to_json(report: SoakReport, target: Target, *, asked: str, began: datetime) -> str:
    """Return a report as JSON text, with what was tested as it was `asked` for, by which versions, and when."""
    package, version_of_it = origin_of(target)
    facts = {
        "format": FORMAT,
        "spec_version": SPEC_VERSION,
        "suite_version": version("drumbeat-conformance"),
        "backend": {"scheme": target.scheme, "package": package, "version": version_of_it},
        "lease_ttl": target.ttl,
        "began": began.isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    return json.dumps({**facts, **asdict(report), "target": asked}, indent=2) + "\n"


def judge(folder: Path, *, grace: float) -> tuple[Figures, list[str]]:
    """Return the figures of the histories in a folder, and the violations in sentences."""
    history = read_recording(sorted(folder.glob("*.jsonl")))
    found = check(history, grace=grace)
    return figures_of(history, found), [str(violation) for violation in found[:_TOLD]]


def figures_of(history: Recording, found: Sequence[Violation]) -> Figures:
    """Return the numbers of a history in which some violations were found."""
    kinds = Counter(violation.kind for violation in found)
    evidence = Evidence(history)
    raised = [one.value for one in history.operations if _is(one, COUNTER) and one.op == "increment"]
    return Figures(
        terms=sum(term.usable for term in evidence.terms),
        overlaps=kinds[Kind.OVERLAP],
        longest_without_leader=_longest_without_leader(evidence.events),
        operations=len(history.operations),
        unanswered=sum(not one.answered for one in history.operations),
        increments=len(raised),
        fenced_off=sum(one.object == REGISTER and one.outcome == "refused" for one in history.operations),
        lost_updates=max(len(raised) - len(set(raised)), kinds[Kind.COUNTER]),
        missed_changes=kinds[Kind.MISSED],
        diverging_views=kinds[Kind.DIVERGING],
        violations={kind.value: count for kind, count in kinds.items()},
    )


def _is_undecided(sentence: str) -> bool:
    return sentence.startswith(Kind.UNDECIDED.value)


def _is(operation: Operation, name: str) -> bool:
    return operation.object == name and operation.outcome == "done"


def _longest_without_leader(events: Sequence[Record]) -> float:
    try:
        vacancy = longest_vacancy(events, f"election/{ELECTION}")
    except ConfigurationError:
        # Nobody has led yet.
        return 0.0
    return 0.0 if vacancy is None else vacancy.seconds
