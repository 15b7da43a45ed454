"""The live table on a terminal, drawn by rich."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from drumbeat.cli.demo._board import Board, Row
from drumbeat.cli.demo._report import entry_line, figure_rows, headline, verdict
from drumbeat.cli.demo._screen import Screen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drumbeat.cli.demo._figures import Figures
    from drumbeat.cli.demo._plan import Plan
    from drumbeat.cli.demo._records import Record
    from drumbeat.cli.demo._timeline import Entry

#: Seconds between two drawings when nothing has happened.
REDRAW: Final = 0.25
#: Lines that are neither agents nor events, with one that stays free.
_FURNITURE: Final = 8
#: Columns of the table beside its bars.
_TEXT_COLUMNS: Final = 66

_STATE_STYLES: Final = {
    "starting": "dim",
    "polling": "green",
    "woken": "yellow",
    "suspended": "yellow",
    "killed": "bold red",
    "frozen": "bold cyan",
    "lost": "bold red",
}
_ENTRY_STYLES: Final = {
    "killed": "red",
    "frozen": "cyan",
    "resumed": "cyan",
    "won": "bold green",
    "woke": "yellow",
    "rejected": "yellow",
    "statechanged": "magenta",
}


class LiveScreen(Screen):
    """A table that changes in place; when the run is over, it gives way to the timeline and the figures."""

    def __init__(self, plan: Plan, *, begin: float, console: Console | None = None) -> None:
        super().__init__(plan, begin=begin)
        self._begin = begin
        self.console = console or Console(highlight=False)
        self._live = Live(console=self.console, auto_refresh=False, transient=True)
        self._board = Board()
        self._drawn = float("-inf")

    def showing(self) -> AbstractContextManager[object]:
        return self._live

    def add(self, record: Record) -> None:
        self._board.update(record)
        self._drawn = float("-inf")
        super().add(record)

    def tell(self, entry: Entry) -> None:
        """Leave it to the next drawing."""

    def refresh(self, now: float) -> None:
        if now - self._drawn >= REDRAW:
            self._drawn = now
            self._live.update(self.draw(now), refresh=True)

    def report(self, figures: Figures, faults: Sequence[str]) -> None:
        for entry in self.told:
            self.console.print(_styled(entry))
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
        for name, value in figure_rows(figures):
            table.add_row(Text(name, style="bold"), value)
        self.console.print("", table, "")
        for line in verdict(faults):
            self.console.print(Text(line, style="bold red" if faults else "bold green"))

    def draw(self, now: float) -> Group:
        """Return what the terminal shows at a moment."""
        seconds = f"{now - self._begin:5.1f} s"
        head = Text(f"{seconds}  {headline(self.plan)}", style="bold", overflow="ellipsis", no_wrap=True)
        rows = list(self._board.rows)
        space = self.console.height - len(rows) - _FURNITURE
        return Group(head, self._table(rows), self._summary(), Text(), *map(_styled, self.told[-max(space, 3) :]))

    def _table(self, rows: Sequence[Row]) -> Table:
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
        for title in ("agent", "pid", "state", "share", "", "leader"):
            table.add_column(title, justify="right" if title in {"pid", "share"} else "left", no_wrap=True)
        width = max(8, min(40, self.console.width - _TEXT_COLUMNS))
        for row in rows:
            table.add_row(
                row.agent,
                str(row.pid),
                Text(row.state, style=_STATE_STYLES.get(row.state, "")),
                str(row.share),
                ProgressBar(
                    len(self.plan.meters), row.share, width=width, complete_style="green", finished_style="green"
                ),
                "" if row.token is None else Text(f"token {row.token}", style=_STATE_STYLES.get(row.state, "")),
            )
        return table

    def _summary(self) -> Text:
        newest = self._board.summary
        text = "no summary yet" if newest is None else f"cycle {newest.cycle} by {newest.agent}: {newest.text}"
        return Text(text, overflow="ellipsis", no_wrap=True)


def _styled(entry: Entry) -> Text:
    return Text(entry_line(entry), style=_ENTRY_STYLES.get(entry.kind, ""), overflow="ellipsis", no_wrap=True)
