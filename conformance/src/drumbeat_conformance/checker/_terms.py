"""What is wrong with terms: overlaps, tokens, and holding on for too long."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import final

from drumbeat.history import Record, TermRecord, find_overlaps, find_token_faults, terms
from drumbeat_conformance.checker._operation import Operation
from drumbeat_conformance.checker._recording import Recording
from drumbeat_conformance.checker._violation import Kind, Violation, moment


def find_broken_terms(evidence: Evidence) -> list[Violation]:
    """Return the violations of terms by each other, and by the programs that used them."""
    return [*_overlaps(evidence), *_token_faults(evidence), *_late_uses(evidence)]


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

    def of(self, term: TermRecord) -> list[Record]:
        """Return the events that say when a term began and ended."""
        session = self.sessions[term.namespace, term.incarnation]
        found = [one for one in session if one.subject == term.subject and one.token == term.token]
        if term.ended == "deadline":
            found += [one for one in session if one.deadline == term.until and one not in found][:1]
        if term.ended == "killed":
            found += [one for one in self.kills if one.at == term.until]
        return found


def _overlaps(evidence: Evidence) -> Iterable[Violation]:
    for overlap in find_overlaps(evidence.events):
        first, second = overlap.first, overlap.second
        yield Violation(
            Kind.OVERLAP,
            f"{first.member_id!r} held {first.subject} with token {first.token} from {moment(first.since)} to "
            f"{_until(first)}, and {second.member_id!r} with token {second.token} from {moment(second.since)} to "
            f"{_until(second)}: both for {overlap.seconds:.3f} s",
            (*evidence.of(first), *evidence.of(second)),
        )


def _token_faults(evidence: Evidence) -> Iterable[Violation]:
    for fault in find_token_faults(evidence.events):
        earlier, later = fault.earlier, fault.later
        yield Violation(
            Kind.TOKEN,
            f"{later.member_id!r} won {later.subject} at {moment(later.since)} with token {later.token}, which is not "
            f"greater than the token {earlier.token} with which {earlier.member_id!r} won at {moment(earlier.since)}",
            (*evidence.of(earlier), *evidence.of(later)),
        )


def _until(term: TermRecord) -> str:
    if term.ended == "open":
        return "the end of the history"
    how = {"resigned": "resigned", "term_lost": "lost", "deadline": "its deadline", "killed": "killed"}[term.ended]
    return f"{moment(term.until)} ({how})"


# Holding on ---------------------------------------------------------------------------------------------------


def _late_uses(evidence: Evidence) -> Iterable[Violation]:
    released = {_key(one): one for one in evidence.recording.operations if one.op == "release" and one.answered}
    for use in evidence.recording.operations:
        if use.op != "use" or use.outcome != "done":
            continue
        term = evidence.term(use)
        ends = [] if term is None else _ends(evidence, term, use)
        release = released.get(_key(use))
        if release is not None and release.returned is not None:
            ends.append((release.returned, "its release had been answered", release))
        at, why, proof = min(ends, key=lambda end: end[0], default=(math.inf, "", use))
        if use.called >= at:
            yield Violation(
                Kind.LATE,
                f"{use.client!r} was told at {moment(use.called)} that it held {use.object} with token {use.token}, "
                f"but since {moment(at)} {why}",
                (*(() if term is None else evidence.of(term)), proof, use),
            )


def _ends(evidence: Evidence, term: TermRecord, use: Operation) -> list[tuple[float, str, Record | Operation]]:
    """Return when the term was over for its holder, by what the holder could know when it was asked."""
    told = evidence.ends[term.namespace, term.incarnation, term.subject, term.token]
    ends: list[tuple[float, str, Record | Operation]] = [
        (one.at, "it was resigned" if one.kind == "resigned" else "it was lost", one) for one in told
    ]
    last = evidence.in_force(term.namespace, term.incarnation, at=use.called)
    if last is not None and last.deadline is not None:
        ends.append((last.deadline, "its deadline had passed", last))
    return ends


def _key(operation: Operation) -> tuple[object, ...]:
    return operation.namespace, operation.object, operation.token, operation.client
