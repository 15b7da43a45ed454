"""Reading a recorded history, and judging it: who held what, from when to when, and whether two ever did at once.

`drumbeat.observers.HistoryObserver` writes the files; one or several of them, from one host and one boot, make a
history. What is here needs no server and no clock, so that it judges any backend, and any program, the same way.

>>> import os, tempfile
>>> from drumbeat.history import find_overlaps, find_token_faults, read_history, terms
>>> from drumbeat.observers import HistoryObserver
>>> from drumbeat.testing import memory_session
>>> with tempfile.TemporaryDirectory() as folder:
...     file = os.path.join(folder, "history.jsonl")
...     with memory_session(member_id="a", observers=[HistoryObserver(file)]) as session:
...         with session.election("leader").campaign():
...             pass
...     history = read_history(file)
>>> [(term.member_id, term.token, term.ended) for term in terms(history)]
[('a', 1, 'resigned')]
>>> find_overlaps(history), find_token_faults(history)
([], [])
"""

from __future__ import annotations

import json
import math
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from errno import ENOSPC
from pathlib import Path
from typing import Final, Literal, NoReturn, cast, final

from drumbeat._errors import BadData, ConfigurationError
from drumbeat._plugins import nearest

__all__ = [
    "BadLine",
    "Ended",
    "FieldTypes",
    "History",
    "Overlap",
    "Record",
    "StrPath",
    "TermRecord",
    "TokenFault",
    "TornLine",
    "Vacancy",
    "append_line",
    "find_overlaps",
    "find_token_faults",
    "longest_vacancy",
    "note",
    "open_for_lines",
    "parse_object",
    "parse_record",
    "read_history",
    "record_of",
    "take_fields",
    "terms",
]

#: A file's name.
StrPath = str | os.PathLike[str]
#: What ended a term; `"open"` if nothing in the history did.
Ended = Literal["resigned", "term_lost", "deadline", "killed", "open"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One line of a history: an event of a session (see `drumbeat.Event`), or what a test noted.

    Times are in seconds of CLOCK_BOOTTIME, but for `wall`, which is seconds since 1970.
    """

    kind: str
    at: float
    member_id: str
    namespace: str = ""
    incarnation: str = ""
    subject: str | None = None
    token: int | None = None
    deadline: float | None = None
    seconds: float | None = None
    members: tuple[tuple[str, str], ...] | None = None
    reason: str | None = None
    pid: int | None = None
    wall: float | None = None


@dataclass(frozen=True, slots=True)
class History:
    """The records of some files in the order of their times; iterating it gives them."""

    records: tuple[Record, ...]
    #: Where a last line without its end was left out, as `FILE:LINE`.
    torn: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    def __len__(self) -> int:
        return len(self.records)


@dataclass(frozen=True, slots=True, kw_only=True)
class TermRecord:
    """One holding of a seat: it was certain from `since` until just before `until`."""

    namespace: str
    #: The election qualified by its kind, for example `election/central-agents`.
    subject: str
    member_id: str
    incarnation: str
    token: int
    since: float
    #: Infinite if nothing in the history ends the term; before `since` if it was over when its win was known.
    until: float
    ended: Ended

    @property
    def seconds(self) -> float:
        """For how long the seat was held."""
        return max(0.0, self.until - self.since)

    @property
    def usable(self) -> bool:
        """Whether anybody could act in it: it was not over before its win was known."""
        return self.until >= self.since


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two terms of one seat that were held at the same time: the promise that matters most was broken."""

    first: TermRecord
    second: TermRecord

    @property
    def seconds(self) -> float:
        """For how long both were held."""
        return min(self.first.until, self.second.until) - self.second.since


@dataclass(frozen=True, slots=True)
class TokenFault:
    """A later term whose token is not strictly greater than that of an earlier one."""

    earlier: TermRecord
    later: TermRecord


@dataclass(frozen=True, slots=True)
class Vacancy:
    """A time in which nobody held a seat that had been held before."""

    since: float
    #: The next win, or the last record of the namespace if nobody won any more.
    until: float

    @property
    def seconds(self) -> float:
        """How long it lasted."""
        return self.until - self.since


def read_history(paths: StrPath | Iterable[StrPath]) -> History:
    """Return what one or several files hold, in the order of time.

    A last line without its end is left out and reported in `torn`. Raises BadLine naming file and line for any
    other line that is not a record, and OSError for a file that cannot be read.
    """
    names = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    records: list[Record] = []
    torn: list[str] = []
    for name in names:
        *lines, rest = Path(name).read_bytes().split(b"\n")
        records += [parse_record(line, where=f"{os.fspath(name)}:{number}") for number, line in enumerate(lines, 1)]
        torn += [f"{os.fspath(name)}:{len(lines) + 1}"] if rest else []
    return History(tuple(sorted(records, key=lambda record: record.at)), tuple(torn))


def terms(records: Iterable[Record]) -> list[TermRecord]:
    """Return who held what, from when to when, with which token; in the order of the wins.

    A term is held from its win until the first of these: it was resigned or lost; the last deadline that is known of
    its session; the killing of its process (see `note`).
    """
    index = _Index(records)
    found = [index.term(won) for won in index.wins]
    return sorted(found, key=lambda term: (term.since, term.token))


def find_overlaps(records: Iterable[Record]) -> list[Overlap]:
    """Return each pair of terms of one seat that were held at the same time, even for an instant."""
    overlaps: list[Overlap] = []
    for held in _by_seat(terms(records)):
        current: list[TermRecord] = []
        for term in held:
            current = [other for other in current if other.until > term.since]
            if term.until > term.since:
                overlaps += [Overlap(other, term) for other in current]
                current.append(term)
    return overlaps


def find_token_faults(records: Iterable[Record]) -> list[TokenFault]:
    """Return each term whose token is not greater than that of every earlier term of its seat.

    It is told beside the earlier term with the greatest token. Terms that are not `usable` do not count: nobody
    could send their tokens.
    """
    faults: list[TokenFault] = []
    for held in _by_seat(terms(records)):
        greatest: TermRecord | None = None
        for term in held:
            if not term.usable:
                continue
            if greatest is not None and term.token <= greatest.token:
                faults.append(TokenFault(greatest, term))
            else:
                greatest = term
    return faults


def longest_vacancy(records: Iterable[Record], election: str) -> Vacancy | None:
    """Return the longest time in which nobody held a seat after its first term, or None if there was none.

    `election` is the subject of the records, for example `"election/central-agents"`. The time after the last term
    counts, until the last record of its namespace; terms that are not `usable` do not. Raises ConfigurationError if
    the history has no term of it, or has it in several namespaces.
    """
    known = list(records)
    held = _seat([term for term in terms(known) if term.usable], election)
    last = max(record.at for record in known if record.namespace == held[0].namespace)
    gaps: list[Vacancy] = []
    free_from = held[0].until
    for term in held[1:]:
        gaps.append(Vacancy(free_from, term.since))
        free_from = max(free_from, term.until)
    gaps.append(Vacancy(free_from, last))
    longest = max(gaps, key=lambda gap: gap.seconds)
    return longest if longest.seconds > 0 else None


def note(
    path: StrPath,
    *,
    kind: str,
    member_id: str,
    at: float,
    pid: int | None = None,
    incarnation: str | None = None,
    reason: str | None = None,
) -> None:
    """Add what a session cannot tell about itself: above all, `kind="killed"` when a test kills its process.

    `at` is `drumbeat.SystemClock().now()`, read just before the signal is sent: the successor of a killed process may
    win before the one that killed it runs again. With `pid` or `incarnation`, just the terms of that process or
    session end; without, all that the member had won by then. Raises OSError if the line cannot be written.
    """
    line = {"kind": kind, "at": at, "member_id": member_id, "incarnation": incarnation, "pid": pid, "reason": reason}
    append_line(path, line)


class TornLine(OSError):
    """Only a part of a line could be written; the next one must start on a line of its own."""


def append_line(path: StrPath, line: Mapping[str, object], *, after_torn: bool = False) -> None:
    """Append a JSON object to a file as one line, made if it is missing; names that are None are left out.

    The line is one write in append mode: on a local file system, what several processes write at once does not mix,
    and the death of one leaves its line whole or absent. One exception is the kernel's: a SIGKILL in the very instant
    in which a line crosses a page of the file can cut it there. `read_history` tells, and where each process has a
    file of its own, it can only be the last line. Raises TornLine if only a part could be written, as on a full
    disk: give the next line with `after_torn`, so that the two do not mix. Raises OSError if nothing was written.
    """
    text = json.dumps({name: value for name, value in line.items() if value is not None}, separators=(",", ":"))
    whole = b"\n" * after_torn + text.encode() + b"\n"
    file = open_for_lines(path)
    try:
        written = os.write(file, whole)
    finally:
        os.close(file)
    if written != len(whole):
        raise TornLine(ENOSPC, f"only {written} of {len(whole)} bytes could be written", os.fspath(path))


def open_for_lines(path: StrPath) -> int:
    """Return a descriptor of the file for appending, made if it is missing; raise OSError if that cannot be done."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)


class _Index:
    """The records of a history by what they say about terms."""

    def __init__(self, records: Iterable[Record]) -> None:
        self.wins: list[Record] = []
        self._ends: defaultdict[tuple[object, ...], list[tuple[float, Ended]]] = defaultdict(list)
        self._deadlines: dict[tuple[str, str], float] = {}
        self._kills: list[Record] = []
        for record in records:
            self._add(record)

    def term(self, won: Record) -> TermRecord:
        """Return the term that began with a win."""
        # Of several ends at one moment the holder's own word counts.
        known = list(self._ends[_seat_key(won)])
        known.extend((kill.at, "killed") for kill in self._kills if _ends_with(kill, won))
        session = (won.namespace, won.incarnation)
        if session in self._deadlines:
            known.append((self._deadlines[session], "deadline"))
        until, ended = min(known, key=lambda end: end[0], default=(math.inf, "open"))
        return TermRecord(
            namespace=won.namespace,
            subject=cast("str", won.subject),
            member_id=won.member_id,
            incarnation=won.incarnation,
            token=cast("int", won.token),
            since=won.at,
            until=until,
            ended=ended,
        )

    def _add(self, record: Record) -> None:
        if record.kind == "won":
            self.wins.append(record)
        elif record.kind in {"resigned", "term_lost"}:
            self._ends[_seat_key(record)].append((record.at, cast("Ended", record.kind)))
        elif record.kind == "killed":
            self._kills.append(record)
        if record.deadline is not None:
            session = (record.namespace, record.incarnation)
            self._deadlines[session] = max(record.deadline, self._deadlines.get(session, -math.inf))


def _seat_key(record: Record) -> tuple[object, ...]:
    return record.namespace, record.incarnation, record.subject, record.token


def _ends_with(kill: Record, won: Record) -> bool:
    """Return whether a killing ended the term of a win."""
    if kill.member_id != won.member_id:
        return False
    if kill.incarnation or kill.pid is not None:
        return kill.incarnation in {"", won.incarnation} and kill.pid in {None, won.pid}
    return kill.at >= won.at


def _by_seat(held: Iterable[TermRecord]) -> list[list[TermRecord]]:
    seats: defaultdict[tuple[str, str], list[TermRecord]] = defaultdict(list)
    for term in held:
        seats[term.namespace, term.subject].append(term)
    return list(seats.values())


def _seat(held: list[TermRecord], election: str) -> list[TermRecord]:
    seats = [seat for seat in _by_seat(held) if seat[0].subject == election]
    if not seats:
        offer = nearest(election, {term.subject for term in held})
        raise ConfigurationError(f"the history has no term of {election!r}, {offer}")
    if len(seats) > 1:
        spaces = ", ".join(sorted(seat[0].namespace for seat in seats))
        raise ConfigurationError(f"{election!r} was held in the namespaces {spaces}; give the records of one of them")
    return seats[0]


# Reading ----------------------------------------------------------------------------------------------------

#: What a field of a line may hold.
FieldTypes = tuple[type, ...]
_TIME: Final = (float,)
#: Characters that are told of a bad value.
_SHOWN: Final = 80
_KINDS: Final[Mapping[str, FieldTypes]] = {
    "kind": (str,),
    "at": _TIME,
    "member_id": (str,),
    "namespace": (str,),
    "incarnation": (str,),
    "subject": (str,),
    "token": (int,),
    "deadline": _TIME,
    "seconds": _TIME,
    "members": (list,),
    "reason": (str,),
    "pid": (int,),
    "wall": _TIME,
}
_ALWAYS: Final = ("kind", "at", "member_id")
_OF_A_TERM: Final = ("namespace", "incarnation", "subject", "token")


@final
class BadLine(BadData):
    """A line of a history cannot be read; `key` tells where it stands, and nothing was judged."""

    def __str__(self) -> str:
        return (
            f"{self.key}: this line {self.problem}. Nothing was judged; mend or take out the line, "
            "or give files that are histories"
        )


def parse_object(line: bytes, *, where: str) -> dict[str, object]:
    """Return the JSON object that one line is; raise BadLine naming `where` if it is none, or holds NaN or infinity."""
    try:
        found = json.loads(line, parse_constant=_refuse_constant)
    except RecursionError:
        raise BadLine(where, "is nested too deeply") from None
    except ValueError:
        raise BadLine(where, "is not a whole line of JSON") from None
    if not isinstance(found, dict):
        raise BadLine(where, f"is a JSON {type(found).__name__}, not an object")
    return found


def take_fields(found: Mapping[str, object], types: Mapping[str, FieldTypes], *, where: str) -> dict[str, object]:
    """Return the fields of a line that `types` knows, with what each may hold; `float` is any finite number.

    Raises BadLine naming `where` for a field that holds something else, or text that no file could hold.
    """
    return {name: _field(name, value, types[name], where=where) for name, value in found.items() if name in types}


def parse_record(line: bytes, *, where: str) -> Record:
    """Return the record that one line of a history is; raise BadLine naming `where` if it is none."""
    return record_of(parse_object(line, where=where), where=where)


def record_of(found: Mapping[str, object], *, where: str) -> Record:
    """Return the record that the object of a line is; raise BadLine naming `where` if it is none."""
    known = take_fields(found, _KINDS, where=where)
    needed = (*_ALWAYS, *(_OF_A_TERM if found.get("kind") in {"won", "resigned", "term_lost"} else ()))
    missing = [name for name in needed if name not in known]
    if missing:
        raise BadLine(where, f"is no record of a history: it has no {', '.join(missing)}")
    if "members" in known:
        known["members"] = _members(cast("list[object]", known["members"]), where=where)
    return Record(**known)  # type: ignore[arg-type]


def _field(name: str, value: object, types: FieldTypes, *, where: str) -> object:
    if types == _TIME:
        number = _finite(value)
        if number is None:
            raise BadLine(where, f"has {name} = {_shown(value)}, which is no finite number")
        return number
    if not isinstance(value, types) or isinstance(value, bool):
        raise BadLine(where, f"has {name} = {_shown(value)}")
    if isinstance(value, str) and not _is_text(value):
        raise BadLine(where, f"has {name} = {_shown(value)}, which is half of a character")
    return value


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _finite(value: object) -> float | None:
    """Return a number as a float, or None for what is no number, or none that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _members(pairs: list[object], *, where: str) -> tuple[tuple[str, str], ...]:
    members: list[tuple[str, str]] = []
    for pair in pairs:
        match pair:
            case [str(member_id), str(incarnation)] if _is_text(member_id) and _is_text(incarnation):
                members.append((member_id, incarnation))
            case _:
                raise BadLine(where, f"has {pair!r} among its members, which must be an id and an incarnation")
    return tuple(members)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)
