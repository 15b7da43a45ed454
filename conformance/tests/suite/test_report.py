"""Reports: what they say, that they can be read back, and what a badge may claim."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from drumbeat import BadData
from drumbeat_conformance.report import (
    BackendFacts,
    Line,
    Report,
    ServerFacts,
    badge_json,
    badge_svg,
    read_report,
    to_json,
    to_markdown,
    verdict,
)

HOLDS = Line(
    id="LEAD-3",
    promise="Tokens | rise.",
    level="must",
    tier="contract",
    outcome="passed",
    seconds=0.5,
    reason="",
    gap=False,
)
KILLED = replace(HOLDS, id="FAULT-5", tier="faults")
BROKEN = replace(HOLDS, id="LEAD-4", outcome="failed", reason="LEAD-4: no | good\nat all")
UNCLAIMED = replace(HOLDS, id="LEAD-12", level="should", outcome="left out", reason="not claimed: fifo-candidates")
NO_SERVER = replace(KILLED, outcome="left out", reason="needs a server", gap=True)
FIXED = replace(HOLDS, outcome="unexpected pass", reason="remove the declaration")
KNOWN = replace(HOLDS, id="LEAD-5", outcome="known failure", reason="slow (https://example.org)")

WHOLE = Report(
    command="drumbeat-conformance redis --tier all --seed 0",
    spec_version=1,
    suite_version="0.1.0",
    backend=BackendFacts(scheme="redis", package="drumbeat-redis", version="0.1.0", capabilities=("a", "b")),
    server=ServerFacts(name="Redis", version="7.0.15"),
    tiers=("contract", "faults"),
    whole=True,
    seed=0,
    lease_ttl=1.0,
    fake_time=False,
    in_process=False,
    began="2026-11-22T21:00:00+00:00",
    seconds=40.5,
    python="3.11.7",
    platform="Linux",
    guarantees=(HOLDS, UNCLAIMED, KILLED),
)


def with_lines(*lines: Line) -> Report:
    """Return the report with other outcomes."""
    return replace(WHOLE, guarantees=lines)


def test_a_report_is_read_back_as_it_was(tmp_path: Path) -> None:
    """What was written as JSON is the same report when it is read."""
    path = tmp_path / "report.json"
    report = with_lines(HOLDS, BROKEN, UNCLAIMED, NO_SERVER, KNOWN)
    path.write_text(to_json(report))
    assert report == read_report(path)


def spoil(document: dict[str, Any], *where: str | int, value: object) -> str:
    """Return a report's JSON with another value at one place."""
    place: Any = document
    for step in where[:-1]:
        place = place[step]
    place[where[-1]] = value
    return json.dumps(document)


@pytest.mark.parametrize(
    ("where", "value", "problem"),
    [
        (["format"], 2, "format 1"),
        (["seed"], "0", "the report.seed is '0', not of type int"),
        (["seed"], True, "the report.seed is True"),
        (["whole"], 1, "the report.whole is 1"),
        (["tiers"], "contract", "the report.tiers is 'contract', not a list"),
        (["tiers"], ["slow"], r"the report.tiers\[0\] is 'slow', not one of"),
        (["more"], 1, "does not have exactly the keys"),
        (["backend"], None, "the report.backend does not have exactly"),
        (["guarantees", 0, "outcome"], "skipped", r"the report.guarantees\[0\].outcome is 'skipped'"),
        (["guarantees", 0, "promise"], None, r"the report.guarantees\[0\].promise is None"),
        (["guarantees", 0, "seconds"], None, r"the report.guarantees\[0\].seconds is None"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_rubbish_is_refused_by_its_place(tmp_path: Path, where: list[str | int], value: object, problem: str) -> None:
    """A value that does not fit is an error that names file and place."""
    path = tmp_path / "report.json"
    path.write_text(spoil(json.loads(to_json(WHOLE)), *where, value=value))
    with pytest.raises(BadData, match=problem) as caught:
        read_report(path)
    assert caught.value.key == str(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"format": 1}', "\0"], ids=repr)
def test_what_is_no_report_is_refused(tmp_path: Path, text: str) -> None:
    """A file that holds something else, or is cut off, is an error that names it; so is one that is not there."""
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(BadData, match=r"report\.json"):
        read_report(path)
    with pytest.raises(BadData, match="nowhere"):
        read_report(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("report", "expected", "colour"),
    [
        (WHOLE, "contract + faults, 2 capabilities", "brightgreen"),
        (replace(WHOLE, tiers=("contract",), guarantees=(HOLDS,)), "contract, 2 capabilities", "brightgreen"),
        (with_lines(HOLDS, NO_SERVER), "contract + none of faults, 2 capabilities", "yellow"),
        (with_lines(HOLDS, KILLED, NO_SERVER), "contract + part of faults, 2 capabilities", "yellow"),
        (with_lines(HOLDS, replace(NO_SERVER, gap=False)), "contract, 2 capabilities", "brightgreen"),
        (replace(WHOLE, whole=False), "part of contract + part of faults, 2 capabilities", "yellow"),
        (with_lines(HOLDS, KNOWN, KILLED), "contract + faults, 2 capabilities, 1 known failure", "yellow"),
        (replace(WHOLE, fake_time=True), "contract + faults, 2 capabilities, pretended time", "yellow"),
        (replace(WHOLE, in_process=True), "contract + faults, 2 capabilities, one process", "brightgreen"),
        (with_lines(HOLDS, BROKEN), "1 of the promises broken", "red"),
        (with_lines(FIXED), "1 known failure holds", "red"),
        (with_lines(FIXED, FIXED, BROKEN), "1 of the promises broken, 2 known failures hold", "red"),
        (with_lines(UNCLAIMED), "nothing tested", "red"),
        (with_lines(NO_SERVER), "nothing tested", "red"),
    ],
    ids=[
        "whole",
        "contract",
        "no-server",
        "server-for-some",
        "no-concern",
        "selection",
        "known",
        "fake-time",
        "one-process",
        "broken",
        "strict",
        "broken-and-strict",
        "nothing",
        "nothing-for-lack-of-a-server",
    ],
)
def test_a_badge_names_what_was_proven(report: Report, expected: str, colour: str) -> None:
    """Only a whole run without failures gets the full badge; what is broken or untested is said in its place."""
    assert verdict(report) == expected
    badge = json.loads(badge_json(report))
    assert (badge["label"], badge["message"], badge["color"]) == ("drumbeat", expected, colour)
    assert "%" not in badge["message"]
    picture = ET.fromstring(badge_svg(report))  # noqa: S314 - our own
    assert expected in "".join(picture.itertext())


def test_markdown_says_what_did_not_hold() -> None:
    """The page has the verdict, the numbers of each family, and each broken or missing promise in one row."""
    page = to_markdown(with_lines(HOLDS, BROKEN, UNCLAIMED, NO_SERVER, KNOWN, FIXED))
    assert "| verdict | 1 of the promises broken, 1 known failure holds |" in page
    assert "| LEAD | 4 | 2 | 1 |" in page
    assert "| LEAD-4 | Tokens \\| rise. | LEAD-4: no \\| good at all |" in page
    for title in ("## Broken", "## Known failures that hold", "## Known failures", "## Left out"):
        assert title in page
