"""What is wrong with locks, registers and counters: answers that no order of the operations explains."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable
from dataclasses import replace
from typing import TypeVar

from drumbeat_conformance.checker._linear import Model, Unexplained, find_unexplained
from drumbeat_conformance.checker._models import CounterModel, LockModel, RegisterModel
from drumbeat_conformance.checker._operation import Operation
from drumbeat_conformance.checker._terms import Evidence
from drumbeat_conformance.checker._violation import Kind, Violation, moment

S = TypeVar("S", bound=Hashable)

#: How many of the states that were possible a sentence names, and how many earlier operations prove it.
_SHOWN = 3


def find_broken_objects(evidence: Evidence) -> list[Violation]:
    """Return at most one violation of each object: the first answer that nothing explains."""
    objects: defaultdict[tuple[str, str], list[Operation]] = defaultdict(list)
    for operation in evidence.recording.operations:
        objects[operation.namespace, operation.object].append(operation)
    found: list[Violation] = []
    for operations in objects.values():
        if any(one.op == "acquire" for one in operations):
            seat = _effective(operations) + _lapses(evidence, operations)
            found += _judge(sorted(seat, key=lambda one: one.called), LockModel(), kind=Kind.LOCK)
        elif operations[0].kind == "register":
            found += _judge(_needed(_effective(operations)), RegisterModel(), kind=Kind.REGISTER)
        elif operations[0].kind == "counter":
            found += _judge(_effective(operations), CounterModel(), kind=Kind.COUNTER)
    return found


def _effective(operations: Iterable[Operation]) -> list[Operation]:
    """Return the operations that say something of their object's state, or may change it."""
    return [one for one in operations if _says_something(one)]


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


def _judge(operations: list[Operation], model: Model[S], *, kind: Kind) -> Iterable[Violation]:
    found = find_unexplained(operations, model)
    if found is None:
        return
    one = found.operation
    answered = moment(one.called if one.returned is None else one.returned)
    says = (
        f"{one.client!r} did {_described(one)} from {moment(one.called)} to {answered}, which no order of the "
        f"operations explains: until then {one.object} can only have been {_states(found, model)}"
    )
    yield Violation(kind, says, (*_before(operations, found), one))


def _described(operation: Operation) -> str:
    token = "" if operation.token is None else f" with token {operation.token}"
    value = "" if operation.op in {"acquire", "release"} else f" {operation.value!r}"
    return f"{operation.op}{value}{token} ({operation.outcome})"


def _states(found: Unexplained[S], model: Model[S]) -> str:
    told = sorted(model.tell(state) for state in found.states)
    more = "" if len(told) <= _SHOWN else f", or {len(told) - _SHOWN} other states"
    return " or ".join(told[:_SHOWN]) + more


def _before(operations: list[Operation], found: Unexplained[S]) -> list[Operation]:
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
