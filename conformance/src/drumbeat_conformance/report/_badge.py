"""The badge: which profile a backend was tested for, never a percentage."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final
from xml.sax.saxutils import escape

from drumbeat_conformance.guarantee import Tier
from drumbeat_conformance.report._model import Report

__all__ = ["badge_json", "badge_svg", "verdict"]

_LABEL: Final = "drumbeat"
_COLOURS: Final = {"brightgreen": "#2ea44f", "yellow": "#b08800", "red": "#cf222e"}
#: Roughly the width of a letter at 11 px, and the space beside a text.
_LETTER: Final = 6.4
_SPACE: Final = 10


def verdict(report: Report) -> str:
    """Return the profile that a report proves, in a few words: what is broken or untested comes first."""
    if report.broken:
        return ", ".join(_wrong(report))
    if not report.tested:
        return "nothing tested"
    known = report.count("known failure")
    parts = [
        " + ".join(filter(None, (_extent(report, tier) for tier in report.tiers))),
        _counted(len(report.backend.capabilities), "capability", "capabilities"),
    ]
    if known:
        parts.append(_counted(known, "known failure", "known failures"))
    if report.in_process:
        parts.append("one process")
    if report.fake_time:
        parts.append("pretended time")
    return ", ".join(parts)


def _wrong(report: Report) -> Iterator[str]:
    broken, fixed = report.count("failed"), report.count("unexpected pass")
    if broken:
        yield f"{broken} of the promises broken"
    if fixed:
        yield _counted(fixed, "known failure holds", "known failures hold")


def _extent(report: Report, tier: Tier) -> str:
    """Return how much of a tier was tested, in words; none where nothing of it concerns the backend."""
    if report.is_whole(tier):
        return tier
    if tier in report.tested:
        return f"part of {tier}"
    return f"none of {tier}" if report.has_gaps(tier) else ""


def badge_json(report: Report) -> str:
    """Return the badge as JSON for an endpoint badge: schemaVersion, label, message, color."""
    badge = {"schemaVersion": 1, "label": _LABEL, "message": verdict(report), "color": _colour(report)}
    return json.dumps(badge, indent=2) + "\n"


def badge_svg(report: Report) -> str:
    """Return the badge as a picture."""
    text = verdict(report)
    left, right = (_SPACE + len(words) * _LETTER for words in (_LABEL, text))
    title = escape(f"{_LABEL}: {text}")
    style = 'fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" text-anchor="middle"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right:.0f}" height="20" role="img">\n'
        f"<title>{title}</title>\n"
        f'<rect width="{left:.0f}" height="20" fill="#555"/>\n'
        f'<rect x="{left:.0f}" width="{right:.0f}" height="20" fill="{_COLOURS[_colour(report)]}"/>\n'
        f"<g {style}>\n"
        f'<text x="{left / 2:.0f}" y="14">{_LABEL}</text>\n'
        f'<text x="{left + right / 2:.0f}" y="14">{escape(text)}</text>\n'
        "</g>\n</svg>\n"
    )


def _colour(report: Report) -> str:
    if report.broken or not report.count("passed"):
        return "red"
    whole = all(_extent(report, tier) in {tier, ""} for tier in report.tiers)
    return "brightgreen" if whole and not report.count("known failure") and not report.fake_time else "yellow"


def _counted(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
