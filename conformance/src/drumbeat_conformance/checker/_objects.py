"""What is wrong with locks, registers and counters: answers that no order of the operations explains."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from drumbeat_conformance.checker._evidence import Evidence
from drumbeat_conformance.checker._linear import Search, Undecided, Unexplained, find_unexplained
from drumbeat_conformance.checker._models import CounterModel, LockModel
from drumbeat_conformance.checker._operation import Operation
from drumbeat_conformance.checker._overwriting import RegisterSearch
from drumbeat_conformance.checker._violation import Kind, Violation, moment

S = TypeVar("S", bound=Hashable)

#: How many of the states that were possible a sentence names, and how many earlier operations prove it.
_SHOWN = 3


def find_broken_objects(evidence: Evidence, *, effort: int) -> list[Violation]:
    """Return at most one violation of each object: the first answer that nothing explains, or that was not decided."""
    objects: defaultdict[tuple[str, str], list[Operation]] = defaultdict(list)
    for operation in evidence.recording.operations:
        objects[operation.namespace, operation.object].append(operation)
    found: list[Violation] = []
    for operations in objects.values():
        if any(one.op == "acquire" for one in operations):
            seat = sorted(
                _known_by_acquire(_effective(operations), evidence) + _lapses(evidence, operations),
                key=lambda one: one.called,
            )
            found += _judge(Search(seat, LockModel(), effort=effort), kind=Kind.LOCK)
        elif operations[0].kind == "register":
            found += _judge(RegisterSearch(_needed(_effective(operations)), effort=effort), kind=Kind.REGISTER)
        elif operations[0].kind == "counter":
            found += _judge(Search(_effective(operations), CounterModel(), effort=effort), kind=Kind.COUNTER)
    return found


def _effective(operations: Iterable[Operation]) -> list[Operation]:
    """Return the operations that say something of their object's state, or may change it."""
    return [one for one in operations if _says_something(one)]


def _known_by_acquire(operations: Iterable[Operation], evidence: Evidence) -> list[Operation]:
    """Return a seat's operations without the releases of terms that events alone tell of."""
    known = list(operations)
    acquired = {(one.client, one.token) for one in known if one.op == "acquire"}
    return [
        one for one in known if one.op != "release" or (one.client, one.token) in acquired or evidence.term(one) is None
    ]


def _says_something(operation: Operation) -> bool:
    if operation.op == "use":
        return False
    if operation.outcome == "refused":
        # A seat may be refused to anyone at any time; a register refuses for one reason.
        return operation.kind == "register"
    # What nobody knows the token or the value of changes nothing that others could tell.
    return operation.answered or operation.op == "increment" or operation.token is not None


def _needed(operations: Iterable[Operation]) -> list[Operation]:
    """Return a register's operations without the unanswered writes that explain nothing: no value, and no refusal."""
    known = list(operations)
    seen = {one.value for one in known if one.op == "read" and one.outcome == "done"}
    refused = min((_token(one) for one in known if one.outcome == "refused"), default=math.inf)
    return [one for one in known if one.answered or one.op != "write" or one.value in seen or _token(one) > refused]


def _token(operation: Operation) -> int:
    return -1 if operation.token is None else operation.token


def _lapses(evidence: Evidence, operations: list[Operation]) -> list[Operation]:
    """Return a lapse for each term that ended otherwise than by a release: from then on the seat may be free."""
    won = [one for one in operations if one.op == "acquire" and one.outcome == "done"]
    ends = {one: _over_at(one, evidence) for one in won}
    return [
        replace(one, op="lapse", called=at, returned=None, outcome=None) for one, at in ends.items() if at < math.inf
    ]


def _over_at(acquire: Operation, evidence: Evidence) -> float:
    """Return since when the holder may have lost the seat without a release."""
    term = evidence.term(acquire)
    if term is not None:
        return max(term.until, acquire.called)
    kills = [kill.at for kill in evidence.kills if kill.member_id == acquire.client and kill.at >= acquire.called]
    return min(kills, default=math.inf)


def _judge(search: Search[S], *, kind: Kind) -> Iterable[Violation]:
    found = find_unexplained(search)
    if found is None:
        return
    one = found.operation
    if isinstance(found, Undecided):
        says = (
            f"whether any order of the operations on {one.object} explains {_described(one)} of {one.client!r} at "
            f"{moment(one.called)} was not found out in {found.effort} steps: too many were under way at once, or "
            "never answered; check with a greater effort, or record fewer at once"
        )
        yield Violation(Kind.UNDECIDED, says, (one,))
        return
    answered = moment(one.called if one.returned is None else one.returned)
    says = (
        f"{one.client!r} did {_described(one)} from {moment(one.called)} to {answered}, which no order of the "
        f"operations explains: until then {one.object} can only have been {_states(found, search)}"
    )
    yield Violation(kind, says, (*_before(search.operations, found), one))


def _described(operation: Operation) -> str:
    token = "" if operation.token is None else f" with token {operation.token}"
    value = "" if operation.op in {"acquire", "release"} else f" {operation.value!r}"
    return f"{operation.op}{value}{token} ({operation.outcome})"


def _states(found: Unexplained[S], search: Search[S]) -> str:
    told = sorted(search.tell(state) for state in found.states)
    more = "" if len(told) <= _SHOWN else f", or {len(told) - _SHOWN} other states"
    return " or ".join(told[:_SHOWN]) + more


def _before(operations: Sequence[Operation], found: Unexplained[S]) -> list[Operation]:
    """Return the operations that made the state what it was: the last that were answered, and those beside."""
    one = found.operation
    answered = [other for other in operations if other.returned is not None and other.returned < one.called]
    answered.sort(key=lambda other: other.returned or 0.0)
    proof = [*answered[-_SHOWN:], *found.beside]
    same = [other for other in answered if other.op == one.op and _result(other) == _result(one)]
    proof += [other for other in same if other not in proof]
    return sorted(proof, key=lambda other: other.called)


def _result(operation: Operation) -> object:
    return operation.token if operation.op in {"acquire", "release"} else operation.value
