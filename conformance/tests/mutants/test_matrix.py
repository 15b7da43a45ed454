"""The kill matrix, as it is printed and written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from drumbeat_mutants._matrix import as_json, as_markdown, as_text
from drumbeat_mutants._rules import Results
from drumbeat_mutants._run import Finding, Report
from mutants.invented import failing, invented_guarantee, invented_mutant, invented_results

MUTANTS = Path(__file__).parents[2] / "mutants"


def results() -> Results:
    """Return a run of one mutant that is killed, and of one that should be and is not."""
    mutants = [
        invented_mutant("two-leaders", breaks=("LEAD-1",), like="peers 3"),
        invented_mutant("half-a-bug", breaks=("LEAD-1", "BEAT-2")),
    ]
    reports = {
        "two-leaders": failing("LEAD-1", "BEAT-2", passing=["LEAD-10"]),
        "half-a-bug": Report(findings={**failing("BEAT-2").findings, "LEAD-1": Finding("passed")}),
    }
    catalogue = [invented_guarantee(id_) for id_ in ("LEAD-10", "LEAD-1", "BEAT-2")]
    return invented_results(reports, mutants=mutants, catalogue=catalogue)


def test_the_text_has_a_table_for_each_family() -> None:
    """Rows are mutants, columns are the guarantees of one family in their order, marks tell what came of it."""
    _, beat, lead = as_text(results()).split("\n\n")
    assert beat.splitlines() == ["BEAT          2", "two-leaders   k", "half-a-bug    K"]
    assert lead.splitlines() == ["LEAD          1 10", "two-leaders   K  .", "half-a-bug    !"]


def test_the_text_fits_a_screen() -> None:
    """With 50 guarantees in a family and long names, no line is longer than 200 columns."""
    catalogue = [invented_guarantee(f"LEAD-{number}") for number in range(1, 51)]
    mutant = invented_mutant("takes-back-a-lost-seat-again-and-again-and-again")
    report = failing(*(one.id for one in catalogue))
    text = as_text(invented_results({mutant.name: report}, mutants=[mutant], catalogue=catalogue))
    assert max(map(len, text.splitlines())) <= 200


def test_the_markdown_says_each_bug() -> None:
    """Each mutant has a row with its bug, what it is like, who killed it, and who noticed it besides."""
    lines = as_markdown(results()).splitlines()
    assert "| `two-leaders` | memory | Two lead at a time. | peers 3 | LEAD-1 | BEAT-2 |" in lines
    assert "### LEAD" in lines
    assert "| mutant | LEAD-1 | LEAD-10 |" in lines
    assert "| `half-a-bug` | ! |   |" in lines


def test_the_json_tells_who_kills_whom() -> None:
    """Each guarantee has the mutants that it kills by name, and each mutant what killed and noticed it."""
    found = json.loads(as_json(results()))
    assert found["guarantees"] == {"BEAT-2": ["half-a-bug"], "LEAD-1": ["two-leaders"], "LEAD-10": []}
    killed = {one["name"]: (one["killed_by"], one["noticed_by"]) for one in found["mutants"]}
    assert killed == {"two-leaders": (["LEAD-1"], ["BEAT-2"]), "half-a-bug": (["BEAT-2"], [])}


def test_the_command_says_what_there_is() -> None:
    """A name that no mutant has ends the command with 1, after a list of those that there are."""
    command = [sys.executable, "-m", "drumbeat_mutants", "--module", "peers", "no-such-mutant"]
    done = subprocess.run(command, cwd=MUTANTS, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no mutant is like that; there are:" in done.stdout
    assert "counts-from-the-answer" in done.stdout
