"""What is wrong with sessions: heartbeats after the end, and two of one member; and clocks that are not one."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Final, final

from drumbeat.history import Record
from drumbeat_conformance.checker._evidence import Evidence
from drumbeat_conformance.checker._violation import Kind, Violation, moment

#: Seconds by which wall time and the clock of one host may drift apart in a session, and between two.
_STEADY: Final = 1.0
_APART: Final = 5.0


def find_broken_sessions(evidence: Evidence) -> list[Violation]:
    """Return what sessions did after their end, or beside another one, or in two processes."""
    found: list[Violation] = []
    openings: defaultdict[tuple[str, str], list[list[Record]]] = defaultdict(list)
    for (namespace, incarnation), events in evidence.sessions.items():
        own = [one for one in events if one.kind != "killed"]
        if incarnation and own:
            found += [*_revived(own), *_shared(own)]
            openings[namespace, own[0].member_id].append(own)
    for sessions in openings.values():
        found += _doubled(sessions)
    return found


def _beats(events: Iterable[Record]) -> list[tuple[float, Record]]:
    """Return the heartbeats that succeeded, each with when it was sent."""
    return [(one.at - (one.seconds or 0.0), one) for one in events if one.kind == "beat"]


def _revived(events: Sequence[Record]) -> Iterable[Violation]:
    end = next((one for one in events if one.kind in {"lost", "closed"}), None)
    after = None if end is None else next((one for sent, one in _beats(events) if sent > end.at), None)
    if end is not None and after is not None:
        says = (
            f"{end.member_id!r} ({end.incarnation}) was {end.kind} at {moment(end.at)}, and beat at {moment(after.at)}"
        )
        yield Violation(Kind.SESSION, says, (end, after))


def _shared(events: Sequence[Record]) -> Iterable[Violation]:
    told = {(one.member_id, one.pid): one for one in reversed(events) if one.kind in {"beat", "won", "joined"}}
    by_process = {pid: one for (_, pid), one in told.items() if pid is not None}
    by_member = {member_id: one for (member_id, _), one in told.items()}
    for owners in (by_process, by_member):
        if len(owners) > 1:
            one, other, *_ = sorted(owners.values(), key=lambda record: record.at)
            says = (
                f"one incarnation {one.incarnation!r} was used by {one.member_id!r} in process {one.pid} at "
                f"{moment(one.at)} and by {other.member_id!r} in process {other.pid} at {moment(other.at)}"
            )
            yield Violation(Kind.SESSION, says, (one, other))
            return


def _doubled(sessions: Sequence[Sequence[Record]]) -> Iterable[Violation]:
    """Return heartbeats of a session that the server took after another one of its member had been opened."""
    firsts = [(next((one for one in events if one.kind == "connected"), None), events) for events in sessions]
    opened = sorted(((first, events) for first, events in firsts if first is not None), key=lambda pair: pair[0].at)
    for (first, events), (second, _) in pairwise(opened):
        late = next((one for sent, one in _beats(events) if sent > second.at > first.at), None)
        if late is not None:
            says = (
                f"{first.member_id!r} ({first.incarnation}) beat at {moment(late.at)}, though at {moment(second.at)} "
                f"{second.incarnation} had been opened under its id"
            )
            yield Violation(Kind.SESSION, says, (first, second, late))


# Clocks -------------------------------------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class _Clock:
    """What the events of a session tell of its clock: from when to when, by it and by wall time."""

    first: Record
    last: Record
    #: Wall time minus the clock.
    offset: float
    wall: tuple[float, float]

    def is_before(self, other: _Clock) -> bool:
        """Return whether the session was over before another one, by both of its times."""
        return self.last.at <= other.first.at and self.wall[1] <= other.wall[0]


def find_unlike_clocks(evidence: Evidence) -> Iterable[Violation]:
    """Return one pair of sessions of two hosts, or of two boots, whose times cannot be compared, if there is any."""
    clocks = sorted(filter(None, map(_clock, evidence.sessions.values())), key=lambda clock: clock.offset)
    # All that is near to the least is of one clock; only what is not can be of another.
    far = [clock for clock in clocks if clock.offset - clocks[0].offset > _APART]
    for one, other in combinations([*clocks[:1], *far], 2):
        apart = other.offset - one.offset
        if apart > _APART and not one.is_before(other) and not other.is_before(one):
            says = (
                f"the times of {one.first.member_id!r} and {other.first.member_id!r} cannot be compared: their clocks "
                f"differ by {apart:.0f} s at one wall time, so they ran on two hosts, or in two boots of one, or the "
                "wall clock was set back; nothing was judged: check the lines of each host and boot alone"
            )
            yield Violation(Kind.UNDECIDED, says, (one.first, other.first))
            return


def _clock(events: Sequence[Record]) -> _Clock | None:
    timed = [one for one in events if one.wall is not None]
    if not timed:
        return None
    walls = [one.wall or 0.0 for one in timed]
    offsets = [wall - one.at for wall, one in zip(walls, timed, strict=True)]
    if max(offsets) - min(offsets) > _STEADY:
        return None
    return _Clock(timed[0], timed[-1], math.fsum(offsets) / len(offsets), (min(walls), max(walls)))
