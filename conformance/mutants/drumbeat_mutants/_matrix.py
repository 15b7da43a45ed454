"""The kill matrix: which guarantee notices which bug, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator

from drumbeat.hookspecs import SPEC_VERSION
from drumbeat_mutants._rules import Results, kills

__all__ = ["as_json", "as_markdown", "as_text"]

_LEGEND = "K: killed, as it must be.  k: noticed too.  !: should be killed and is not.  .: passes.  Blank: not tested."

_PAGE = """\
# Mutants

Backends that are broken on purpose, one bug each: the proof that every guarantee finds what it is about. A mutant is
the real backend, or the core on it, with one attribute replaced; it runs in a process of its own. It must make each
guarantee fail that it names, and the same guarantees must pass on the sound backend beside it. `peers N` is the fault N
that was found in another library.

This page is written by
`nox -s mutants -- --markdown docs/mutants.md --json conformance/reports/mutants.json`.

## The bugs
"""


def as_text(results: Results) -> str:
    """Return one table for each family of guarantees, with the mutants that it notices; at most 200 columns wide."""
    lines = [_LEGEND]
    width = max(map(len, results.reports), default=0)
    for family, ids in _families(results).items():
        numbers = [id_.partition("-")[2] for id_ in ids]
        lines += ["", f"{family:<{width}}  " + " ".join(f"{number:>2}" for number in numbers)]
        for name in _noticed_by(results, ids):
            marks = " ".join(f"{_mark(results, name, id_):>2}" for id_ in ids)
            lines.append(f"{name:<{width}}  {marks}".rstrip())
    return "\n".join(lines) + "\n"


def as_markdown(results: Results) -> str:
    """Return a page with a table of all mutants and their bugs, then the matrix by families."""
    lines = [_PAGE, "| mutant | of | the bug | like | killed by | noticed by too |", "|---|---|---|---|---|---|"]
    for name, one in results.mutants.items():
        if name in results.reports:
            killing, also = ", ".join(kills(results, name)), ", ".join(_others(results, name))
            lines.append(f"| `{name}` | {one.of} | {one.bug} | {one.like} | {killing} | {also} |".replace("  ", " "))
    lines += ["", "## The kill matrix", "", _LEGEND]
    for family, ids in _families(results).items():
        lines += ["", f"### {family}", "", "| mutant | " + " | ".join(ids) + " |", "|---|" + ":-:|" * len(ids)]
        for name in _noticed_by(results, ids):
            marks = " | ".join(_mark(results, name, id_) or " " for id_ in ids)
            lines.append(f"| `{name}` | {marks} |")
    return "\n".join(lines) + "\n"


def as_json(results: Results) -> str:
    """Return all as JSON, the same for the same results: neither durations nor messages are in it."""
    ordered = sorted(results.catalogue.values(), key=lambda one: one.order)
    found = {
        "spec": SPEC_VERSION,
        "mutants": [_described(results, name) for name in results.mutants if name in results.reports],
        "guarantees": {one.id: [name for name in results.reports if one.id in kills(results, name)] for one in ordered},
    }
    return json.dumps(found, indent=2) + "\n"


def _described(results: Results, name: str) -> dict[str, object]:
    one = results.mutants[name]
    return {
        "name": name,
        "module": one.module,
        "bug": one.bug,
        "of": one.of,
        "like": one.like,
        "breaks": list(one.breaks),
        "killed_by": kills(results, name),
        "noticed_by": _others(results, name),
    }


def _others(results: Results, name: str) -> list[str]:
    return [id_ for id_ in results.reports[name].failed if id_ not in results.mutants[name].breaks]


def _families(results: Results) -> dict[str, list[str]]:
    families: dict[str, list[str]] = {}
    for one in sorted(results.catalogue.values(), key=lambda one: one.order):
        families.setdefault(one.family, []).append(one.id)
    return families


def _noticed_by(results: Results, ids: list[str]) -> Iterator[str]:
    for name, report in results.reports.items():
        if not set(ids).isdisjoint([*report.failed, *results.mutants[name].breaks]):
            yield name


def _mark(results: Results, name: str, id_: str) -> str:
    finding = results.reports[name].findings.get(id_)
    named = id_ in results.mutants[name].breaks
    if finding is not None and finding.result == "failed":
        return "K" if named else "k"
    if named:
        return "!"
    return "." if finding is not None and finding.result == "passed" else ""
