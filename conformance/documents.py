"""Write the documents that are made from the catalogue and from reports, or see that they are as they should be.

`python conformance/documents.py` writes `docs/guarantees.md` and the table in README.md; with `--check` it writes
nothing, and exits with 1 if one of them is stale.
"""  # noqa: INP001 - a script

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from inspect import getmodule
from itertools import groupby
from pathlib import Path
from typing import Final, final

from drumbeat import BadData
from drumbeat_conformance.guarantee import UNTESTED, Guarantee, Tier, catalogue
from drumbeat_conformance.report import Report, cell, read_report

ROOT: Final = Path(__file__).parents[1]
REPORTS: Final = Path("conformance/reports")
#: Where the table of README.md stands.
BEGIN: Final = "<!-- conformance/documents.py writes from here -->\n"
END: Final = "<!-- to here -->\n"
#: Not the report of a backend.
MUTANTS: Final = "mutants.json"

_INTRODUCTION: Final = """\
# Guarantees

What every backend promises, as `drumbeat-conformance` tests it. An id is stable once used. **must** binds every
backend; what stands in its place is a capability that a backend may claim, and then it binds. The tier `contract`
takes seconds; `faults` stops, kills and cuts, and takes minutes. The last column names the deliberately broken backends
that the guarantee has to find out; [mutants.md](mutants.md) says what is wrong with each.

This page is written by `python conformance/documents.py`.
"""


@final
@dataclass(frozen=True, slots=True)
class Document:
    """A file, and what it should hold."""

    path: Path
    text: str

    def is_stale(self) -> bool:
        """Return whether the file holds something else, or is not there."""
        return not self.path.exists() or self.path.read_text(encoding="utf-8") != self.text


def documents(root: Path) -> list[Document]:
    """Return all that is written, as it should be."""
    readme = root / "README.md"
    return [
        Document(root / "docs/guarantees.md", guarantees_page(root)),
        Document(readme, with_table(readme.read_text(encoding="utf-8"), reports_table(root))),
    ]


def guarantees_page(root: Path) -> str:
    """Return the page of all guarantees."""
    kills = mutants_by_guarantee(root / REPORTS / MUTANTS)
    ordered = sorted(catalogue().values(), key=lambda one: one.order)
    parts = [_INTRODUCTION]
    for family, found in groupby(ordered, key=lambda one: one.family):
        parts.append("\n".join(_family(family, list(found), kills)) + "\n")
    parts.append("\n".join(_untested()) + "\n")
    return "\n".join(parts)


def mutants_by_guarantee(path: Path) -> Mapping[str, list[str]]:
    """Return which mutants each guarantee kills, as the last run of all of them found."""
    if not path.exists():
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))
    kills: dict[str, list[str]] = found["guarantees"]
    return kills


def _family(family: str, guarantees: list[Guarantee], kills: Mapping[str, list[str]]) -> Iterator[str]:
    yield f"## {family}"
    yield ""
    # Several modules may share a family: each says what its part is about.
    said = {getmodule(one.check): None for one in guarantees}
    yield from ((module.__doc__ or "").partition("\n")[0] for module in said if module is not None)
    yield ""
    yield "| id | level | tier | promise | needs | mutants |"
    yield "|---|---|---|---|---|---|"
    for one in guarantees:
        level = "must" if one.claim is None else f"`{one.claim.label}`"
        needs = "; ".join(sorted(need.value for need in one.needs))
        only = f"`{one.scheme}://` alone" if one.scheme else ""
        mutants = ", ".join(f"`{name}`" for name in kills.get(one.id, []))
        cells = (one.id, level, one.tier, one.promise, "; ".join(filter(None, [only, needs])), mutants)
        yield f"| {' | '.join(cell(text) for text in cells)} |"


def _untested() -> Iterator[str]:
    yield "## What no test can cover"
    yield ""
    yield "| id | promise | why it cannot be tested |"
    yield "|---|---|---|"
    for one in UNTESTED.values():
        yield f"| {one.id} | {cell(one.promise)} | {cell(one.why)} |"


def reports_table(root: Path) -> str:
    """Return the table of the committed reports, one row for each backend."""
    paths = [
        path for path in sorted((root / REPORTS).glob("*.json")) if path.name != MUTANTS and "soak" not in path.name
    ]
    if not paths:
        return "No report has been made yet.\n"
    lines = ["| backend | server | contract | faults | claims |", "|---|---|---|---|---|"]
    lines += [_row(path, read_report(path)) for path in paths]
    return "\n".join(lines) + "\n"


def _row(path: Path, report: Report) -> str:
    name = f"[{report.backend.scheme}]({REPORTS}/{path.name})"
    server = f"{report.server.name} {report.server.version}".strip()
    claims = ", ".join(report.backend.capabilities)
    return f"| {name} | {cell(server)} | {_held(report, 'contract')} | {_held(report, 'faults')} | {claims} |"


def _held(report: Report, tier: Tier) -> str:
    if tier not in report.tiers:
        return "not run"
    held = report.count("passed", tier) + report.count("unexpected pass", tier)
    left_out = report.count("left out", tier)
    parts = [f"{held} hold"]
    parts += [f"{left_out} left out"] if left_out else []
    broken = report.count("failed", tier)
    parts += [f"**{broken} broken**"] if broken else []
    known = report.count("known failure", tier)
    parts += [f"**{known} known failures**"] if known else []
    fixed = report.count("unexpected pass", tier)
    parts += [f"**{fixed} of these known to fail**"] if fixed else []
    return ", ".join(parts)


def with_table(text: str, table: str) -> str:
    """Return a text with the table between its two marks; raise BadData if it lacks one."""
    before, found, rest = text.partition(BEGIN)
    _old, closed, after = rest.partition(END)
    if not found or not closed:
        raise BadData("README.md", f"lacks the lines {BEGIN.strip()} and {END.strip()} around the table")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def main(arguments: list[str], root: Path = ROOT) -> int:
    """Write what is stale, or only tell of it; return the exit status."""
    check = "--check" in arguments
    stale = [document for document in documents(root) if document.is_stale()]
    for document in stale:
        sys.stderr.write(f"{document.path.relative_to(root)} is {'stale' if check else 'written anew'}\n")
        if not check:
            document.path.write_text(document.text, encoding="utf-8")
    if check and stale:
        sys.stderr.write("write them by: uv run python conformance/documents.py\n")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
