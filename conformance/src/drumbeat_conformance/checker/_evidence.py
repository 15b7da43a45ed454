"""What a history tells of terms, in the ways in which it is asked."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import final

from drumbeat.history import Record, TermRecord, terms
from drumbeat_conformance.checker._operation import Operation
from drumbeat_conformance.checker._recording import Recording


@final
@dataclass(frozen=True)
class Evidence:
    """The events of a history, and what its operations add to them: a release ends a term when it is called.

    A process that is killed just after it has released a seat may not have written that event any more.
    """

    recording: Recording

    @cached_property
    def events(self) -> list[Record]:
        """The events, and an end for each term that an operation released."""
        wins = [one for one in self.recording.events if one.kind == "won"]
        won = {(one.namespace, one.subject, one.token, one.member_id): one for one in wins}
        found = list(self.recording.events)
        for one in self.recording.operations:
            term = won.get((one.namespace, one.object, one.token, one.client))
            if one.op == "release" and term is not None:
                found.append(replace(term, kind="resigned", at=max(one.called, term.at), reason="a release was called"))
        return found

    @cached_property
    def terms(self) -> list[TermRecord]:
        """Who held what."""
        return terms(self.events)

    @cached_property
    def kills(self) -> list[Record]:
        """What was noted of killed processes."""
        return [one for one in self.recording.events if one.kind == "killed"]

    @cached_property
    def sessions(self) -> dict[tuple[str, str], list[Record]]:
        """The events by session, which a namespace and an incarnation name."""
        found: defaultdict[tuple[str, str], list[Record]] = defaultdict(list)
        for event in self.recording.events:
            found[event.namespace, event.incarnation].append(event)
        return found

    @cached_property
    def over(self) -> dict[tuple[str, str], Record]:
        """The first event of each session that tells of its end."""
        found: dict[tuple[str, str], Record] = {}
        for event in self.recording.events:
            if event.kind in {"lost", "closed"}:
                found.setdefault((event.namespace, event.incarnation), event)
        return found

    @cached_property
    def ends(self) -> defaultdict[tuple[object, ...], list[Record]]:
        """The ends that sessions told of their terms, by namespace, incarnation, subject and token."""
        found: defaultdict[tuple[object, ...], list[Record]] = defaultdict(list)
        for one in self.recording.events:
            if one.kind in {"resigned", "term_lost"}:
                found[one.namespace, one.incarnation, one.subject, one.token].append(one)
        return found

    def in_force(self, namespace: str, incarnation: str, *, at: float) -> Record | None:
        """Return the event with the latest deadline that a session may have known by then, or None."""
        sent, latest = self._deadlines[namespace, incarnation]
        known = bisect_right(sent, at)
        return latest[known - 1] if known else None

    @cached_property
    def _deadlines(self) -> defaultdict[tuple[str, str], tuple[list[float], list[Record]]]:
        """For each session the times at which a deadline may have been known, each with the latest one until then."""
        found: defaultdict[tuple[str, str], tuple[list[float], list[Record]]] = defaultdict(lambda: ([], []))
        # A heartbeat moves the deadline before it is told of, at any time after it was sent.
        given = [(one.at - (one.seconds or 0.0), one) for one in self.recording.events if one.deadline is not None]
        for at, one in sorted(given, key=lambda pair: pair[0]):
            sent, latest = found[one.namespace, one.incarnation]
            sent.append(at)
            latest.append(max([*latest[-1:], one], key=lambda event: event.deadline or -math.inf))
        return found

    @cached_property
    def _by_use(self) -> dict[tuple[object, ...], TermRecord]:
        return {(term.namespace, term.subject, term.token, term.member_id): term for term in self.terms}

    def term(self, operation: Operation) -> TermRecord | None:
        """Return the term that an operation of its holder is about, or None if no event tells of it."""
        return self._by_use.get((operation.namespace, operation.object, operation.token, operation.client))

    @cached_property
    def successions(self) -> dict[tuple[str, str], Succession]:
        """When it was known of each seat, by namespace and name, that it had been won with a token."""
        found: defaultdict[tuple[str, str], list[tuple[int, float, Record | Operation]]] = defaultdict(list)
        for event in self.recording.events:
            if event.kind == "won" and event.subject is not None and event.token is not None:
                found[event.namespace, event.subject].append((event.token, event.at, event))
        for one in self.recording.operations:
            if one.op == "acquire" and one.returned is not None and one.token is not None and one.outcome == "done":
                found[one.namespace, one.object].append((one.token, one.returned, one))
        return {seat: Succession(wins) for seat, wins in found.items()}

    def of(self, term: TermRecord) -> list[Record]:
        """Return the events that say when a term began and ended."""
        session = self.sessions[term.namespace, term.incarnation]
        found = [one for one in session if one.subject == term.subject and one.token == term.token]
        if term.ended == "deadline":
            found += [one for one in session if one.deadline == term.until and one not in found][:1]
        if term.ended == "killed":
            found += [one for one in self.kills if one.at == term.until]
        return found


@final
class Succession:
    """The wins of one seat, each as its token, when it was known, and the line that tells of it."""

    def __init__(self, wins: Iterable[tuple[int, float, Record | Operation]]) -> None:
        ordered = sorted(wins, key=lambda win: win[:2])
        self._tokens = [token for token, _, _ in ordered]
        #: For each place, the earliest of the wins from there on.
        self._earliest: list[tuple[float, Record | Operation]] = []
        for _, at, win in reversed(ordered):
            earlier = self._earliest[-1] if self._earliest and self._earliest[-1][0] <= at else (at, win)
            self._earliest.append(earlier)
        self._earliest.reverse()

    def after(self, token: int) -> tuple[float, Record | Operation] | None:
        """Return when it was first known that somebody had won with a greater token, and what tells so."""
        place = bisect_right(self._tokens, token)
        return self._earliest[place] if place < len(self._earliest) else None
