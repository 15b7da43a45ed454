"""What the command line prints: plain lines, the same on a terminal, in a log and in a file."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Final, TextIO

from drumbeat.cli._report import in_columns

if TYPE_CHECKING:
    from collections.abc import Mapping

    from drumbeat_conformance.guarantee import Guarantee
    from drumbeat_conformance.report import Report
    from drumbeat_conformance.run import Outcome, Run

__all__ = ["Progress", "catalogue", "summary"]

_WORDS: Final = {
    "passed": "holds",
    "failed": "BROKEN",
    "known failure": "known failure",
    "unexpected pass": "HOLDS, NOT EXPECTED",
    "left out": "left out",
}


class Progress:
    """Prints each outcome as it becomes known; to the stream of now, whatever pytest captures later."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = os.fdopen(os.dup(stream.fileno()), "w", encoding=stream.encoding, errors="backslashreplace")
        self._lock = threading.Lock()
        self._told = 0

    def tell(self, run: Run, outcome: Outcome) -> None:
        """Print one outcome."""
        with self._lock:
            if not self._told and run.profile is not None:
                self.say(f"testing {len(run.guarantees)} guarantees on {run.target.scheme}://, {run.profile.server}")
            self._told += 1
            place = f"[{self._told:{len(str(len(run.guarantees)))}}/{len(run.guarantees)}]"
            why = f" ({outcome.reason})" if outcome.result == "left out" else ""
            one = outcome.guarantee
            self.say(f"{place} {_WORDS[outcome.result]:8} {outcome.seconds:6.2f} s  {one.id}: {one.title}{why}")

    def say(self, line: str) -> None:
        """Print one line at once."""
        self._stream.write(f"{line}\n")
        self._stream.flush()

    def close(self) -> None:
        """Let go of the stream."""
        self._stream.close()


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
