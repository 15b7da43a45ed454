"""Guarantees, mutants and results that no test run has made, for the rules to judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from drumbeat_mutants import Mutant, Patch
from drumbeat_mutants._rules import Results
from drumbeat_mutants._run import Finding, Report

from drumbeat_conformance.arena import Arena
from drumbeat_conformance.guarantee import Guarantee, Tier

#: What the sound backend shows.
SOUND = Report(findings={"LEAD-1": Finding("passed")})


def invented_guarantee(id_: str = "LEAD-1", *, tier: Tier = "contract") -> Guarantee:
    """Return a guarantee that is never tested."""

    def one_leads(arena: Arena) -> None:
        """One leads at a time."""

    return Guarantee(
        id=id_,
        level="must",
        tier=tier,
        claim=None,
        needs=frozenset(),
        scheme=None,
        instead={},
        alone=False,
        limit=1.0,
        check=one_leads,
    )


def invented_mutant(name: str = "two-leaders", *, breaks: Sequence[str] = ("LEAD-1",), like: str = "") -> Mutant:
    """Return a mutant that is never run."""

    def apply(patch: Patch) -> None:
        """Two lead at a time."""

    return Mutant(name=name, breaks=tuple(breaks), of="memory", like=like, apply=apply)


def failing(*ids: str, passing: Sequence[str] = ()) -> Report:
    """Return what a mutant shows that makes these guarantees fail."""
    findings = {id_: Finding("failed", f"{id_}: One leads at a time.\nAssertionError: two") for id_ in ids}
    return Report(findings=findings | {id_: Finding("passed") for id_ in passing})


def invented_results(
    reports: Mapping[str, Report],
    *,
    mutants: Sequence[Mutant] = (),
    catalogue: Sequence[Guarantee] = (),
    controls: Mapping[str, Report] | None = None,
) -> Results:
    """Return the results of a run with these reports."""
    mutants = mutants or [invented_mutant(name) for name in reports]
    return Results(
        mutants={one.name: one for one in mutants},
        reports=reports,
        controls={"memory": SOUND} if controls is None else controls,
        catalogue={one.id: one for one in catalogue or [invented_guarantee()]},
    )
