"""What the process of a run writes down as it goes, so that whoever started it knows how far it came."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from drumbeat_conformance.run import Outcome, Run

__all__ = ["Journal", "Progressed", "read_journal"]


@final
class Journal:
    """The file that a run is written down in."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def began(self, id_: str) -> None:
        """Note that a guarantee is tested from now on."""
        self._add({"began": id_})

    def ended(self, run: Run, outcome: Outcome) -> None:
        """Note what came of a guarantee."""
        self._add({"ended": outcome.guarantee.id, "result": outcome.result, "of": len(run.guarantees)})

    def over(self, status: int) -> None:
        """Note that all was tested, written and printed, and with which status that ends."""
        self._add({"over": status})

    def told(self, status: int) -> None:
        """Note that the process says itself why it ends, and with which status."""
        self._add({"told": status})

    def _add(self, entry: dict[str, object]) -> None:
        # One write for each line: several threads do so, and the process may end at any moment.
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, (json.dumps(entry) + "\n").encode())
        finally:
            os.close(descriptor)


@final
@dataclass(slots=True)
class Progressed:
    """How far a run came."""

    #: How many guarantees were to be tested; 0 before that is known.
    expected: int = 0
    #: Ids of what was being tested.
    begun: list[str] = field(default_factory=list)
    #: Ids of what came out, and what broke among them.
    ended: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    #: The status that the run ends with, once it is over, or has said why it cannot be.
    over: int | None = None
    told: int | None = None

    @property
    def running(self) -> list[str]:
        """Ids of what was being tested when it was last heard of."""
        return [id_ for id_ in self.begun if id_ not in self.ended]

    def lines(self) -> Iterator[str]:
        """Return what is known, and what is not."""
        if not self.ended and not self.begun:
            yield "no outcome is known, and nothing is written"
            return
        yield f"{len(self.ended)} of {self.expected or 'the'} guarantees had come out"
        if self.broken:
            yield f"broken: {', '.join(self.broken)}"
        if self.running:
            yield f"being tested just then: {', '.join(self.running)}"
        yield "nothing is known of the others, and no report is written"


def read_journal(path: Path) -> Progressed:
    """Return how far the run came that wrote this file; a last line that is cut off is left out."""
    found = Progressed()
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if "began" in entry:
            found.begun.append(entry["began"])
        elif "ended" in entry:
            found.ended.append(entry["ended"])
            found.expected = entry["of"]
            found.broken += [entry["ended"]] if entry["result"] in {"failed", "unexpected pass"} else []
        found.over = entry.get("over", found.over)
        found.told = entry.get("told", found.told)
    return found
