"""What a run of mutants must show; each way in which it does not is a sentence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, final

from drumbeat_conformance.guarantee import Guarantee
from drumbeat_mutants._mutant import Mutant
from drumbeat_mutants._run import Finding, Report

__all__ = ["FEWEST", "PEERS", "Results", "complaints", "complaints_of_all", "complaints_of_full", "kills"]

#: So many mutants there must be.
FEWEST: Final = 40
#: The numbers of the faults that were found in other libraries.
PEERS: Final = range(1, 14)

_PEER: Final = re.compile(r"peers ([0-9]+)")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """What came of a run."""

    mutants: Mapping[str, Mutant]
    #: By the mutant's name.
    reports: Mapping[str, Report]
    #: The sound backends, by target.
    controls: Mapping[str, Report]
    catalogue: Mapping[str, Guarantee]


def kills(results: Results, name: str) -> list[str]:
    """Return the named guarantees that killed a mutant."""
    return [id_ for id_ in results.mutants[name].breaks if id_ in results.reports[name].failed]


def complaints(results: Results) -> list[str]:
    """Return what is wrong with the mutants that were run."""
    found = [sentence for of, report in results.controls.items() for sentence in _of_control(of, report)]
    for name, report in results.reports.items():
        found += _of_mutant(results.mutants[name], report, results.catalogue)
    return found


def complaints_of_all(results: Results, modules: Iterable[str]) -> list[str]:
    """Return what is wrong with the mutants as a whole; `modules` are those that should hold some."""
    mutants = results.mutants.values()
    killing = {id_ for name in results.reports for id_ in kills(results, name)}
    idle = sorted((one for one in results.catalogue.values() if one.id not in killing), key=lambda one: one.order)
    found = [f"{one.id} kills nothing ({one.title}): write a mutant with breaks={one.id!r}" for one in idle]
    if len(mutants) < FEWEST:
        found.append(f"there are {len(mutants)} mutants, fewer than {FEWEST}")
    seen = {int(match[1]) for one in mutants if (match := _PEER.fullmatch(one.like))}
    found += [f"fault {n} of the peers has no mutant: write one with like='peers {n}'" for n in PEERS if n not in seen]
    filled = {one.module for one in mutants}
    return found + [f"the module {module} holds no mutant" for module in modules if module not in filled]


def complaints_of_full(results: Results) -> list[str]:
    """Return the fault scenarios that no mutant needs: each must be the only one to reveal some bug."""
    faults = {id_ for id_, one in results.catalogue.items() if one.tier == "faults"}
    needed: set[str] = set()
    for name in results.reports:
        failed = results.reports[name].failed
        revealing = set(failed) & set(kills(results, name))
        if len(failed) == 1:
            needed |= revealing
    return [
        f"{id_} is not the only one to reveal any mutant ({results.catalogue[id_].title}): write one that no other "
        "guarantee of either tier notices"
        for id_ in sorted(faults - needed, key=lambda id_: results.catalogue[id_].order)
    ]


def _of_control(of: str, report: Report) -> Iterator[str]:
    for id_ in report.failed:
        yield f"the sound {of} backend fails, so that its mutants prove nothing: {report.findings[id_].reason}"
    if report.crash or report.cut:
        yield f"the process of the sound {of} backend {report.crash or 'took too long'}"


def _of_mutant(mutant: Mutant, report: Report, catalogue: Mapping[str, Guarantee]) -> Iterator[str]:
    bug = f"the mutant {mutant.name} of {mutant.of} ({mutant.bug})"
    if report.crash:
        yield f"{bug} {report.crash}"
        return
    for id_ in mutant.breaks:
        promise = f": {catalogue[id_].title}" if id_ in catalogue else ""
        for sentence in _of_expected(id_, report.findings.get(id_), known=id_ in catalogue):
            yield f"{bug} {sentence}; {id_} was expected to fail{promise}"
    if report.unreached:
        yield f"{bug} is never reached: nothing called {', '.join(report.unreached)}"
    for id_ in report.failed:
        if not re.match(rf"{id_}\b", report.findings[id_].reason):
            yield f"{bug} makes {id_} fail with a message that does not begin with {id_}: {report.findings[id_].reason}"


def _of_expected(id_: str, finding: Finding | None, *, known: bool) -> Iterator[str]:
    if not known:
        yield f"names {id_}, which is no guarantee"
    elif finding is None:
        yield f"took too long for {id_} to be tested"
    elif finding.result == "left out":
        yield f"names {id_}, which is left out there ({finding.reason})"
    elif finding.result != "failed":
        yield f"survives {id_}"
