"""What ran, and what could not: the lines of the table at the end of a test run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from drumbeat_conformance.servers._errors import CouldNotRun
from drumbeat_conformance.servers._server import Server


@dataclass(frozen=True, slots=True, order=True)
class Line:
    """One way in which servers of a kind ran, or the reason why none could."""

    kind: str
    #: "container", "program", "url" or "could not run".
    way: str
    #: Image, program or URL; or the reasons.
    source: str
    #: As the servers say it; or what to install.
    version: str


_lines: set[Line] = set()


def ran(servers: Iterable[Server]) -> None:
    """Note servers that answered."""
    _lines.update(Line(server.kind, server.way, server.source, server.version) for server in servers)


def was_named(kind: str, url: str) -> None:
    """Note that the user named a server; `url` must not show a password."""
    _lines.add(Line(kind, "url", url, ""))


def could_not(error: CouldNotRun) -> None:
    """Note that none can run."""
    _lines.add(Line(error.kind, "could not run", "; ".join(error.reasons), error.remedy))


def lines() -> list[dict[str, str]]:
    """Return what was noted in this process, as plain values."""
    return [asdict(line) for line in sorted(_lines)]


def add(others: Sequence[dict[str, str]]) -> None:
    """Note what was noted in another process."""
    _lines.update(Line(**line) for line in others)


def table() -> list[str]:
    """Return the lines to print, in columns."""
    noted = sorted(_lines)
    width = max((len(line.kind) for line in noted), default=0)
    return [f"{line.kind:{width}}  {line.way}: {line.source}{_ending(line)}" for line in noted]


def _ending(line: Line) -> str:
    if line.way == "could not run":
        return f". {line.version}"
    return f", version {line.version}" if line.version else ""
