"""What the command line prints: plain lines, the same on a terminal, in a log and in a file."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Final, TextIO

from drumbeat.cli._report import in_columns

if TYPE_CHECKING:
    from collections.abc import Mapping

    from drumbeat_conformance.guarantee import Guarantee
    from drumbeat_conformance.report import Report
    from drumbeat_conformance.run import Outcome, Run

__all__ = ["Printer", "Progress", "catalogue", "summary"]

_WORDS: Final = {
    "passed": "holds",
    "failed": "BROKEN",
    "known failure": "known failure",
    "unexpected pass": "HOLDS, NOT EXPECTED",
    "left out": "left out",
}


class Printer:
    """Prints lines at once to a stream as it is now, whatever pytest captures later; one that fails is noted, once.

    Nothing is lost by that: what is tested goes on, and its outcome is written to the files all the same.
    """

    def __init__(self, stream: TextIO | None) -> None:
        # A stream that was closed before this program started is None.
        self._stream = None if stream is None else _duplicate(stream)
        #: What kept the lines from being printed; None while all were.
        self.problem: OSError | None = None

    def say(self, *lines: str) -> None:
        """Print lines."""
        if self._stream is None or self.problem is not None:
            return
        try:
            self._stream.writelines(f"{line}\n" for line in lines)
            self._stream.flush()
        except OSError as error:
            self.problem = error

    def close(self) -> None:
        """Let go of the stream."""
        if self._stream is not None:
            with suppress(OSError):
                self._stream.close()


class Progress:
    """Prints each outcome as it becomes known."""

    def __init__(self, printer: Printer) -> None:
        self._printer = printer
        self._lock = threading.Lock()
        self._told = 0

    def tell(self, run: Run, outcome: Outcome) -> None:
        """Print one outcome."""
        with self._lock:
            if not self._told and run.profile is not None:
                server = run.profile.server
                self._printer.say(f"testing {len(run.guarantees)} guarantees on {run.target.scheme}://, {server}")
            self._told += 1
            place = f"[{self._told:{len(str(len(run.guarantees)))}}/{len(run.guarantees)}]"
            why = f" ({outcome.reason})" if outcome.result == "left out" else ""
            one = outcome.guarantee
            self._printer.say(
                f"{place} {_WORDS[outcome.result]:8} {outcome.seconds:6.2f} s  {one.id}: {one.title}{why}"
            )


def summary(report: Report, failures: Mapping[str, str]) -> list[str]:
    """Return the last lines: what broke and how, a table by family, and the verdict."""
    # It imports the arena, whose assertions pytest must rewrite before.
    from drumbeat_conformance.report import verdict

    lines: list[str] = []
    for line in report.broken:
        lines += ["", f"{line.id} {_WORDS[line.outcome]}", *_indented(failures.get(line.id) or line.reason)]
    gaps = sorted({line.reason for line in report.guarantees if line.gap})
    return [
        *lines,
        "",
        *in_columns([("guarantees", "hold", "broken", "known", "left out"), *_families(report)]),
        "",
        *(f"not tested: {sum(line.reason == gap for line in report.guarantees)}, {gap}" for gap in gaps),
        f"{report.backend.package} {report.backend.version} on {report.server.name} {report.server.version}".strip(),
        f"drumbeat: {verdict(report)}",
    ]


def catalogue(guarantees: Sequence[Guarantee]) -> list[str]:
    """Return one line for each guarantee."""
    return in_columns([(one.id, one.tier, one.claim.label if one.claim else "must", one.title) for one in guarantees])


def _duplicate(stream: TextIO) -> TextIO:
    return os.fdopen(os.dup(stream.fileno()), "w", encoding=stream.encoding, errors="backslashreplace")


def _families(report: Report) -> list[tuple[str, ...]]:
    rows = []
    family = attrgetter("family")
    for name, found in groupby(sorted(report.guarantees, key=family), key=family):
        lines = list(found)
        outcomes = [line.outcome for line in lines]
        hold = outcomes.count("passed") + outcomes.count("unexpected pass")
        numbers = (hold, *(outcomes.count(one) for one in ("failed", "known failure", "left out")))
        rows.append((name, *(str(number) if number else "-" for number in numbers)))
    return rows


def _indented(text: str) -> list[str]:
    return [f"    {line}" for line in text.splitlines()]
