"""A whole history: what sessions told of themselves, and what programs did; how it is read from lines."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import final

from drumbeat.history import Record, StrPath, parse_object, record_of
from drumbeat_conformance.checker._operation import Operation, merge, operation_of


@final
@dataclass(frozen=True, slots=True)
class Recording:
    """The events and the operations of a history, each in the order of time."""

    #: What sessions told (see `drumbeat.observers.HistoryObserver`), and what was noted of processes.
    events: tuple[Record, ...] = ()
    operations: tuple[Operation, ...] = ()
    #: Where a last line without its end was left out, as `FILE:LINE`.
    torn: tuple[str, ...] = ()

    @property
    def end(self) -> float:
        """The last moment that is told of; minus infinity if nothing is."""
        moments = [event.at for event in self.events]
        moments += [one.called if one.returned is None else one.returned for one in self.operations]
        return max(moments, default=float("-inf"))


def read_recording(paths: StrPath | Iterable[StrPath]) -> Recording:
    """Return what one or several files hold.

    A line with `op` tells of an operation, each other of an event. A last line without its end is left out and
    reported in `torn`. Raises BadLine naming file and line for any other line that is neither, and OSError for a file
    that cannot be read.
    """
    names = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    lines: list[tuple[str, bytes]] = []
    torn: list[str] = []
    for name in names:
        *whole, rest = Path(name).read_bytes().split(b"\n")
        lines += [(f"{os.fspath(name)}:{number}", line) for number, line in enumerate(whole, 1)]
        torn += [f"{os.fspath(name)}:{len(whole) + 1}"] if rest else []
    return parse_recording(lines, torn=tuple(torn))


def parse_recording(lines: Iterable[tuple[str, bytes]], *, torn: tuple[str, ...] = ()) -> Recording:
    """Return what lines tell, each given with where it stands; raise BadLine for one that is neither."""
    events: list[Record] = []
    operations: list[tuple[str, Operation]] = []
    for where, line in lines:
        found = parse_object(line, where=where)
        if "op" in found:
            operations.append((where, operation_of(found, where=where)))
        else:
            events.append(record_of(found, where=where))
    ordered = tuple(sorted(events, key=lambda event: event.at))
    return Recording(ordered, tuple(merge(operations)), torn)
