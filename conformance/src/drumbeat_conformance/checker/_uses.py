"""What is wrong with how programs used their terms: holding on for too long, and holding what they had not won."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from drumbeat.history import Record
from drumbeat_conformance.checker._evidence import Evidence
from drumbeat_conformance.checker._operation import Operation
from drumbeat_conformance.checker._violation import Kind, Violation, moment

#: When a holding was over, why, and the line that proves it.
_End = tuple[float, str, Record | Operation]
_Key = tuple[object, ...]

#: Seconds before a SIGKILL of which lines may be missing: an observer writes soon after what happened, not at once.
_LAST_MOMENT: Final = 1.0


def find_broken_uses(evidence: Evidence) -> list[Violation]:
    """Return the uses of terms that were over, and the uses and releases of terms that nobody had won."""
    found: list[Violation] = []
    acquires, over = _acquires(evidence), _ends_by_operation(evidence)
    seats = {(one.namespace, one.object) for one in evidence.recording.operations if one.op == "acquire"}
    for one in evidence.recording.operations:
        if one.outcome != "done" or one.op not in {"use", "release"}:
            continue
        problem = _unwon(one, acquires, evidence)
        if one.op == "use":
            found += (
                [problem] if problem is not None else _late(one, [*_ends(one, evidence), *over[_key(one)]], evidence)
            )
        elif problem is not None and (one.namespace, one.object) not in seats:
            # Where acquires are recorded, the order of them all is judged.
            found.append(problem)
    return found


# Holding on ---------------------------------------------------------------------------------------------------


def _late(use: Operation, ends: list[_End], evidence: Evidence) -> Iterator[Violation]:
    past = [end for end in ends if end[0] <= use.called]
    if past:
        at, why, proof = min(past, key=lambda end: end[0])
        term = evidence.term(use)
        yield Violation(
            Kind.LATE,
            f"{use.client!r} was told at {moment(use.called)} that it held {use.object} with token {use.token}, "
            f"but since {moment(at)} {why}",
            (*(() if term is None else evidence.of(term)), proof, use),
        )


def _ends(use: Operation, evidence: Evidence) -> Iterator[_End]:
    """Return when a term was over for its holder, by what the holder could know, or what others proved."""
    term = evidence.term(use)
    if term is not None:
        for one in evidence.ends[term.namespace, term.incarnation, term.subject, term.token]:
            yield one.at, "it was resigned" if one.kind == "resigned" else "it was lost", one
        last = evidence.in_force(term.namespace, term.incarnation, at=use.called)
        if last is not None and last.deadline is not None:
            yield last.deadline, "its deadline had passed", last
        over = evidence.over.get((term.namespace, term.incarnation))
        if over is not None:
            yield over.at, f"its session was {over.kind}", over
        if term.ended == "killed":
            yield from ((one.at, "its process was dead", one) for one in evidence.kills if one.at == term.until)
    succession = evidence.successions.get((use.namespace, use.object))
    successor = None if succession is None or use.token is None else succession.after(use.token)
    if successor is not None:
        at, win = successor
        who = win.member_id if isinstance(win, Record) else win.client
        yield at, f"{who!r} held it with token {win.token}", win


def _ends_by_operation(evidence: Evidence) -> defaultdict[_Key, list[_End]]:
    """Return the ends that operations tell of: releases that were answered, and lapses."""
    found: defaultdict[_Key, list[_End]] = defaultdict(list)
    for one in evidence.recording.operations:
        if one.op == "release" and one.returned is not None:
            found[_key(one)].append((one.returned, "its release had been answered", one))
        elif one.op == "lapse":
            found[_key(one)].append((one.called, "it had lapsed", one))
    return found


# Never won ----------------------------------------------------------------------------------------------------


def _acquires(evidence: Evidence) -> dict[_Key, Operation]:
    """Return the first acquire that may have won, by seat, client and token; None stands for an unknown token."""
    found: dict[_Key, Operation] = {}
    for one in evidence.recording.operations:
        if one.op == "acquire" and one.outcome != "refused":
            first = found.setdefault(_key(one), one)
            if one.called < first.called:
                found[_key(one)] = one
    return found


def _unwon(one: Operation, acquires: dict[_Key, Operation], evidence: Evidence) -> Violation | None:
    """Return a violation if nothing tells that the client may have won what it held by then."""
    if evidence.term(one) is not None or any(
        kill.member_id == one.client and 0 <= kill.at - one.called < _LAST_MOMENT for kill in evidence.kills
    ):
        return None
    keys = {_key(one), (one.namespace, one.object, None, one.client)}
    known = sorted((acquires[key] for key in keys if key in acquires), key=lambda other: other.called)
    returned = one.called if one.returned is None else one.returned
    if known and known[0].called <= returned:
        return None
    what = "was told that it held" if one.op == "use" else "released"
    why = f"which it acquired only at {moment(known[0].called)}" if known else "which no line tells that it had won"
    says = f"{one.client!r} {what} {one.object} with token {one.token} at {moment(one.called)}, {why}"
    return Violation(Kind.UNWON, says, (*known[:1], one))


def _key(operation: Operation) -> _Key:
    return operation.namespace, operation.object, operation.token, operation.client
