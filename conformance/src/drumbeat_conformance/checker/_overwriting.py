"""The search for a register, in which a write hides what was before it: so few of the orders make a difference.

Many writes at once can happen in as many orders as there are subsets of them, and nearly all of these are alike. A
value is *dead* once every read that was answered with it has happened. Of dead values it does not count which one the
register holds. When a write happens, three things follow:

- Each other write under way whose value is dead, or is read by reads under way alone, and whose token lies between, may
  as well have happened just before, with those reads: the new write hides it, and nobody needs it later.
- If a read that has not happened needs the value that is being hidden, and nobody will write it again, no order goes
  on from here.
- Of writes under way with one value and one token, the one that must happen first may as well do so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import final

from drumbeat_conformance.checker._linear import Configuration, Search
from drumbeat_conformance.checker._models import Register, RegisterModel
from drumbeat_conformance.checker._operation import Operation, Value

_Numbers = frozenset[int]


@final
class RegisterSearch(Search[Register]):
    """All that may be true of a register at one moment of a history; it takes at most `effort` steps."""

    def __init__(self, operations: Sequence[Operation], *, effort: int) -> None:
        super().__init__(operations, RegisterModel(), effort=effort)
        #: How many reads that must find a value are still to be called, and how many writes of it.
        self._reads_ahead = Counter(one.value for one in operations if _must_find(one))
        self._writes_ahead = Counter(one.value for one in operations if _may_write(one))
        nothing: _Numbers = frozenset()
        self._configurations = {(self._buried(RegisterModel.initial, nothing), nothing, nothing)}

    def call(self, number: int) -> None:
        """Let an operation begin."""
        super().call(number)
        operation = self.operations[number]
        if _must_find(operation):
            self._reads_ahead[operation.value] -= 1
        elif _may_write(operation):
            self._writes_ahead[operation.value] -= 1

    def _followers(self, configuration: Configuration[Register]) -> Iterable[Configuration[Register]]:
        return [(self._buried(state, done), done, others) for state, done, others in super()._followers(configuration)]

    def _is_free(self, configuration: Configuration[Register], number: int) -> bool:
        state, happened, _ = configuration
        one = self.operations[number]
        if state.dead and one.token == state.token and _may_write(one):
            return not self._is_needed(one.value, happened)
        return super()._is_free(configuration, number)

    def _candidates(self, waiting: Sequence[int]) -> Sequence[int]:
        firsts: dict[Hashable, int] = {}
        for number in sorted(waiting, key=lambda one: (self.operations[one].returned or 0.0, one)):
            one = self.operations[number]
            firsts.setdefault((one.op, one.outcome, one.token, one.value), number)
        return list(firsts.values())

    def _reach(
        self, before: Configuration[Register], after: Register, number: int, waiting: Sequence[int]
    ) -> Iterable[Configuration[Register]]:
        state, happened, unanswered = before
        if self.operations[number].op == "write":
            happened = self._hidden(before, after, number, waiting)
            lost = not state.dead and after.value != state.value and self._is_needed(state.value, happened)
            if lost and not self._is_written(state.value, happened, unanswered):
                return []
        left = [other for other in waiting if other not in happened]
        return super()._reach((state, happened, unanswered), after, number, left)

    def _hidden(
        self, before: Configuration[Register], after: Register, number: int, waiting: Sequence[int]
    ) -> _Numbers:
        """Return what has happened once a write hides all the writes that may as well have happened just before."""
        state, happened, _ = before
        self._spend(len(waiting))
        for other in waiting:
            one = self.operations[other]
            if other == number or not _may_write(one) or not state.token <= _token(one) <= after.token:
                continue
            reads = self._reads_of(one.value, happened)
            if not self._reads_ahead[one.value] and all(
                self.operations[read].token in {None, one.token} for read in reads
            ):
                happened = happened.union(reads, [other])
        return happened

    def _buried(self, state: Register, happened: _Numbers) -> Register:
        """Return a state without its value, if nobody needs that."""
        if state.dead or self._is_needed(state.value, happened):
            return state
        return Register(token=state.token, dead=True, was=state.value)

    def _is_needed(self, value: Value, happened: _Numbers) -> bool:
        """Return whether a read that has not happened was answered with a value."""
        return self._reads_ahead[value] > 0 or bool(self._reads_of(value, happened))

    def _reads_of(self, value: Value, happened: _Numbers) -> list[int]:
        """Return the reads under way that have not happened, and must find a value."""
        waiting = [number for number in self._under_way if number not in happened]
        return [one for one in waiting if _must_find(self.operations[one]) and self.operations[one].value == value]

    def _is_written(self, value: Value, happened: _Numbers, unanswered: _Numbers) -> bool:
        """Return whether a write of a value may still happen."""
        if self._writes_ahead[value] > 0:
            return True
        waiting = [number for number in self._under_way if number not in happened]
        waiting += [number for twins in self._unanswered.values() for number in twins if number not in unanswered]
        return any(_may_write(self.operations[one]) and self.operations[one].value == value for one in waiting)


def _must_find(operation: Operation) -> bool:
    return operation.op == "read" and operation.outcome == "done"


def _may_write(operation: Operation) -> bool:
    return operation.op == "write" and operation.outcome != "refused"


def _token(operation: Operation) -> int:
    return -1 if operation.token is None else operation.token
