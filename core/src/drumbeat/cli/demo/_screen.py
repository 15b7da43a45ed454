"""Showing a run while it goes on: plain lines, JSON lines for programs, or a live table on a terminal."""

from __future__ import annotations

import json
import os
import sys
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING

from drumbeat.cli.demo._records import Record, Summarised
from drumbeat.cli.demo._report import entry_line, figure_rows, headline, verdict
from drumbeat.cli.demo._timeline import Entry, Timeline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drumbeat.cli.demo._figures import Figures
    from drumbeat.cli.demo._plan import Plan


class Screen(ABC):
    """Where a run is shown; knows its timeline."""

    def __init__(self, plan: Plan, *, begin: float) -> None:
        self.plan = plan
        self._timeline = Timeline(begin)
        self._entries: list[Entry] = []

    @property
    def told(self) -> Sequence[Entry]:
        """The timeline by now, without summaries."""
        return sorted(self._entries, key=lambda entry: entry.seconds)

    def showing(self) -> AbstractContextManager[object]:
        """Return the block in which the run is shown."""
        return nullcontext()

    def add(self, record: Record) -> None:
        """Show a record, if people need to know of it."""
        entry = self._timeline.tell(record)
        if entry is not None:
            if not isinstance(record, Summarised):
                self._entries.append(entry)
            self.tell(entry)

    def refresh(self, now: float) -> None:  # noqa: B027 - only a table has anything to draw anew
        """Draw anew what changes with time."""

    @abstractmethod
    def tell(self, entry: Entry) -> None:
        """Show a line at once."""

    @abstractmethod
    def report(self, figures: Figures, faults: Sequence[str]) -> None:
        """Show the timeline and the figures at the end."""


class PlainScreen(Screen):
    """A line for each thing that happens, and for each summary."""

    def showing(self) -> AbstractContextManager[object]:
        _print(headline(self.plan))
        return nullcontext()

    def tell(self, entry: Entry) -> None:
        _print(entry_line(entry))

    def report(self, figures: Figures, faults: Sequence[str]) -> None:
        rows = [f"{name:<17}  {value}" for name, value in figure_rows(figures)]
        _print("", "Timeline", *map(entry_line, self.told), "", "Figures", *rows, "", *verdict(faults))


class JsonScreen(Screen):
    """A JSON object a line for each thing that happens; the last one holds the figures."""

    def tell(self, entry: Entry) -> None:
        _print(
            json.dumps(
                {
                    "seconds": round(entry.seconds, 6),
                    "event": entry.kind,
                    "agent": entry.agent or None,
                    "text": entry.text,
                }
            )
        )

    def report(self, figures: Figures, faults: Sequence[str]) -> None:
        rounded = {
            name: round(value, 6) if isinstance(value, float) else value for name, value in asdict(figures).items()
        }
        _print(json.dumps({**rounded, "faults": list(faults)}))


def make_screen(plan: Plan, *, begin: float, as_json: bool) -> Screen:
    """Return the screen that suits where the output goes."""
    if as_json:
        return JsonScreen(plan, begin=begin)
    if sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in {"dumb", "unknown"}:
        from drumbeat.cli.demo._live import LiveScreen

        return LiveScreen(plan, begin=begin)
    return PlainScreen(plan, begin=begin)


def _print(*lines: str) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)
    sys.stdout.flush()
