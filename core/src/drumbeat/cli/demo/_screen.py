"""Showing a run while it goes on: a live table on a terminal, plain lines elsewhere, JSON lines for programs."""

from __future__ import annotations

import json
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING, Protocol

from drumbeat.cli.demo._records import Summarised
from drumbeat.cli.demo._report import figure_lines, timeline_lines
from drumbeat.cli.demo._timeline import Entry, Timeline

if TYPE_CHECKING:
    from drumbeat.cli.demo._figures import Figures
    from drumbeat.cli.demo._plan import Plan
    from drumbeat.cli.demo._records import Record


class Screen(Protocol):
    """Where a run is shown."""

    def open(self, plan: Plan) -> AbstractContextManager[object]:
        """Return the block in which the run is shown."""
        ...

    def add(self, record: Record) -> None:
        """Take a record into account."""
        ...

    def refresh(self, now: float) -> None:
        """Show what has changed, if there is something to redraw."""
        ...

    def report(self, figures: Figures, faults: list[str]) -> None:
        """Show how the run went, at its end."""
        ...


class PlainScreen:
    """One line for each thing that happens, then the timeline and the figures."""

    def __init__(self, begin: float) -> None:
        self._timeline = Timeline(begin)
        self._entries: list[Entry] = []

    def open(self, plan: Plan) -> AbstractContextManager[object]:
        for line in headline(plan):
            print_line(line)
        return nullcontext()

    def add(self, record: Record) -> None:
        entry = self._timeline.tell(record)
        if entry is None:
            return
        for line in timeline_lines([entry]):
            print_line(line)
        if not isinstance(record, Summarised):
            self._entries.append(entry)

    def refresh(self, now: float) -> None:
        pass
