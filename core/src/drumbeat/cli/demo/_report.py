"""The figures and the timeline as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drumbeat.cli.demo._figures import Figures
    from drumbeat.cli.demo._plan import Plan
    from drumbeat.cli.demo._timeline import Entry


def headline(plan: Plan) -> str:
    """Return one line on what is about to happen."""
    durations = f"TTL {plan.lease_ttl:g} s, cycles of {plan.cycle:.3g} s"
    return f"{plan.agents} agents, {len(plan.meters)} meters, {plan.server}, {durations}"


def entry_line(entry: Entry) -> str:
    """Return one line of the timeline."""
    return f"{entry.seconds:7.3f}  {entry.agent:<8}  {entry.text}"


def figure_rows(figures: Figures) -> list[tuple[str, str]]:
    """Return the figures, each with its name, for people."""
    return [
        ("agents", f"{figures.agents}"),
        ("meters", f"{figures.meters}"),
        ("lease TTL", f"{figures.lease_ttl:g} s"),
        ("failover", _seconds(figures.failover_seconds, "from the kill to the next leader's win")),
        ("reassigned", _seconds(figures.reassigned_seconds, "from the kill until every meter was polled again")),
        ("after the freeze", _after_freeze(figures)),
        ("woken leader", _woken(figures)),
        ("missed polls", f"{figures.missed_polls} in {figures.judged_cycles} cycles outside the changes"),
        ("duplicate polls", f"{figures.duplicate_polls} in {figures.judged_cycles} cycles outside the changes"),
        ("overlapping terms", f"{figures.overlapping_terms}"),
        ("tokens", ", ".join(map(str, figures.tokens))),
    ]


def verdict(faults: Sequence[str]) -> list[str]:
    """Return a line for each fault, or one that says that there is none."""
    return [f"FAILED: {fault}" for fault in faults] or ["Everything went as promised."]


def _after_freeze(figures: Figures) -> str:
    win = _seconds(figures.freeze_failover_seconds, "to the next win")
    return f"{win}, {_seconds(figures.freeze_reassigned_seconds, 'until every meter was polled')}"


def _woken(figures: Figures) -> str:
    if figures.noticed_seconds is None:
        return "did not know that its term was lost"
    count = len(figures.rejected_tokens)
    writes = "its write" if count == 1 else f"{count} writes"
    return f"knew after {1000 * figures.noticed_seconds:.1f} ms that its term is lost; {writes} rejected"


def _seconds(value: float | None, words: str) -> str:
    return f"never came ({words})" if value is None else f"{value:.3f} s {words}"
