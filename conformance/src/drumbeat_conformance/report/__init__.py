"""What came of a run, to keep and to show: JSON that can be read back, Markdown, and a badge."""

from __future__ import annotations

from drumbeat_conformance.report._badge import badge_json, badge_svg, verdict
from drumbeat_conformance.report._json import read_report, to_json
from drumbeat_conformance.report._markdown import cell, to_markdown
from drumbeat_conformance.report._model import BackendFacts, Line, Report, ServerFacts, origin_of, report_of

__all__ = [
    "BackendFacts",
    "Line",
    "Report",
    "ServerFacts",
    "badge_json",
    "badge_svg",
    "cell",
    "origin_of",
    "read_report",
    "report_of",
    "to_json",
    "to_markdown",
    "verdict",
]
