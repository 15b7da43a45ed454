"""What is wrong with terms by each other: overlaps, and tokens."""

from __future__ import annotations

from collections.abc import Iterable

from drumbeat.history import Record, TermRecord, find_overlaps, find_token_faults
from drumbeat_conformance.checker._evidence import Evidence
from drumbeat_conformance.checker._uses import find_broken_uses
from drumbeat_conformance.checker._violation import Kind, Violation, moment

#: The greatest fencing token.
_GREATEST = 2**63 - 1


def find_broken_terms(evidence: Evidence) -> list[Violation]:
    """Return the violations of terms by each other, and by the programs that used them."""
    return [*_overlaps(evidence), *_token_faults(evidence), *_repeated_wins(evidence), *find_broken_uses(evidence)]


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


def _repeated_wins(evidence: Evidence) -> Iterable[Violation]:
    """Return what revived a term, which looks like the first one and is over with it, and tokens that are none."""
    seen: dict[tuple[object, ...], Record] = {}
    for one in evidence.recording.events:
        if one.kind != "won":
            continue
        first = seen.setdefault((one.namespace, one.incarnation, one.subject, one.token), one)
        if first is not one:
            yield Violation(
                Kind.TOKEN,
                f"{one.member_id!r} won {one.subject} at {moment(one.at)} with token {one.token} once more, "
                f"which was that of its term of {moment(first.at)}",
                (first, one),
            )
        if one.token is not None and not 0 <= one.token <= _GREATEST:
            says = (
                f"{one.member_id!r} won {one.subject} at {moment(one.at)} with token {one.token}, which has not 63 bits"
            )
            yield Violation(Kind.TOKEN, says, (one,))


def _until(term: TermRecord) -> str:
    if term.ended == "open":
        return "the end of the history"
    how = {"resigned": "resigned", "term_lost": "lost", "deadline": "its deadline", "killed": "killed"}[term.ended]
    return f"{moment(term.until)} ({how})"
