"""Reports as Markdown, for people."""

from __future__ import annotations

from itertools import groupby

from drumbeat_conformance.report._badge import verdict
from drumbeat_conformance.report._model import Line, Report

__all__ = ["by_family", "cell", "family_of", "to_markdown"]


def to_markdown(report: Report) -> str:
    """Return a report as a page: facts, one line for each family, and what did not hold or was left out."""
    parts = [
        f"# Conformance of {report.backend.package} {report.backend.version}",
        _facts(report),
        "\n".join(["| guarantees | tested | of these hold | left out |", "|---|---|---|---|", *by_family(report)]),
        *_listed("Broken", [line for line in report.guarantees if line.outcome == "failed"]),
        *_listed("Known failures that hold", [line for line in report.guarantees if line.outcome == "unexpected pass"]),
        *_listed("Known failures", [line for line in report.guarantees if line.outcome == "known failure"]),
        *_listed("Left out", [line for line in report.guarantees if line.outcome == "left out"]),
    ]
    return "\n\n".join(parts) + "\n"


def by_family(report: Report) -> list[str]:
    """Return one row for each family of guarantees."""
    rows = []
    for family, found in groupby(sorted(report.guarantees, key=family_of), key=family_of):
        lines = list(found)
        left_out = sum(line.outcome == "left out" for line in lines)
        passed = sum(line.outcome in {"passed", "unexpected pass"} for line in lines)
        rows.append(f"| {family} | {len(lines) - left_out} | {passed} | {left_out} |")
    return rows


def family_of(line: Line) -> str:
    """Return the family of a line, to sort and group by."""
    return line.family


def cell(text: str) -> str:
    """Return a text as one cell of a table shows it."""
    return " ".join(text.split()).replace("|", "\\|")


def _facts(report: Report) -> str:
    rows = [
        ("verdict", verdict(report)),
        ("backend", f"`{report.backend.scheme}://`, {report.backend.package} {report.backend.version}"),
        ("server", f"{report.server.name} {report.server.version}".strip()),
        ("claims", ", ".join(report.backend.capabilities) or "none"),
        ("tested", f"{' and '.join(report.tiers)}{'' if report.whole else ', a selection only'}"),
        ("lease", f"{report.lease_ttl:g} s{' of pretended time' if report.fake_time else ''}, seed {report.seed}"),
        ("when", f"{report.began}, for {report.seconds:.1f} s"),
        ("with", f"suite {report.suite_version}, contract {report.spec_version}, Python {report.python}"),
        ("on", report.platform),
        *([("again", f"`{report.command}`")] if report.command else []),
    ]
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {cell(value)} |" for name, value in rows)])


def _listed(title: str, lines: list[Line]) -> list[str]:
    if not lines:
        return []
    rows = [f"| {line.id} | {cell(line.promise)} | {cell(line.reason)[:400]} |" for line in lines]
    return [f"## {title}", "\n".join(["| id | promise | reason |", "|---|---|---|", *rows])]
